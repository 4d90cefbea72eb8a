//! Tasks as Harbor reads them: a folder each, with an image for the repository, the hidden tests and the solution.

use super::super::files::{FileContent, Tree};
use super::super::suite::{Suite, Task};
use crate::platform::git::durable_fs::{make_dir, run_blocking};
use crate::ports::{PortError, PortResult};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Images of the languages that suites use; any other gets the last one.
const IMAGES: &[(&str, &str)] = &[
    ("python", "python:3-slim"),
    ("javascript", "node:lts-slim"),
    ("rust", "rust:slim"),
    ("go", "golang"),
    ("", "debian:stable-slim"),
];
/// Commits the repository as Skep's own trials do: one commit, without history.
const DOCKERFILE: &str = "\
RUN command -v git > /dev/null || (apt-get update && apt-get install -y --no-install-recommends git)
WORKDIR /app
COPY repo/ /app/
RUN git init -q -b main && git add -A && \\
    git -c user.name=Project -c user.email=project@localhost commit -q --allow-empty -m 'Import the project'
";
/// Sets back what decides the grade, lays the hidden tests over the work, and writes the reward.
const TEST: &str = r#"#!/bin/bash
tests=$(cd "$(dirname "$0")" && pwd)
logs=${LOGS_DIR:-/logs/verifier}
mkdir -p "$logs"
echo 0 > "$logs/reward.txt"
cd "${APP_DIR:-/app}" || exit 1
cp -R "$tests/restore/." . && cp -R "$tests/hidden/." . || exit 1
bash "$tests/command.sh" > "$logs/output.txt" 2>&1
code=$?
cat "$logs/output.txt"
# A program under test can end the process with 0 before the tests have run.
if [ "$code" -eq 0 ] && grep -qFf "$tests/expect.txt" "$logs/output.txt"; then
    echo 1 > "$logs/reward.txt"
fi
"#;
const SOLVE: &str = r#"#!/bin/bash
solution=$(cd "$(dirname "$0")" && pwd)
cd "${APP_DIR:-/app}" && git apply --whitespace=nowarn "$solution/fix.patch"
"#;

/// Writes the tasks of a suite to a new folder. Returns their number.
///
/// # Errors
/// When the folder exists or cannot be written.
pub async fn write_tasks(suite: &Suite, folder: &Path) -> PortResult<u64> {
    let (suite, folder) = (suite.clone(), folder.to_owned());
    run_blocking(move || {
        if folder.exists() {
            let what = format!("cannot write tasks to {}: it exists", folder.display());
            return Err(PortError::permanent(what, "name a new folder with --to"));
        }
        for task in &suite.tasks {
            write_task(&suite, task, &folder.join(&task.name))?;
        }
        Ok(suite.tasks.len() as u64)
    })
    .await
}

fn write_task(suite: &Suite, task: &Task, folder: &Path) -> PortResult<()> {
    let image = IMAGES.iter().find(|(language, _)| *language == task.language).or(IMAGES.last());
    let dockerfile = format!("FROM {}\n{DOCKERFILE}", image.map_or("debian:stable-slim", |(_, image)| image));
    let restore: Tree =
        task.restore.iter().filter_map(|path| Some((path.clone(), task.base.get(path)?.clone()))).collect();
    let manifest = manifest(suite, task)?;
    let files: [(&str, &[u8], bool); 8] = [
        ("instruction.md", task.goal.as_bytes(), false),
        ("task.toml", manifest.as_bytes(), false),
        ("environment/Dockerfile", dockerfile.as_bytes(), false),
        ("tests/test.sh", TEST.as_bytes(), true),
        ("tests/command.sh", task.command.as_bytes(), false),
        ("tests/expect.txt", task.expect.as_bytes(), false),
        ("solution/solve.sh", SOLVE.as_bytes(), true),
        ("solution/fix.patch", &task.oracle, false),
    ];
    for (path, bytes, is_executable) in files {
        write_file(&folder.join(path), &FileContent { bytes: bytes.to_vec(), is_executable })?;
    }
    for (part, tree) in [("environment/repo", &task.base), ("tests/hidden", &task.hidden), ("tests/restore", &restore)]
    {
        make_dir(&folder.join(part))?;
        for (path, content) in tree {
            write_file(&folder.join(part).join(path), content)?;
        }
    }
    Ok(())
}

fn manifest(suite: &Suite, task: &Task) -> PortResult<String> {
    let seconds = |time: std::time::Duration| toml::Value::Float(time.as_secs_f64());
    let text = |text: &str| toml::Value::String(text.to_owned());
    let table = |keys: Vec<(&str, toml::Value)>| {
        toml::Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let manifest = table(vec![
        ("schema_version", text("1.1")),
        (
            "metadata",
            table(vec![
                ("suite", text(&suite.name)),
                ("title", text(&task.title)),
                ("category", text(task.kind)),
                ("language", text(&task.language)),
            ]),
        ),
        ("agent", table(vec![("timeout_sec", seconds(task.time))])),
        ("verifier", table(vec![("timeout_sec", seconds(task.timeout))])),
        ("environment", table(Vec::new())),
    ]);
    toml::to_string(&manifest)
        .map_err(|e| PortError::permanent(format!("cannot write a task of Harbor: {e}"), "report this as a bug"))
}

fn write_file(path: &Path, content: &FileContent) -> PortResult<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let mode = if content.is_executable { 0o755 } else { 0o644 };
    std::fs::write(path, &content.bytes)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|e| PortError::transient(format!("cannot write {}: {e}", path.display())))
}
