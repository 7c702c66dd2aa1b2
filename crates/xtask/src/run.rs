//! Runs other programs from the workspace's root and turns their failure into a sentence.
//!
//! Owns how chores start processes; which ones is `main`'s business.

use std::path::PathBuf;
use std::process::Command;

/// What a chore ends with: nothing, or what went wrong.
pub(crate) type Outcome = Result<(), String>;

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    // Two levels above this crate.
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// Runs a program in the workspace's root and waits for it.
pub(crate) fn command<I, S>(program: &str, arguments: I) -> Outcome
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    started(Command::new(program), program, arguments)
}

/// Runs the cargo that runs us.
pub(crate) fn cargo<I, S>(arguments: I) -> Outcome
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    started(Command::new(cargo), "cargo", arguments)
}

/// Runs tests that write the page that they keep equal.
pub(crate) fn golden<const N: usize>(tests: [&str; N]) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("UPDATE_GOLDEN", "1");
    started(command, "cargo", ["test", "--quiet"].into_iter().chain(tests))
}

/// Runs the tests that need a real control plane.
pub(crate) fn real_control_plane() -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("TIDELINE_REAL_CONTROL_PLANE", "1");
    // All of the workspace, so that nothing is compiled again with another choice of features.
    let tests = [
        "control_plane",
        "real_api_server",
        "transcripts",
        "real_cluster",
        "installed",
        "handover",
        "beside_kapacity",
    ];
    started(
        command,
        "cargo",
        ["test", "--workspace", "--no-fail-fast"]
            .into_iter()
            .chain(tests.iter().flat_map(|test| ["--test", *test])),
    )
}

fn started<I, S>(mut command: Command, program: &str, arguments: I) -> Outcome
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let arguments: Vec<String> = arguments.into_iter().map(|a| a.as_ref().to_owned()).collect();
    let line = format!("{program} {}", arguments.join(" "));
    let status = command
        .args(&arguments)
        .current_dir(workspace_root())
        .status()
        .map_err(|error| format!("could not start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}
