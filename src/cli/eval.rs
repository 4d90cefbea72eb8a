//! `skep eval`: proves suites, carries out trials, and shows and compares their results.

use super::args::EvalCommand;
use super::context::CliContext;
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{count, duration, money, table};
use crate::service::host::evaluation::{
    Comparison, Corner, Evaluation, Export, ExportRequest, FinishedTrial, PredictionGrade, PredictionsRequest,
    SuiteRequest, TaskProof, TrialsRequest, VariantSpec, Verdict,
};
use serde_json::json;
use std::path::Path;

/// Name of the variant that is tried if none is named.
const DEFAULT_VARIANT: &str = "base";

/// `skep eval …`.
pub async fn eval(cli: &CliContext<'_>, command: EvalCommand) -> Result<ExitStatus, Stop> {
    match command {
        EvalCommand::Check { suite, repeat } => {
            let parallel = usize::try_from(suite.parallel).unwrap_or(1);
            let request = SuiteRequest { suite: suite.suite, tasks: suite.tasks, repeat, parallel };
            check(cli, &request).await
        }
        EvalCommand::Run { suite, variants, trials, limit_cost } => {
            let request = TrialsRequest {
                suite: suite.suite,
                tasks: suite.tasks,
                variants: by_name(variants),
                trials,
                parallel: usize::try_from(suite.parallel).unwrap_or(1),
                limit_cost_micros: limit_cost,
            };
            run(cli, &request).await
        }
        EvalCommand::Report { suite } => {
            let evaluation = cli.backend.read_evaluation(cli.host, &suite).await?;
            report(cli.terminal, &evaluation)?;
            Ok(ExitStatus::Success)
        }
        EvalCommand::Compare { suite, base, candidate } => {
            let evaluation = cli.backend.read_evaluation(cli.host, &suite).await?;
            let comparison = evaluation.compare(&base, &candidate)?;
            cli.terminal.object(&json!({ "comparison": comparison }))?;
            print_comparison(cli.terminal, &comparison)?;
            Ok(ExitStatus::Success)
        }
        EvalCommand::Export { suite, set, to_swebench, to_inspect, to_harbor, tasks, trial } => {
            let set = set.unwrap_or_default();
            let (what, to) = match (to_swebench, to_inspect, to_harbor) {
                (Some(to), _, _) => (Export::Predictions { set, number: trial }, to),
                (_, Some(to), _) => (Export::InspectLog { set }, to),
                (_, _, Some(to)) => (Export::HarborTasks, to),
                (None, None, None) => {
                    let fix = "add --to-swebench, --to-inspect or --to-harbor";
                    return Err(CliError::usage("no format was named", fix).into());
                }
            };
            let items = if what == Export::HarborTasks { "task" } else { "trial" };
            let request = ExportRequest { suite, tasks, what, to };
            let written = cli.backend.export_evaluation(cli.host, &request).await?;
            cli.terminal.object(&json!({ "written": written, "to": request.to }))?;
            cli.terminal.print(&format!("{} written to {}", count(written, items), request.to.display()))?;
            Ok(ExitStatus::Success)
        }
        EvalCommand::Grade { suite, file, parallel } => {
            let request = PredictionsRequest { suite, file, parallel: usize::try_from(parallel).unwrap_or(1) };
            grade(cli, &request).await
        }
        EvalCommand::Gate { suite, base, candidate } => gate(cli, &suite, &base, &candidate).await,
    }
}

/// Joins the settings of variants that were named more than once.
fn by_name(variants: Vec<VariantSpec>) -> Vec<VariantSpec> {
    let mut joined: Vec<VariantSpec> = Vec::new();
    for variant in variants {
        match joined.iter_mut().find(|known| known.name == variant.name) {
            Some(known) => known.settings.extend(variant.settings),
            None => joined.push(variant),
        }
    }
    if joined.is_empty() {
        joined.push(VariantSpec { name: DEFAULT_VARIANT.to_owned(), settings: Vec::new() });
    }
    joined
}

async fn check(cli: &CliContext<'_>, request: &SuiteRequest) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let on_task = |proof: TaskProof| {
        // The proofs are also returned, so a closed output is noticed below.
        let _closed = print_proof(terminal, &proof);
    };
    let proofs = cli.backend.check_suite(cli.host, request, &on_task).await?;
    let unproven = proofs.iter().filter(|proof| !proof.problems.is_empty()).count();
    let of = count(proofs.len() as u64, "task");
    match unproven {
        0 => terminal.styled(Style::Green, &format!("{of} proven."))?,
        n => terminal.styled(Style::Red, &format!("{n} of {of} not proven."))?,
    }
    Ok(if unproven == 0 { ExitStatus::Success } else { ExitStatus::Undelivered })
}

fn print_proof(terminal: &Terminal, proof: &TaskProof) -> Result<(), Stop> {
    terminal.object(&json!({ "task": proof }))?;
    let what = format!("{} ({}, {}): {}", proof.task, proof.kind, proof.language, proof.title);
    if proof.problems.is_empty() {
        return terminal.line(Style::Green, &format!("✓ {what}"));
    }
    terminal.line(Style::Red, &format!("✗ {what}"))?;
    proof.problems.iter().try_for_each(|problem| terminal.prose(Style::Red, &format!("    {problem}"), 4))
}

async fn run(cli: &CliContext<'_>, request: &TrialsRequest) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let on_trial = |finished: FinishedTrial| {
        // The results are stored, so a closed output loses nothing.
        let _closed = print_trial(terminal, &finished);
    };
    let evaluation = cli.backend.run_trials(cli.host, request, &on_trial).await?;
    terminal.print("")?;
    report(terminal, &evaluation)?;
    if evaluation.is_cut_short {
        terminal.styled(Style::Yellow, "Some trials were not started: the limit of cost is reached.")?;
        return Ok(ExitStatus::Undelivered);
    }
    let spoiled: u64 = evaluation.summaries().iter().map(|(_, summary)| summary.infrastructure).sum();
    if spoiled > 0 {
        let what = format!(
            "The infrastructure spoiled {}. Fix the cause, and remove the trial.json of these trials to repeat them.",
            count(spoiled, "trial")
        );
        terminal.prose(Style::Red, &what, 0)?;
        return Ok(ExitStatus::TryAgain);
    }
    Ok(ExitStatus::Success)
}

fn print_trial(terminal: &Terminal, finished: &FinishedTrial) -> Result<(), Stop> {
    terminal.object(finished)?;
    let trial = &finished.trial;
    let (style, sign, how) = match (&trial.infrastructure, trial.corner) {
        (Some(why), _) => (Style::Yellow, "!", format!("infrastructure: {why}")),
        (None, Some(Corner::LandedCorrect)) => (Style::Green, "✓", Corner::LandedCorrect.label().to_owned()),
        (None, Some(corner)) if trial.grade.is_empty() => (Style::Plain, "·", corner.label().to_owned()),
        (None, Some(corner)) => (Style::Red, "✗", format!("{}: {}", corner.label(), trial.grade)),
        (None, None) => (Style::Yellow, "!", "no result".to_owned()),
    };
    let cost = format!("{}, {}", duration(trial.spent.wall_ms), money(trial.spent.cost_micros));
    let head = format!("{sign} {} {} {} ({cost}) {how}", finished.set, trial.task, trial.number);
    terminal.line(style, &head)?;
    for leak in &trial.leaks {
        terminal.line(Style::Red, &format!("    the hidden tests leaked into {leak}"))?;
    }
    for path in &trial.tampered {
        terminal.line(Style::Yellow, &format!("    the run changed {path}; it was set back before grading"))?;
    }
    Ok(())
}

/// Prints the results of a suite.
fn report(terminal: &Terminal, evaluation: &Evaluation) -> Result<(), Stop> {
    let summaries = evaluation.summaries();
    let listed: Vec<_> = summaries
        .iter()
        .map(
            |(set, summary)| json!({ "set": set.id, "variant": set.variant, "summary": summary, "trials": set.trials }),
        )
        .collect();
    terminal.object(&json!({ "suite": evaluation.suite, "digest": evaluation.digest, "sets": listed }))?;
    if summaries.is_empty() {
        let none =
            format!("No trials of the suite {} in its present form; `skep eval run` starts them.", evaluation.suite);
        return terminal.suggest(&none);
    }
    let mut rows = Vec::new();
    for (set, s) in &summaries {
        let of = |corner: Corner| s.corners.get(&corner).copied().unwrap_or_default().to_string();
        let mut row = vec![set.id.clone(), percent(s.pass_rate)];
        row.extend(Corner::ALL.map(of));
        let cost = s.cost_per_pass_micros.map_or_else(|| "–".to_owned(), money);
        row.extend([s.infrastructure.to_string(), s.missing.to_string(), cost, s.rounds.to_string()]);
        rows.push(row);
    }
    let mut head = vec!["set", "passed"];
    head.extend(Corner::ALL.map(Corner::label));
    head.extend(["infrastructure", "missing", "cost per pass", "rounds"]);
    terminal.print(&table(&head, rows, terminal.width))?;
    for (set, s) in &summaries {
        for (n, what) in
            [(s.leaked, "knew the hidden tests and is left out"), (s.tampered, "changed files that decide")]
        {
            if n > 0 {
                terminal.line(Style::Yellow, &format!("{}: {}: {what}", set.id, count(n, "trial")))?;
            }
        }
    }
    by_task(terminal, evaluation)
}

/// Prints the tasks that not every variant always passes.
fn by_task(terminal: &Terminal, evaluation: &Evaluation) -> Result<(), Stop> {
    let rates: Vec<_> = evaluation.sets.iter().map(|set| set.rates(Corner::LandedCorrect)).collect();
    let rows: Vec<Vec<String>> = evaluation
        .tasks
        .iter()
        .filter(|task| rates.iter().any(|rates| rates.get(task.as_str()).is_some_and(|rate| *rate < 1.0)))
        .map(|task| {
            let cell = |rates: &std::collections::BTreeMap<&str, f64>| {
                rates.get(task.as_str()).map_or_else(|| "–".to_owned(), |rate| percent(*rate))
            };
            std::iter::once(task.clone()).chain(rates.iter().map(cell)).collect()
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut head = vec!["task"];
    head.extend(evaluation.sets.iter().map(|set| set.id.as_str()));
    terminal.print("")?;
    terminal.print(&table(&head, rows, terminal.width))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn points(difference: f64) -> String {
    format!("{:+.1}", difference * 100.0)
}

fn print_comparison(terminal: &Terminal, c: &Comparison) -> Result<(), Stop> {
    let line = |name: &str, text: &str| terminal.print(&format!("  {name:<16} {text}"));
    terminal.line(Style::Bold, &format!("{} against {}, {}", c.candidate, c.base, count(c.tasks as u64, "task")))?;
    line("passed", &format!("{} instead of {}", percent(c.candidate_rate), percent(c.base_rate)))?;
    let interval = c.interval.map_or_else(String::new, |i| format!(" (95 %: {} to {})", points(i.low), points(i.high)));
    line("difference", &format!("{} percentage points{interval}", points(c.difference)))?;
    line("better", &format!("p = {:.4} (one-sided sign-flip test)", c.p_better))?;
    if let Some(p) = c.mcnemar {
        line("McNemar", &format!("p = {p:.4}, exact; {} gained, {} lost", c.gained.len(), c.lost.len()))?;
    }
    line("gained", &listed(&c.gained))?;
    line("lost", &listed(&c.lost))?;
    line("false landings", &format!("{} percentage points", points(c.false_landings)))?;
    let cost = match (c.cost_ratio, c.cost_interval) {
        (Some(ratio), Some(i)) => format!("×{ratio:.2} (95 %: {:.2} to {:.2})", i.low, i.high),
        (Some(ratio), None) => format!("×{ratio:.2}"),
        (None, _) => "not comparable: the base cost nothing".to_owned(),
    };
    line("cost", &cost)?;
    if let Some(detectable) = c.detectable {
        let text = format!("a difference of {:.0} percentage points in four of five evaluations", detectable * 100.0);
        line("would find", &text)?;
    }
    Ok(())
}

fn listed(tasks: &[String]) -> String {
    if tasks.is_empty() { "none".to_owned() } else { tasks.join(", ") }
}

async fn grade(cli: &CliContext<'_>, request: &PredictionsRequest) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let on_grade = |grade: PredictionGrade| {
        // The grades are also returned, so a closed output is noticed below.
        let _closed = print_grade(terminal, &grade);
    };
    let grades = cli.backend.grade_predictions(cli.host, request, &on_grade).await?;
    let correct = grades.iter().filter(|grade| grade.correct == Some(true)).count();
    let ungraded = grades.iter().filter(|grade| grade.correct.is_none()).count();
    terminal.print(&format!("{correct} of {} correct", count(grades.len() as u64, "prediction")))?;
    Ok(if ungraded == 0 { ExitStatus::Success } else { ExitStatus::TryAgain })
}

fn print_grade(terminal: &Terminal, grade: &PredictionGrade) -> Result<(), Stop> {
    terminal.object(&json!({ "grade": grade }))?;
    let (style, sign) = match grade.correct {
        Some(true) => (Style::Green, "✓"),
        Some(false) => (Style::Red, "✗"),
        None => (Style::Yellow, "!"),
    };
    let why = if grade.why.is_empty() { String::new() } else { format!(": {}", grade.why) };
    terminal.line(style, &format!("{sign} {}{why}", grade.task))
}

async fn gate(cli: &CliContext<'_>, suite: &Path, base: &str, candidate: &str) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let evaluation = cli.backend.read_evaluation(cli.host, suite).await?;
    let (comparison, decision) = evaluation.decide(base, candidate)?;
    terminal.object(&json!({ "gate": decision, "comparison": comparison }))?;
    print_comparison(terminal, &comparison)?;
    terminal.print("")?;
    let (style, exit) = match decision.verdict {
        Verdict::Kept => (Style::Green, ExitStatus::Success),
        Verdict::NotShown => (Style::Yellow, ExitStatus::Undelivered),
        Verdict::Worse => (Style::Red, ExitStatus::Undelivered),
        Verdict::Unusable => (Style::Red, ExitStatus::TryAgain),
    };
    terminal.styled(style, &format!("{}: {}", decision.verdict.label(), decision.reasons.join("; ")))?;
    Ok(exit)
}
