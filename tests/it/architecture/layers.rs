//! Who may use whom: read from every `crate::` and `super::` path, with or without `use`.

use super::{Page, code, nothing, sources};

/// What each layer may name. The longest left side that fits a module counts; right sides are path prefixes.
/// A module may always name itself and what lies below it. Besides these rows, `config` may name any module called
/// `settings`: the types that the configuration fills in live beside what they configure.
const MAY: &[(&str, &[&str])] = &[
    ("main", &["app", "cli", "telemetry"]),
    ("lib", &[]),
    ("fault", &[]),
    ("secrets", &[]),
    ("domain", &[]),
    ("ports", &["domain", "secrets"]),
    ("render", &["domain"]),
    ("telemetry", &["config", "secrets"]),
    ("platform", &["domain", "ports", "secrets", "telemetry", "providers"]),
    ("providers", &["domain", "ports", "secrets", "telemetry"]),
    ("adapters", &["domain", "ports", "secrets", "telemetry", "platform", "providers"]),
    // Exception: checks run on runners, which have no port of their own.
    ("adapters::checks", &["domain", "ports", "secrets", "telemetry", "platform", "adapters::runner"]),
    ("actors", &["domain", "ports", "render", "secrets", "telemetry"]),
    ("config", &["domain", "secrets", "telemetry", "platform::access", "platform::sandbox"]),
    ("service", &["actors", "domain", "ports", "secrets", "telemetry", "render"]),
    // Use cases about this installation read its configuration.
    ("service::host", &["config", "domain", "ports"]),
    // Surfaces reach the runtime and the store only through the use cases.
    ("http", &["domain", "ports", "secrets", "service", "telemetry", "render"]),
    // The command line is a client: of REST it knows the wire types and how to reach the routes, not the handlers.
    ("cli", &["config", "http::backend", "http::rest::wire", "secrets", "service::host", "telemetry", "render"]),
    // Exception: lines of a journal are told from the domain's own events, which the wire does not repeat.
    ("cli::run_log", &["cli", "domain", "http::rest::wire"]),
    ("cli::progress", &["cli", "domain", "http::rest::wire"]),
    // Tests build runs to see how they are shown.
    ("cli::tests", &["cli", "domain", "http", "ports", "service"]),
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

/// Where a library may be named: it stays replaceable as long as it stays there.
const LIVES: &[(&str, &[&str])] = &[
    ("ractor", &["actors"]),
    ("sea_orm", &["adapters::store"]),
    ("sea_orm_migration", &["adapters::store"]),
    ("migration", &["adapters::store"]),
    // The demo looks whether its sample is untouched; it needs no mirror and no seal for that.
    ("gix", &["platform::git", "adapters::demo"]),
    ("minijinja", &["adapters::prompts"]),
    ("serde_json_path", &["adapters::engine"]),
    ("quick_xml", &["adapters::checks"]),
    ("tar", &["adapters::runner"]),
    ("aho_corasick", &["secrets", "platform::egress"]),
    ("chacha20poly1305", &["secrets"]),
    ("axum", &["http", "app", "cli", "platform::egress"]),
    ("hyper", &["http", "platform::egress"]),
    ("utoipa", &["http"]),
    ("utoipa_axum", &["http"]),
    ("genai", &["adapters::engine"]),
    ("grep_regex", &["adapters::engine"]),
    ("grep_searcher", &["adapters::engine"]),
    ("ignore", &["adapters::engine"]),
    ("clap", &["cli"]),
    ("figment", &["config"]),
    ("agent_client_protocol", &["adapters::engine::acp"]),
    ("reqwest", &["cli", "app", "telemetry", "platform::egress", "adapters::engine", "providers"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
];

/// The only crates the domain may name.
const DOMAIN_CRATES: &[&str] = &["std", "core", "serde", "thiserror", "uuid", "globset", "crate", "super", "self"];

/// What the domain has none of: time, chance, files, network, processes, threads, waiting, output.
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

/// The paths that begin with `start` in the code, groups taken apart: `crate::a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(code: &str, start: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        if code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut leaves = Vec::new();
        tree(&code[at + start.len()..], &[], &mut leaves);
        found.extend(leaves.into_iter().map(|leaf| (line, leaf)));
    }
    found
}

/// Reads one use-tree; gives how many bytes it took.
fn tree(text: &str, above: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let trimmed = text.trim_start();
    let mut taken = text.len() - trimmed.len();
    if trimmed.starts_with('{') {
        taken += 1;
        loop {
            taken += tree(&text[taken..], above, leaves);
            let rest = &text[taken..];
            let skipped = rest.len() - rest.trim_start().len();
            let more = rest.trim_start().starts_with(',');
            taken += skipped + usize::from(!rest.trim_start().is_empty());
            if !more || text[taken..].trim_start().starts_with('}') {
                return taken;
            }
        }
    }
    let word: String = trimmed.chars().take_while(|c| is_word(*c) || *c == '*').collect();
    taken += word.len();
    let mut path = above.to_vec();
    if !word.is_empty() {
        path.push(word);
    }
    if text[taken..].starts_with("::") {
        return taken + 2 + tree(&text[taken + 2..], &path, leaves);
    }
    leaves.push(path);
    taken
}

/// What a file names in this crate, as paths from its root.
fn names(page: &Page) -> Vec<(usize, String)> {
    let code = code(&page.text);
    let own = if page.path == "src/main.rs" { "skep::" } else { "crate::" };
    let mut found: Vec<(usize, String)> = paths(&code, own).into_iter().map(|(l, p)| (l, p.join("::"))).collect();
    // Within an inline module `super` means another place; tests are the only ones there are.
    let outer = code.find("mod tests {").map_or(code.as_str(), |at| &code[..at]);
    for (line, path) in paths(outer, "super::") {
        let ups = 1 + path.iter().take_while(|p| *p == "super").count();
        let mut whole = module_of(&page.path);
        whole.truncate(whole.len().saturating_sub(ups));
        whole.extend(path.into_iter().skip(ups - 1));
        found.push((line, whole.join("::")));
    }
    found
}

fn is_beneath(path: &str, above: &str) -> bool {
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with("::"))
}

/// `crate::fault!("…")`: wherever something is done to the world, never where it is only decided.
fn is_fault_point(path: &str) -> bool {
    path == "fault"
}

fn arrows(page: &Page) -> Vec<String> {
    let from = module_of(&page.path).join("::");
    let rule = MAY.iter().filter(|(layer, _)| is_beneath(&from, layer)).max_by_key(|(layer, _)| layer.len());
    let Some((layer, may)) = rule else {
        return vec![format!("{}: belongs to no layer that is known to tests/it/house/layers.rs", page.path)];
    };
    let wrong = |to: &String| {
        let top_is_layer = MAY.iter().any(|(l, _)| is_beneath(to, l));
        let is_settings = *layer == "config" && to.split("::").any(|part| part == "settings");
        let allowed = is_settings || is_beneath(to, layer) || may.iter().any(|m| is_beneath(to, m));
        // Names of an adapter folder's own root (`adapters::Kind`) are arrows, too; anything else is no module of ours.
        let only_marks = is_fault_point(to) && !matches!(*layer, "domain" | "ports");
        top_is_layer && !allowed && !only_marks
    };
    let line = |(line, to): (usize, String)| format!("{}:{line}: {layer} may not use {to}", page.path);
    let own_adapter = |to: &String| {
        layer == &"adapters" && is_beneath(to, "adapters") && {
            // An adapter without a rule of its own: itself and the shared tools only.
            let own = from.split("::").take(2).collect::<Vec<_>>().join("::");
            !is_beneath(to, &own) && !may.iter().any(|m| is_beneath(to, m))
        }
    };
    names(page).into_iter().filter(|(_, to)| wrong(to) || own_adapter(to)).map(line).collect()
}

/// Which crates' names begin a path in the code: after `use`, or anywhere before `::`.
fn lives(page: &Page) -> Vec<String> {
    let from = module_of(&page.path).join("::");
    let code = code(&page.text);
    let mut found = Vec::new();
    for (library, homes) in LIVES {
        let start = format!("{library}::");
        if !homes.iter().any(|h| is_beneath(&from, h)) {
            // A module of ours may have the same name: only paths that begin with it count.
            let uses = paths(&code, &start);
            found.extend(uses.iter().map(|(l, _)| format!("{}:{l}: {library} lives in {homes:?}", page.path)));
        }
    }
    found
}

fn pure(page: &Page) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in code(&page.text).lines().enumerate() {
        let at = format!("{}:{}", page.path, n + 1);
        if let Some(path) = line.trim_start().trim_start_matches("pub ").strip_prefix("use ") {
            let first: String = path.chars().take_while(|c| is_word(*c)).collect();
            // `use Enum::*` within a function names no crate.
            let is_crate = first.starts_with(|c: char| c.is_ascii_lowercase());
            if is_crate && path[first.len()..].starts_with("::") && !DOMAIN_CRATES.contains(&first.as_str()) {
                let own = page.path.ends_with("/mod.rs");
                if !own {
                    found.push(format!("{at}: the domain may not use {first}"));
                }
            }
        }
        for word in NOT_IN_DOMAIN {
            if line.contains(word) {
                found.push(format!("{at}: the domain is pure and has no {word}"));
            }
        }
    }
    found
}

#[test]
fn the_arrows_between_the_layers_are_those_allowed() {
    nothing(sources().iter().flat_map(arrows).collect());
}

#[test]
fn each_library_lives_in_its_place() {
    nothing(sources().iter().flat_map(lives).collect());
}

#[test]
fn the_domain_is_pure() {
    nothing(sources().iter().filter(|p| p.path.starts_with("src/domain/")).flat_map(pure).collect());
}

#[test]
fn planted_arrows_are_found() {
    let planted = |path: &str, text: &str| {
        let page = Page { path: path.to_owned(), text: text.to_owned() };
        arrows(&page).len() + lives(&page).len()
    };
    let table = [
        ("src/domain/run.rs", "use crate::ports::Store;\n", 1),
        ("src/domain/run.rs", "fn f() -> crate::config::Config { todo() }\n", 1),
        ("src/domain/decide/land.rs", "use crate::domain::{gate, run::Phase};\nuse super::draft::Draft;\n", 0),
        ("src/ports/store.rs", "use crate::{domain::Run, actors::Deps};\n", 1),
        ("src/adapters/store/lease.rs", "use crate::platform::git::Git;\n", 1),
        ("src/adapters/engine/command.rs", "use super::super::store::Rows;\n", 1),
        ("src/adapters/engine/command.rs", "use crate::adapters::{beneath::Beneath, workspace::{scan, wip}};\n", 2),
        ("src/adapters/clock.rs", "use crate::platform::git::Git;\nuse crate::ports::Clock;\n", 1),
        ("src/adapters/workspace/wip.rs", "use crate::platform::git::{Git, durable_fs};\n", 0),
        ("src/actors/ops.rs", "use crate::adapters::forge::local::LocalForge;\n", 1),
        ("src/actors/ops.rs", "crate::fault!(\"before-act\"); use super::deps::Deps;\n", 0),
        ("src/adapters/git/mirror.rs", "crate::fault!(\"mid-fetch\");\n", 0),
        ("src/domain/run.rs", "crate::fault!(\"before-open\");\n", 1),
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
        ("src/adapters/git/read.rs", "use gix::Repository;\n", 0),
    ];
    for (path, text, count) in table {
        assert_eq!(planted(path, text), count, "{path}: {text}");
    }
    let impure =
        "use tokio::time;\nuse std::fs;\nasync fn f() { g().await }\nuse serde::Serialize;\nuse super::run::Run;\n";
    let page = Page { path: "src/domain/run.rs".to_owned(), text: impure.to_owned() };
    assert_eq!(pure(&page).len(), 5);
}
