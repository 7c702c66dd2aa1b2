//! Where a journal lies: a directory of compressed segments, or memory.

use crate::ControllerError;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Ending of a segment's name; what stands before it sorts by time.
pub(super) const SUFFIX: &str = ".tideline-journal.gz";

/// Takes lines, in segments that each begin with a checkpoint.
pub trait Sink: Send {
    /// Whether a new segment is due.
    fn needs_checkpoint(&self) -> bool;

    /// Begins a segment with its checkpoint.
    fn begin(&mut self, at: Timestamp, line: &str) -> Result<(), ControllerError>;

    fn append(&mut self, line: &str) -> Result<(), ControllerError>;
}

/// One text in memory, in one segment: for tests and simulations.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    text: Arc<Mutex<String>>,
}

impl MemorySink {
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for MemorySink {
    fn needs_checkpoint(&self) -> bool {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn begin(&mut self, _at: Timestamp, line: &str) -> Result<(), ControllerError> {
        self.append(line)
    }

    fn append(&mut self, line: &str) -> Result<(), ControllerError> {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
        Ok(())
    }
}

/// Segments in a directory, the oldest dropped when all are too large together.
pub struct DirectorySink {
    directory: PathBuf,
    segment_bytes: u64,
    total_bytes: u64,
    open: Option<Segment>,
}

struct Segment {
    encoder: GzEncoder<File>,
    path: PathBuf,
    bytes: u64,
}

impl DirectorySink {
    pub fn new(directory: &Path, segment_bytes: u64, total_bytes: u64) -> Result<Self, ControllerError> {
        fs::create_dir_all(directory).map_err(|error| problem(directory, "create the directory", &error))?;
        Ok(Self { directory: directory.to_owned(), segment_bytes, total_bytes, open: None })
    }

    fn close(&mut self) -> Result<(), ControllerError> {
        let Some(segment) = self.open.take() else { return Ok(()) };
        segment.encoder.finish().map(drop).map_err(|error| problem(&segment.path, "finish", &error))
    }

    fn drop_old(&self) -> Result<(), ControllerError> {
        let mut segments = segments(&self.directory)?;
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        let mut total: u64 = segments.iter().map(size).sum();
        // The newest stays whatever its size: it is being written.
        while total > self.total_bytes && segments.len() > 1 {
            let oldest = segments.remove(0);
            total = total.saturating_sub(size(&oldest));
            fs::remove_file(&oldest).map_err(|error| problem(&oldest, "remove", &error))?;
        }
        Ok(())
    }
}

impl Sink for DirectorySink {
    fn needs_checkpoint(&self) -> bool {
        self.open.as_ref().is_none_or(|segment| segment.bytes >= self.segment_bytes)
    }

    fn begin(&mut self, at: Timestamp, line: &str) -> Result<(), ControllerError> {
        self.close()?;
        let name = format!("{:020}{SUFFIX}", at.as_nanosecond().max(0));
        let path = self.directory.join(name);
        let file = File::create(&path).map_err(|error| problem(&path, "create", &error))?;
        let encoder = GzEncoder::new(file, Compression::default());
        self.open = Some(Segment { encoder, path: path.clone(), bytes: 0 });
        if let Err(error) = self.append(line) {
            // A full disk can often still take an empty file, and would with every round.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        self.drop_old()
    }

    fn append(&mut self, line: &str) -> Result<(), ControllerError> {
        let Some(segment) = &mut self.open else { return Ok(()) };
        // Flushed at once: what a crash cuts off is at most the line being written.
        let written = segment
            .encoder
            .write_all(line.as_bytes())
            .and_then(|()| segment.encoder.write_all(b"\n"))
            .and_then(|()| segment.encoder.flush());
        segment.bytes += line.len() as u64 + 1;
        match written {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = problem(&segment.path, "write", &error);
                self.open = None;
                Err(error)
            }
        }
    }
}

impl Drop for DirectorySink {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the journal's last segment is not finished; its records are readable");
        }
    }
}

/// The segments of a directory, oldest first.
pub(super) fn segments(directory: &Path) -> Result<Vec<PathBuf>, ControllerError> {
    let entries = fs::read_dir(directory).map_err(|error| problem(directory, "list", &error))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)))
        .collect();
    found.sort();
    Ok(found)
}

pub(super) fn problem(path: &Path, tried: &str, error: &std::io::Error) -> ControllerError {
    ControllerError::Journal { path: path.display().to_string(), problem: format!("{tried}: {error}") }
}
