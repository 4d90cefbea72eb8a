//! The one integration-test binary.
//!
//! | modules | what they prove |
//! |---|---|
//! | `matrix` | every phase, stage and question × every event moves or refuses; the table is a snapshot |
//! | `simulate` | 10,000 seeds: any world, a crash at any point, effects twice, half without human help |
//! | `kill` | the real program, killed at every fault point and at random, on both databases, ends the same |
//! | `rules`, `batches`, `rework`, `resumed`, `fallback`, `shared_budgets`, `gates`, `pieces`, `scouted` | single rules; each gate alone |
//! | `store_contract`, `stored_form` | both databases behave the same; stored runs of each version still load |
//! | `verify` | each planted damage is named, and nothing on a healthy installation |
//! | `gc` | frees what nothing needs; work that exists only here stays |
//! | `backup` | a backup restores an open run elsewhere, on either database; damaged ones are refused |
//! | `workspace_contract`, `repository_shapes`, `git_cut`, `hostile_git`, `hostile_bytes` | real git, interrupted and attacked |
//! | `forges_contract`, `forge_contract`, `github*`, `gitlab*`, `forgejo`, `engines_contract`, `checks_contract`, `runners`, `detect` | the contract of each port |
//! | `forks` | pull requests from a fork where Skep may not write: one fork, and nobody else's repository |
//! | `landed` | a change that turned CI red is proposed to be reverted, once |
//! | `intake`, `story_intake`, `story_gitlab`, `story_whole_life` | issues and comments on a forge start and steer runs |
//! | `sandbox`, `sandbox_cli`, `sandboxed_*`, `hostile_agent` | isolation of commands and agents |
//! | `egress`, `access_*`, `secrets` | network access, granted secrets, redaction |
//! | `llm*`, `acp*`, `headless`, `answers`, `prompts`, `real_*` | the agent loop and driven agents |
//! | `proof_*` | whole runs on scripted models: the ledger, faults, kills, budgets, loops |
//! | `deploy` | versions go live or go back, on a real SSH server; kills between any two steps |
//! | `open_work` | outside agents do the whole loop; hostile patches; kills between any two steps |
//! | `console` | the full-screen console on a pseudo terminal, with services that come and go |
//! | `rest*`, `accounts`, `mcp`, `pages`, `story_*`, `demo`, `runtime`, `preview`, `checked` | the surfaces, from the outside |
//! | `single_sign_on` | logging in at an OpenID Connect provider, and every fault of one |
//! | `own_account` | own tokens and sessions on the pages, and people whom a proxy logs in |
//! | `messages` | messages to people: once, only when needed, and never waited for |
//! | `eval` | evaluations: proofs, the four corners, interruptions, leaks, verdicts |
//! | `config`, `configured`, `reload` | the reference configuration is correct and complete, and takes effect |
//! | `telemetry`, `trace_restart` | logs are clean, and traces join across processes |
//! | `metrics`, `otel` | metrics equal the ledger and stay few; alerts and dashboards query only what exists |
//! | `architecture` | layers, file forms, vocabulary, documentation |

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test reports a failure by panicking
#![allow(clippy::manual_is_multiple_of)] // `%` reads better for random draws

mod access_hosts;
mod access_secrets;
mod accounts;
mod acp;
mod acp_measure;
mod acp_resume;
mod acp_terminals;
mod answers;
mod architecture;
mod backup;
mod batches;
mod checked;
mod checks_contract;
mod config;
mod configured;
mod console;
mod demo;
mod deploy;
mod detect;
mod egress;
mod engines_contract;
mod eval;
mod eval_formats;
mod fallback;
mod forge_contract;
mod forgejo;
mod forges_contract;
mod forks;
mod gates;
mod gc;
mod git_cut;
mod git_measure;
mod git_world;
mod github;
mod github_rework;
mod gitlab;
mod gitlab_client;
mod headless;
mod hostile_agent;
mod hostile_bytes;
mod hostile_git;
mod improve;
mod intake;
mod kill;
mod landed;
mod llm;
mod llm_counterpart;
mod llm_effort;
mod llm_faults;
mod llm_measure;
mod llm_patch;
mod llm_tools;
mod llm_window;
mod llm_wire;
mod mail;
mod matrix;
mod mcp;
mod memory;
mod messages;
mod meter;
mod metrics;
mod open_work;
mod otel;
mod outcomes;
mod own_account;
mod own_process;
mod pages;
mod pieces;
mod preview;
mod project_roles;
mod prompts;
mod proof_budget;
mod proof_continued;
mod proof_done_checks;
mod proof_faults;
mod proof_home;
mod proof_kill;
mod proof_ledger;
mod proof_loops;
mod real_agents;
mod real_resume;
mod reload;
mod repository_shapes;
mod rest;
mod rest_guard;
mod rest_stream;
mod resumed;
mod reverts;
mod rework;
mod rules;
mod runners;
mod runtime;
mod sandbox;
mod sandbox_cli;
mod sandboxed_agents;
mod sandboxed_commands;
mod scouted;
mod secrets;
mod shared_budgets;
mod simulate;
mod single_sign_on;
mod store_contract;
mod stored_form;
mod story_ask;
mod story_base;
mod story_flags;
mod story_forgejo;
mod story_github;
mod story_gitlab;
mod story_intake;
mod story_land;
mod story_many;
mod story_queue;
mod story_refused;
mod story_rework;
mod story_schedule;
mod story_spec;
mod story_whole_life;
mod support;
mod telemetry;
mod terminal;
mod trace_restart;
mod verify;
mod workspace_contract;
