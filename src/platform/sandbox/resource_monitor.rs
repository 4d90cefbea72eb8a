//! Looks at a running command now and then: how much memory all its processes use, how much disk its folders take.

use super::policy::Limits;
use super::tree;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Disk is looked at as often, but at most this part of the time goes into it.
const SHARE: u32 = 20;
/// What stays free of a disk, unless that is small itself.
const LEFT_MIN: u64 = 256 << 20;
/// Bytes of the kernel's own memory that a file without content takes in a memory file system.
const INODE: u64 = 1024;

/// Ends when the command has passed a limit, with the words for it.
pub async fn over(pid: u32, folders: Vec<PathBuf>, limits: Limits) -> String {
    let mut disk_due = Instant::now() + LOOK;
    loop {
        tokio::time::sleep(LOOK).await;
        let (folders, look_at_disk) = (folders.clone(), Instant::now() >= disk_due);
        // The walk is plain file work, so it is done on a thread for such work.
        let look = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let why =
                memory(pid, limits.memory).or_else(|| look_at_disk.then(|| disk(&folders, limits.workspace)).flatten());
            (why, began.elapsed())
        });
        let Ok((why, took)) = look.await else { continue };
        if let Some(why) = why {
            return why;
        }
        if look_at_disk {
            disk_due = Instant::now() + LOOK.max(took * SHARE);
        }
    }
}

fn memory(pid: u32, most: u64) -> Option<String> {
    if most == 0 {
        return None;
    }
    let used = taken(pid);
    (used > most).then(|| format!("its processes used {} MiB of memory; {} MiB are allowed", used >> 20, most >> 20))
}

fn disk(folders: &[PathBuf], most: u64) -> Option<String> {
    if most == 0 {
        return None;
    }
    let mut used = 0u64;
    for folder in folders {
        match tree::size(folder, most - used.min(most)) {
            Ok(bytes) => used = used.saturating_add(bytes),
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => {
                return Some("its folders are nested so deep that they can't be counted".to_owned());
            }
            // A folder that is gone takes nothing.
            Err(_) => {}
        }
        if used > most {
            return Some(format!("its folders grew over the {} MiB of disk they may take", most >> 20));
        }
    }
    folders.first().and_then(|folder| full(folder))
}

/// A file that is open and has no name any more is in no folder, but takes its room: so nobody uses up all there is.
fn full(folder: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let left = bytes(disk.f_bavail);
    (left < LEFT_MIN.min(bytes(disk.f_blocks) / 64)).then(|| {
        format!("the disk its folders are on is nearly full ({} MiB left): make room, then try again", left >> 20)
    })
}

/// Bytes the memory file systems of a command take: what a process keeps there is in no process. `pid` is one of its processes.
fn kept(pid: u32) -> u64 {
    let device = |path: &str| rustix::fs::stat(path).map(|s| s.st_dev).ok();
    let taken = |place: &&str| {
        let path = format!("/proc/{pid}/root{place}");
        // Without mounts of its own it is the host's, and not only the command's.
        if device(&path)? == device(place)? {
            return None;
        }
        let s = rustix::fs::statvfs(path).ok()?;
        let blocks = s.f_blocks.saturating_sub(s.f_bfree).saturating_mul(s.f_frsize);
        Some(blocks.saturating_add(s.f_files.saturating_sub(s.f_ffree).saturating_mul(INODE)))
    };
    ["/tmp", "/dev/shm"].iter().filter_map(taken).fold(0, u64::saturating_add)
}

/// Bytes of memory of all processes beneath one, and of what they keep in memory file systems. Pages that are shared count for each.
fn taken(root: u32) -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut children: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the name in brackets: state, parent, …, resident pages as the 22nd.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let parent = u32::try_from(number(1)).unwrap_or(0);
        children.entry(parent).or_default().push((pid, number(21)));
    }
    let page = rustix::param::page_size() as u64;
    let (mut bytes, mut last, mut open) = (0u64, None, vec![root]);
    while let Some(pid) = open.pop() {
        for (child, pages) in children.remove(&pid).unwrap_or_default() {
            bytes = bytes.saturating_add(pages * page);
            last = Some(child);
            open.push(child);
        }
    }
    bytes.saturating_add(last.map_or(0, kept))
}
