//! File requests of an agent, served inside its worktree: no link is followed, sizes are capped.

use super::permit::Rooms;
use crate::domain::Step;
use crate::platform::rooted_fs::RootedDir;
use agent_client_protocol::v1::schema::{ReadTextFileRequest, WriteTextFileRequest};
use std::path::{Path, PathBuf};

/// The largest file read or written for an agent.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The worktree, and what may be done in it.
#[derive(Clone, Debug)]
pub struct Files {
    /// The worktree.
    pub dir: PathBuf,
    /// What is inside.
    pub rooms: Rooms,
    /// The step.
    pub step: Step,
}

impl Files {
    /// The text asked for.
    ///
    /// # Errors
    /// Why not, in words for the agent.
    pub fn read(&self, ask: &ReadTextFileRequest) -> Result<String, String> {
        let bytes = self.open()?.read(&self.inside(&ask.path)?, FILE_BYTES_MAX).map_err(|why| why.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is not text", ask.path.display()))?;
        if ask.line.is_none() && ask.limit.is_none() {
            return Ok(text);
        }
        let (from, most) = (ask.line.map_or(0, |l| l.saturating_sub(1)), ask.limit.unwrap_or(u32::MAX));
        Ok(text.split_inclusive('\n').skip(from as usize).take(most as usize).collect())
    }

    /// Writes what is asked.
    ///
    /// # Errors
    /// Why not, in words for the agent.
    pub fn write(&self, ask: &WriteTextFileRequest) -> Result<(), String> {
        if self.step != Step::Develop {
            return Err(format!("the {} step changes no files", self.step.name()));
        }
        if ask.content.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("a file may have {FILE_BYTES_MAX} bytes"));
        }
        self.open()?.write(&self.inside(&ask.path)?, ask.content.as_bytes()).map_err(|why| why.to_string())
    }

    fn open(&self) -> Result<RootedDir, String> {
        RootedDir::open(&self.dir).map_err(|e| format!("the worktree cannot be opened: {e}"))
    }

    fn inside(&self, path: &Path) -> Result<String, String> {
        self.rooms.beneath(path).ok_or_else(|| format!("{} is outside the workspace", path.display()))
    }
}
