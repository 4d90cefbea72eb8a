//! Giving root up: where Skep was started as root, a command is an unprivileged user, at `strict` in a user namespace of its own.
//!
//! The kernel counts processes by user and namespace (Linux 5.14 and later): in one of its own a command meets its own limit only.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::os::fd::OwnedFd;

/// Beneath a `/proc`: how many user namespaces may be made within the one that looks.
const USER_NAMESPACES: &str = "sys/user/max_user_namespaces";

/// From root to this user and group, with no right left over; `own_namespace`: in a user namespace of its own, in which no other can
/// be made. For a process of one thread, before the other walls stand. Limits go on afterwards: those of the moment bind the namespace
/// as a whole.
///
/// # Errors
/// When this process may not, or the machine has no user namespaces.
pub fn give_up_root((uid, gid): (u32, u32), own_namespace: bool) -> io::Result<()> {
    // The one that is mounted here can't be written.
    let proc = if own_namespace { Some(proc_of_its_own()?) } else { None };
    rustix::thread::set_keep_capabilities(own_namespace)?;
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // A change of user makes /proc/self root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    if let Some(proc) = proc {
        // Where only root may make namespaces, this right is what is asked for.
        hold(CapabilitySet::SYS_ADMIN)?;
        #[allow(unsafe_code)] // it only changes this process's one thread, and no descriptor
        unsafe {
            rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)?;
        }
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        let most = rustix::fs::openat(&proc, USER_NAMESPACES, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&most, b"0")?;
        // The new namespace gave all rights within itself, and the right to get them again.
        for right in CapabilitySet::all() {
            match rustix::thread::remove_capability_from_bounding_set(right) {
                // An older kernel knows fewer of them.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    hold(CapabilitySet::empty())
}

/// These rights and no others.
fn hold(rights: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets { effective: rights, permitted: rights, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// A `/proc` that is mounted nowhere.
fn proc_of_its_own() -> io::Result<OwnedFd> {
    let proc = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&proc)?;
    Ok(rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
