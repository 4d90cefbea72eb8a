//! Task specs: `spec new`, `spec check`, `spec import`, `spec schema`, `spec verify`.

use super::args::{ImportArgs, SpecCommand, VerifyArgs};
use super::check;
use super::context::{Access, CliContext};
use super::exit::{CliError, ExitStatus, Stop};
use super::network;
use super::terminal::{Style, Terminal};
use super::text::shell_quoted;
use crate::http::rest::wire::NewCheckPlan;
use crate::specs::{self, SpecFile};
use serde::Deserialize;
use serde_json::json;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Upper bounds of a document to import, in bytes, and of the documents of one change.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
const MAX_DELTAS: usize = 50;

/// `skep spec …`.
pub async fn spec(cli: &CliContext<'_>, command: SpecCommand) -> Result<ExitStatus, Stop> {
    match command {
        SpecCommand::New { id, output } => new(cli.terminal, &id, output),
        SpecCommand::Check { files } => check_files(cli.terminal, &files),
        SpecCommand::Import(args) => import(cli.terminal, args),
        SpecCommand::Schema => {
            let text = serde_json::to_string_pretty(&specs::schema()).unwrap_or_default();
            cli.terminal.content(format!("{text}\n").as_bytes())?;
            Ok(ExitStatus::Success)
        }
        SpecCommand::Verify(args) => verify(cli, args).await,
    }
}

/// Reads a spec file and checks it.
///
/// # Errors
/// The file cannot be read, or the spec is not valid: every problem with file and line.
pub fn read(file: &Path) -> Result<String, CliError> {
    parsed(file).map(|(text, _)| text)
}

fn parsed(file: &Path) -> Result<(String, SpecFile), CliError> {
    let name = file.display();
    let text = String::from_utf8(bounded(file, specs::MAX_BYTES)?)
        .map_err(|_| CliError::usage(format!("the spec {name} is not valid UTF-8"), "save it as UTF-8"))?;
    match specs::parse(&text) {
        Ok(spec) => Ok((text, spec)),
        Err(problems) => {
            let fix = "correct the spec; `skep spec schema` prints the format";
            let each = problems.iter().map(|p| CliError::usage(format!("{name}, {p}"), fix));
            let problems = each.flat_map(|error| error.problems).collect();
            Err(CliError { exit: ExitStatus::Usage, problems })
        }
    }
}

fn new(terminal: &Terminal, id: &str, output: Option<PathBuf>) -> Result<ExitStatus, Stop> {
    let text = specs::template(id);
    if let Err(problems) = specs::parse(&text) {
        let what = problems.first().map(|p| p.what.clone()).unwrap_or_default();
        return Err(CliError::usage(what, "choose a name such as json-output").into());
    }
    let shown = write(id, output, &text)?;
    terminal.object(&json!({ "spec": shown }))?;
    terminal.line(Style::Green, &format!("wrote {shown}"))?;
    let quoted = shell_quoted(&shown);
    terminal.suggest(&format!("Fill it in, then: `skep spec check {quoted}`, `skep run --spec {quoted}`."))?;
    Ok(ExitStatus::Success)
}

fn import(terminal: &Terminal, args: ImportArgs) -> Result<ExitStatus, Stop> {
    let text = |file: &Path| -> Result<String, CliError> {
        let bytes = bounded(file, MAX_DOCUMENT_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let draft = if let Some(folder) = args.from.spec_kit {
        specs::import::spec_kit(&named(&folder), &text(&folder.join("spec.md"))?)
    } else if let Some(folder) = args.from.openspec {
        let mut deltas = Vec::new();
        let capabilities = std::fs::read_dir(folder.join("specs")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = capabilities.take(MAX_DELTAS).map(|e| e.path().join("spec.md")).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            deltas.push(text(file)?);
        }
        specs::import::open_spec(&named(&folder), &text(&folder.join("proposal.md"))?, &deltas)
    } else {
        let file = args.from.issue.unwrap_or_else(|| PathBuf::from("-"));
        let issue: Issue = serde_json::from_slice(&bounded(&file, MAX_DOCUMENT_BYTES)?).map_err(|e| {
            let fix = "give JSON with `title` and `body`, as `gh issue view 17 --json title,body` prints it";
            CliError::usage(format!("cannot read the issue {}: {e}", file.display()), fix)
        })?;
        specs::import::issue("a GitHub issue", &issue.title, &issue.body)
    };
    if draft.criteria.is_empty() {
        let what = format!("{} has no acceptance criteria that can be imported", draft.source);
        return Err(CliError::usage(what, "start from `skep spec new ID` instead").into());
    }
    let yaml = draft.yaml();
    let shown = write(&draft.id, args.output, &yaml)?;
    let imported = draft.criteria.len() - draft.beyond().len();
    terminal.object(&json!({ "spec": shown, "criteria": imported, "questions": draft.questions }))?;
    terminal.line(Style::Green, &format!("wrote {shown} with {}", criteria(imported)))?;
    if !draft.beyond().is_empty() {
        let what = format!("{} did not fit; the file lists them", criteria(draft.beyond().len()));
        terminal.line(Style::Yellow, &what)?;
    }
    for question in &draft.questions {
        terminal.line(Style::Yellow, &format!("open question: {question}"))?;
    }
    terminal.print("Add a `command` to every criterion that can be tested; the reviewer judges the others.")?;
    Ok(ExitStatus::Success)
}

/// A GitHub issue.
#[derive(Deserialize)]
struct Issue {
    title: String,
    #[serde(default)]
    body: String,
}

/// Returns the path of a folder without `.`, `..` and a slash at its end, which names it.
fn named(folder: &Path) -> String {
    let path = match folder.file_name() {
        Some(_) => folder.to_owned(),
        None => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
    };
    path.display().to_string().trim_end_matches('/').to_owned()
}

/// Writes a new spec, and returns its path.
fn write(id: &str, output: Option<PathBuf>, text: &str) -> Result<String, CliError> {
    let file = output.unwrap_or_else(|| Path::new("specs").join(format!("{id}.yaml")));
    let shown = file.display().to_string();
    let unwritable = |e: std::io::Error| {
        let fix = match e.kind() {
            std::io::ErrorKind::AlreadyExists => "choose another name, or remove the file first",
            _ => "name a file that this user can write with --output",
        };
        CliError::usage(format!("cannot write {shown}: {e}"), fix)
    };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&file);
    created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(unwritable)?;
    Ok(shown)
}

/// Reads a file, or standard input if it is `-`, of at most `max` bytes.
fn bounded(file: &Path, max: usize) -> Result<Vec<u8>, CliError> {
    let name = file.display();
    let unreadable = |e: std::io::Error| {
        CliError::usage(format!("cannot read {name}: {e}"), "name a text file that this user can read")
    };
    let mut bytes = Vec::new();
    // One byte more than allowed detects a file that is too long without reading all of it.
    let limit = max as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        std::fs::File::open(file).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() > max {
        let what = format!("{name} is longer than {} KiB", max / 1024);
        return Err(CliError::usage(what, "shorten it, or refer to files of the repository for details"));
    }
    Ok(bytes)
}

fn check_files(terminal: &Terminal, files: &[PathBuf]) -> Result<ExitStatus, Stop> {
    let mut wrong = Vec::new();
    for file in files {
        match parsed(file) {
            Ok((_, spec)) => {
                let (tested, judged) = spec.counts();
                let shown = file.display().to_string();
                let all = criteria(tested + judged);
                terminal.object(&json!({ "file": shown, "id": spec.id(), "tested": tested, "judged": judged }))?;
                terminal.line(
                    Style::Green,
                    &format!("{shown}: valid, {all}: {tested} with a command, {judged} for the reviewer"),
                )?;
            }
            Err(error) => wrong.extend(error.problems),
        }
    }
    match wrong.is_empty() {
        true => Ok(ExitStatus::Success),
        false => Err(CliError { exit: ExitStatus::Usage, problems: wrong }.into()),
    }
}

async fn verify(cli: &CliContext<'_>, args: VerifyArgs) -> Result<ExitStatus, Stop> {
    let (text, spec) = parsed(&args.file)?;
    let (tested, judged) = spec.counts();
    if tested == 0 {
        let what = format!("no criterion of {} has a command, so there is nothing to run", args.file.display());
        return Err(CliError::usage(what, "add a `command` to a criterion, or let a run judge the criteria").into());
    }
    let order = NewCheckPlan {
        repo: if args.project.is_some() { None } else { Some(args.repo.0) },
        project: args.project,
        base: args.base,
        spec: Some(text),
        working_copy: args.dirty,
        ..NewCheckPlan::default()
    };
    let connection = cli.connect(Access::Drive).await?;
    let end = match network::ask(cli, &connection.client, &order).await {
        Ok(()) => check::run(cli, &connection.client, &order).await,
        Err(stop) => Err(stop),
    };
    connection.close().await;
    if judged > 0 {
        cli.terminal.print(&format!("{} without a command: not judged here.", criteria(judged)))?;
    }
    end
}

fn criteria(n: usize) -> String {
    if n == 1 { "1 criterion".to_owned() } else { format!("{n} criteria") }
}
