//! Style sheet, module and icon: part of the program, named by their digests, so that browsers keep them.

use super::State;
use super::problem::PageResult;
use crate::service::ServiceError;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use maud::{Markup, PreEscaped};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("assets/skep.css");
const SCRIPT: &str = include_str!("assets/skep.js");
/// A hive of woven straw.
const ICON: &str = include_str!("assets/skep.svg");

const FOREVER: &str = "public, max-age=31536000, immutable";

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/skep.{}.css", digest(STYLE)));
static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/skep.{}.js", digest(SCRIPT)));
static BUILD: LazyLock<String> = LazyLock::new(|| digest(&format!("{STYLE}{SCRIPT}{}", env!("CARGO_PKG_VERSION"))));

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// Returns the path of the style sheet.
pub fn style_path() -> &'static str {
    &STYLE_PATH
}

/// Returns the path of the module.
pub fn script_path() -> &'static str {
    &SCRIPT_PATH
}

/// Returns what identifies this version of the pages.
pub fn build() -> &'static str {
    &BUILD
}

/// Returns the icon for the navigation.
pub fn mark() -> Markup {
    PreEscaped(ICON.to_owned())
}

/// `GET /assets/{name}`.
pub async fn asset(_: axum::extract::State<State>, Path(name): Path<String>) -> PageResult<Response> {
    let (text, kind) = match format!("/assets/{name}") {
        path if path == style_path() => (STYLE, "text/css; charset=utf-8"),
        path if path == script_path() => (SCRIPT, "text/javascript; charset=utf-8"),
        _ => {
            let fix = "Reload the page: the service was updated";
            return Err(ServiceError::not_found("no_asset", "there is no such file", fix).into());
        }
    };
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, FOREVER)], text).into_response())
}

/// `GET /favicon.svg`.
pub async fn icon() -> Response {
    ([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "public, max-age=86400")], ICON).into_response()
}
