//! Requests about one repository, with their expected answers.

use super::answer::Answer;
use super::client::read;
use crate::domain::Sha;
use crate::platform::git::check_sha;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a commit id of an answer.
///
/// # Errors
/// Transient if it is none.
pub(super) fn sha(text: &str) -> PortResult<Sha> {
    let sha = Sha(text.to_owned());
    check_sha(&sha).map_err(|_| PortError::transient("the forge's answer contains an invalid commit id"))?;
    Ok(sha)
}

/// A repository behind the REST API of a forge.
pub(super) trait RestApi: Sync {
    /// Returns the URL of a path below the repository.
    fn url(&self, path: &str) -> String;

    /// Sends an authenticated request, and returns the answer whatever its status.
    fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        doing: &str,
    ) -> impl Future<Output = PortResult<Answer>> + Send;

    /// Creates the error for an answer that is not the expected one.
    fn refusal(&self, answer: &Answer, doing: &str, is_read: bool) -> PortError;

    /// Reads what is at a path of the repository; `None` = it does not exist.
    fn find<T: DeserializeOwned>(&self, path: &str, doing: &str) -> impl Future<Output = PortResult<Option<T>>> + Send {
        async move {
            let answer = self.send(Method::GET, &self.url(path), None, doing).await?;
            match answer.status {
                StatusCode::OK => read(&answer, doing).map(Some),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(self.refusal(&answer, doing, true)),
            }
        }
    }

    /// Reads what is at a path of the repository.
    fn get<T: DeserializeOwned>(&self, path: &str, doing: &str) -> impl Future<Output = PortResult<T>> + Send {
        async move {
            let answer = self.send(Method::GET, &self.url(path), None, doing).await?;
            match answer.status {
                StatusCode::OK => read(&answer, doing),
                _ => Err(self.refusal(&answer, doing, true)),
            }
        }
    }

    /// Writes, and returns the answer if it has the expected status.
    fn write(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        expected: StatusCode,
        doing: &str,
    ) -> impl Future<Output = PortResult<Answer>> + Send {
        async move {
            let answer = self.send(method, &self.url(path), Some(body), doing).await?;
            if answer.status == expected { Ok(answer) } else { Err(self.refusal(&answer, doing, false)) }
        }
    }
}
