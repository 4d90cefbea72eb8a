//! Checks a running command periodically: memory of all its processes, and disk space of its directories.

use super::policy::Limits;
use super::tree;
use crate::platform::process::{ProcessOutput, StopReason};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Interval between memory checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Disk checks happen as often, but take at most one part in this many of the time.
const DISK_CHECK_RATIO: u32 = 20;
/// Bytes of a disk that stay free, unless the disk is small itself.
const FREE_DISK_MIN: u64 = 256 << 20;
/// Kernel memory of an empty file in a memory file system, in bytes.
const INODE_BYTES: u64 = 1024;

/// Completes with the reason once the command exceeds a limit.
pub async fn wait_for_excess(pid: u32, dirs: Vec<PathBuf>, limits: Limits) -> StopReason {
    let mut disk_due = Instant::now() + CHECK_INTERVAL;
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let (dirs, check_disk) = (dirs.clone(), Instant::now() >= disk_due);
        // The directory walk blocks, so it runs on a blocking thread.
        let check = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let why = memory_excess(pid, limits.memory)
                .map(StopReason::Excess)
                .or_else(|| check_disk.then(|| disk_excess(&dirs, limits.workspace)).flatten());
            (why, began.elapsed())
        });
        let Ok((why, took)) = check.await else { continue };
        if let Some(why) = why {
            return why;
        }
        if check_disk {
            disk_due = Instant::now() + CHECK_INTERVAL.max(took * DISK_CHECK_RATIO);
        }
    }
}

fn memory_excess(pid: u32, max_bytes: u64) -> Option<String> {
    if max_bytes == 0 {
        return None;
    }
    let used = used_memory(pid);
    (used > max_bytes)
        .then(|| format!("its processes used {} MiB of memory; {} MiB are allowed", used >> 20, max_bytes >> 20))
}

fn disk_excess(dirs: &[PathBuf], max_bytes: u64) -> Option<StopReason> {
    if max_bytes == 0 {
        return None;
    }
    let mut used = 0u64;
    for dir in dirs {
        match tree::size(dir, max_bytes - used.min(max_bytes)) {
            Ok(bytes) => used = used.saturating_add(bytes),
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => {
                return Some(StopReason::Excess("its directories are nested too deeply to be measured".to_owned()));
            }
            // A directory that no longer exists takes no space.
            Err(_) => {}
        }
        if used > max_bytes {
            let why = format!("its directories exceed the allowed {} MiB of disk space", max_bytes >> 20);
            return Some(StopReason::Excess(why));
        }
    }
    dirs.first().and_then(|dir| full_disk(dir))
}

/// Notes a full disk after a command has ended: a program that ended by itself may still have written only a part.
pub fn note_full_disk(output: &mut ProcessOutput, dir: &Path, limits: Limits) {
    if output.stop_reason.is_none() && limits.workspace > 0 {
        output.stop_reason = full_disk(dir);
    }
}

/// Reports a nearly full disk: open files that were deleted are in no directory but still take space, and must not
/// fill the disk.
fn full_disk(dir: &Path) -> Option<StopReason> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let free = bytes(disk.f_bavail);
    // Some file systems do not count their files.
    if disk.f_files > 0 && disk.f_favail == 0 {
        let why = "the disk of its directories can hold no more files; remove some";
        return Some(StopReason::FullDisk(why.to_owned()));
    }
    (free < FREE_DISK_MIN.min(bytes(disk.f_blocks) / 64))
        .then(|| format!("the disk of its directories is nearly full ({} MiB free); free some space", free >> 20))
        .map(StopReason::FullDisk)
}

/// Returns the bytes used by the memory file systems of a command, which belong to no process. `pid` is one of its
/// processes.
fn memory_fs_usage(pid: u32) -> u64 {
    let device = |path: &str| rustix::fs::stat(path).map(|s| s.st_dev).ok();
    let used = |mount_point: &&str| {
        let path = format!("/proc/{pid}/root{mount_point}");
        // If it is not the command's own mount, it is the host's and shared with others.
        if device(&path)? == device(mount_point)? {
            return None;
        }
        let s = rustix::fs::statvfs(path).ok()?;
        let blocks = s.f_blocks.saturating_sub(s.f_bfree).saturating_mul(s.f_frsize);
        Some(blocks.saturating_add(s.f_files.saturating_sub(s.f_ffree).saturating_mul(INODE_BYTES)))
    };
    ["/tmp", "/dev/shm"].iter().filter_map(used).fold(0, u64::saturating_add)
}

/// Returns the bytes of memory used by all descendants of a process and by their memory file systems. Shared pages
/// count for each process.
fn used_memory(root: u32) -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut children: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the name in parentheses: state, parent, …; resident pages are the 22nd field.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let parent = u32::try_from(number(1)).unwrap_or(0);
        children.entry(parent).or_default().push((pid, number(21)));
    }
    let page = rustix::param::page_size() as u64;
    let (mut bytes, mut last, mut pending) = (0u64, None, vec![root]);
    while let Some(pid) = pending.pop() {
        for (child, pages) in children.remove(&pid).unwrap_or_default() {
            bytes = bytes.saturating_add(pages * page);
            last = Some(child);
            pending.push(child);
        }
    }
    bytes.saturating_add(last.map_or(0, memory_fs_usage))
}
