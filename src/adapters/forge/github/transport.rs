//! Sends requests over octocrab.

use crate::adapters::forge::client::{SendError, Transport};
use async_trait::async_trait;
use http::Response;
use http::request::Builder;
use octocrab::Octocrab;
use serde_json::Value;

/// Sends requests with the headers that octocrab adds.
pub(super) struct Crab(pub Octocrab);

#[async_trait]
impl Transport for Crab {
    async fn send(&self, request: Builder, body: Option<&Value>) -> Result<Response<reqwest::Body>, SendError> {
        let request = self.0.build_request(request, body)?;
        Ok(self.0.execute(request).await?.map(reqwest::Body::wrap))
    }
}
