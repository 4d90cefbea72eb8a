//! x
/// t
#[derive(Clone)]
pub struct TraceContext;
impl TraceContext {
    /// t
    pub fn of(_: Option<&str>) -> Self {
        TraceContext
    }
    /// t
    pub fn span(&self, s: tracing::Span) -> tracing::Span {
        s
    }
}
