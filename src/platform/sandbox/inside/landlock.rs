//! Landlock rules: which files may be read and written, and which ports may be connected to, on kernels that support
//! it.

use super::Restrictions;
use crate::platform::sandbox::Level;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::io;
use std::path::Path;

/// The ABI that level `landlock` needs: the first one that confines signals and abstract sockets.
const REQUIRED_ABI: ABI = ABI::V6;

/// Devices every program may write to.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom"];

/// Rules that are not in force yet; their files are open.
pub struct Rules(RulesetCreated);

/// Builds the rules with the current privileges of this process. At `strict` they back up the mounts and enforce as
/// much as the kernel supports; at `landlock` they are the isolation itself, and all of them must be enforced.
///
/// # Errors
/// When a required rule is not supported.
pub fn rules(restrictions: &Restrictions) -> io::Result<Rules> {
    build(restrictions).map(Rules).map_err(landlock_error)
}

impl Rules {
    /// Enforces the rules for this thread and everything it starts, permanently.
    ///
    /// # Errors
    /// When the kernel rejects them.
    pub fn bind(self) -> io::Result<()> {
        self.0.restrict_self().map_err(landlock_error)?;
        Ok(())
    }
}

fn landlock_error(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("landlock: {e}"))
}

fn build(restrictions: &Restrictions) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let is_required = restrictions.level == Level::Landlock;
    let compat = if is_required { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
    let all = AccessFs::from_all(REQUIRED_ABI);
    let read = AccessFs::from_read(REQUIRED_ABI);
    let mut rules = Ruleset::default()
        .set_compatibility(compat)
        .handle_access(all)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if is_required {
        rules = rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    for path in &restrictions.readable {
        rules = add(rules, Path::new(path), read)?;
    }
    for path in &restrictions.writable {
        rules = add(rules, Path::new(path), all)?;
    }
    for path in DEVICES {
        rules = add(rules, Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    if let (true, Some(port)) = (is_required, restrictions.port) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(rules)
}

/// Adds a rule for a path; a path that does not exist needs none.
fn add(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(rules) };
    let access = if meta.is_dir() { access } else { access & AccessFs::from_file(REQUIRED_ABI) };
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    Ok(rules.add_rule(PathBeneath::new(fd, access))?)
}
