//! Acceptance reports and runbooks of deployments, in Markdown.

use super::markdown::{fenced, inline};
use super::quantity::duration;
use super::time::utc;
use crate::domain::Sha;
use crate::domain::deployment::{
    Cause, CriterionRecord, CriterionTest, Method, Proof, Rollout, StepRecord, Target, fill,
};

/// Returns the acceptance report of a rollout.
pub fn report(rollout: &Rollout, target: &Target) -> String {
    let Rollout { number, sha, state, .. } = rollout;
    let mut text = format!("## Deployment {number} of {}: {}\n\n", target.name, state.name().replace('_', " "));
    text.push_str(&format!("Version `{sha}`"));
    if let Some(previous) = &rollout.previous {
        text.push_str(&format!(", before it `{previous}`"));
    }
    text.push_str(&match &rollout.cause {
        Cause::Landed { run } => format!(". The change of run {run} landed.\n"),
        Cause::Requested { by } => format!(". {} requested it.\n", inline(by.as_str())),
        Cause::Rollback { by } => format!(". {} requested a rollback to it.\n", inline(by.as_str())),
    });
    if let Some(proof) = &rollout.proof {
        text.push_str(&format!("{}.\n", inline(&proof_words(proof))));
    }
    if let Some(by) = &rollout.approved_by {
        text.push_str(&format!("Approved by {}.\n", inline(by.as_str())));
    }
    if !rollout.why.is_empty() {
        text.push_str(&format!("\n**Result**: {}.\n", inline(&rollout.why)));
    }
    if let Some(ended) = rollout.ended_at {
        text.push_str(&format!("Ended {}.\n", utc(ended)));
    }
    if let Some(step) = &rollout.deployment {
        text.push_str(&format!("\n### Deployment\n\n{}", of_step(step)));
    }
    if !rollout.criteria.is_empty() {
        text.push_str(&format!("\n### Criteria\n\n{}", of_criteria(&rollout.criteria)));
    }
    if let Some(step) = &rollout.rollback {
        text.push_str(&format!("\n### Way back\n\n{}", of_step(step)));
    }
    if !rollout.rollback_criteria.is_empty() {
        text.push_str(&format!("\n{}", of_criteria(&rollout.rollback_criteria)));
    }
    text
}

/// Returns what shows that a version is fit to be deployed, as a sentence without its full stop.
pub fn proof_words(proof: &Proof) -> String {
    match proof {
        Proof::Run { run } => format!("Run {run} proved it before it landed"),
        Proof::Deployed => "It was deployed before".to_owned(),
        Proof::Checks { names } => format!("Green at this version: {}", names.join(", ")),
        Proof::Missing { why } => format!("Nothing shows that this version is fit: {why}"),
    }
}

fn of_step(step: &StepRecord) -> String {
    let word = if step.passed { "Succeeded" } else { "Failed" };
    let log = match step.log.trim() {
        "" => String::new(),
        log => format!("\n{}\n", fenced(log)),
    };
    format!("{word} after {}, version `{}`.\n{log}", duration(step.ms), step.sha.abbrev())
}

fn of_criteria(criteria: &[CriterionRecord]) -> String {
    let cell = |text: &str| inline(text.trim()).replace('|', "\\|");
    let mut text = "| criterion | test | expected | observed | result | time |\n|---|---|---|---|---|---|\n".to_owned();
    for c in criteria {
        let word = if c.passed { "green" } else { "red" };
        let row = [&c.name, &c.test, &c.expected, &c.got].map(|part| cell(part)).join(" | ");
        text.push_str(&format!("| {row} | {word} | {} |\n", duration(c.ms)));
    }
    text
}

/// Returns how a person deploys, checks and rolls back without Skep.
pub fn runbook(target: &Target, sha: &Sha, previous: Option<&Sha>) -> String {
    let mut text = format!("# Runbook of {}\n\nTo deploy, check and roll back without Skep.\n", target.name);
    let secrets = match target.secrets.as_slice() {
        [] => String::new(),
        names => format!("Set these variables first, with values from where you keep them: {}.\n\n", names.join(", ")),
    };
    if !target.secrets_elsewhere.is_empty() {
        text.push_str("\nThese secrets are set where the target runs, and Skep does not have them:\n\n");
        for (name, place) in &target.secrets_elsewhere {
            text.push_str(&format!("- `{name}`: {}\n", inline(place)));
        }
    }
    text.push_str(&format!("\n## Deploy `{}`\n\n{secrets}{}", sha.abbrev(), deploy_lines(target, sha)));
    text.push_str("\n## Check\n\n");
    let mut lines = Vec::new();
    for criterion in &target.criteria {
        match &criterion.test {
            CriterionTest::Http { path, .. } => {
                let url = target.url.as_deref().unwrap_or_default();
                lines.push(format!("curl -fsS {}", quoted(&format!("{url}{}", fill(path, &target.name, sha)))));
            }
            CriterionTest::Command { command } => lines.push(fill(command, &target.name, sha)),
        }
    }
    match lines.is_empty() {
        true => text.push_str("The target has no criteria.\n"),
        false => text.push_str(&code(&lines)),
    }
    if let (Method::Compose { file, name, .. }, Some(_)) = (&target.method, &target.host) {
        let compose = format!("docker compose -p {} -f {}", quoted(name), quoted(file));
        text.push_str(&format!("\nOn the host, `{compose} ps` and `{compose} logs` show the services.\n"));
    }
    text.push_str("\n## Go back\n\n");
    match (target.is_reversible, previous) {
        (false, _) => text.push_str(
            "The previous version cannot run on this version's data. Restore a backup of the data first, by hand.\n",
        ),
        (true, Some(previous)) => text.push_str(&format!("{secrets}{}", deploy_lines(target, previous))),
        (true, None) => text.push_str("No other version was deployed yet.\n"),
    }
    text
}

fn deploy_lines(target: &Target, sha: &Sha) -> String {
    let mut lines = Vec::new();
    let exports = target.env.iter().map(|(name, value)| format!("export {name}={}", quoted(value)));
    match &target.method {
        Method::Hook { query, .. } => {
            let pairs = query.iter().map(|(name, value)| format!("{name}={}", fill(value, &target.name, sha)));
            let data: Vec<String> = pairs.map(|pair| format!("--url-query {}", quoted(&pair))).collect();
            lines.push(format!("curl -fsS -X POST {} \"$HOOK_ADDRESS\"", data.join(" ")));
        }
        method => {
            if let Some(host) = &target.host {
                let tree = format!("{}/releases/{sha}/tree", host.dir);
                let remote = format!("mkdir -p {0} && tar -xf - -C {0}", quoted(&tree));
                let login = format!("ssh -p {} {}", host.port, quoted(&host.login));
                lines.push(format!("git archive {sha} | {login} {}", quoted(&remote)));
                lines.push(login);
                lines.push(format!("cd {}", quoted(&tree)));
            } else {
                lines.push(format!("git checkout {sha}"));
            }
            lines.extend(exports);
            lines.push(format!("export SKEP_SHA={sha} SKEP_TARGET={}", target.name));
            lines.push(match method {
                Method::Compose { file, name, .. } => {
                    format!(
                        "docker compose -p {} -f {} up -d --build --wait --remove-orphans",
                        quoted(name),
                        quoted(file)
                    )
                }
                Method::Command { command } => fill(command, &target.name, sha),
                Method::Hook { .. } => String::new(),
            });
        }
    }
    code(&lines)
}

fn code(lines: &[String]) -> String {
    format!("{}\n", fenced(&lines.join("\n")))
}

/// Quotes a word for a shell, if that is necessary.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:@=+,".contains(&b));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
