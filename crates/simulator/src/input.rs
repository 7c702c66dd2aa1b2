//! Reading files that come from outside: bounded, and through gzip where they are compressed.
//!
//! Owns the limits on sizes; what the text means is for `scenario` and `trace`.

use crate::SimulatorError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A scenario is written by hand.
pub(crate) const MOST_SCENARIO_BYTES: u64 = 4 << 20;
/// A trace, uncompressed.
pub(crate) const MOST_TRACE_BYTES: u64 = 1 << 30;

/// The file's text, unpacked where it begins with gzip's magic number.
pub(crate) fn read_text(path: &Path, most_bytes: u64) -> Result<String, SimulatorError> {
    let fail = |source| SimulatorError::Read { file: path.display().to_string(), source };
    let mut raw = Vec::new();
    File::open(path).map_err(fail)?.take(most_bytes + 1).read_to_end(&mut raw).map_err(fail)?;
    if raw.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(&raw[..])
            .take(most_bytes + 1)
            .read_to_end(&mut unpacked)
            .map_err(|source| SimulatorError::Truncated { file: path.display().to_string(), source })?;
        raw = unpacked;
    }
    if raw.len() as u64 > most_bytes {
        return Err(SimulatorError::TooLarge { file: path.display().to_string(), most_bytes });
    }
    String::from_utf8(raw).map_err(|error| SimulatorError::NotText {
        file: path.display().to_string(),
        at_byte: error.utf8_error().valid_up_to(),
    })
}
