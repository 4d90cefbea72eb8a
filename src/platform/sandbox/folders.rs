//! The directories of a command: creating them, handing them to the user it runs as, and making them reachable.

use super::environment::Host;
use super::tree;
use super::{Job, Level};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::io;
use std::path::{Path, PathBuf};

/// Subdirectory of the cache with the generated `passwd` and `group` files.
pub const USER_FILES: &str = "users";

/// Path at which commands find their cache at `strict`. It is the same for all of them: programs and build outputs in a
/// cache that is copied for another command contain their own paths.
const SEEN_CACHE: &str = "/run/skep/cache";

/// Returns the path at which a job finds its cache.
pub fn seen_cache(job: &Job<'_>, level: Level) -> PathBuf {
    match level {
        Level::Strict => SEEN_CACHE.into(),
        Level::Landlock | Level::None => job.cache.join(job.purpose.dir_name()),
    }
}

/// Lists the directories a job may write to, each with the path at which the job finds it.
pub fn mounts(job: &Job<'_>, level: Level) -> Vec<(PathBuf, PathBuf)> {
    let cache = (job.cache.join(job.purpose.dir_name()), seen_cache(job, level));
    vec![(job.dir.to_owned(), job.dir.to_owned()), cache, (job.scratch.to_owned(), job.scratch.to_owned())]
}

/// Lists the directories a job may write to.
pub fn writable(job: &Job<'_>) -> Vec<PathBuf> {
    vec![job.dir.to_owned(), job.cache.join(job.purpose.dir_name()), job.scratch.to_owned()]
}

/// Creates the directories every command expects. They lie below directories that commands can write to, so no
/// symbolic link is followed.
pub fn make(job: &Job<'_>, host: &Host) -> Result<(), RootedFsError> {
    let refused =
        |path: &Path, e: io::Error| RootedFsError::Refused { path: path.display().to_string(), what: e.to_string() };
    for root in [job.cache, job.scratch] {
        std::fs::create_dir_all(root).map_err(|e| refused(root, e))?;
    }
    let cache = RootedDir::open(job.cache).map_err(|e| refused(job.cache, e))?;
    let home = format!("{}/home", job.purpose.dir_name());
    cache.make_dir(&home)?;
    // Tests that commit need an author.
    let identity = [(".gitconfig", b"[user]\n\tname = Skep\n\temail = skep@localhost\n".to_vec())];
    for (name, text) in identity.iter().chain(&host.home_files).filter(|_| !host.real_home) {
        let path = format!("{home}/{name}");
        if matches!(cache.size(&path), Err(RootedFsError::Missing(_))) {
            cache.write(&path, text)?;
        }
    }
    RootedDir::open(job.scratch).map_err(|e| refused(job.scratch, e))?.make_dir("tmp")
}

/// Writes `passwd` and `group` files to the cache directory [`USER_FILES`], naming root and the user commands run as
/// (`None` = Skep's own user).
pub fn write_user_files(cache: &Path, home: &Path, user: Option<(u32, u32)>) -> io::Result<()> {
    let own = || (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (uid, gid) = user.unwrap_or_else(own);
    let passwd = format!("root:x:0:0:root:/:/bin/sh\nskep:x:{uid}:{gid}:skep:{}:/bin/sh\n", passwd_path(home));
    let cache = RootedDir::open(cache)?;
    for (name, text) in [("passwd", passwd), ("group", format!("root:x:0:\nskep:x:{gid}:\n"))] {
        let path = format!("{USER_FILES}/{name}");
        if cache.read(&path, 4096).ok().as_deref() != Some(text.as_bytes()) {
            cache.write(&path, text.as_bytes()).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Gives a job's directories to the user it runs as. With `data_dir`, that user must also be able to reach them:
/// directories below `data_dir` are opened for its group to pass through, not to list or read. Directories above
/// `data_dir` are never changed; only a person may do that.
///
/// # Errors
/// When a directory cannot be given away, or the user cannot reach it: the error names the directory and the fix.
pub fn give_to_user(job: &Job<'_>, user: (u32, u32), data_dir: Option<&Path>) -> io::Result<()> {
    let give = |path: &Path| {
        tree::give(path, user).map_err(|e| {
            io::Error::new(e.kind(), format!("{} cannot be given to user {}: {e}", path.display(), user.0))
        })
    };
    give(job.dir)?;
    give(job.scratch)?;
    // A cache is large, and only a few files in it, written by Skep, do not belong to the user yet.
    let cache = job.cache.join(job.purpose.dir_name());
    if rustix::fs::stat(&cache)?.st_uid == user.0 {
        give(&cache.join("home"))?
    } else {
        give(&cache)?
    }
    if let Some(proxy) = job.proxy {
        rustix::fs::chown(&proxy.socket, Some(Uid::from_raw(user.0)), Some(Gid::from_raw(user.1)))?;
    }
    let Some(data_dir) = data_dir else { return Ok(()) };
    [job.dir, &cache, job.scratch].iter().try_for_each(|path| make_reachable(path, data_dir, user))
}

fn make_reachable(path: &Path, data_dir: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let (path, data_dir) = (path.canonicalize()?, data_dir.canonicalize()?);
    for above in path.ancestors().skip(1) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(above, flags, Mode::empty())?;
        let is = rustix::fs::fstat(&dir)?;
        let needed = match (is.st_uid == uid, is.st_gid == gid) {
            (true, _) => Mode::XUSR,
            (_, true) => Mode::XGRP,
            _ => Mode::XOTH,
        };
        let mode = Mode::from_raw_mode(is.st_mode);
        if mode.contains(needed) {
            continue;
        }
        if !above.starts_with(&data_dir) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} lies above the data directory, and user {uid}, which runs the commands when Skep is started as root, \
                     cannot pass through it: move the data directory (--data-dir /var/lib/skep), or allow others to pass \
                     (chmod o+x {0})",
                    above.display()
                ),
            ));
        }
        rustix::fs::fchown(&dir, None, Some(Gid::from_raw(gid)))?;
        // The rights of the previous group must not pass to this one.
        rustix::fs::fchmod(&dir, mode.difference(Mode::RWXG) | Mode::XGRP)?;
    }
    Ok(())
}

/// Returns a path that fits into a line of `/etc/passwd`, which cannot contain a colon or a newline.
fn passwd_path(path: &Path) -> String {
    let text = path.to_string_lossy().into_owned();
    if text.contains([':', '\n']) { "/".to_owned() } else { text }
}
