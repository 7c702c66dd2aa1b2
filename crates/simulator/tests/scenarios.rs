//! The example scenarios run, and the trace is placed as an independent script says.

use simulator::{Options, Scenario, SimulatorError, simulate};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> Scenario {
    let path = root().join("examples/scenarios").join(name);
    Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_week_is_simulated_and_reported() {
    let mut scenario = example("week.yaml");
    // A day tells as much here as a week.
    scenario.duration = Some(simulator::scenario::Span::days(1));
    let mut steps = 0;
    let options = Options { on_progress: Box::new(|_| steps += 1), ..Default::default() };
    let report = simulate(&scenario, options).unwrap();
    assert!(steps > 100);
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.unplaced_pods, 0, "{:?}", report.unplaced);
    assert!(report.scale_ups > 5 && report.removals > 5);
    let page = report.html();
    assert!(page.contains("<svg") && !page.contains("http://") && !page.contains("https://"));
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    for name in
        ["seed", "podsSeen", "podsPlaced", "machineHours", "machineHoursAlwaysOn", "scaleUps", "removals"]
    {
        assert!(json[name].is_number(), "{name}");
    }
    assert!(json["podWaitSeconds"]["p99"].is_number());
}

#[test]
fn a_trace_without_its_file_says_which_option_names_it() {
    let error = simulate(&example("openb.yaml"), Options::default()).unwrap_err();
    assert!(matches!(&error, SimulatorError::Field { .. }));
    assert!(error.to_string().contains("--trace FILE"), "{error}");
}

#[test]
fn a_cut_off_trace_is_refused() {
    let folder = std::env::temp_dir().join(format!("tideline-trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("pods.csv.gz");
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &vec![b'x'; 100_000]).unwrap();
    encoder.finish().unwrap();
    std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    let options = Options { trace: Some(path), ..Default::default() };
    let error = simulate(&example("openb.yaml"), options).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(error.contains("cut off"), "{error}");
}

/// The production trace lies beside the source tree; where it does not, the test says so and passes.
#[test]
fn the_production_trace_is_placed_as_an_independent_script_counts() {
    let traces = root().join("../shared/traces");
    let (pods, nodes) = (traces.join("openb-pods.csv.gz"), traces.join("openb-nodes.csv.gz"));
    if cfg!(debug_assertions) || !pods.exists() {
        println!("left out: needs an optimised build and {}", pods.display());
        return;
    }
    let script = root().join("tests/trace/placeable.py");
    let output = Command::new("python3").arg(script).arg(&pods).arg(&nodes).output().unwrap();
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let options = Options { trace: Some(pods), nodes: Some(nodes), ..Default::default() };
    let report = simulate(&example("openb.yaml"), options).unwrap();
    println!("{}", report.summary());
    assert_eq!(counted["podsSeen"], report.pods_seen);
    assert_eq!(counted["placeable"], report.pods_placed);
    assert_eq!(report.violations, Vec::<String>::new());
}
