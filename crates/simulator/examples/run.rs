//! Runs one scenario and prints its report; for trying the simulator without the command line around it.

use simulator::{Options, Scenario, simulate};
use std::path::PathBuf;

fn main() -> Result<(), simulator::SimulatorError> {
    let mut arguments = std::env::args().skip(1);
    let scenario = Scenario::read(&PathBuf::from(arguments.next().unwrap_or_default()))?;
    let mut options = Options::default();
    let mut html = None;
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--trace" => options.trace = Some(value.into()),
            "--nodes" => options.nodes = Some(value.into()),
            "--write-log" => options.write_log = Some(value.into()),
            "--html" => html = Some(value),
            _ => eprintln!("unknown option {name}"),
        }
    }
    let report = simulate(&scenario, options)?;
    if let Some(path) = html
        && let Err(error) = std::fs::write(&path, report.html())
    {
        eprintln!("cannot write {path}: {error}");
    }
    println!("{}\n{}", report.json(), report.summary());
    Ok(())
}
