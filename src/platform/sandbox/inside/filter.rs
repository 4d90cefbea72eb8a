//! The system call filter: what no build, test or agent needs, and what would reach around the other walls.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// Calls that answer EPERM whatever their arguments.
#[rustfmt::skip]
const DENIED: &[libc::c_long] = &[
    // io_uring does what its ring says, past this filter.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Other processes' memory and files.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // The kernel's keys are not in any namespace.
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    // Ways into the kernel that exploits have used.
    libc::SYS_bpf, libc::SYS_userfaultfd, libc::SYS_perf_event_open, libc::SYS_fanotify_init, libc::SYS_lookup_dcookie,
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_open_tree, libc::SYS_move_mount,
    libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_unshare,
    libc::SYS_setns, STATMOUNT, LISTMOUNT, OPEN_TREE_ATTR, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // The machine as a whole.
    libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_quotactl_fd,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex, libc::SYS_syslog,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")] libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")] libc::SYS_uselib,
];

/// Calls about mounts that are younger than their names here; numbers are the same for all processors by now.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Calls there are not: programs know other ways then. What they would make is memory that no process has and nobody counts.
const ABSENT: &[libc::c_long] = &[
    // What it is asked lies in memory, where a filter can't look: everybody uses clone then.
    libc::SYS_clone3,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// The largest piece of shared memory of the old kind, which outlives its processes: of 4096 pieces at most. Databases ask for a page.
const SHARED_MAX: u64 = 1 << 20;

/// The same kernel's second table of calls on x86-64: numbers with this bit, and a few of its own.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// ptrace, process_vm_readv, process_vm_writev, kexec_load in that second table.
#[cfg(target_arch = "x86_64")]
const X32_OWN: [i64; 4] = [X32 | 521, X32 | 539, X32 | 540, X32 | 528];

/// Flags of clone that make a namespace.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    0x80, // CLONE_NEWTIME
];

/// Which sockets may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Sockets {
    /// Unix and IP: what they reach is held by the network namespace.
    Own,
    /// TCP only: what it reaches is held by Landlock.
    Tcp,
    /// None (`socketpair` stays).
    None,
}

/// Puts the filter on this thread and what it starts, for good.
///
/// # Errors
/// When this machine has no filters, or none for its kind of processor.
pub fn apply(sockets: Sockets) -> io::Result<()> {
    for program in programs(sockets).map_err(io::Error::other)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn programs(sockets: Sockets) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for &call in DENIED {
        rules.insert(call, Vec::new());
    }
    rules.insert(
        libc::SYS_clone,
        NAMESPACES.iter().map(|flag| SeccompRule::new(vec![has(0, *flag as u64)?])).collect::<Result<_, _>>()?,
    );
    // Pushing characters into a terminal's input.
    let push = |request: u64| SeccompRule::new(vec![is(1, request)?]);
    rules.insert(libc::SYS_ioctl, vec![push(libc::TIOCSTI)?, push(libc::TIOCLINUX)?]);
    let families = |allowed: &[libc::c_int]| -> Result<SeccompRule, seccompiler::BackendError> {
        SeccompRule::new(allowed.iter().map(|f| is_not(0, *f as u64)).collect::<Result<_, _>>()?)
    };
    let socket = match sockets {
        Sockets::Own => vec![families(&[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6])?],
        Sockets::Tcp => {
            // The kind shares its argument with two flags.
            let mut rules = vec![families(&[libc::AF_INET, libc::AF_INET6])?];
            for kind in (0..16).filter(|kind| *kind != libc::SOCK_STREAM) {
                rules.push(SeccompRule::new(vec![masked(1, 0xf, kind as u64)?])?);
            }
            // Multipath TCP is a stream too, and Landlock knows only the plain one.
            rules.push(SeccompRule::new(vec![is_not(2, 0)?, is_not(2, libc::IPPROTO_TCP as u64)?])?);
            rules
        }
        Sockets::None => Vec::new(),
    };
    rules.insert(libc::SYS_socket, socket);
    rules.insert(libc::SYS_socketpair, vec![families(&[libc::AF_UNIX])?]);
    let large = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Gt, SHARED_MAX)?;
    rules.insert(libc::SYS_shmget, vec![SeccompRule::new(vec![large])?]);
    let mut absent: BTreeMap<i64, Vec<SeccompRule>> = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    {
        absent.extend(ABSENT.iter().map(|call| (call | X32, Vec::new())));
        let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twins);
        rules.extend(X32_OWN.map(|call| (call, Vec::new())));
    }
    Ok([program(rules, libc::EPERM)?, program(absent, libc::ENOSYS)?])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?.try_into()
}

fn is(arg: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}
fn is_not(arg: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}
fn masked(arg: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}
fn has(arg: u8, flag: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    masked(arg, flag, flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_filter_fits_into_what_the_kernel_takes() {
        for sockets in [Sockets::Own, Sockets::Tcp, Sockets::None] {
            for program in programs(sockets).unwrap() {
                assert!(!program.is_empty() && program.len() < 4096, "{sockets:?}: {}", program.len());
            }
        }
    }
}
