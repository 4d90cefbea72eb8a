//! Options of `skep eval`.

use crate::cli::parse;
use crate::service::host::evaluation::{VariantSetting, VariantSpec};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `skep eval …`.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Prove each task: its hidden tests fail at the base and pass with the oracle patch
    #[command(
        after_help = "Exits with 0 if every task is proven, else with 3.\n\nExample:\n  skep eval check evals/small"
    )]
    Check {
        /// The suite
        #[command(flatten)]
        suite: SuiteArgs,
        /// Grade this many times, to find tests that do not always give the same result
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
        repeat: u32,
    },
    /// Carry out the trials that have not finished, and grade them
    #[command(after_help = RUN)]
    Run {
        /// The suite
        #[command(flatten)]
        suite: SuiteArgs,
        /// Variant to try, with its settings: a configuration file, or one key and its value; repeatable, also for
        /// several settings of one variant. `oracle` and `nop` are built in [default: base, the current configuration]
        #[arg(long = "variant", value_name = "NAME[=FILE|=KEY=VALUE]", value_parser = variant)]
        variants: Vec<VariantSpec>,
        /// Trials per task and variant [default: the suite's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        trials: Option<u32>,
        /// Start no further trial once those of this command have cost this much, such as "5 USD"
        #[arg(long, value_name = "AMOUNT", value_parser = parse::money)]
        limit_cost: Option<u64>,
    },
    /// Show the trials of a suite: how they ended, by variant and by task
    Report {
        /// Folder of the suite
        #[arg(value_name = "SUITE")]
        suite: PathBuf,
    },
    /// Compare two variants by the tasks that both have tried
    Compare {
        /// Folder of the suite
        #[arg(value_name = "SUITE")]
        suite: PathBuf,
        /// The variant to compare with: its name (its newest trials), or the id of a set of trials
        base: String,
        /// The variant that may replace it
        candidate: String,
    },
    /// Decide whether a variant replaces another one
    #[command(after_help = GATE)]
    Gate {
        /// Folder of the suite
        #[arg(value_name = "SUITE")]
        suite: PathBuf,
        /// The variant in use: its name (its newest trials), or the id of a set of trials
        base: String,
        /// The variant that may replace it
        candidate: String,
    },
    /// Write results or tasks as other tools read them
    #[command(after_help = EXPORT)]
    Export {
        /// Folder of the suite
        #[arg(value_name = "SUITE")]
        suite: PathBuf,
        /// The variant: its name (its newest trials), or the id of a set of trials; not for harbor
        #[arg(value_name = "VARIANT", required_unless_present_any = ["to_harbor"])]
        set: Option<String>,
        /// Write the work of the trials to this file, as predictions of SWE-bench (.jsonl)
        #[arg(long, value_name = "FILE")]
        to_swebench: Option<PathBuf>,
        /// Write the results to this file, as a log of inspect_ai (.json)
        #[arg(long, value_name = "FILE", conflicts_with = "to_swebench")]
        to_inspect: Option<PathBuf>,
        /// Write the tasks to this new folder, as tasks of Harbor
        #[arg(long, value_name = "DIR", conflicts_with_all = ["to_swebench", "to_inspect", "set"])]
        to_harbor: Option<PathBuf>,
        /// Only this task; repeatable
        #[arg(long = "task", value_name = "NAME")]
        tasks: Vec<String>,
        /// Number of the trial whose work is written to predictions
        #[arg(long, value_name = "N", default_value_t = 1, requires = "to_swebench")]
        trial: u32,
    },
    /// Grade work that was done elsewhere: a file of SWE-bench predictions for the tasks of a suite
    #[command(after_help = "\
The file has one JSON object per line with instance_id (the task), model_name_or_path and model_patch, or all of them in
one list. The hidden tests run as they do for trials.

Exits with 0 if every prediction was graded, with 75 if some could not be.

Example:
  skep eval grade evals/small predictions.jsonl")]
    Grade {
        /// Folder of the suite
        #[arg(value_name = "SUITE")]
        suite: PathBuf,
        /// File with the predictions
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Number of predictions that are graded at the same time
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
        parallel: u64,
    },
}

/// A suite, and what is done of it.
#[derive(Debug, Args)]
pub struct SuiteArgs {
    /// Folder of the suite
    #[arg(value_name = "SUITE")]
    pub suite: PathBuf,
    /// Only this task; repeatable
    #[arg(long = "task", value_name = "NAME")]
    pub tasks: Vec<String>,
    /// Number of tasks or trials at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub parallel: u64,
}

const RUN: &str = "\
Each trial is a run in a data directory of its own. After its end, the hidden tests judge the commit that landed, or else
the work that was kept. The same command continues an interrupted evaluation; no finished trial is carried out twice.

Exits with 0 if all trials have a result, with 75 if the infrastructure (a provider, the sandbox) spoiled some of them.

Examples:
  skep eval run evals/small --variant oracle --variant nop
  skep eval run evals/small --variant base --variant cheap=role.dev.engine=llm:anthropic/claude-haiku-4-5 --trials 3
  skep eval run evals/small --variant base --variant strict=strict.toml --limit-cost \"20 USD\"";

const EXPORT: &str = "\
Examples:
  skep eval export evals/small cheap --to-swebench predictions.jsonl
  skep eval export evals/small cheap --to-inspect log.json
  skep eval export evals/small --to-harbor harbor-tasks";

const GATE: &str = "\
The candidate is kept if its pass rate is higher (one-sided sign-flip test, p <= 0.05), or if it costs less and its pass
rate is not lower by more than the suite's margin. It is never kept with more false landings than the margin allows.

Exits with 0 if it is kept, with 3 if it is not, with 75 if the trials allow no verdict.";

/// Parses `NAME`, `NAME=FILE` or `NAME=KEY=VALUE`.
pub fn variant(text: &str) -> Result<VariantSpec, String> {
    let (name, setting) = match text.split_once('=') {
        Some((name, setting)) => (name, Some(setting)),
        None => (text, None),
    };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=30).contains(&name.len()) || !name.bytes().all(is_plain) {
        return Err("a variant's name has 1 to 30 of a-z, 0-9 and '-'".to_owned());
    }
    let is_key = |key: &str| {
        key.contains('.')
            && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'))
    };
    let settings = match setting {
        None => Vec::new(),
        Some("") => return Err("name a file, or a key and its value, after '='".to_owned()),
        Some(setting) => vec![match setting.split_once('=').filter(|(key, _)| is_key(key)) {
            Some((key, value)) => VariantSetting::Key(key.to_owned(), value.to_owned()),
            None => VariantSetting::File(PathBuf::from(setting)),
        }],
    };
    Ok(VariantSpec { name: name.to_owned(), settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_name_files_or_keys() {
        let of = |text: &str| variant(text).map(|v| (v.name, v.settings));
        let key = |key: &str, value: &str| vec![VariantSetting::Key(key.to_owned(), value.to_owned())];
        assert_eq!(of("nop"), Ok(("nop".to_owned(), vec![])));
        let file = vec![VariantSetting::File(PathBuf::from("a/b=c.toml"))];
        assert_eq!(of("x=a/b=c.toml"), Ok(("x".to_owned(), file)));
        assert_eq!(of("x=role.dev.engine=command:a=b"), Ok(("x".to_owned(), key("role.dev.engine", "command:a=b"))));
        for wrong in ["", "=x", "A=x", "a b", "x=", "x/y=z"] {
            assert!(variant(wrong).is_err(), "{wrong:?}");
        }
    }
}
