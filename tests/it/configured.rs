//! Configured providers, roles, prices and budgets take effect in the real program, up to a landed change.

use crate::support::cli::{Cli, CommandOutput, ended};
use crate::support::models::{KEY, Models, call};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// A data directory whose provider `acme` is the scripted server, used by all roles.
fn cli(models: &Models, more: &str) -> Cli {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(
        cli.path("prices.toml"),
        "version = \"2030-01-01\"\n[[model]]\nmatch = [\"acme/*\"]\ninput = 1.0\noutput = 10.0\n",
    )
    .unwrap();
    let base = models.provider(Api::OpenAi).base_url;
    let prices = cli.path("prices.toml");
    let text = format!(
        "[providers.acme]\napi = \"openai\"\nbase_url = \"{base}\"\nkey_env = \"ACME_KEY\"\n\
         [role.manager]\nengine = \"llm:acme\"\nmodel = \"strong\"\n[role.dev]\nengine = \"llm:acme/cheap\"\n\
         [role.reviewer]\nengine = \"llm:acme/strong\"\n[prices]\nfile = {prices:?}\n{more}"
    );
    std::fs::write(cli.path("data/skep.toml"), text).unwrap();
    cli
}

/// Runs a command with the API key in its environment.
fn skep(cli: &Cli, args: &[&str]) -> CommandOutput {
    let mut command = cli.skep(args);
    command.env("ACME_KEY", KEY);
    // The scripted server runs in this test, so its threads must not be blocked.
    tokio::task::block_in_place(|| ended(command))
}

fn plan() -> Value {
    json!({"tasks": [{"name": "say", "title": "Say b", "text": "a.txt must say b", "needs": [], "paths": []}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_model_lands_a_change_and_is_charged_by_the_price_file() {
    let models = Models::play([
        call("done", plan()),
        call("edit", json!({"path": "a.txt", "edits": [{"old": "a", "new": "b"}]})),
        call("done", json!({"summary": "a.txt says b"})),
        call("done", json!({"verdict": "approve", "summary": "right", "findings": []})),
    ])
    .await;
    let cli = cli(&models, "[limits]\ncost = \"5 USD\"\ntokens = 1000000\n[budget]\nday_cost = \"9 USD\"\n");
    let repo = cli.repo("tool", &[("a.txt", "a\n")]);
    let run = ["run", "--repo", "tool.git", "--goal", "a.txt says b", "--check", "grep b a.txt", "--yes"];
    skep(&cli, &run).exits_with(0);
    let landed = crate::support::cli::git(&repo, &["show", "main:a.txt"]);
    assert_eq!(landed.trim(), "b");

    // The models that the server was asked for.
    let seen = models.seen();
    let named: Vec<&str> = seen.iter().map(|r| r.body["model"].as_str().unwrap()).collect();
    assert_eq!(named, ["strong", "cheap", "cheap", "strong"]);
    assert!(seen.iter().all(|r| format!("{:?}", r.headers).contains(KEY)));

    // Cost by model: calls with 100 input and 10 output tokens, at 1 and 10 USD per million.
    let spent = skep(&cli, &["budget", "show", "--by", "model", "--json"]).exits_with(0).json();
    let rows = spent["spending"].as_array().unwrap();
    let of = |key: &str, what: &str| {
        let row = rows.iter().find(|r| r["key"] == key).unwrap_or_else(|| panic!("{key} in {spent}"));
        row[what].as_u64().unwrap()
    };
    assert_eq!((of("acme/strong", "tokens"), of("acme/cheap", "tokens")), (220, 220));
    assert_eq!((of("acme/strong", "unpriced"), of("acme/cheap", "cost_micros")), (0, 400));
    let shown = skep(&cli, &["budget", "show", "--by", "role", "--day", "today"]).exits_with(0);
    assert!(shown.out.contains("reviewer") && shown.out.contains("0.00"), "{}", shown.out);
    skep(&cli, &["budget", "raise", "--day", "--cost", "5USD"]).exits_with(0).prints("budget of today raised by");
    skep(&cli, &["budget", "raise", "--day", "--project", "tool", "--tokens", "5"]).exits_with(2);
    skep(&cli, &["budget", "raise", "--project", "nobody", "--tokens", "5"]).exits_with(2);

    // The key is not in the store.
    let store = std::fs::read(cli.path("data/skep.db")).unwrap();
    assert!(!store.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_test_verifies_an_engine_or_reports_the_problem() {
    let line = json!({"path": "README.md", "content": "# tally\n\nChecked by Skep.\n"});
    let models = Models::play([
        call("write", line),
        call("done", json!({"summary": "said so"})),
        call("done", json!({"summary": "nothing to do"})),
        call("done", plan()),
        crate::support::models::status(401),
    ])
    .await;
    let cli = cli(&models, "");
    let proof = skep(&cli, &["engine", "test", "dev", "--json"]).exits_with(0).json();
    assert_eq!((proof["engine"].as_str(), proof["step"].as_str()), (Some("llm:acme/cheap"), Some("develop")));
    assert_eq!((proof["verdict"].as_str(), proof["usage"]["tokens"].as_u64()), (Some("passed"), Some(220)), "{proof}");
    // An engine's own report is not trusted: it is verified.
    let lied = skep(&cli, &["engine", "test", "llm:acme/other", "--json"]).exits_with(3).json();
    assert!(lied["detail"].as_str().unwrap().contains("changed nothing"), "{lied}");
    skep(&cli, &["engine", "test", "manager"]).exits_with(0).prints("planned 1 task: Say b");
    let refused = skep(&cli, &["engine", "test", "reviewer", "--json"]).exits_with(78).json();
    assert!(refused["fix"].as_str().unwrap().contains("ACME_KEY"), "{refused}");
    assert_eq!(models.seen().len(), 5);
    // Engines without a model, and engines that cannot be tested.
    skep(&cli, &["engine", "test", "command: echo more >> CHANGELOG.md"]).exits_with(0).prints("changed CHANGELOG.md");
    skep(&cli, &["engine", "test", "command: exit 3"]).exits_with(3);
    skep(&cli, &["engine", "test", "direct"]).exits_with(0).prints("works");
    skep(&cli, &["engine", "test", "script:demo:tally"]).exits_with(0).prints("changed tally.sh");
    skep(&cli, &["engine", "test", "scout"]).exits_with(2).one_error("scout", "role.scout.engine");
    skep(&cli, &["engine", "test", "llm:nobody/x"]).exits_with(78).one_error("nobody", "engine list");
    skep(&cli, &["engine", "test", "banana"]).exits_with(2).one_error("unknown engine", "KIND");
    let left: Vec<_> = std::fs::read_dir(cli.path("data")).unwrap().flatten().map(|f| f.file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().starts_with("probe-")), "{left:?}");

    let listed = skep(&cli, &["engine", "list", "--json"]).exits_with(0).json();
    let row = |name: &str| listed["engines"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone();
    assert_eq!((row("acme")["usable"].clone(), row("llm")["what"].clone()), (json!(true), json!("kind")));
    assert!(!listed.to_string().contains(KEY));
    // A local server that is not running is not usable.
    let mut command = cli.skep(&["engine", "list", "--json"]);
    command.env("ACME_KEY", KEY).env("SKEP_PROVIDERS__VLLM__BASE_URL", "http://127.0.0.1:9/v1/");
    let listed = ended(command).exits_with(0).json();
    let vllm = listed["engines"].as_array().unwrap().iter().find(|r| r["name"] == "vllm").unwrap().clone();
    assert_eq!(
        (vllm["usable"].clone(), vllm["detail"].clone()),
        (json!(false), json!("no server is listening at http://127.0.0.1:9/v1/"))
    );
}

#[test]
fn a_role_without_its_key_is_refused_by_name_before_anything_starts() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), "[role.dev]\nengine = \"llm:anthropic/x\"\n").unwrap();
    for args in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"], &["runs"]] {
        let mut command = cli.skep(args);
        command.env_remove("ANTHROPIC_API_KEY");
        ended(command).exits_with(78).one_error("ANTHROPIC_API_KEY", "providers.anthropic.key_env");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_detects_models_and_its_proposal_is_valid() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    // An agent on PATH, a key, and a model server on this machine.
    let bin = cli.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/true", bin.join("claude-agent-acp")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let tags = || async { axum::Json(json!({"models": [{"name": "qwen3:8b"}]})) };
    let served = tokio::spawn(
        axum::serve(listener, axum::Router::new().route("/api/tags", axum::routing::get(tags))).into_future(),
    );
    let doctor = |args: &[&str]| {
        let mut command = cli.skep(args);
        command
            .env("PATH", &path)
            .env("SKEP_PROVIDERS__OLLAMA__BASE_URL", &base)
            .env("ANTHROPIC_API_KEY", "sk-hunter2-4711");
        for name in ["OPENAI_API_KEY", "GEMINI_API_KEY"] {
            command.env_remove(name);
        }
        tokio::task::block_in_place(|| ended(command))
    };
    let output = doctor(&["doctor"]).exits_with(0);
    for part in ["anthropic (has a key)", "ollama (on this machine, 1 model)", "installed: claude", "doctor --propose"]
    {
        assert!(output.out.contains(part), "{part} in {}", output.out);
    }
    let proposed = doctor(&["doctor", "--propose"]).exits_with(0).out;
    for part in ["[role.reviewer]\nengine = \"llm:ollama/qwen3:8b\"", "\"acp:claude/", "day_cost = "] {
        assert!(proposed.contains(part), "{part} in {proposed}");
    }
    assert!(!output.out.contains("hunter2") && !proposed.contains("hunter2"));
    std::fs::write(cli.path("data/skep.toml"), &proposed).unwrap();
    let checked = doctor(&["config", "check", "--json"]).exits_with(0);
    assert!(checked.out.contains("role.dev.engine") && !checked.out.contains("hunter2"));
    // A model without a known price and a configuration without limits each cause a warning.
    std::fs::write(cli.path("data/skep.toml"), "[role.dev]\nengine = \"llm:anthropic/unheard-of\"\n").unwrap();
    let weak = doctor(&["doctor"]).exits_with(0).out;
    assert!(weak.contains("price unknown") && weak.contains("budget.day_cost"), "{weak}");
    served.abort();
}

#[test]
fn effective_prompts_are_listed_with_their_source_and_printed() {
    let cli = Cli::new();
    let folder = cli.path("prompts");
    for (file, text) in
        [("manager/plan.md", "PLAN {{ goal | data(\"goal\") }}"), ("projects/tool/dev/system.md", "TOOL \u{1b}[2J")]
    {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::create_dir(cli.path("data")).unwrap();
    let listed = |cli: &Cli, more: &[&str]| {
        let args = [&["prompts", "list", "--json"], more].concat();
        cli.run(&args).exits_with(0).json()["prompts"].clone()
    };
    let file = |steps: &Value, step: usize, name: &str| {
        let files = steps[step]["files"].as_array().unwrap();
        files.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no {name} in {steps}")).clone()
    };
    let built_in = listed(&cli, &[]);
    let named: Vec<_> = built_in.as_array().unwrap().iter().map(|s| (s["step"].clone(), s["role"].clone())).collect();
    let wanted = [("explore", "scout"), ("plan", "manager"), ("develop", "dev"), ("review", "reviewer")];
    assert_eq!(named, wanted.map(|(step, role)| (json!(step), json!(role))));
    assert_eq!(file(&built_in, 1, "manager/plan.md")["source"], "built in");

    std::fs::write(cli.path("data/skep.toml"), format!("[prompts]\ndir = {folder:?}\n")).unwrap();
    let own = listed(&cli, &[]);
    let plan = file(&own, 1, "manager/plan.md");
    assert_eq!((&plan["source"], plan["path"].as_str()), (&json!("folder"), folder.join("manager/plan.md").to_str()));
    assert!(own[1]["version"] != built_in[1]["version"] && own[2]["version"] == built_in[2]["version"]);
    let of_tool = listed(&cli, &["--project", "tool"]);
    assert_eq!(file(&of_tool, 2, "dev/system.md")["source"], "project");
    assert!(of_tool[2]["version"] != own[2]["version"] && of_tool[1] == own[1]);
    cli.run(&["prompts", "list"]).exits_with(0).prints("folder: ").prints("built in");

    cli.run(&["prompts", "show", "plan"]).exits_with(0).prints("PLAN {{ goal").prints("==> shared/data.md (built in");
    let dev = cli.run(&["prompts", "show", "dev", "--project", "tool", "--json"]).exits_with(0).json();
    assert_eq!(dev["prompt"]["texts"]["dev/system.md"], "TOOL \u{1b}[2J");
    assert_eq!(dev["prompt"]["version"], of_tool[2]["version"]);
    cli.run(&["prompts", "show", "nobody"]).exits_with(2);
    std::fs::write(folder.join("manager/plan.md"), "{{ nothing }}").unwrap();
    cli.run(&["prompts", "list"]).exits_with(78).one_error("manager/plan.md, line 1", "remove it");
}
