//! A real Prometheus beside a control plane: Debian's package, looking at the page of the load model.
//!
//! Owns its configuration. Whoever starts it ends it.

use crate::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Names another program than the one in the path.
const PROGRAM: &str = "PROMETHEUS";

/// The program, where it is installed.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os(PROGRAM).map(PathBuf::from);
    named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("prometheus")).find(|path| path.is_file())
    })
}

/// Starts it in a folder: the load is looked at every second, and queries are answered on a port of the loopback.
pub(crate) fn start(folder: &Path, load: SocketAddr, port: u16) -> Result<Child, Error> {
    let configuration = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - {{ job_name: load, scheme: https, metrics_path: \
         /load/metrics, tls_config: {{ insecure_skip_verify: true }}, static_configs: [{{ targets: [\"{load}\"] }}] }}\n"
    );
    let path = folder.join("prometheus.yml");
    fs::write(&path, configuration).map_err(Error::file("writing", &path))?;
    let program = program().unwrap_or_else(|| PathBuf::from("prometheus"));
    let log = folder.join("prometheus.log");
    let out = fs::File::create(&log).map_err(Error::file("creating", &log))?;
    Command::new(&program)
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join(".prometheus").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::Spawn { command: program.display().to_string(), source })
}
