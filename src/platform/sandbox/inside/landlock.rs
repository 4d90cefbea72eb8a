//! Landlock: which files may be read and written, for kernels that have it.

use super::Walls;
use crate::platform::sandbox::Level;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::io;
use std::path::Path;

/// What the `landlock` level needs: signals and abstract sockets stay inside since this one.
const NEEDED: ABI = ABI::V6;

/// Devices every program may write.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom"];

/// Rules that do not bind yet; the files they are about are open.
pub struct Rules(RulesetCreated);

/// The rules, made with the rights of the moment. At `strict` they stand behind the mounts and hold as much as this kernel knows; at
/// `landlock` they are the wall, and all of them must hold.
///
/// # Errors
/// When a needed rule can't be had.
pub fn rules(walls: &Walls) -> io::Result<Rules> {
    made(walls).map(Rules).map_err(said)
}

impl Rules {
    /// Puts them on this thread and what it starts, for good.
    ///
    /// # Errors
    /// When the kernel does not take them.
    pub fn bind(self) -> io::Result<()> {
        self.0.restrict_self().map_err(said)?;
        Ok(())
    }
}

fn said(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("landlock: {e}"))
}

fn made(walls: &Walls) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let is_the_wall = walls.level == Level::Landlock;
    let compat = if is_the_wall { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
    let all = AccessFs::from_all(NEEDED);
    let read = AccessFs::from_read(NEEDED);
    let mut rules = Ruleset::default()
        .set_compatibility(compat)
        .handle_access(all)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if is_the_wall {
        rules = rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    for path in &walls.readable {
        rules = add(rules, Path::new(path), read)?;
    }
    for path in &walls.writable {
        rules = add(rules, Path::new(path), all)?;
    }
    for path in DEVICES {
        rules = add(rules, Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    if let (true, Some(port)) = (is_the_wall, walls.port) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(rules)
}

/// What is not there needs no rule.
fn add(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(rules) };
    let access = if meta.is_dir() { access } else { access & AccessFs::from_file(NEEDED) };
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    Ok(rules.add_rule(PathBeneath::new(fd, access))?)
}
