//! A double of Forgejo: the part of its API that Skep uses. It follows Forgejo's API description; what it says beyond
//! that is our reading of it. Each request, and the status of each answer, is checked against the description, of which
//! `swagger.json` is a part.

mod api;
mod issues;
mod swagger;

pub use super::forge_server::{Fault, LOGIN, REPO, TOKEN};

use super::forge_server::{ForgeServer, Served, reply};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::json;
use skep::adapters::forge::settings::{Forgejo as Settings, SecretSource, Software};
use std::ops::Deref;

/// A running double.
pub struct Forgejo(ForgeServer);

impl Deref for Forgejo {
    type Target = ForgeServer;

    fn deref(&self) -> &ForgeServer {
        &self.0
    }
}

impl Forgejo {
    /// Starts it.
    pub fn start() -> Forgejo {
        Forgejo(ForgeServer::start(respond))
    }

    /// Returns the settings of a forge at its address.
    pub fn settings(&self) -> Settings {
        Settings {
            software: Software::Forgejo,
            url: self.url.clone(),
            token: SecretSource::File(self.private_file("token", TOKEN)),
            merge_method: None,
            fork_owner: None,
            intake: Default::default(),
        }
    }
}

impl Drop for Forgejo {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = &self.state().violations;
            assert!(violations.is_empty(), "against the API description: {violations:#?}");
        }
    }
}

fn respond(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Response {
    let operation = match swagger::check_request(parts, path, body) {
        Ok(operation) => operation,
        Err(violation) => {
            let violation = format!("{} {}: {violation}", parts.method, parts.uri);
            served.state.lock().unwrap().violations.push(violation.clone());
            return reply(422, &json!({ "message": violation }));
        }
    };
    let api::Answered { status, body, total, text } = api::handle(served, parts, path, body);
    if status < 400 && !operation.has_status(status) {
        let violation = format!("{} {}: the double answers {status}", parts.method, parts.uri);
        served.state.lock().unwrap().violations.push(violation);
    }
    let mut response = reply(status, &body);
    if let Some(text) = text {
        *response.body_mut() = Body::from(text);
    } else if body.is_null() {
        *response.body_mut() = Body::empty();
    }
    if let Some(total) = total {
        response.headers_mut().insert("x-total-count", total.into());
    }
    response
}
