//! Checks requests against the API description.

use axum::body::Bytes;
use axum::http::request::Parts;
use serde_json::Value;
use std::sync::LazyLock;

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("swagger.json")).unwrap());

/// An operation of the description.
#[derive(Clone, Copy)]
pub struct Operation(&'static Value);

impl Operation {
    /// Returns whether the description has such an answer.
    pub fn has_status(self, status: u16) -> bool {
        self.0["statuses"].as_array().unwrap().iter().any(|known| known == status)
    }
}

/// Finds the operation of a request.
///
/// # Errors
/// How the request violates the description.
pub fn check_request(parts: &Parts, path: &str, body: &Bytes) -> Result<Operation, String> {
    let path = path.strip_prefix(DESCRIPTION["basePath"].as_str().unwrap()).ok_or("it is not below the base path")?;
    let mut operations = DESCRIPTION["operations"].as_array().unwrap().iter();
    let operation = operations
        .find(|op| op["method"] == parts.method.as_str() && is_at(op["path"].as_str().unwrap(), path))
        .ok_or("there is no such operation")?;
    for pair in parts.uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("the query is malformed")?;
        let parameter = operation["query"].get(name).ok_or_else(|| format!("there is no parameter {name}"))?;
        let value = match parameter["type"].as_str() {
            Some("integer") => value.parse::<u64>().map_or(Value::Null, Value::from),
            _ => Value::from(value),
        };
        check(parameter, &value, name)?;
    }
    match (operation.get("body"), body.is_empty()) {
        (None, true) => {}
        (None, false) => return Err("it has a body".to_owned()),
        (Some(schema), _) => {
            let is_json = parts.headers.get("content-type").is_some_and(|kind| kind == "application/json");
            let value = serde_json::from_slice(body).map_err(|e| format!("its body is not JSON: {e}"))?;
            if !is_json {
                return Err("its content type is not application/json".to_owned());
            }
            check(schema, &value, "body")?;
        }
    }
    Ok(Operation(operation))
}

/// Returns whether a path fits a template. Only the name of a branch has slashes.
fn is_at(template: &str, path: &str) -> bool {
    if let Some(start) = template.strip_suffix("{branch}") {
        let depth = start.trim_matches('/').split('/').count();
        let parts: Vec<&str> = path.trim_matches('/').splitn(depth + 1, '/').collect();
        return parts.len() == depth + 1 && is_at(start.trim_end_matches('/'), &parts[..depth].join("/"));
    }
    let (template, path) = (template.trim_matches('/').split('/'), path.trim_matches('/').split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(name, part)| match name.strip_prefix('{') {
            Some(name) if ["index}", "id}", "run_id}", "job_id}"].contains(&name) => part.parse::<u64>().is_ok(),
            Some(_) => !part.is_empty(),
            None => name == part,
        })
}

fn check(schema: &Value, value: &Value, name: &str) -> Result<(), String> {
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    if !fits {
        return Err(format!("{name} is not of the type {}: {value}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{name} is none of {}: {value}", schema["enum"]));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            return Err(format!("{name} lacks {required}"));
        }
    }
    for (field, value) in value.as_object().into_iter().flatten() {
        let schema = schema["properties"].get(field).ok_or_else(|| format!("{name} has no field {field}"))?;
        check(schema, value, field)?;
    }
    Ok(())
}

#[test]
fn violations_of_the_description_are_found() {
    let request = |method: &str, uri: &str, body: &str| {
        let request = axum::http::Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let parts = request.body(()).unwrap().into_parts().0;
        let path = parts.uri.path().to_owned();
        check_request(&parts, &path, &Bytes::from(body.to_owned())).map(|_| ())
    };
    let repo = "/api/v1/repos/my-org/calc";
    let at = |path: &str| format!("{repo}{path}");
    request("GET", &at("/pulls?state=open&limit=50&page=1"), "").unwrap();
    request("GET", &at("/branches/skep/3f9a"), "").unwrap();
    request("POST", &at("/pulls/7/merge"), r#"{"Do": "squash", "head_commit_id": "0"}"#).unwrap();
    for (method, uri, body) in [
        ("GET", "/repos/my-org/calc".to_owned(), ""),
        ("GET", at("/pulls?state=all2"), ""),
        ("GET", at("/pulls?per_page=50"), ""),
        ("GET", at("/pulls?limit=many"), ""),
        ("GET", at("/pulls/x"), ""),
        ("GET", at("/branches"), ""),
        ("GET", at("/pulls/7"), "{}"),
        ("PUT", at("/pulls/7/merge"), r#"{"Do": "squash"}"#),
        ("POST", at("/pulls/7/merge"), r#"{"head_commit_id": "0"}"#),
        ("POST", at("/pulls/7/merge"), r#"{"Do": "octopus"}"#),
        ("POST", at("/pulls/7/merge"), r#"{"Do": "squash", "sha": "0"}"#),
        ("POST", at("/pulls"), r#"{"title": 7}"#),
    ] {
        assert!(request(method, &uri, body).is_err(), "{method} {uri} {body}");
    }
}
