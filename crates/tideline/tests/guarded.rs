//! The controller's port with a token and TLS, from the real binary: who brings nothing is refused, probes are open, and
//! `status` finds its way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_mins(3);

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tideline() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tideline"))
}

fn sandbox(folder: &Path) -> Ends {
    let mut child =
        tideline().args(["sandbox", "--port=0", "--dir"]).arg(folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C ends it")),
        "the sandbox ended too soon"
    );
    std::thread::spawn(move || lines.for_each(drop));
    Ends(child)
}

fn status(address: &str, folder: &Path, token: Option<&str>) -> Output {
    let mut command = tideline();
    command.args(["status", "--controller", address, "--certificate-authority"]).arg(folder.join("ca.pem"));
    if let Some(token) = token {
        command.arg("--token-file").arg(folder.join(token));
    }
    command.output().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a pause between two looks, up to a deadline")]
fn who_brings_the_token_sees_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let _sandbox = sandbox(folder);
    let made = tls::issue(&["127.0.0.1".to_owned()], jiff::Timestamp::now()).unwrap();
    std::fs::write(folder.join("ca.pem"), made.authority_pem).unwrap();
    std::fs::write(folder.join("tls.crt"), made.certificate_pem).unwrap();
    std::fs::write(folder.join("tls.key"), made.key_pem).unwrap();
    std::fs::write(folder.join("token"), "s3cret\n").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let controller = tideline()
        .args(["controller", "--cloud-provider=simulated", "--dry-run"])
        .arg(format!("--address=127.0.0.1:{port}"))
        .args([file("kubeconfig", "kubeconfig"), file("page-token-file", "token")])
        .args([file("page-tls-cert-file", "tls.crt"), file("page-tls-key-file", "tls.key")])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _controller = Ends(controller);
    let address = format!("https://127.0.0.1:{port}");
    let end = Instant::now() + DEADLINE;
    loop {
        let told = status(&address, folder, Some("token"));
        if told.status.success() {
            assert!(String::from_utf8_lossy(&told.stdout).contains("general"), "{told:?}");
            break;
        }
        assert!(Instant::now() < end, "{told:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let refused = status(&address, folder, None);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("--token-file"), "{refused:?}");
    std::fs::write(folder.join("other"), "another\n").unwrap();
    assert!(!status(&address, folder, Some("other")).status.success(), "a wrong token was taken");
}
