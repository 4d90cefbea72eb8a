//! The one integration-test binary.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test says what went wrong by panicking
#![allow(clippy::manual_is_multiple_of)] // `%` reads as the dice it is

mod acp;
mod answers;
mod checks_contract;
mod config;
mod configured;
mod demo;
mod detect;
mod engines_contract;
mod factory;
mod fallback;
mod forge_contract;
mod gate;
mod gates;
mod git_cut;
mod git_measure;
mod git_world;
mod headless;
mod hostile_agent;
mod hostile_bytes;
mod hostile_git;
mod house;
mod kill;
mod llm;
mod llm_counterpart;
mod llm_faults;
mod llm_measure;
mod llm_tools;
mod matrix;
mod meter;
mod otel;
mod pieces;
mod preview;
mod prompts;
mod real_agents;
mod reload;
mod rest;
mod rest_guard;
mod rest_stream;
mod rules;
mod sandbox;
mod scouted;
mod secrets;
mod simulate;
mod store_contract;
mod story_ask;
mod story_land;
mod story_many;
mod story_refused;
mod support;
mod telemetry;
mod trace_restart;
mod walls;
mod workspace_contract;
