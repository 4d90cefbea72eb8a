//! The walls around commands, as the rest of the product sees them: how strong, and whether they still hold.

/// The walls.
pub trait Isolation: Send + Sync {
    /// The level commands get: `strict`, `landlock` or `none`.
    fn level(&self) -> &'static str;
    /// Why no command is started at present, and what to do about it; `None` = the level holds.
    fn broken(&self) -> Option<(String, String)>;
}
