//! The `tideline` program, built by the cargo that builds the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::error::Error;
use crate::source_root;

/// Names a program that is built already.
const BUILT_ALREADY: &str = "TIDELINE_PROGRAM";

/// The program of this source tree, in the profile of the tests. Unless the environment names one, the first call
/// builds it and may take minutes.
pub fn tideline() -> Result<PathBuf, Error> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(program) = std::env::var_os(BUILT_ALREADY).filter(|path| !path.is_empty()) {
        return Ok(program.into());
    }
    BUILT.get_or_init(|| build(&[])).clone().map_err(Error::Build)
}

/// The program with cargo features beside the usual ones, whatever the environment names.
pub fn tideline_with(features: &str) -> Result<PathBuf, Error> {
    build(&["--features", features]).map_err(Error::Build)
}

fn build(features: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "tideline", "--bin", "tideline"])
        .args(features)
        .current_dir(source_root())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // Tests run from `<target>/<profile>/deps`; programs lie one above.
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = test.parent().and_then(Path::parent).map(|dir| dir.join("tideline"));
    program.filter(|path| path.is_file()).ok_or_else(|| "built, but not found beside the tests".to_owned())
}
