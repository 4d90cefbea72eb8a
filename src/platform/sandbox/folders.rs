//! The folders a command is given: made, handed to the user it runs as, and the way to them.

use super::Job;
use super::tree;
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of made-up users, in the cache.
pub const WHO: &str = "who";

/// What a job may write.
pub fn writable(job: &Job<'_>) -> Vec<PathBuf> {
    vec![job.dir.to_owned(), job.cache.join(job.purpose.folder()), job.scratch.to_owned()]
}

/// The folders every command expects. They are made beneath what commands can write to: no link of theirs is followed.
pub fn make(job: &Job<'_>, real_home: bool) -> Result<(), RootedFsError> {
    let refused =
        |path: &Path, e: io::Error| RootedFsError::Refused { path: path.display().to_string(), what: e.to_string() };
    for root in [job.cache, job.scratch] {
        std::fs::create_dir_all(root).map_err(|e| refused(root, e))?;
    }
    let cache = RootedDir::open(job.cache).map_err(|e| refused(job.cache, e))?;
    let home = format!("{}/home", job.purpose.folder());
    cache.make_dir(&home)?;
    let identity = format!("{home}/.gitconfig");
    if !real_home && matches!(cache.size(&identity), Err(RootedFsError::Missing(_))) {
        // Tests that commit need somebody to be.
        cache.write(&identity, b"[user]\n\tname = Skep\n\temail = skep@localhost\n")?;
    }
    RootedDir::open(job.scratch).map_err(|e| refused(job.scratch, e))?.make_dir("tmp")
}

/// Makes up who is who, in the cache's folder [`WHO`]: root, and the user commands run as (`None` = Skep's own).
pub fn make_up_who(cache: &Path, home: &Path, user: Option<(u32, u32)>) -> io::Result<()> {
    let own = || (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (uid, gid) = user.unwrap_or_else(own);
    let passwd = format!("root:x:0:0:root:/:/bin/sh\nskep:x:{uid}:{gid}:skep:{}:/bin/sh\n", plain_path(home));
    let cache = RootedDir::open(cache)?;
    for (name, text) in [("passwd", passwd), ("group", format!("root:x:0:\nskep:x:{gid}:\n"))] {
        let path = format!("{WHO}/{name}");
        if cache.read(&path, 4096).ok().as_deref() != Some(text.as_bytes()) {
            cache.write(&path, text.as_bytes()).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Gives a job's folders to the user it runs as. With `data_dir` it needs the way to them, too: what lies between is opened for its group
/// to pass through, not to list or read; what lies above is nobody's to change but a person's.
///
/// # Errors
/// When a folder can't be given away, or the user can't get to it: the text names the folder in the way, and what to do.
pub fn hand_over(job: &Job<'_>, user: (u32, u32), data_dir: Option<&Path>) -> io::Result<()> {
    let given = |path: &Path| {
        tree::give(path, user).map_err(|e| {
            io::Error::new(e.kind(), format!("{} cannot be given to user {}: {e}", path.display(), user.0))
        })
    };
    given(job.dir)?;
    given(job.scratch)?;
    // A cache is large; in it only Skep's own few files are not the user's already.
    let cache = job.cache.join(job.purpose.folder());
    if rustix::fs::stat(&cache)?.st_uid == user.0 {
        given(&cache.join("home"))?
    } else {
        given(&cache)?
    }
    if let Some(gate) = job.gate {
        rustix::fs::chown(&gate.socket, Some(Uid::from_raw(user.0)), Some(Gid::from_raw(user.1)))?;
    }
    let Some(data_dir) = data_dir else { return Ok(()) };
    [job.dir, &cache, job.scratch].iter().try_for_each(|path| open_the_way(path, data_dir, user))
}

fn open_the_way(path: &Path, data_dir: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let (path, data_dir) = (path.canonicalize()?, data_dir.canonicalize()?);
    for above in path.ancestors().skip(1) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(above, flags, Mode::empty())?;
        let is = rustix::fs::fstat(&folder)?;
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
                    "{} lies above the data directory, and user {uid}, as which a root's Skep runs commands, can't pass through it: put the \
                     data directory elsewhere (--data-dir /var/lib/skep), or let others pass (chmod o+x {0})",
                    above.display()
                ),
            ));
        }
        rustix::fs::fchown(&folder, None, Some(Gid::from_raw(gid)))?;
        // What the group before it could do there is not this one's.
        rustix::fs::fchmod(&folder, mode.difference(Mode::RWXG) | Mode::XGRP)?;
    }
    Ok(())
}

/// A path for a line of `/etc/passwd`, which has no way to write a colon or an end of line.
fn plain_path(path: &Path) -> String {
    let text = path.to_string_lossy().into_owned();
    if text.contains([':', '\n']) { "/".to_owned() } else { text }
}
