//! Errors of handlers, which the guard renders as pages.

use crate::service::{ErrorKind, ServiceError};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Result of a handler.
pub type PageResult<T> = Result<T, PageError>;

/// Error of a handler.
#[derive(Clone, Debug)]
pub struct PageError(Arc<ServiceError>);

impl PageError {
    /// Returns the error.
    pub fn error(&self) -> &ServiceError {
        &self.0
    }
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        status(self.0.kind)
    }
}

/// Returns the status of the response to a kind of error.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Malformed => StatusCode::BAD_REQUEST,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Moved => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<ServiceError> for PageError {
    fn from(error: ServiceError) -> PageError {
        PageError(Arc::new(error))
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
