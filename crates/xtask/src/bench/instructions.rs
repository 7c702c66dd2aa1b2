//! `cargo xtask instructions`: what a decision costs in instructions, which no neighbour on the machine changes.
//!
//! Owns the small inputs that are decided about under valgrind and the file of figures they are held against. The
//! program is the one that the tests run (`cargo build` with `.ci/run`'s profile), so that nothing is compiled for it.

use super::generate::{self, List};
use super::target_folder;
use crate::run::{Outcome, workspace_root};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The figures, one a line: the work, and its instructions.
const KEPT: &str = "tests/instructions.txt";
/// Hash maps have another seed each time, and a compiler inlines as it likes: less than this is no news.
const MOST_MORE_PERCENT: u64 = 15;
/// Counting begins and ends with the decision: reading the input costs more than it.
const COUNTED: [&str; 2] = ["nodes::decide::decide", "nodes::planner::Planner::decide"];

/// A decision that is counted.
struct Work {
    name: &'static str,
    objects: String,
    added: Option<String>,
    flags: &'static [&'static str],
    catalogue: bool,
}

fn works() -> Vec<Work> {
    let list = |fill: fn(&mut List)| {
        let mut list = List::new();
        fill(&mut list);
        list.finish()
    };
    let work = |name, objects| Work { name, objects, added: None, flags: &[], catalogue: false };
    let scale_up = list(|list| {
        list.pool(0);
        list.pending("pending", 2_000, "200m", "200");
    });
    let scale_down = list(|list| {
        list.pool(50);
        list.nodes(50);
        list.running(2_000, 50, "100m", "100");
    });
    let full = list(|list| {
        list.pool(200);
        list.nodes(200);
        list.running(4_000, 200, "200m", "200");
    });
    let one = list(|list| list.pending("one", 1, "200m", "200"));
    let nowhere = list(|list| {
        list.pool(20);
        list.nodes(20);
        list.pending("huge", 3_000, "1000m", "20000");
    });
    vec![
        work("scale-up to 40 nodes", scale_up),
        Work { flags: super::table::REMOVE_ALL, ..work("scale-down of 50 nodes", scale_down) },
        Work { added: Some(one), ..work("200 nodes, then one pod more", full) },
        work("3,000 pods that fit nowhere", nowhere),
        Work {
            catalogue: true,
            ..work("500 pods of 50 Deployments, 60 types", generate::deployments(50, 500))
        },
        Work { catalogue: true, ..work("300 pods with preferences, 60 types", generate::preferring(300)) },
    ]
}

/// Counts every work and holds it against the figures kept, or writes these anew.
pub(crate) fn run(update: bool) -> Outcome {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("left out: instructions of decisions (install valgrind)");
        return Ok(());
    }
    let program = target_folder().join("debug/tideline");
    let folder = target_folder().join("instructions");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("could not make {}: {error}", folder.display()))?;
    let kept_at = workspace_root().join(KEPT);
    let kept = read(&kept_at)?;
    let (mut found, mut worse) = (String::new(), Vec::new());
    for work in works() {
        let count = count(&program, &folder, &work)?;
        let _ = writeln!(found, "{}: {count}", work.name);
        let before = kept.get(work.name).copied();
        let change = before.map_or_else(
            || "not counted before".to_owned(),
            |before| format!("{:+.1} %", (count as f64 / before as f64 - 1.0) * 100.0),
        );
        println!("{}: {count} instructions, {change}", work.name);
        if before.is_none_or(|before| count > before + before * MOST_MORE_PERCENT / 100) {
            worse.push(work.name);
        }
    }
    if update {
        return std::fs::write(&kept_at, found).map_err(|error| format!("could not write {KEPT}: {error}"));
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "over {MOST_MORE_PERCENT} % more instructions than {KEPT} has, or not in it: {}; find out why, or write it anew \
         with `cargo xtask instructions --update`",
        worse.join(", ")
    ))
}

fn read(path: &Path) -> Result<BTreeMap<String, u64>, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, count) = line.rsplit_once(": ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines()
        .map(|text| line(text).ok_or_else(|| format!("{KEPT}: {text:?} is no `work: instructions`")))
        .collect()
}

/// The instructions of one decision.
fn count(program: &Path, folder: &Path, work: &Work) -> Result<u64, String> {
    let file = |name: &str, text: &str| -> Result<PathBuf, String> {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .map_err(|error| format!("could not write {}: {error}", path.display()))?;
        Ok(path)
    };
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(COUNTED.map(|function| format!("--toggle-collect={function}")));
    command.arg(program).args(["plan", "-o", "json", "-f"]).arg(file("objects.json", &work.objects)?);
    if let Some(added) = &work.added {
        command.arg("--added").arg(file("added.json", added)?);
    }
    if work.catalogue {
        command.arg("--offerings").arg(file("catalogue.json", &generate::catalogue(60))?);
    }
    let output =
        command.args(work.flags).output().map_err(|error| format!("could not start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(count) if count > 0 && output.status.success() => Ok(count),
        _ => Err(format!(
            "{}: nothing was counted of {} (built without names, or not at all?):\n{said}",
            work.name,
            program.display()
        )),
    }
}
