//! Which layer may use which, read from every `crate::` and `super::` path, with or without `use`.

use super::{TextFile, assert_none, code, sources};

/// What each layer may use. The row with the longest matching module applies; the right side lists path prefixes.
/// A module may always use itself and its submodules. In addition, `config` may use every module named `settings`: the
/// types that the configuration fills in live next to what they configure.
const MAY: &[(&str, &[&str])] = &[
    ("main", &["app", "cli", "telemetry"]),
    ("lib", &[]),
    ("fault", &[]),
    ("secrets", &[]),
    ("domain", &[]),
    ("ports", &["domain", "secrets"]),
    ("render", &["domain"]),
    // The written form of task specs; the CLI checks files with it, and the use cases read requests.
    ("specs", &["domain"]),
    ("telemetry", &["secrets"]),
    ("platform", &["domain", "ports", "secrets", "telemetry", "providers"]),
    ("providers", &["domain", "ports", "secrets", "telemetry"]),
    ("adapters", &["domain", "ports", "secrets", "telemetry", "platform", "providers"]),
    // Channels write messages for people, to addresses that are judged like those of the egress proxy.
    ("adapters::notify", &["domain", "ports", "platform", "render", "secrets", "telemetry"]),
    // Exception: checks run on runners, which have no port.
    ("adapters::checks", &["domain", "ports", "secrets", "telemetry", "platform", "adapters::runner"]),
    // Exception: hosts of deployments are reached like runners.
    ("adapters::deploy", &["domain", "ports", "secrets", "telemetry", "platform", "adapters::runner"]),
    ("actors", &["domain", "ports", "render", "secrets", "telemetry"]),
    ("config", &["domain", "secrets", "telemetry"]),
    ("service", &["actors", "domain", "ports", "secrets", "specs", "telemetry", "render"]),
    // Use cases about this installation read its configuration.
    ("service::host", &["config", "domain", "ports"]),
    // Surfaces reach the runtime and the store only through the use cases.
    ("http", &["domain", "ports", "secrets", "service", "telemetry", "render"]),
    // The parts of pages draw what they are given.
    ("http::pages::parts", &["domain", "render"]),
    // The CLI is a client of the REST API: it knows the wire types and how to reach the routes, not the handlers.
    (
        "cli",
        &[
            "config",
            "http::backend",
            "http::rest::wire",
            "platform::stop_signal",
            "secrets",
            "service::host",
            "specs",
            "telemetry",
            "render",
        ],
    ),
    // Exception: which calls may be repeated is known by the tools.
    ("cli::mcp", &["cli", "http::mcp", "http::rest::wire", "platform::stop_signal"]),
    // Tests build runs to check how they are rendered.
    ("cli::tests", &["cli", "domain", "http", "ports", "render", "service"]),
    // The composition root, the only place that names concrete adapters.
    (
        "app",
        &[
            "actors",
            "adapters",
            "config",
            "domain",
            "http",
            "platform",
            "ports",
            "providers",
            "render",
            "secrets",
            "service",
            "telemetry",
        ],
    ),
];

/// The modules that may use each library, so that it stays replaceable.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("ractor", &["actors"]),
    ("sea_orm", &["adapters::store"]),
    ("sea_orm_migration", &["adapters::store"]),
    ("migration", &["adapters::store"]),
    // The demo uses `gix` only to check that its sample is unchanged, which needs neither a mirror nor a sealed
    // repository.
    ("gix", &["platform::git", "adapters::demo"]),
    ("minijinja", &["adapters::prompts", "adapters::notify"]),
    ("serde_json_path", &["adapters::engine", "config::selectors"]),
    ("quick_xml", &["adapters::checks"]),
    ("tar", &["adapters::runner", "adapters::backup", "adapters::eval"]),
    ("croner", &["service::schedules"]),
    ("serde_saphyr", &["specs"]),
    ("skillratings", &["domain::rating"]),
    ("schemars", &["specs", "http::mcp"]),
    ("aho_corasick", &["secrets", "platform::egress"]),
    ("chacha20poly1305", &["secrets"]),
    ("axum", &["http", "app", "cli", "platform::egress"]),
    ("rmcp", &["http::mcp"]),
    ("hyper", &["http", "platform::egress"]),
    ("maud", &["http::pages"]),
    ("cookie", &["http::pages"]),
    ("similar", &["render", "adapters::engine"]),
    ("anstyle_parse", &["http::pages", "cli::console"]),
    ("ratatui", &["cli::console"]),
    ("utoipa", &["http"]),
    ("utoipa_axum", &["http"]),
    ("genai", &["adapters::engine"]),
    ("grep_regex", &["adapters::engine"]),
    ("grep_searcher", &["adapters::engine"]),
    ("ignore", &["adapters::engine"]),
    ("clap", &["cli"]),
    ("figment", &["config"]),
    ("agent_client_protocol", &["adapters::engine::acp"]),
    (
        "reqwest",
        &[
            "cli",
            "app",
            "telemetry",
            "platform::egress",
            "adapters::deploy",
            "adapters::engine",
            "adapters::forge",
            "adapters::notify",
            "adapters::oidc",
            "providers",
        ],
    ),
    ("octocrab", &["adapters::forge::github"]),
    ("lettre", &["adapters::notify"]),
    ("ring", &["adapters::forge", "adapters::notify", "adapters::oidc"]),
    ("jsonwebtoken", &["adapters::oidc"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_prometheus", &["telemetry"]),
    ("prometheus", &["telemetry"]),
];

/// The only crates the domain may name.
const DOMAIN_CRATES: &[&str] =
    &["std", "core", "serde", "thiserror", "uuid", "globset", "sha2", "skillratings", "crate", "super", "self"];

/// Names that are forbidden in the domain: time, randomness, files, network, processes, threads, async code, output.
const NOT_IN_DOMAIN: &[&str] = &[
    "async fn",
    ".await",
    "now_v7",
    "new_v4",
    "SystemTime::",
    "Instant::",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "println!",
    "tokio",
    "tracing",
];

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    inner.split('/').map(str::to_owned).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The paths in the code that begin with `start`, with groups expanded: `crate::a::{b, c::d}` yields `a::b` and
/// `a::c::d`.
fn paths(code: &str, start: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let before = &code[..at];
        // The path in `pub(in crate::a)` limits visibility; it is not a use.
        if before.ends_with("pub(in ") || before.chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut leaves = Vec::new();
        parse_use_tree(&code[at + start.len()..], &[], &mut leaves);
        found.extend(leaves.into_iter().map(|leaf| (line, leaf)));
    }
    found
}

/// Parses one use tree and returns the number of bytes read.
fn parse_use_tree(text: &str, above: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let trimmed = text.trim_start();
    let mut read = text.len() - trimmed.len();
    if trimmed.starts_with('{') {
        read += 1;
        loop {
            read += parse_use_tree(&text[read..], above, leaves);
            let rest = &text[read..];
            let skipped = rest.len() - rest.trim_start().len();
            let more = rest.trim_start().starts_with(',');
            read += skipped + usize::from(!rest.trim_start().is_empty());
            if !more || text[read..].trim_start().starts_with('}') {
                return read;
            }
        }
    }
    let word: String = trimmed.chars().take_while(|c| is_word(*c) || *c == '*').collect();
    read += word.len();
    let mut path = above.to_vec();
    if !word.is_empty() {
        path.push(word);
    }
    if text[read..].starts_with("::") {
        return read + 2 + parse_use_tree(&text[read + 2..], &path, leaves);
    }
    leaves.push(path);
    read
}

/// The paths of this crate that a file uses, relative to the crate root.
fn used_paths(file: &TextFile) -> Vec<(usize, String)> {
    let code = code(&file.text);
    let own = if file.path == "src/main.rs" { "skep::" } else { "crate::" };
    let mut found: Vec<(usize, String)> = paths(&code, own).into_iter().map(|(l, p)| (l, p.join("::"))).collect();
    // `super` has another meaning in an inline module; the only inline modules are tests.
    let outer = code.find("mod tests {").map_or(code.as_str(), |at| &code[..at]);
    for (line, path) in paths(outer, "super::") {
        let ups = 1 + path.iter().take_while(|p| *p == "super").count();
        let mut whole = module_of(&file.path);
        whole.truncate(whole.len().saturating_sub(ups));
        whole.extend(path.into_iter().skip(ups - 1));
        found.push((line, whole.join("::")));
    }
    found
}

fn is_beneath(path: &str, above: &str) -> bool {
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with("::"))
}

/// `crate::fault!("…")` is allowed wherever code has external effects, but not in code that only decides.
fn is_fault_point(path: &str) -> bool {
    path == "fault"
}

fn layer_violations(file: &TextFile) -> Vec<String> {
    let from = module_of(&file.path).join("::");
    let rule = MAY.iter().filter(|(layer, _)| is_beneath(&from, layer)).max_by_key(|(layer, _)| layer.len());
    let Some((layer, may)) = rule else {
        return vec![format!("{}: has no layer in tests/it/architecture/layers.rs", file.path)];
    };
    let wrong = |to: &String| {
        let top_is_layer = MAY.iter().any(|(l, _)| is_beneath(to, l));
        let is_settings = *layer == "config" && to.split("::").any(|part| part == "settings");
        let allowed = is_settings || is_beneath(to, layer) || may.iter().any(|m| is_beneath(to, m));
        // Fault points are macros of this crate. Any other path outside every layer is not a module of this crate.
        let is_mark = is_fault_point(to) && !matches!(*layer, "domain" | "ports");
        top_is_layer && !allowed && !is_mark
    };
    let line = |(line, to): (usize, String)| format!("{}:{line}: {layer} may not use {to}", file.path);
    let own_adapter = |to: &String| {
        layer == &"adapters" && is_beneath(to, "adapters") && {
            // An adapter without a row of its own may use only itself and what the row of all adapters lists.
            let own = from.split("::").take(2).collect::<Vec<_>>().join("::");
            !is_beneath(to, &own) && !may.iter().any(|m| is_beneath(to, m))
        }
    };
    used_paths(file).into_iter().filter(|(_, to)| wrong(to) || own_adapter(to)).map(line).collect()
}

/// Uses of libraries outside their modules.
fn library_violations(file: &TextFile) -> Vec<String> {
    let from = module_of(&file.path).join("::");
    let code = code(&file.text);
    let mut found = Vec::new();
    for (library, homes) in LIBRARIES {
        let start = format!("{library}::");
        if !homes.iter().any(|h| is_beneath(&from, h)) {
            // A module of this crate may have the same name, so only paths that begin with it count.
            let uses = paths(&code, &start);
            found.extend(
                uses.iter().map(|(l, _)| format!("{}:{l}: {library} may be used only in {homes:?}", file.path)),
            );
        }
    }
    found
}

fn purity_violations(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in code(&file.text).lines().enumerate() {
        let at = format!("{}:{}", file.path, n + 1);
        if let Some(path) = line.trim_start().trim_start_matches("pub ").strip_prefix("use ") {
            let first: String = path.chars().take_while(|c| is_word(*c)).collect();
            // `use Enum::*` in a function does not name a crate.
            let is_crate = first.starts_with(|c: char| c.is_ascii_lowercase());
            if is_crate && path[first.len()..].starts_with("::") && !DOMAIN_CRATES.contains(&first.as_str()) {
                let own = file.path.ends_with("/mod.rs");
                if !own {
                    found.push(format!("{at}: the domain may not use {first}"));
                }
            }
        }
        for word in NOT_IN_DOMAIN {
            if line.contains(word) {
                found.push(format!("{at}: the domain is pure and may not use {word}"));
            }
        }
    }
    found
}

#[test]
fn layers_use_only_what_they_may() {
    assert_none(sources().iter().flat_map(layer_violations).collect());
}

#[test]
fn libraries_are_used_only_in_their_modules() {
    assert_none(sources().iter().flat_map(library_violations).collect());
}

#[test]
fn the_domain_is_pure() {
    assert_none(sources().iter().filter(|p| p.path.starts_with("src/domain/")).flat_map(purity_violations).collect());
}

#[test]
fn planted_layer_violations_are_found() {
    let planted = |path: &str, text: &str| {
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        layer_violations(&file).len() + library_violations(&file).len()
    };
    let table = [
        ("src/domain/run.rs", "use crate::ports::Store;\n", 1),
        ("src/domain/run.rs", "fn f() -> crate::config::Config { todo() }\n", 1),
        ("src/domain/decide/land.rs", "use crate::domain::{gate, run::Phase};\nuse super::draft::Draft;\n", 0),
        ("src/ports/store.rs", "use crate::{domain::Run, actors::Deps};\n", 1),
        ("src/adapters/store/lease.rs", "use crate::platform::git::Git;\n", 0),
        ("src/adapters/store/lease.rs", "use crate::adapters::forge::local::LocalForge;\n", 1),
        ("src/adapters/engine/command.rs", "use super::super::store::Rows;\n", 1),
        ("src/adapters/engine/command.rs", "use crate::adapters::{forge, workspace::{scan, wip}};\n", 3),
        ("src/adapters/runner/local.rs", "pub(in crate::adapters) struct LocalSession;\n", 0),
        ("src/platform/clock.rs", "use crate::adapters::workspace;\nuse crate::ports::Clock;\n", 1),
        ("src/adapters/workspace/wip.rs", "use crate::platform::git::{Git, durable_fs};\n", 0),
        ("src/actors/ops.rs", "use crate::adapters::forge::local::LocalForge;\n", 1),
        ("src/actors/ops.rs", "crate::fault!(\"before-act\"); use super::deps::Deps;\n", 0),
        ("src/platform/git/mirror.rs", "crate::fault!(\"mid-fetch\");\n", 0),
        ("src/domain/run.rs", "crate::fault!(\"before-open\");\n", 1),
        ("src/config/read/mod.rs", "use crate::adapters::runner::{settings::Ssh, ssh};\n", 1),
        ("src/http/runs.rs", "use crate::app::Ports;\n", 1),
        ("src/cli/run.rs", "use crate::http::{rest::wire::Run, router};\n", 1),
        ("src/cli/run.rs", "use crate::service::runs;\n", 1),
        ("src/http/rest/runs.rs", "use crate::actors::RuntimeHandle;\n", 1),
        ("src/http/rest/runs.rs", "use crate::service::runs;\n", 0),
        ("src/service/runs.rs", "use crate::http::rest::wire::Run;\n", 1),
        ("src/cli/run.rs", "// crate::platform::git\nlet a = \"crate::adapters\";\n", 0),
        ("src/app/mod.rs", "use crate::adapters::store;\n", 0),
        ("src/main.rs", "use skep::adapters::store;\n", 1),
        ("src/brandnew/mod.rs", "", 1),
        ("src/http/runs.rs", "fn f(r: ractor::ActorRef<()>) {}\n", 1),
        ("src/ports/store.rs", "use sea_orm::Entity;\n", 1),
        ("src/platform/git/read.rs", "use gix::Repository;\n", 0),
    ];
    for (path, text, count) in table {
        assert_eq!(planted(path, text), count, "{path}: {text}");
    }
    let impure =
        "use tokio::time;\nuse std::fs;\nasync fn f() { g().await }\nuse serde::Serialize;\nuse super::run::Run;\n";
    let file = TextFile { path: "src/domain/run.rs".to_owned(), text: impure.to_owned() };
    assert_eq!(purity_violations(&file).len(), 5);
}
