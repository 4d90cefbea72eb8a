//! Files of other evaluation tools: written from results, and graded.

use super::{evaluation, read_suite, stopped};
use crate::adapters::eval::formats::{self, Prediction};
use crate::adapters::eval::{Grade, Suite, TrialContext, digest};
use crate::platform::git::durable_fs::{run_blocking, write_atomic};
use crate::platform::git::{Git, Identity};
use crate::platform::stop_signal;
use crate::service::host::evaluation::{Evaluation, Export, ExportRequest, PredictionGrade, PredictionsRequest};
use crate::service::host::{HostError, HostResult};
use futures::{FutureExt, StreamExt};
use std::path::{Path, PathBuf};

/// Writes what was requested. Returns the number of tasks or trials.
pub(super) async fn export(data_dir: &Path, request: &ExportRequest) -> HostResult<u64> {
    // The results belong to the suite as a whole.
    let whole = read_suite(&request.suite, &[])?;
    let selected = read_suite(&request.suite, &request.tasks)?;
    let trials_of = async |name: &str| -> HostResult<_> {
        let Evaluation { sets, suite, .. } = evaluation(data_dir, whole.clone()).await?;
        let known = Evaluation {
            sets,
            suite,
            digest: String::new(),
            tasks: Vec::new(),
            gate: whole.gate.clone(),
            is_cut_short: false,
        };
        let mut set = known.set(name)?.clone();
        set.trials.retain(|trial| selected.tasks.iter().any(|task| task.name == trial.task));
        Ok(set)
    };
    let (text, count) = match &request.what {
        Export::HarborTasks => return Ok(formats::write_tasks(&selected, &request.to).await?),
        Export::Predictions { set, number } => {
            let git = Git::find(Identity::default()).await?;
            formats::write(&git, &trials_of(set).await?, *number).await?
        }
        Export::InspectLog { set } => {
            let set = trials_of(set).await?;
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, false);
            (format!("{:#}\n", formats::log(&selected, &set, &now)), set.trials.len() as u64)
        }
    };
    let to = target(&request.to)?;
    run_blocking(move || write_atomic(&to, text.as_bytes())).await?;
    Ok(count)
}

/// Returns the file to write as an absolute path, in a folder that exists.
fn target(to: &Path) -> HostResult<PathBuf> {
    let unusable = |why: String| HostError::usage(format!("cannot write {}: {why}", to.display()), "name another file");
    let to = std::path::absolute(to).map_err(|e| unusable(e.to_string()))?;
    match to.parent().is_some_and(Path::is_dir) {
        true => Ok(to),
        false => Err(unusable("its folder does not exist".to_owned())),
    }
}

/// Grades the predictions of a file, in its order.
pub(super) async fn grade(
    trials: &TrialContext,
    data_dir: &Path,
    request: &PredictionsRequest,
    on_grade: &(dyn Fn(PredictionGrade) + Send + Sync),
) -> HostResult<Vec<PredictionGrade>> {
    let suite = read_suite(&request.suite, &[])?;
    let predictions = formats::read(&request.file, &suite).map_err(|(what, fix)| HostError::usage(what, fix))?;
    let graded = predictions.iter().map(|prediction| {
        let suite = &suite;
        async move {
            let grade = graded(trials, suite, data_dir, prediction).await;
            on_grade(grade.clone());
            grade
        }
        .boxed()
    });
    let all = futures::stream::iter(graded.collect::<Vec<_>>()).buffered(request.parallel.max(1)).collect();
    tokio::select! {
        grades = all => Ok(grades),
        () = stop_signal::requested(1) => Err(stopped()),
    }
}

async fn graded(trials: &TrialContext, suite: &Suite, data_dir: &Path, prediction: &Prediction) -> PredictionGrade {
    let Prediction { instance_id, model_name_or_path, .. } = prediction;
    let name = digest([suite.digest.as_bytes(), instance_id.as_bytes(), &std::process::id().to_be_bytes()]);
    let folder = data_dir.join("stores").join(name.get(..16).unwrap_or(&name));
    let (correct, why) = match suite.tasks.iter().find(|task| task.name == *instance_id) {
        None => (None, "the suite has no such task".to_owned()),
        Some(task) => match formats::grade(trials, task, prediction, &folder).await {
            Ok(Grade::Green) => (Some(true), String::new()),
            Ok(Grade::Red(why)) => (Some(false), why),
            Err(error) => (None, error.to_string()),
        },
    };
    PredictionGrade { task: instance_id.clone(), model: model_name_or_path.clone(), correct, why }
}
