//! Programs for Python as test equipment: an environment of its own for each, made once for a checkout.
//!
//! Owns the making and the saying aloud where it cannot be made. What runs in it is the callers' business.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a Python that has these packages; `None`, said aloud, where it cannot be had. `import` fails until
/// they are there. Where the variable `needed` is set, a missing one is a failure and not a reason to leave tests out.
///
/// # Panics
///
/// Where packages are missing and needed.
pub fn environment(place: &Path, packages: &[&str], import: &str, needed: &str) -> Option<PathBuf> {
    let python = place.join("bin/python");
    let has_packages = || {
        let output = Command::new(&python).args(["-c", import]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if has_packages() {
        return Some(place.to_owned());
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(place).output();
    let installed = made.and_then(|_| {
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"])
            .args(packages)
            .output()
    });
    if installed.is_ok_and(|output| output.status.success()) && has_packages() {
        return Some(place.to_owned());
    }
    assert!(std::env::var_os(needed).is_none(), "{} could not be installed from PyPI", packages.join(", "));
    // Past the test harness, which keeps the macros' output of tests that pass to itself.
    let _ = writeln!(std::io::stderr(), "left out: {} could not be installed from PyPI", packages.join(", "));
    None
}
