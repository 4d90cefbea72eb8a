//! Messages before the protocol's library reads them, and its answers to unknown methods: it answers what it cannot read
//! without an error of JSON-RPC, and an unknown method with nothing but its name.

use crate::http::limits::MAX_BODY_BYTES;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorCode};
use serde_json::{Value, json};

/// Methods that this server carries out.
const METHODS: [&str; 8] =
    ["initialize", "ping", "server/discover", "tools/list", "tools/call", "tasks/get", "tasks/update", "tasks/cancel"];
/// Maximum characters of an unknown method that are repeated.
const MAX_NAME_CHARS: usize = 80;

/// Answers a body that is not a message of the protocol, and gives an unknown method its error in words.
pub async fn checked(request: Request, next: Next) -> Response {
    let is_json =
        request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
    if request.method() != Method::POST || !is_json {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let message = match read(&body) {
        Ok(message) => message,
        Err(error) => return answer(&error),
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    match message.get("method").and_then(Value::as_str) {
        Some(method) if message.get("id").is_some() && !METHODS.contains(&method) => worded(response, method).await,
        _ => response,
    }
}

/// Parses a message.
///
/// # Errors
/// Returns the error of JSON-RPC that answers it.
pub fn read(bytes: &[u8]) -> Result<Value, Value> {
    let message: Value = serde_json::from_slice(bytes)
        .map_err(|e| error(&Value::Null, ErrorCode::PARSE_ERROR, &format!("the message is not JSON: {e}")))?;
    let id = message.get("id").cloned().unwrap_or_default();
    let has_id = id.is_string() || id.is_i64();
    let known = if has_id { &id } else { &Value::Null };
    let invalid = |what: &str| Err(error(known, ErrorCode::INVALID_REQUEST, what));
    if message.is_array() {
        return invalid("the protocol has no batches; send one message at a time");
    }
    if !message.is_object() {
        return invalid("a message is a JSON object");
    }
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid("the message is not one of JSON-RPC 2.0; it needs \"jsonrpc\": \"2.0\"");
    }
    if message.get("id").is_some() && !has_id {
        return invalid("the id of a message must be a text or a whole number");
    }
    let method = match message.get("method") {
        Some(method) if !method.is_string() => return invalid("the method of a message must be a text"),
        Some(Value::String(method)) => method.as_str(),
        _ if message.get("result").is_some() || message.get("error").is_some() => "",
        _ => return invalid("the message has no method"),
    };
    match serde_json::from_slice::<ClientJsonRpcMessage>(bytes) {
        // What does not have the form of its method is left over as a request of an unknown one.
        Ok(ClientJsonRpcMessage::Request(request))
            if matches!(request.request, ClientRequest::CustomRequest(_)) && METHODS.contains(&method) =>
        {
            let what = match method {
                "tools/call" => "the params of tools/call need `name`, a text, and may have `arguments`, an object",
                _ => "the params do not have the form that the protocol gives this method",
            };
            Err(error(known, ErrorCode::INVALID_PARAMS, what))
        }
        Ok(_) => Ok(message),
        Err(_) => invalid("this is not a message of the protocol; its params must be an object"),
    }
}

fn error(id: &Value, code: ErrorCode, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code.0, "message": message } })
}

fn answer(error: &Value) -> Response {
    let is_request = error["error"]["code"] == ErrorCode::INVALID_PARAMS.0;
    let status = if is_request { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], error.to_string()).into_response()
}

/// Replaces the bare name of an unknown method by a sentence.
async fn worded(response: Response, method: &str) -> Response {
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    let mut answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if answer["error"]["code"] != ErrorCode::METHOD_NOT_FOUND.0 {
        return Response::from_parts(parts, Body::from(bytes));
    }
    let shown: String = method.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    let methods = METHODS.join(", ");
    answer["error"]["message"] = format!("this server has no method {shown}; it has {methods}").into();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(answer.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_message_gets_the_error_that_json_rpc_has_for_it() {
        for (body, code, id) in [
            ("{", -32_700, Value::Null),
            ("", -32_700, Value::Null),
            ("[]", -32_600, Value::Null),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32_600, Value::Null),
            ("7", -32_600, Value::Null),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32_600, json!(1)),
            (r#"{"id":"a","method":"ping"}"#, -32_600, json!("a")),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32_600, Value::Null),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32_600, Value::Null),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32_600, Value::Null),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32_600, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32_600, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, -32_602, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}"#, -32_602, json!(1)),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":[]}}"#,
                -32_602,
                json!(1),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{}}"#, -32_602, json!(1)),
        ] {
            let refused = read(body.as_bytes()).unwrap_err();
            assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(code), &id), "{body}");
        }
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_runs"}}"#,
            r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"unheard/of","params":{"a":1}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            assert!(read(body.as_bytes()).is_ok(), "{body}: {:?}", read(body.as_bytes()));
        }
    }
}
