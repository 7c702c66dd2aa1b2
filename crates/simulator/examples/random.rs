//! Runs random scenarios and prints what failed and the table of faults; for trying without the command line.

use simulator::random::{FaultTable, RandomOptions, run_many};

fn main() {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (from, to) = (number(1).unwrap_or(0), number(2).unwrap_or(10));
    let mut table = FaultTable::default();
    let log = std::env::args().nth(3).map(std::path::PathBuf::from);
    for result in run_many(from..to, 1, |_| RandomOptions { write_log: log.clone(), ..Default::default() }) {
        match result {
            Err(error) => println!("{error}"),
            Ok(outcome) => {
                table.add(&outcome.hits);
                let report = &outcome.report;
                println!(
                    "seed {}: {} violations, {} nodes at most, {} rounds, {} pods, {} bought, {} given back",
                    outcome.seed,
                    report.invariant_violations,
                    report.peak_nodes,
                    outcome.rounds,
                    report.pods_seen,
                    report.machines_bought,
                    report.removals
                );
                for violation in &report.violations {
                    println!("    {violation}");
                }
            }
        }
    }
    println!("{table}");
}
