//! A visit: who looks at a page, with which preferences, and the token of their forms.

use super::State;
use super::problem::PageError;
use crate::domain::{Principal, Timestamp};
use crate::service::{Caller, ErrorKind, ServiceError};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Names of the session cookie: over TLS, and over plain HTTP on this machine.
pub const SESSION_COOKIES: [&str; 2] = ["__Host-skep", "skep"];
/// Names of the cookie of a login in progress, likewise.
pub const LOGIN_COOKIES: [&str; 2] = ["__Host-skep-login", "skep-login"];
/// Name of the cookie with the preferences.
pub const PREFS_COOKIE: &str = "skep-prefs";
/// Name of the form field with the token.
pub const TOKEN_FIELD: &str = "form_token";

/// Colors of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the system is set.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// All themes.
    pub const ALL: [Theme; 3] = [Theme::System, Theme::Light, Theme::Dark];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Theme::System => "system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
    /// Returns the theme of a name.
    pub fn of(name: &str) -> Option<Theme> {
        Theme::ALL.into_iter().find(|theme| theme.name() == name)
    }
}

/// A visit.
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    path: String,
    theme: Theme,
    at: Timestamp,
    caller: Option<Caller>,
    /// Value of the session cookie; a person whom the trusted proxy names has none.
    session: Option<String>,
    /// What the token of forms is made from.
    form_secret: String,
}

impl Visit {
    /// Returns an anonymous visit.
    pub fn anonymous(path: &str, prefs: Option<&str>, at: Timestamp) -> Visit {
        let theme = prefs.and_then(Theme::of).unwrap_or_default();
        let (path, form_secret) = (path.to_owned(), String::new());
        Visit(Arc::new(Inner { path, theme, at, caller: None, session: None, form_secret }))
    }
    /// Returns the same visit, of the person of a session.
    pub fn of(&self, caller: Caller, secret: String) -> Visit {
        self.by(caller, Some(secret.clone()), secret)
    }
    /// Returns the same visit, of a person whom the trusted proxy names.
    pub fn of_proxied(&self, caller: Caller, form_secret: String) -> Visit {
        self.by(caller, None, form_secret)
    }
    fn by(&self, caller: Caller, session: Option<String>, form_secret: String) -> Visit {
        let Inner { path, theme, at, .. } = &*self.0;
        let (path, caller) = (path.clone(), Some(caller));
        Visit(Arc::new(Inner { path, theme: *theme, at: *at, caller, session, form_secret }))
    }
    /// Returns the path and query of the page.
    pub fn path(&self) -> &str {
        &self.0.path
    }
    /// Returns the colors.
    pub fn theme(&self) -> Theme {
        self.0.theme
    }
    /// Returns the time of the visit.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }
    /// Returns who visits.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.caller.as_ref()
    }
    /// Returns the person who visits, for display.
    pub fn person(&self) -> Option<&Principal> {
        self.caller().map(|caller| &caller.principal)
    }
    /// Returns the value of the session cookie, if the visit belongs to a session.
    pub fn secret(&self) -> Option<&str> {
        self.0.session.as_deref()
    }
    /// Returns the token of this person's forms. It follows from a secret that scripts cannot read and other sites do
    /// not know.
    pub fn form_token(&self) -> String {
        let secret = &self.0.form_secret;
        let digest = Sha256::digest(format!("skep form token\0{secret}"));
        digest.iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

/// The visit of a request, with a person.
pub struct Person {
    /// The visit.
    pub visit: Visit,
    /// The person as a caller of use cases.
    pub caller: Caller,
}

impl FromRequestParts<State> for Person {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Person, PageError> {
        let visit = parts.extensions.get::<Visit>().cloned();
        let person = visit.and_then(|visit| Some(Person { caller: visit.caller()?.clone(), visit }));
        person.ok_or_else(|| {
            ServiceError::forbidden("no_session", "you are not logged in", "Log in with the link of `skep open`").into()
        })
    }
}

/// Fields of a form whose token belongs to the session.
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Returns the fields of a form without a token; only for the login, which has no session yet.
    pub async fn without_token(request: Request, state: &State) -> Result<Fields, PageError> {
        match axum::Form::<Vec<(String, String)>>::from_request(request, state).await {
            Ok(axum::Form(fields)) => Ok(Fields(fields)),
            Err(_) => {
                let fix = "Go back and send it again";
                Err(ServiceError::new(ErrorKind::Malformed, "bad_form", "the form cannot be read", fix).into())
            }
        }
    }
    /// Returns a field; empty if it was not sent. Line ends are those of the service, not of the form's encoding.
    pub fn get(&self, name: &str) -> String {
        let value = self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
        value.replace("\r\n", "\n").trim().to_owned()
    }
    /// Returns all values of a field that may occur several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.trim().to_owned()).collect()
    }
    /// Returns a field, or `None` if it is empty.
    pub fn filled(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }
    /// Returns a number; 0 if the field is empty.
    ///
    /// # Errors
    /// `invalid` if it is not a number.
    pub fn number(&self, name: &str, what: &str) -> Result<u64, PageError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| {
            ServiceError::invalid(format!("{what}: must be a whole number"), "Write digits only, such as 3").into()
        })
    }
    /// Returns an amount of dollars in micro-USD; 0 if the field is empty.
    ///
    /// # Errors
    /// `invalid` if it is not an amount.
    pub fn dollars(&self, name: &str) -> Result<u64, PageError> {
        let text = self.get(name);
        let (whole, part) = text.trim_start_matches('$').split_once('.').unwrap_or((text.trim_start_matches('$'), ""));
        let digits = |t: &str| t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole)
            || !digits(part)
            || part.len() > 6
            || (!text.is_empty() && whole.is_empty() && part.is_empty())
        {
            return Err(ServiceError::invalid("amount: must be dollars", "Write it as 1.50").into());
        }
        let micros = format!("{part:0<6}");
        let number = |t: &str| t.parse::<u64>().unwrap_or(0);
        Ok(number(whole).saturating_mul(1_000_000).saturating_add(number(&micros)))
    }
}

impl FromRequest<State> for Fields {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &State) -> Result<Fields, PageError> {
        let expected = request.extensions().get::<Visit>().map(Visit::form_token);
        let fields = Fields::without_token(request, state).await?;
        if expected.is_some_and(|token| token == fields.get(TOKEN_FIELD)) {
            return Ok(fields);
        }
        Err(ServiceError::forbidden(
            "form_token",
            "the form belongs to another session; nothing was changed",
            "Open the page again and send the form from there",
        )
        .into())
    }
}
