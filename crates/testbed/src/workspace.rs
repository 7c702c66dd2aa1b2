//! The directory one control plane lives in, removed when it is dropped.
//!
//! A process that is killed cannot clean up, so whoever comes next removes the directories of
//! those that are gone; a held file lock tells the living from the dead.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

const PREFIX: &str = "tideline-testbed-";
const LOCK: &str = "lock";

#[derive(Debug)]
pub(crate) struct Workspace {
    dir: TempDir,
    /// Held for as long as the directory is in use.
    _lock: File,
}

impl Workspace {
    pub(crate) fn create() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .map_err(Error::file("creating", &parent))?;
        // Locked under another name first: a lock file is never seen unlocked while its owner lives.
        let new = dir.path().join("lock.new");
        let lock = File::create(&new).map_err(Error::file("creating", &new))?;
        lock.lock().map_err(Error::file("locking", &new))?;
        fs::rename(&new, dir.path().join(LOCK)).map_err(Error::file("renaming", &new))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.join(name);
        fs::write(&path, text).map_err(Error::file("writing", &path))?;
        Ok(path)
    }
}

/// Best effort: what cannot be read or removed is left for the next one.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let dir = entry.path();
        if let Ok(lock) = File::open(dir.join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_directories_are_removed_and_living_ones_are_not() {
        let living = Workspace::create().unwrap();
        let abandoned = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        fs::write(abandoned.path().join(LOCK), "").unwrap();
        let another = Workspace::create().unwrap();
        assert!(living.path().exists());
        assert!(another.path().exists());
        assert!(!abandoned.path().exists());
    }
}
