//! A double of GitHub: the part of its API that Skep uses. It follows GitHub's documentation; what it says is our
//! reading of it.

mod api;
mod ci;

pub use super::forge_server::{Fault, Issue, LOGIN, REPO, TOKEN, now};

use super::forge_server::{ForgeServer, Served, reply};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use skep::adapters::forge::settings::{Account, GitHub as Settings, SecretSource};
use std::ops::Deref;

/// The id of its GitHub App, whose key is `app_key.pem`.
pub const APP_ID: u64 = 42;
pub const APP_KEY: &str = include_str!("app_key.pem");

/// A running double.
pub struct GitHub(ForgeServer);

impl Deref for GitHub {
    type Target = ForgeServer;

    fn deref(&self) -> &ForgeServer {
        &self.0
    }
}

impl GitHub {
    /// Starts it.
    pub fn start() -> GitHub {
        GitHub(ForgeServer::start(respond))
    }

    /// Returns the settings of a forge at its address.
    pub fn settings(&self, account: Account) -> Settings {
        Settings {
            url: self.url.clone(),
            api_url: self.url.clone(),
            account,
            merge_method: None,
            fork_owner: None,
            intake: Default::default(),
        }
    }

    /// Returns the account of the token, which is stored in a file.
    pub fn token_account(&self) -> Account {
        Account::Token(SecretSource::File(self.private_file("token", TOKEN)))
    }

    /// Returns the account of the App.
    pub fn app_account(&self) -> Account {
        Account::App { id: APP_ID, private_key: SecretSource::File(self.private_file("app.pem", APP_KEY)) }
    }
}

fn respond(served: &Served, parts: &Parts, path: &str, body: &Bytes) -> Response {
    if let Some(log) = path.strip_prefix("/_storage/logs/") {
        return ci::stored_log(served, parts, log);
    }
    let (status, body) = api::handle(served, parts, path, body);
    let etag = format!("\"{:x}\"", crc(&body.to_string()));
    let is_read = parts.method == "GET" && status == 200;
    if is_read && parts.headers.get("if-none-match").is_some_and(|known| *known == *etag) {
        served.state.lock().unwrap().unchanged += 1;
        return Response::builder().status(304).header("etag", etag).body(Body::empty()).unwrap();
    }
    let mut response = reply(status, &body);
    if is_read {
        response.headers_mut().insert("etag", etag.parse().unwrap());
    }
    if status == 302 {
        response.headers_mut().insert("location", body["location"].as_str().unwrap().parse().unwrap());
    }
    if status == 403
        && let Some(permission) = body["accepted"].as_str()
    {
        response.headers_mut().insert("x-accepted-github-permissions", permission.parse().unwrap());
    }
    response
}

fn crc(text: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
