//! The system call filter: denies calls that no build, test or agent needs, and calls that would bypass the other
//! restrictions.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// Calls that fail with EPERM whatever their arguments.
#[rustfmt::skip]
const DENIED: &[libc::c_long] = &[
    // io_uring performs operations from its ring, past this filter.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Memory and files of other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // Kernel keyrings are not namespaced.
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    // Parts of the kernel that exploits have used.
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

/// Mount-related calls too new for libc's constants. Their numbers are the same on all architectures.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Calls reported as missing (ENOSYS), so that programs fall back to others. The last two would create memory that
/// belongs to no process and is counted nowhere.
const ABSENT: &[libc::c_long] = &[
    // Its arguments lie in memory, which a filter cannot read; libraries then fall back to clone.
    libc::SYS_clone3,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// Maximum size in bytes of a System V shared memory segment, which outlives its processes (at most 4096 segments).
/// Databases ask for one page.
const SHARED_MEMORY_MAX: u64 = 1 << 20;

/// The x32 system call table of x86-64 kernels: the same numbers with this bit set, and a few of its own.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// ptrace, process_vm_readv, process_vm_writev and kexec_load in the x32 table.
#[cfg(target_arch = "x86_64")]
const X32_OWN: [i64; 4] = [X32 | 521, X32 | 539, X32 | 540, X32 | 528];

/// Flags of clone that create a namespace.
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

/// Sockets that may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Sockets {
    /// Unix and IP sockets; the network namespace limits what they reach.
    Own,
    /// TCP only; Landlock limits what it reaches.
    Tcp,
    /// None (`socketpair` still works).
    None,
}

/// Applies the filter to this thread and everything it starts, permanently.
///
/// # Errors
/// When this machine does not support filters, or none for this architecture.
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
    // Denies injecting characters into a terminal's input.
    let inject = |request: u64| SeccompRule::new(vec![is(1, request)?]);
    rules.insert(libc::SYS_ioctl, vec![inject(libc::TIOCSTI)?, inject(libc::TIOCLINUX)?]);
    let families = |allowed: &[libc::c_int]| -> Result<SeccompRule, seccompiler::BackendError> {
        SeccompRule::new(allowed.iter().map(|f| is_not(0, *f as u64)).collect::<Result<_, _>>()?)
    };
    let socket = match sockets {
        Sockets::Own => vec![families(&[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6])?],
        Sockets::Tcp => {
            // The socket type shares its argument with two flags.
            let mut rules = vec![families(&[libc::AF_INET, libc::AF_INET6])?];
            for kind in (0..16).filter(|kind| *kind != libc::SOCK_STREAM) {
                rules.push(SeccompRule::new(vec![masked(1, 0xf, kind as u64)?])?);
            }
            // Multipath TCP is a stream protocol, too, and Landlock only covers plain TCP.
            rules.push(SeccompRule::new(vec![is_not(2, 0)?, is_not(2, libc::IPPROTO_TCP as u64)?])?);
            rules
        }
        Sockets::None => Vec::new(),
    };
    rules.insert(libc::SYS_socket, socket);
    rules.insert(libc::SYS_socketpair, vec![families(&[libc::AF_UNIX])?]);
    let large = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Gt, SHARED_MEMORY_MAX)?;
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
    fn every_filter_fits_the_kernel_s_size_limit() {
        for sockets in [Sockets::Own, Sockets::Tcp, Sockets::None] {
            for program in programs(sockets).unwrap() {
                assert!(!program.is_empty() && program.len() < 4096, "{sockets:?}: {}", program.len());
            }
        }
    }
}
