//! The test bed by hand: build its programs ahead of the tests, or run a control plane to look at.

use std::process::ExitCode;

use testbed::{Binaries, ControlPlane, Error, Options};

const USAGE: &str = "usage: testbed build   build or find the control plane and print where kubectl is
       testbed up      run a control plane until interrupted";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build"] => build(),
        ["up"] => up().await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Error> {
    println!("{}", Binaries::locate_or_build()?.kubectl.path.display());
    Ok(())
}

async fn up() -> Result<(), Error> {
    let cluster = ControlPlane::start(Options::default()).await?;
    println!("Kubernetes {} at {}", cluster.version(), cluster.server());
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    // Without a handler there is nothing to wait for, and the control plane ends at once.
    let _ = tokio::signal::ctrl_c().await;
    Ok(())
}
