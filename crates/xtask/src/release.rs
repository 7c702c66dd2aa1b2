//! `cargo xtask release`: a static program, packed so that equal sources give equal files.
//!
//! Owns the flags of the build and the files of a release: the program, its list of parts, an image that needs no container
//! engine to be made, and their sums. What is in list and image is `parts`' and `image`'s business.

mod image;
mod parts;

use crate::run::{Outcome, workspace_root};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a release is made of.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The machines it is for: a target of rustc's
    #[arg(long, default_value = "x86_64-unknown-linux-gnu")]
    target: String,
    /// Cargo features beside the usual ones
    #[arg(long, default_value = "aws")]
    features: String,
    /// Where the files go
    #[arg(long, default_value = "target/release-files")]
    output: PathBuf,
    /// Pack this program instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
    /// Certificate authorities of the image, in PEM
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    authorities: PathBuf,
}

/// Container engines' name of the machines that a target is for.
fn architecture(target: &str) -> Result<&'static str, String> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => Err(format!("{target} is for neither amd64 nor arm64")),
    }
}

pub(crate) fn make(arguments: &Arguments) -> Outcome {
    let root = workspace_root();
    let architecture = architecture(&arguments.target)?;
    let output = root.join(&arguments.output);
    fs::create_dir_all(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(&root, &arguments.target, &arguments.features)?,
    };
    let moment = moment(&root)?;
    let name = format!("tideline-{}-linux-{architecture}", env!("CARGO_PKG_VERSION"));
    let mut files = Vec::new();
    let mut add = |suffix: &str, bytes: &[u8]| -> Outcome {
        let path = output.join(format!("{name}{suffix}"));
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}  {}", sum(bytes), path.display());
        files.push((sum(bytes), format!("{name}{suffix}")));
        Ok(())
    };
    let bytes = fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    add("", &bytes)?;
    add(".cdx.json", parts::list(&root, &arguments.target, &arguments.features)?.as_bytes())?;
    let names = fs::read_to_string(root.join("deploy/image/names"))
        .map_err(|error| format!("deploy/image/names: {error}"))?;
    let authorities = fs::read(&arguments.authorities)
        .map_err(|error| format!("{}: {error}; name a file", arguments.authorities.display()))?;
    let content =
        image::Content { program: &bytes, authorities: &authorities, names: names.lines().collect() };
    add(".oci.tar", &image::archive(&content, architecture, moment)?)?;
    let sums = files.iter().fold(String::new(), |mut text, (sum, name)| {
        let _ = writeln!(text, "{sum}  {name}");
        text
    });
    let path = output.join(format!("{name}.sha256"));
    fs::write(&path, sums).map_err(|error| format!("{}: {error}", path.display()))
}

/// Builds the program without a trace of where.
fn build(root: &Path, target: &str, features: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"));
    let flags = format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=. --remap-path-prefix={}=cargo",
        root.display(),
        home.unwrap_or_default()
    );
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--package", "tideline", "--target", target]);
    if !features.is_empty() {
        command.args(["--features", features]);
    }
    let status = command.env("RUSTFLAGS", flags).current_dir(root).status();
    let status = status.map_err(|error| format!("cargo build: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build for {target} ended with {status}; is the target installed?"));
    }
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(folder.join(target).join("release/tideline"))
}

/// The moment that everything made is dated: that of the sources.
fn moment(root: &Path) -> Result<u64, String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().map_err(|_| format!("SOURCE_DATE_EPOCH is \"{given}\", no number of seconds"));
    }
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root).output();
    let output = output.map_err(|error| format!("git log: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| "no commit to date the release by; set SOURCE_DATE_EPOCH".to_owned())
}

/// SHA-256 in hexadecimal.
fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_the_names_of_container_engines() {
        assert_eq!(architecture("aarch64-unknown-linux-gnu"), Ok("arm64"));
        assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
        assert_eq!(&sum(b"")[..8], "e3b0c442");
    }
}
