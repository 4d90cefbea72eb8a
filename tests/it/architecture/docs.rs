//! The documents: links lead somewhere, commands are understood, configuration keys exist, no path of some machine is in them.

use super::{Page, nothing, page, pages, root, sources};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use skep::cli::args::Skep;
use std::collections::BTreeSet;

/// Folders that exist on the machine somebody wrote on, and not on the reader's.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", "/Users/", "C:\\"];

fn papers() -> Vec<Page> {
    let mut all = pages(&["docs", "prompts", "otel", ".github"], ".md");
    all.push(page("README.md"));
    all.push(page("ARCHITECTURE.md"));
    all
}

/// A document's lines with whether each is within a code block.
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

/// A heading's anchor, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

fn links(page: &Page, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, fenced, line) in lines(&page.text) {
        let prose: String = line.split('`').step_by(2).collect();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if fenced || target.starts_with("http://") || target.starts_with("https://") {
                continue;
            }
            let (file, part) = target.split_once('#').unwrap_or((target, ""));
            let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut whole: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
            for name in file.split('/') {
                match name {
                    ".." => drop(whole.pop()),
                    "" | "." => {}
                    name => whole.push(name),
                }
            }
            let place = if file.is_empty() { page.path.clone() } else { whole.join("/") };
            let text = if file.is_empty() { Some(page.text.clone()) } else { read(&place) };
            let fits =
                text.is_some_and(|t| part.is_empty() || t.lines().any(|l| l.starts_with('#') && anchor(l) == part));
            if !fits {
                found.push(format!("{}:{n}: the link {target} leads nowhere", page.path));
            }
        }
    }
    found
}

/// A command line's words, as a shell would take them apart; ends at a pipe, a redirection, a comment or a second command.
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

/// The command lines for Skep in a document: whole lines of code blocks, and spans of code that begin with `skep`.
fn commands(page: &Page) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    let mut part = String::new();
    for (n, fenced, line) in lines(&page.text) {
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

/// Why a printed command is not understood; `None` = it is, or it is no command of ours.
fn misunderstood(line: &str, whole: bool) -> Option<String> {
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
        // In running text a command may stand without what it needs: `skep approve`.
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !whole => None,
        _ => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn unknown_commands(page: &Page) -> Vec<String> {
    let wrong = |(n, line, whole): (usize, String, bool)| {
        misunderstood(&line, whole).map(|why| format!("{}:{n}: `{line}`: {why}", page.path))
    };
    commands(page).into_iter().filter_map(wrong).collect()
}

/// The dotted keys of the reference.
fn keys(reference: &str) -> BTreeSet<String> {
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in reference.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
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

/// Words that look like keys of a known table, and are none.
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

/// Keys named in code spans and blocks of a document.
fn papers_stale_keys(page: &Page, keys: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, fenced, line) in lines(&page.text) {
        let code = if fenced { line.to_owned() } else { spans(line).collect::<Vec<_>>().join("\n") };
        found.extend(stale_keys(&code, keys).into_iter().map(|k| format!("{}:{n}: there is no key {k}", page.path)));
    }
    found
}

/// Keys named in messages of the program: the texts of a source file.
fn messages_stale_keys(page: &Page, keys: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in page.text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("//") || line.starts_with("#[") {
            continue;
        }
        for text in line.split('"').skip(1).step_by(2) {
            // A message, not a name of something else: a key in it has an underscore.
            let stale = stale_keys(text, keys).into_iter().filter(|k| k.contains('_') && text.contains(' '));
            found.extend(stale.map(|k| format!("{}:{}: there is no key {k}", page.path, n + 1)));
        }
    }
    found
}

fn machine_paths(page: &Page) -> Vec<String> {
    let wrong = |(n, line): (usize, &str)| {
        let path = MACHINE_PATHS.iter().find(|p| line.contains(**p))?;
        Some(format!("{}:{}: {path} is a path of one machine", page.path, n + 1))
    };
    page.text.lines().enumerate().filter_map(wrong).collect()
}

#[test]
fn links_lead_somewhere() {
    let read = |place: &str| {
        let path = root().join(place);
        if path.is_dir() { Some(String::new()) } else { std::fs::read_to_string(path).ok() }
    };
    nothing(papers().iter().flat_map(|p| links(p, read)).collect());
}

#[test]
fn printed_commands_are_understood() {
    let papers = papers();
    let printed = papers.iter().map(|p| commands(p).len()).sum::<usize>();
    assert!(printed > 30, "only {printed} commands were found in the documents");
    nothing(papers.iter().flat_map(unknown_commands).collect());
}

#[test]
fn keys_that_are_named_exist() {
    let keys = keys(&page("config/default.toml").text);
    assert!(keys.contains("policy.approve_merge") && keys.contains("steps.develop.tries") && keys.len() > 40);
    let mut found: Vec<String> = papers().iter().flat_map(|p| papers_stale_keys(p, &keys)).collect();
    found.extend(sources().iter().flat_map(|p| messages_stale_keys(p, &keys)));
    for other in ["docker-compose.yml", "Dockerfile", ".env.example", "config/default.toml"] {
        let page = page(other);
        let stale = |(n, line): (usize, &str)| {
            let only_settings: Vec<&str> = line.split_whitespace().filter(|w| w.contains("SKEP_")).collect();
            let stale = stale_keys(&only_settings.join(" "), &keys).into_iter();
            stale
                .filter(|k| k != "SKEP_")
                .map(|k| format!("{other}:{}: there is no key {k}", n + 1))
                .collect::<Vec<_>>()
        };
        found.extend(page.text.lines().enumerate().filter(|(_, l)| !l.contains("<TABLE>")).flat_map(stale));
    }
    nothing(found);
}

/// Variables named in texts of the program: what it reads, and what it tells the commands it starts.
fn variables(page: &Page) -> Vec<String> {
    let texts =
        page.text.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|l| l.split('"').skip(1).step_by(2));
    let is_name = |t: &&str| t.starts_with("SKEP_") && t.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    texts.filter(is_name).filter(|t| !t.ends_with('_') && !t.contains("__")).map(str::to_owned).collect()
}

#[test]
fn variables_of_ours_are_no_configuration_errors() {
    // A command that Skep starts may start another Skep: what it was told must not be refused there.
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
    nothing(papers().iter().flat_map(machine_paths).collect());
}

#[test]
fn every_command_is_in_a_document() {
    let all: String = papers().iter().map(|p| p.text.clone()).collect();
    let command = Skep::command();
    let missing: Vec<String> = command
        .get_subcommands()
        .filter(|c| c.get_name() != "help" && !c.is_hide_set() && !all.contains(&format!("skep {}", c.get_name())))
        .map(|c| format!("no document mentions `skep {}`", c.get_name()))
        .collect();
    nothing(missing);
}

#[test]
fn planted_untruths_are_found() {
    let page = |text: &str| Page { path: "docs/a.md".to_owned(), text: text.to_owned() };
    let read = |place: &str| (place == "docs/b.md" || place == "README.md").then(|| "# One thing, two\n".to_owned());
    let good =
        "[a](b.md) [b](../README.md#one-thing-two) [c](https://example.org/x) `[d](no.md)` [e](#here)\n## Here\n";
    assert_eq!(links(&page(good), read), Vec::<String>::new());
    assert_eq!(links(&page("[a](c.md) [b](b.md#no) [c](#no)\n"), read).len(), 3);

    let good = "`skep approve` and `skep runs --open`, `skepticism`\n```\n$ SKEP_DATA_DIR=x skep run --repo . --goal \"a b\" \\\n  --yes | tee log\n\
                cargo run --release -- demo   # note\ncargo build\n```\n";
    assert_eq!(unknown_commands(&page(good)), Vec::<String>::new());
    for bad in [
        "`skep dance`\n",
        "`skep runs --opne`\n",
        "```\nskep approve\n```\n",
        "```\nskep show 3f9a12bc --nothing\n```\n",
        "```\ncargo run --release -- dmeo\n```\n",
    ] {
        assert_eq!(unknown_commands(&page(bad)).len(), 1, "{bad}");
    }

    let keys = keys("# x\n[runs]\n# How many.\nmax_live_runs = 10\n[steps.plan]\ntries = 2\n");
    assert_eq!(
        papers_stale_keys(&page("`runs.max_live_runs`, `steps.plan.tries`, `run.rs`, runs.no\n"), &keys).len(),
        0
    );
    assert_eq!(papers_stale_keys(&page("`runs.most`\n```\nSKEP_RUNS__MOST=3\n```\n"), &keys).len(), 2);
    let source = |text: &str| Page { path: "src/a.rs".to_owned(), text: text.to_owned() };
    assert_eq!(messages_stale_keys(&source("f(\"raise runs.max_open_runs\")\n"), &keys).len(), 1);
    assert_eq!(
        messages_stale_keys(&source("f(\"raise runs.max_live_runs\")\n// runs.max_open_runs\n"), &keys).len(),
        0
    );

    assert_eq!(machine_paths(&page("see /root/x\nfine\nor /home/me\n")).len(), 2);
}
