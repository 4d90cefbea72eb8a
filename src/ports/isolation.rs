//! The sandbox around commands, as the rest of the product sees it: its level, and whether it still holds.

/// The sandbox.
pub trait Isolation: Send + Sync {
    /// Returns the sandbox level of commands: `strict`, `landlock` or `none`.
    fn level(&self) -> &'static str;
    /// Returns why no command can be started at present, and the fix; `None` = the level holds.
    fn broken(&self) -> Option<(String, String)>;
}
