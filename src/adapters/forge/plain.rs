//! Sends requests over the client for http.

use super::client::{SendError, Transport};
use async_trait::async_trait;
use http::Response;
use http::header::CONTENT_TYPE;
use http::request::Builder;
use serde_json::Value;

/// Sends requests as they are.
pub(super) struct Plain(pub reqwest::Client);

#[async_trait]
impl Transport for Plain {
    async fn send(&self, request: Builder, body: Option<&Value>) -> Result<Response<reqwest::Body>, SendError> {
        let request = match body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string())?,
            None => request.body(String::new())?,
        };
        Ok(self.0.execute(request.try_into()?).await?.into())
    }
}
