//! Shows deployments on GitHub.

use super::api::Api;
use super::wire::{Deployment, DeploymentStatus};
use crate::adapters::forge::ci::description;
use crate::adapters::forge::client::read;
use crate::adapters::forge::rest::RestApi;
use crate::ports::PortResult;
use crate::ports::forge::{DeploymentReport, DeploymentStage};
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

impl Api<'_> {
    /// Creates the deployment of a report if it is not there yet, and sets its status unless it has that already
    /// (<https://docs.github.com/en/rest/deployments>).
    pub(super) async fn report_deployment(&self, report: &DeploymentReport<'_>) -> PortResult<()> {
        let DeploymentReport { key, environment, sha, .. } = report;
        let doing = format!("show the deployment to {environment}");
        let name = utf8_percent_encode(environment, NON_ALPHANUMERIC);
        let all: Vec<Deployment> =
            self.get(&format!("/deployments?sha={sha}&environment={name}&per_page=100"), &doing).await?;
        let id = match all.iter().find(|deployment| deployment.payload["skep"] == *key) {
            Some(found) => found.id,
            None => {
                // Skep has decided already: GitHub neither merges anything into the commit nor waits for statuses.
                let body = json!({
                    "ref": sha.as_str(), "environment": environment, "auto_merge": false, "required_contexts": [],
                    "payload": { "skep": key }, "description": description(report.text),
                });
                let answer = self.write(Method::POST, "/deployments", &body, StatusCode::CREATED, &doing).await?;
                read::<Deployment>(&answer, &doing)?.id
            }
        };
        let state = match report.stage {
            DeploymentStage::Started => "in_progress",
            DeploymentStage::Succeeded => "success",
            DeploymentStage::Failed => "failure",
        };
        let path = format!("/deployments/{id}/statuses");
        let statuses: Vec<DeploymentStatus> = self.get(&format!("{path}?per_page=100"), &doing).await?;
        if statuses.iter().any(|status| status.state == state) {
            return Ok(());
        }
        let mut body = json!({ "state": state, "description": description(report.text) });
        if let Some(url) = report.url {
            body["environment_url"] = json!(url);
        }
        self.write(Method::POST, &path, &body, StatusCode::CREATED, &doing).await.map(drop)
    }
}
