//! The documents: links resolve, commands parse, configuration keys exist, no path of a developer's machine remains.

use super::{TextFile, assert_none, file, files, root, sources};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use skep::cli::args::Skep;
use std::collections::BTreeSet;

/// Folders that exist on the author's machine, but not on the reader's.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", "/Users/", "C:\\"];

fn documents() -> Vec<TextFile> {
    let mut all = files(&["docs", "prompts", "otel", ".github"], ".md");
    all.push(file("README.md"));
    all.push(file("ARCHITECTURE.md"));
    all
}

/// The lines of a document, each with whether it is in a code block.
fn lines(text: &str) -> impl Iterator<Item = (usize, bool, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(n, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        Some((n + 1, fenced, line))
    })
}

/// The texts between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchor of a heading, as forges derive it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

fn links(file: &TextFile, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, fenced, line) in lines(&file.text) {
        let prose: String = line.split('`').step_by(2).collect();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if fenced || target.starts_with("http://") || target.starts_with("https://") {
                continue;
            }
            let (path, part) = target.split_once('#').unwrap_or((target, ""));
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut whole: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
            for name in path.split('/') {
                match name {
                    ".." => drop(whole.pop()),
                    "" | "." => {}
                    name => whole.push(name),
                }
            }
            let resolved = if path.is_empty() { file.path.clone() } else { whole.join("/") };
            let text = if path.is_empty() { Some(file.text.clone()) } else { read(&resolved) };
            let fits =
                text.is_some_and(|t| part.is_empty() || t.lines().any(|l| l.starts_with('#') && anchor(l) == part));
            if !fits {
                found.push(format!("{}:{n}: the link {target} does not resolve", file.path));
            }
        }
    }
    found
}

/// The words of a command line as a shell splits them, up to a pipe, a redirection, a comment or a second command.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut any, mut quote) = (Vec::new(), String::new(), false, None);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => word.extend(chars.next()),
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (None, '|' | '>' | ';' | '&') => break,
            (None, '#') if word.is_empty() => break,
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (None, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        all.push(word);
    }
    all
}

/// The Skep command lines of a document: lines of code blocks, and code spans that begin with `skep`.
fn commands(file: &TextFile) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    let mut part = String::new();
    for (n, fenced, line) in lines(&file.text) {
        if !fenced {
            found.extend(spans(line).filter(|s| s.starts_with("skep ")).map(|s| (n, s.to_owned(), false)));
            continue;
        }
        let line = line.trim();
        if let Some(start) = line.strip_suffix('\\') {
            part.push_str(start);
            part.push(' ');
            continue;
        }
        part.push_str(line);
        found.push((n, std::mem::take(&mut part), true));
    }
    found
}

/// Returns why a printed command does not parse; `None` if it parses or belongs to another program.
fn parse_error(line: &str, whole: bool) -> Option<String> {
    let mut words = words(line.trim_start_matches("$ "));
    let is_setting = |w: &String| {
        w.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let settings = words.iter().take_while(|w| is_setting(w)).count();
    words.drain(..settings);
    let program = words.first().cloned().unwrap_or_default();
    if program == "cargo" && words.get(1).is_some_and(|w| w == "run") && words.iter().any(|w| w == "--") {
        let at = words.iter().position(|w| w == "--").unwrap_or(0);
        words = std::iter::once("skep".to_owned()).chain(words.split_off(at + 1)).collect();
    } else if program != "skep" && (program.contains('=') || !program.ends_with("/skep")) {
        return None;
    }
    let error = Skep::try_parse_from(&words).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        // In running text a command may appear without its arguments: `skep approve`.
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !whole => None,
        _ => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn unknown_commands(file: &TextFile) -> Vec<String> {
    let wrong = |(n, line, whole): (usize, String, bool)| {
        parse_error(&line, whole).map(|why| format!("{}:{n}: `{line}`: {why}", file.path))
    };
    commands(file).into_iter().filter_map(wrong).collect()
}

/// The dotted keys of the reference.
fn keys(reference: &str) -> BTreeSet<String> {
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in reference.lines() {
        if let Some(example) = line.strip_prefix("# [auth.").and_then(|l| l.strip_suffix(']')) {
            // A table whose name a person chooses is shown in a comment.
            found.insert(format!("auth.{example}"));
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name.to_owned();
            found.insert(table.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with([' ', '#'])
        {
            found.insert(format!("{table}.{key}"));
        }
    }
    found
}

/// Words that look like keys of a known table but do not exist.
fn stale_keys(text: &str, keys: &BTreeSet<String>) -> Vec<String> {
    let tables: BTreeSet<&str> = keys.iter().filter_map(|k| k.split('.').next()).collect();
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let mut found = Vec::new();
    for word in text.split(|c: char| !is_part(c)) {
        let word = word.trim_matches('.');
        let Some((table, key)) = word.split_once('.') else { continue };
        // `checks.rs` and the like are files.
        if tables.contains(table) && !keys.contains(word) && !matches!(key, "rs" | "toml" | "md" | "json" | "yml") {
            found.push(word.to_owned());
        }
    }
    for rest in text.split("SKEP_").skip(1) {
        let name: String =
            rest.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect();
        if name.contains("__") && !keys.contains(&name.replace("__", ".").to_lowercase()) {
            found.push(format!("SKEP_{name}"));
        }
    }
    found
}

/// Unknown keys in code spans and code blocks of a document.
fn document_stale_keys(file: &TextFile, keys: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, fenced, line) in lines(&file.text) {
        let code = if fenced { line.to_owned() } else { spans(line).collect::<Vec<_>>().join("\n") };
        found.extend(stale_keys(&code, keys).into_iter().map(|k| format!("{}:{n}: there is no key {k}", file.path)));
    }
    found
}

/// Unknown keys in the messages of a source file.
fn messages_stale_keys(file: &TextFile, keys: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in file.text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("//") || line.starts_with("#[") {
            continue;
        }
        for text in line.split('"').skip(1).step_by(2) {
            // Only messages count, and in them only keys with an underscore; anything else may be another name.
            let stale = stale_keys(text, keys).into_iter().filter(|k| k.contains('_') && text.contains(' '));
            found.extend(stale.map(|k| format!("{}:{}: there is no key {k}", file.path, n + 1)));
        }
    }
    found
}

fn machine_paths(file: &TextFile) -> Vec<String> {
    let wrong = |(n, line): (usize, &str)| {
        let path = MACHINE_PATHS.iter().find(|p| line.contains(**p))?;
        Some(format!("{}:{}: {path} is a path of one machine", file.path, n + 1))
    };
    file.text.lines().enumerate().filter_map(wrong).collect()
}

#[test]
fn links_resolve() {
    let read = |path: &str| {
        let path = root().join(path);
        if path.is_dir() { Some(String::new()) } else { std::fs::read_to_string(path).ok() }
    };
    assert_none(documents().iter().flat_map(|p| links(p, read)).collect());
}

#[test]
fn printed_commands_parse() {
    let documents = documents();
    let printed = documents.iter().map(|p| commands(p).len()).sum::<usize>();
    assert!(printed > 30, "only {printed} commands were found in the documents");
    assert_none(documents.iter().flat_map(unknown_commands).collect());
}

#[test]
fn configuration_keys_exist() {
    let keys = keys(&file("config/default.toml").text);
    assert!(keys.contains("policy.approve_merge") && keys.contains("steps.develop.tries") && keys.len() > 40);
    let mut found: Vec<String> = documents().iter().flat_map(|p| document_stale_keys(p, &keys)).collect();
    found.extend(sources().iter().flat_map(|p| messages_stale_keys(p, &keys)));
    for other in ["docker-compose.yml", "Dockerfile", ".env.example", "config/default.toml"] {
        let file = file(other);
        let stale = |(n, line): (usize, &str)| {
            let only_settings: Vec<&str> = line.split_whitespace().filter(|w| w.contains("SKEP_")).collect();
            let stale = stale_keys(&only_settings.join(" "), &keys).into_iter();
            stale
                .filter(|k| k != "SKEP_")
                .map(|k| format!("{other}:{}: there is no key {k}", n + 1))
                .collect::<Vec<_>>()
        };
        found.extend(file.text.lines().enumerate().filter(|(_, l)| !l.contains("<TABLE>")).flat_map(stale));
    }
    assert_none(found);
}

/// Environment variables named in string literals: those Skep reads, and those it sets for the commands it starts.
fn variables(file: &TextFile) -> Vec<String> {
    let texts =
        file.text.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|l| l.split('"').skip(1).step_by(2));
    let is_name = |t: &&str| t.starts_with("SKEP_") && t.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    texts.filter(is_name).filter(|t| !t.ends_with('_') && !t.contains("__")).map(str::to_owned).collect()
}

#[test]
fn variables_of_skep_are_not_configuration_errors() {
    // A command that Skep starts may itself start Skep, which must accept the variables that the command was given.
    let named: BTreeSet<String> = sources().iter().flat_map(variables).collect();
    assert!(named.contains("SKEP_REPORT_FILE") && named.contains("SKEP_JOB"), "{named:?}");
    let env = named.iter().filter(|n| *n != "SKEP_CONFIG").map(|n| (n.into(), "x".into())).collect();
    let dir = tempfile::tempdir().expect("temp dir");
    let sources = skep::config::Sources { data_dir: dir.path().to_owned(), file: None, profile: None, env };
    let problems = skep::config::load(&sources).err().map(|p| p.to_string());
    assert_eq!(problems, None);
}

#[test]
fn no_document_names_a_path_of_one_machine() {
    assert_none(documents().iter().flat_map(machine_paths).collect());
}

#[test]
fn every_command_is_in_a_document() {
    let all: String = documents().iter().map(|p| p.text.clone()).collect();
    let command = Skep::command();
    let missing: Vec<String> = command
        .get_subcommands()
        .filter(|c| c.get_name() != "help" && !c.is_hide_set() && !all.contains(&format!("skep {}", c.get_name())))
        .map(|c| format!("no document mentions `skep {}`", c.get_name()))
        .collect();
    assert_none(missing);
}

#[test]
fn planted_mistakes_in_documents_are_found() {
    let file = |text: &str| TextFile { path: "docs/a.md".to_owned(), text: text.to_owned() };
    let read = |path: &str| (path == "docs/b.md" || path == "README.md").then(|| "# One thing, two\n".to_owned());
    let good =
        "[a](b.md) [b](../README.md#one-thing-two) [c](https://example.org/x) `[d](no.md)` [e](#here)\n## Here\n";
    assert_eq!(links(&file(good), read), Vec::<String>::new());
    assert_eq!(links(&file("[a](c.md) [b](b.md#no) [c](#no)\n"), read).len(), 3);

    let good = "`skep approve` and `skep runs --open`, `skepticism`\n```\n$ SKEP_DATA_DIR=x skep run --repo . --goal \"a b\" \\\n  --yes | tee log\n\
                cargo run --release -- demo   # note\ncargo build\n```\n";
    assert_eq!(unknown_commands(&file(good)), Vec::<String>::new());
    for bad in [
        "`skep dance`\n",
        "`skep runs --opne`\n",
        "```\nskep approve --nothing\n```\n",
        "```\nskep show 3f9a12bc --nothing\n```\n",
        "```\ncargo run --release -- dmeo\n```\n",
    ] {
        assert_eq!(unknown_commands(&file(bad)).len(), 1, "{bad}");
    }

    let keys = keys("# x\n[runs]\n# How many.\nmax_live_runs = 10\n[steps.plan]\ntries = 2\n");
    assert_eq!(
        document_stale_keys(&file("`runs.max_live_runs`, `steps.plan.tries`, `run.rs`, runs.no\n"), &keys).len(),
        0
    );
    assert_eq!(document_stale_keys(&file("`runs.most`\n```\nSKEP_RUNS__MOST=3\n```\n"), &keys).len(), 2);
    let source = |text: &str| TextFile { path: "src/a.rs".to_owned(), text: text.to_owned() };
    assert_eq!(messages_stale_keys(&source("f(\"raise runs.max_open_runs\")\n"), &keys).len(), 1);
    assert_eq!(
        messages_stale_keys(&source("f(\"raise runs.max_live_runs\")\n// runs.max_open_runs\n"), &keys).len(),
        0
    );

    assert_eq!(machine_paths(&file("see /root/x\nfine\nor /home/me\n")).len(), 2);
}
