//! A double of GitLab: the part of its API that Skep uses. It follows GitLab's public API documentation; what it says
//! beyond that is our reading of it. Each request is checked against the documented attributes of its endpoint.

mod api;
mod attributes;
mod merge_requests;
mod notes;

pub use super::forge_server::{Fault, LOGIN, REPO, TOKEN};

use super::forge_server::{ForgeServer, Served, reply};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::json;
use skep::adapters::forge::settings::{GitLab as Settings, SecretSource};
use std::ops::Deref;

/// A running double.
pub struct GitLab(ForgeServer);

impl Deref for GitLab {
    type Target = ForgeServer;

    fn deref(&self) -> &ForgeServer {
        &self.0
    }
}

impl GitLab {
    /// Starts it.
    pub fn start() -> GitLab {
        GitLab(ForgeServer::start(respond))
    }

    /// Returns the settings of a forge at its address.
    pub fn settings(&self) -> Settings {
        Settings {
            url: self.url.clone(),
            token: SecretSource::File(self.private_file("token", TOKEN)),
            merge_method: None,
            intake: Default::default(),
        }
    }
}

impl Drop for GitLab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = &self.state().violations;
            assert!(violations.is_empty(), "against the API documentation: {violations:#?}");
        }
    }
}

fn respond(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Response {
    if let Err(violation) = attributes::check(parts, path, body) {
        let violation = format!("{} {}: {violation}", parts.method, parts.uri);
        served.state.lock().unwrap().violations.push(violation.clone());
        return reply(400, &json!({ "error": violation }));
    }
    let api::Answered { status, body, link, text } = api::handle(served, parts, path, body);
    let mut response = reply(status, &body);
    if let Some(text) = text {
        *response.body_mut() = Body::from(text);
    } else if body.is_null() {
        *response.body_mut() = Body::empty();
    }
    if let Some(link) = link {
        response.headers_mut().insert("link", link.parse().unwrap());
    }
    response
}
