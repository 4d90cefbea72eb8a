//! The result of testing an account.

/// One permission, and whether the account has it.
#[derive(Clone, Debug)]
pub struct PermissionTest {
    /// The permission, as the forge names it.
    pub permission: String,
    /// Whether the account has it.
    pub granted: bool,
    /// Whether Skep works without it.
    pub optional: bool,
    /// What was observed, or where to grant it.
    pub detail: String,
}
