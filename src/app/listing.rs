//! Lists folders of a data directory, for the commands that look at all of it.

use crate::ports::{PortError, PortResult};
use std::io::ErrorKind;
use std::path::Path;

/// Returns the names in a folder, sorted; none if it does not exist. Skep gives no name that is not UTF-8, so such a file
/// is left alone.
///
/// # Errors
/// If the folder or an entry of it cannot be read.
pub(super) fn names(dir: &Path) -> PortResult<Vec<String>> {
    let unreadable = |e: std::io::Error| {
        PortError::permanent(format!("cannot read {}: {e}", dir.display()), "make it readable for this user")
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
