//! The journal on disk: segments, their bounds, and what damage does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use controller::{Config, JournalConfig, journal};
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(15);

/// Runs a little life with a journal in `directory`.
async fn record(directory: &Path, segment_bytes: u64, total_bytes: u64) {
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let journal = JournalConfig { directory: directory.to_owned(), segment_bytes, total_bytes };
    let config = Config { journal: Some(journal), ..config() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let controller = world.controller(world.sandbox.client("tideline"), config);
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle(3, 1, PATIENCE).await;
    world.scale(0).await;
    world.settle(0, 0, PATIENCE).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn a_directory_replays_byte_for_byte_and_keeps_its_size() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path(), 4 << 10, 1 << 30).await;
    let all = segments(directory.path());
    assert!(all.len() > 2, "{all:?}");
    let report = journal::open(directory.path(), nodes::decide).unwrap();
    assert!(report.is_same() && report.damage.is_empty(), "{report:?}");
    assert_eq!(report.checkpoints as usize, all.len());
    assert!(report.rounds > 5 && report.steps > 5, "{report:?}");

    let small = tempfile::tempdir().unwrap();
    record(small.path(), 4 << 10, 4 << 10).await;
    let kept = segments(small.path());
    assert!(kept.len() < all.len(), "{kept:?}");
    let report = journal::open(small.path(), nodes::decide).unwrap();
    assert!(report.is_same() && report.rounds > 0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_file_is_replayed_up_to_the_cut_and_an_edited_one_up_to_the_edit() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path(), 1 << 30, 1 << 30).await;
    let segment = segments(directory.path()).remove(0);
    let whole = journal::open(&segment, nodes::decide).unwrap();

    let bytes = fs::read(&segment).unwrap();
    let cut = directory.path().join("cut.gz");
    fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let report = journal::open(&cut, nodes::decide).unwrap();
    assert!(report.is_same() && report.rounds > 0 && report.rounds < whole.rounds, "{report:?}");
    // The compression decides whether the cut shows as half a record or as a missing end.
    assert!(report.unfinished == 1 || report.damage[0].contains("cut"), "{report:?}");

    let mut text = String::new();
    MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let edited = lines[..3].join("\n") + "\n" + &lines[3].replacen("\"number\":", "\"number\":1", 1) + "\n";
    let file = directory.path().join("edited.json");
    fs::write(&file, edited).unwrap();
    let report = journal::open(&file, nodes::decide).unwrap();
    assert_eq!(report.rounds, 2, "{report:?}");
    assert!(report.damage[0].contains("digest"), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_still_written_is_read_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(Machines::Simulated).await;
    world.populate(2).await;
    let config = Config { journal: Some(JournalConfig::at(directory.path().to_owned())), ..config() };
    let controller = world.controller(world.sandbox.client("tideline"), config);
    let running = tokio::spawn(controller.run(std::future::pending()));
    world.settle(2, 1, PATIENCE).await;
    let report = journal::open(directory.path(), nodes::decide).unwrap();
    assert!(report.is_same() && report.rounds > 0 && report.damage.is_empty(), "{report:?}");
    assert_eq!(report.unfinished, 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn another_decision_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path(), 1 << 30, 1 << 30).await;
    let report = journal::open(directory.path(), |cluster, policies, ledger, now| {
        let mut decision = nodes::decide(cluster, policies, ledger, now);
        decision.plan.steps.clear();
        decision
    });
    let report = report.unwrap();
    assert!(!report.is_same());
    assert!(report.differences.iter().any(|difference| !difference.same_plan), "{report:?}");
}

#[test]
fn what_is_no_journal_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    assert!(journal::open(directory.path(), nodes::decide).unwrap_err().to_string().contains("no segment"));
    let file = directory.path().join("x");
    fs::write(&file, "hello\n").unwrap();
    let report = journal::open(&file, nodes::decide).unwrap();
    assert!(report.rounds == 0 && !report.damage.is_empty(), "{report:?}");
    assert!(journal::open(&directory.path().join("absent"), nodes::decide).is_err());
}

#[tokio::test(start_paused = true)]
async fn new_policies_hold_at_once_and_the_journal_follows() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(Machines::Simulated).await;
    world.populate(6).await;
    let without = model::Policies { scale_up_enabled: false, ..world::policies() };
    let config = Config {
        journal: Some(JournalConfig::at(directory.path().to_owned())),
        policies: without,
        ..config()
    };
    let (told, policies) = tokio::sync::watch::channel(config.policies.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let controller = world.controller(world.sandbox.client("tideline"), config).with_policies(policies);
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
    // Virtual time: an hour in which nothing may be bought.
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(world.machines_made(), 0);
    told.send_replace(world::policies());
    world.settle(6, 2, PATIENCE).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let report = journal::open(directory.path(), nodes::decide).unwrap();
    assert!(report.is_same() && report.damage.is_empty(), "{report:?}");
    assert_eq!(report.checkpoints, 2);
}
