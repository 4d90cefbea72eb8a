//! JSON bodies of requests, by the published schema: declared as JSON, and an object wherever the schema has one.

use super::problem::ApiError;
use crate::http::limits::MAX_BODY_BYTES;
use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// A body that is required.
pub(super) struct JsonBody<T>(pub T);

/// A body that may be left out: an empty one stands for the default.
pub(super) struct OptionalBody<T>(pub T);

/// A body with a secret. It may be left out if its type has a default; no error quotes it.
pub(super) struct SecretBody(Bytes);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let (request, bytes) = buffered(request).await?;
        let Json(value) = Json::from_request(request, &()).await.map_err(IntoResponse::into_response)?;
        strict::<T>(&bytes).map_err(|e| {
            ApiError::invalid(format!("the body does not match the schema: {e}"), "GET /openapi.json has the schema")
                .into_response()
        })?;
        Ok(JsonBody(value))
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (request, bytes) = buffered(request).await?;
        match bytes.is_empty() {
            true => Ok(OptionalBody(T::default())),
            false => JsonBody::from_request(request, state).await.map(|JsonBody(value)| OptionalBody(value)),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for SecretBody {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let (request, bytes) = buffered(request).await?;
        let declared = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim();
        match bytes.is_empty() || essence.eq_ignore_ascii_case("application/json") {
            true => Ok(SecretBody(bytes)),
            false => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response()),
        }
    }
}

impl SecretBody {
    /// Parses the body. The error names the position, never the content.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let refused = |detail: String| {
            ApiError::invalid(detail, "GET /openapi.json has the schema; the body is not repeated here")
        };
        let value = serde_json::from_slice(&self.0).map_err(|e| {
            refused(format!("the body does not match the schema at line {} column {}", e.line(), e.column()))
        })?;
        strict::<T>(&self.0).map_err(|_quotes| refused("the body does not match the schema".to_owned()))?;
        Ok(value)
    }

    /// Like [`SecretBody::parse`]; an empty body stands for the default.
    pub fn parse_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.0.is_empty() { Ok(T::default()) } else { self.parse() }
    }
}

/// Reads the body, and returns the request with it once more.
async fn buffered(request: Request) -> Result<(Request, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
    Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
}

/// Checks what serde's derived code does not: it also takes the fields of an object from an array, in order.
fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<(), serde_json::Error> {
    T::deserialize(Strict(serde_json::from_slice(bytes)?)).map(drop)
}

/// Deserializer that takes an object only from a JSON object.
struct Strict(Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Strict))),
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Strict(value)))))
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &"an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, serde_json::Error> for Strict {
    type Deserializer = Strict;

    fn into_deserializer(self) -> Strict {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        for (body, is_right) in [
            (r#"{"more": {"rounds": 2}, "block": "b1"}"#, true),
            (r#"{"more": null}"#, true),
            (r#"{"more": []}"#, false),
            (r#"{"more": [1, 2]}"#, false),
            (r"[]", false),
            (r#"["b1"]"#, false),
        ] {
            assert_eq!(strict::<wire::Action>(body.as_bytes()).is_ok(), is_right, "{body}");
        }
        let order = r#"{"repo": "/r", "goal": "g", "engines": {"dev": "command: x"}, "checks": ["true"]}"#;
        strict::<wire::NewRun>(order.as_bytes()).unwrap();
        assert!(strict::<wire::NewRun>(br#"[null, "/r", "g"]"#).is_err());
    }
}
