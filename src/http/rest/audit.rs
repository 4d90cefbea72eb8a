//! Route for the audit log.

use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, audit};
use axum::extract::{Query, State as Shared};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list))
}

/// Query for the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only entries before this id, for paging.
    before: Option<u64>,
    /// Maximum number of entries, 1 to 500; 100 if absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// List the audit log, newest first
///
/// Who changed what, when, through which surface. Needs the right `admin`. Never contains the value of a secret.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Vec<wire::AuditEntry>, description = "Entries")))]
async fn list(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<AuditQuery>,
) -> ApiResult<Json<Vec<wire::AuditEntry>>> {
    let rows = audit::list(&state.services, &caller, query.before, query.limit).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}
