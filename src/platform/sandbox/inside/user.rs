//! Gives up root: when Skep was started as root, commands run as an unprivileged user, at `strict` in their own user
//! namespace.
//!
//! The kernel counts processes by user and namespace (Linux 5.14 and later): in its own namespace, only a command's
//! own processes count towards its limit.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::os::fd::OwnedFd;

/// Relative to `/proc`: the number of user namespaces that may be created in the reader's own.
const USER_NAMESPACES: &str = "sys/user/max_user_namespaces";

/// Changes from root to this user and group and drops all privileges. With `own_namespace`, moves into a new user
/// namespace in which no further one can be created. Must be called by a single-threaded process, before the other
/// restrictions apply. Resource limits are set afterwards, because the limits in force now would bind the namespace as
/// a whole.
///
/// # Errors
/// When this process lacks the privileges, or the machine has no user namespaces.
pub fn give_up_root((uid, gid): (u32, u32), own_namespace: bool) -> io::Result<()> {
    // The `/proc` mounted here is read-only.
    let proc = if own_namespace { Some(detached_proc()?) } else { None };
    rustix::thread::set_keep_capabilities(own_namespace)?;
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // A change of user gives `/proc/self` to root.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    if let Some(proc) = proc {
        // Where only root may create namespaces, this capability is what the kernel checks.
        set_capabilities(CapabilitySet::SYS_ADMIN)?;
        #[allow(unsafe_code)] // it only affects this process's single thread, and no descriptor
        unsafe {
            rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)?;
        }
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        let max = rustix::fs::openat(&proc, USER_NAMESPACES, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&max, b"0")?;
        // The new namespace granted all capabilities within itself, and the right to regain them.
        for capability in CapabilitySet::all() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // Older kernels know fewer capabilities.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    set_capabilities(CapabilitySet::empty())
}

/// Sets exactly these capabilities.
fn set_capabilities(capabilities: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Opens a `/proc` that is not mounted anywhere.
fn detached_proc() -> io::Result<OwnedFd> {
    let proc = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&proc)?;
    Ok(rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
