//! Evaluations of the backend in memory: no test here uses them.

use super::FakeBackend;
use crate::service::host::evaluation::{
    Evaluation, Evaluator, ExportRequest, FinishedTrial, PredictionGrade, PredictionsRequest, SuiteRequest, TaskProof,
    TrialsRequest,
};
use crate::service::host::{HostContext, HostResult};
use async_trait::async_trait;

#[async_trait]
impl Evaluator for FakeBackend {
    async fn check_suite(
        &self,
        _: &HostContext,
        _: &SuiteRequest,
        _: &(dyn Fn(TaskProof) + Send + Sync),
    ) -> HostResult<Vec<TaskProof>> {
        unreachable!()
    }
    async fn run_trials(
        &self,
        _: &HostContext,
        _: &TrialsRequest,
        _: &(dyn Fn(FinishedTrial) + Send + Sync),
    ) -> HostResult<Evaluation> {
        unreachable!()
    }
    async fn read_evaluation(&self, _: &HostContext, _: &std::path::Path) -> HostResult<Evaluation> {
        unreachable!()
    }
    async fn export_evaluation(&self, _: &HostContext, _: &ExportRequest) -> HostResult<u64> {
        unreachable!()
    }
    async fn grade_predictions(
        &self,
        _: &HostContext,
        _: &PredictionsRequest,
        _: &(dyn Fn(PredictionGrade) + Send + Sync),
    ) -> HostResult<Vec<PredictionGrade>> {
        unreachable!()
    }
}
