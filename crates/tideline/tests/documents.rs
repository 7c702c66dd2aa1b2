//! Every command of the documents is in the list of who runs it, and says only what the program knows.
//!
//! The list is `tests/documents/commands.txt`; `scripts/follow-the-docs` runs its own section of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that a line of code begins with where it is a command.
const PROGRAMS: [&str; 12] = [
    "tideline",
    "kubectl",
    "cargo",
    "helm",
    "docker",
    "podman",
    "skopeo",
    "ln",
    "echo",
    "export",
    ".ci/run",
    "TIDELINE_REAL_CONTROL_PLANE=1",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// README and all pages under `docs/` but the reference, which the program writes itself.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("README.zh.md")];
    for folder in ["docs", "docs/zh", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "md") && !path.ends_with("reference.md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A line of code as a command: without prompt and remark, in single spaces; `None` where it is anything else.
fn command(line: &str) -> Option<String> {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.split(" #").next().unwrap_or_default().trim_end_matches('&');
    let words: Vec<&str> = line.split_whitespace().collect();
    words.first().filter(|first| PROGRAMS.contains(first))?;
    // `tideline  what it prints` in a drawing is no command.
    Some(words.join(" "))
}

/// The commands in the blocks of code of a text.
fn commands(text: &str) -> BTreeSet<String> {
    let (mut fenced, mut begun, mut found) = (false, String::new(), BTreeSet::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            begun.push_str(line.trim());
            if begun.ends_with('\\') {
                begun.pop();
                continue;
            }
            found.extend(command(&begun));
        }
        begun.clear();
    }
    found
}

/// Section by command, as the list has them.
fn list() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("tests/documents/commands.txt")).unwrap();
    let (mut section, mut listed) = (String::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("ran ") || line.starts_with("not ") {
            line.clone_into(&mut section);
            continue;
        }
        assert!(!section.is_empty(), "{line} stands before the first section");
        let twice = listed.insert(line.to_owned(), section.clone());
        assert!(twice.is_none(), "{line} is in the list twice");
    }
    listed
}

#[test]
fn each_command_of_the_documents_is_run_or_excused() {
    let listed = list();
    let mut there = BTreeSet::new();
    for path in documents() {
        for command in commands(&fs::read_to_string(&path).unwrap()) {
            let page = path.strip_prefix(root()).unwrap().display().to_string();
            assert!(
                listed.contains_key(&command),
                "{page}: nobody runs\n  {command}\nadd it to tests/documents/commands.txt, under who runs it"
            );
            there.insert(command);
        }
    }
    let stale: Vec<&String> = listed.keys().filter(|command| !there.contains(*command)).collect();
    assert!(stale.is_empty(), "no document has these any more: {stale:#?}");
    for section in listed.values() {
        if let Some(file) = section.strip_prefix("ran ") {
            assert!(root().join(file).exists(), "{file} runs commands of the documents and does not exist");
        }
    }
}

/// What our program is called with in a command, without the names of files that shells fill in.
fn arguments(command: &str) -> Option<Vec<&str>> {
    let from = command.find("tideline ")?;
    let begins = from == 0 || command[..from].ends_with("| ") || command[..from].ends_with("kubectl ");
    let words = command[from..].split(['|', '>', ')']).next()?.split_whitespace().skip(1);
    let words = words.take_while(|word| *word != "--");
    begins.then(|| words.map(|word| word.trim_matches(['…', '\''])).collect())
}

#[test]
fn the_program_knows_what_documents_call_it_with() {
    let mut tried = 0;
    for command in list().keys() {
        let Some(mut words) = arguments(command) else { continue };
        // Told last, help is given only if everything before it was understood.
        words.push("--help");
        let answer = Command::new(env!("CARGO_BIN_EXE_tideline")).args(&words).output().unwrap();
        assert!(answer.status.success(), "{command}\n{}", String::from_utf8_lossy(&answer.stderr));
        tried += 1;
    }
    assert!(tried > 50, "only {tried} commands were found");
}

#[test]
fn commands_are_found_as_people_read_them() {
    let text = "Words\n\n    tideline status      # all\n    tideline plan \\\n      -f x &\n\n```\n$ kubectl get po\nNAME\n```\n";
    let found: Vec<String> = commands(text).into_iter().collect();
    assert_eq!(found, ["kubectl get po", "tideline plan -f x", "tideline status"]);
    assert_eq!(arguments("kubectl get x | tideline plan -f -"), Some(vec!["plan", "-f", "-"]));
    assert_eq!(arguments("helm install tideline deploy/chart"), None);
}
