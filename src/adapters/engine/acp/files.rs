//! File requests of an agent, served inside its worktree: no link is followed, sizes are bounded.

use super::permit::AllowedPaths;
use crate::domain::Step;
use crate::platform::rooted_fs::RootedDir;
use agent_client_protocol::v1::schema::{ReadTextFileRequest, WriteTextFileRequest};
use std::path::{Path, PathBuf};

/// Upper bound of a file read or written for an agent, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Files of an agent's worktree.
#[derive(Clone, Debug)]
pub struct Files {
    /// Worktree.
    pub dir: PathBuf,
    /// Paths that the agent may access.
    pub allowed_paths: AllowedPaths,
    /// Step, which decides about writing.
    pub step: Step,
}

impl Files {
    /// Reads the requested text.
    ///
    /// # Errors
    /// The reason, worded for the agent.
    pub fn read(&self, ask: &ReadTextFileRequest) -> Result<String, String> {
        let bytes = self.open()?.read(&self.inside(&ask.path)?, MAX_FILE_BYTES).map_err(|why| why.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is not text", ask.path.display()))?;
        if ask.line.is_none() && ask.limit.is_none() {
            return Ok(text);
        }
        let (from, max_lines) = (ask.line.map_or(0, |l| l.saturating_sub(1)), ask.limit.unwrap_or(u32::MAX));
        Ok(text.split_inclusive('\n').skip(from as usize).take(max_lines as usize).collect())
    }

    /// Writes the requested text.
    ///
    /// # Errors
    /// The reason, worded for the agent.
    pub fn write(&self, ask: &WriteTextFileRequest) -> Result<(), String> {
        if self.step != Step::Develop {
            return Err(format!("the {} step must not change files", self.step.name()));
        }
        if ask.content.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("the limit of a file is {MAX_FILE_BYTES} bytes"));
        }
        self.open()?.write(&self.inside(&ask.path)?, ask.content.as_bytes()).map_err(|why| why.to_string())
    }

    fn open(&self) -> Result<RootedDir, String> {
        RootedDir::open(&self.dir).map_err(|e| format!("cannot open the worktree: {e}"))
    }

    fn inside(&self, path: &Path) -> Result<String, String> {
        self.allowed_paths.beneath(path).ok_or_else(|| format!("{} is outside the workspace", path.display()))
    }
}
