//! Shows deployments on GitLab.

use super::api::{Api, escaped};
use super::wire::Deployment;
use crate::adapters::forge::rest::RestApi;
use crate::ports::PortResult;
use crate::ports::forge::{DeploymentReport, DeploymentStage};
use http::{Method, StatusCode};
use serde_json::json;

impl Api<'_> {
    /// Creates the deployment of a report, or ends the one that is running there
    /// (<https://docs.gitlab.com/api/deployments/>).
    pub(super) async fn report_deployment(&self, report: &DeploymentReport<'_>) -> PortResult<()> {
        let DeploymentReport { environment, sha, branch, .. } = report;
        let doing = format!("show the deployment to {environment}");
        let status = match report.stage {
            DeploymentStage::Started => "running",
            DeploymentStage::Succeeded => "success",
            DeploymentStage::Failed => "failed",
        };
        let path = format!("/deployments?environment={}&order_by=id&sort=desc&per_page=20", escaped(environment));
        let all: Vec<Deployment> = self.get(&path, &doing).await?;
        // GitLab keeps nothing of Skep's with a deployment: the newest one of the commit is this one.
        let newest = all.iter().find(|deployment| deployment.sha == sha.as_str());
        match newest {
            Some(newest) if newest.status == status => Ok(()),
            Some(newest) if newest.status == "running" => {
                let path = format!("/deployments/{}", newest.id);
                self.write(Method::PUT, &path, &json!({ "status": status }), StatusCode::OK, &doing).await.map(drop)
            }
            _ => {
                let body = json!({ "environment": environment, "sha": sha.as_str(), "ref": branch, "tag": false, "status": status });
                self.write(Method::POST, "/deployments", &body, StatusCode::CREATED, &doing).await.map(drop)
            }
        }
    }
}
