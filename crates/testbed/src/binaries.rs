//! Finds the programs of a control plane, building them once where they are missing.
//!
//! Owns the cache of built programs. Leaves running them to `process`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::process::tail;

const GO_MOD: &str = include_str!("../../../tests/controlplane/go.mod");
const GO_SUM: &str = include_str!("../../../tests/controlplane/go.sum");
const MAIN_GO: &str = include_str!("../../../tests/controlplane/main.go");

const NAMES: [&str; 5] = ["etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubectl"];

/// One program of the control plane.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    /// Whether it can be told to end when its standard input does; only what is built here can.
    pub ends_with_stdin: bool,
}

/// The programs a control plane is made of.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub etcd: Program,
    pub apiserver: Program,
    pub scheduler: Program,
    pub controller_manager: Program,
    pub kubectl: Program,
}

impl Binaries {
    /// Takes each program from `KUBEBUILDER_ASSETS` where that has it and else from the cache,
    /// which is filled by `go build` the first time. Blocks for minutes when it has to build.
    pub fn locate_or_build() -> Result<Self, Error> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        if let Some(dir) = &assets
            && !dir.join("kube-apiserver").is_file()
        {
            return Err(Error::Assets { dir: dir.clone() });
        }
        let ready_made = |name: &str| assets.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file());
        let built = if NAMES.iter().all(|name| ready_made(name).is_some()) {
            None
        } else {
            Some(Module::load()?.build()?)
        };
        let program = |name: &str| match (ready_made(name), &built) {
            (Some(path), _) => Program { path, ends_with_stdin: false },
            (None, dir) => {
                Program { path: dir.clone().unwrap_or_default().join(name), ends_with_stdin: true }
            }
        };
        Ok(Self {
            etcd: program("etcd"),
            apiserver: program("kube-apiserver"),
            scheduler: program("kube-scheduler"),
            controller_manager: program("kube-controller-manager"),
            kubectl: program("kubectl"),
        })
    }
}

/// The Go module the programs are built from.
struct Module {
    go_mod: String,
    go_sum: String,
    main_go: String,
    version: String,
}

impl Module {
    /// The module in `TIDELINE_TESTBED_SOURCE`, or else the one this crate was compiled with.
    fn load() -> Result<Self, Error> {
        let (go_mod, go_sum, main_go) = match std::env::var_os("TIDELINE_TESTBED_SOURCE") {
            Some(dir) => {
                let read = |name: &str| {
                    let path = Path::new(&dir).join(name);
                    fs::read_to_string(&path).map_err(Error::file("reading", &path))
                };
                (read("go.mod")?, read("go.sum")?, read("main.go")?)
            }
            None => (GO_MOD.to_owned(), GO_SUM.to_owned(), MAIN_GO.to_owned()),
        };
        let version = required_version(&go_mod).ok_or(Error::NoVersion)?.to_owned();
        Ok(Self { go_mod, go_sum, main_go, version })
    }

    /// A directory with the five programs, built by whoever comes first.
    fn build(&self) -> Result<PathBuf, Error> {
        let cache = cache_dir()?;
        fs::create_dir_all(&cache).map_err(Error::file("creating", &cache))?;
        let name = format!("controlplane-{}-{}", self.version, self.digest());
        let done = cache.join(&name);
        let lock_path = cache.join(format!("{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::file("creating", &lock_path))?;
        lock.lock().map_err(Error::file("locking", &lock_path))?;
        if done.is_dir() {
            return Ok(done);
        }
        // Built beside and moved into place, so that a directory of that name is always complete.
        let work = cache.join(format!("{name}.part"));
        if work.exists() {
            fs::remove_dir_all(&work).map_err(Error::file("removing", &work))?;
        }
        let source = work.join("source");
        fs::create_dir_all(&source).map_err(Error::file("creating", &source))?;
        for (file, text) in [("go.mod", &self.go_mod), ("go.sum", &self.go_sum), ("main.go", &self.main_go)] {
            let path = source.join(file);
            fs::write(&path, text).map_err(Error::file("writing", &path))?;
        }
        let _ = writeln!(
            std::io::stderr(),
            "building the Kubernetes {} control plane into {} (once; takes minutes)",
            self.version,
            done.display()
        );
        self.compile(&source, &work)?;
        for name in NAMES {
            let link = work.join(name);
            std::os::unix::fs::symlink("controlplane", &link).map_err(Error::file("linking", &link))?;
        }
        fs::remove_dir_all(&source).map_err(Error::file("removing", &source))?;
        fs::rename(&work, &done).map_err(Error::file("moving into place", &done))?;
        Ok(done)
    }

    fn compile(&self, source: &Path, work: &Path) -> Result<(), Error> {
        let log_path = work.join("build.log");
        let log = File::create(&log_path).map_err(Error::file("creating", &log_path))?;
        let stderr = log.try_clone().map_err(Error::file("opening", &log_path))?;
        let status = Command::new("go")
            // Cloud providers were once part of the tree; nothing here needs them.
            .args([
                "build",
                "-mod=readonly",
                "-buildvcs=false",
                "-trimpath",
                "-tags=providerless",
                "-ldflags",
            ])
            .arg(self.linker_flags())
            .arg("-o")
            .arg(work.join("controlplane"))
            .arg(".")
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .current_dir(source)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Build {
                version: self.version.clone(),
                status: status.to_string(),
                tail: tail(&log_path),
                log: log_path,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::GoMissing { version: self.version.clone(), go: self.go_version().to_owned() })
            }
            Err(source) => Err(Error::Spawn { program: "go".into(), source }),
        }
    }

    /// What a release build of Kubernetes sets, so that servers report the version they are.
    fn linker_flags(&self) -> String {
        let mut numbers = self.version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("0"));
        let mut flags = "-s -w".to_owned();
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [
                ("gitVersion", self.version.as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
            ] {
                let _ = write!(flags, " -X {package}.{name}={value}");
            }
        }
        flags
    }

    fn go_version(&self) -> &str {
        self.go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("(see go.mod)")
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for text in [&self.go_mod, &self.go_sum, &self.main_go, &self.linker_flags()] {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        hex(&hash.finalize()[..6])
    }
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn required_version(go_mod: &str) -> Option<&str> {
    go_mod
        .lines()
        .find_map(|line| line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes "))
}

fn cache_dir() -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TIDELINE_TESTBED_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("tideline")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/tideline")))
        .ok_or(Error::NoCache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_names_the_release_it_builds() {
        let version = required_version(GO_MOD).unwrap();
        assert!(version.starts_with("v1."), "{version}");
        assert_eq!(required_version("require k8s.io/kubernetes v1.30.14\n"), Some("v1.30.14"));
        assert_eq!(required_version("\tk8s.io/kubernetes v1.37.2\n"), Some("v1.37.2"));
        assert_eq!(required_version("module x\n"), None);
    }
}
