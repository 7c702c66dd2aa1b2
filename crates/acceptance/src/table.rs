//! The page `docs/seeds.md`: every step of every transcript with its state.

use std::fmt::Write as _;

use crate::transcript::{Capabilities, State, Step, Transcript};

const HEAD: &str = "\
# The documents that Tideline must serve

<!-- Written from tests/seeds by `UPDATE_GOLDEN=1 cargo test -p acceptance`; a test keeps it equal. -->

Five documents show what users of an autoscaler do today: what they apply, what they type, what they see. Each is kept
as a transcript under `tests/seeds`, with its manifests, roles, command lines and the output that it prints, and runs on
a real control plane:

    TIDELINE_REAL_CONTROL_PLANE=1 cargo test -p acceptance --test transcripts

A step that *passes* must pass. A step that *waits* is run as well and must fail: as soon as it does not, the test asks
for `tests/seeds/capabilities.yaml` to be put right. A step *not run* has no effect that a control plane could show,
or needs what is not there yet; the reason stands beside it. Steps of ours prepare what a document takes as given.

What may differ from the documents: timestamps, ages, addresses, repeat counts such as `(x2 over 33m)`, names that a
server makes up, and what is said in the last column. Nothing runs in containers here: simulated kubelets stand in for
machines, and a load knob for `kubectl run load-generator`.
";

/// The whole page.
pub fn table(transcripts: &[Transcript], capabilities: &Capabilities) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| document | steps | pass | wait | not run |\n| --- | ---: | ---: | ---: | ---: |\n");
    for transcript in transcripts {
        let states: Vec<State<'_>> = transcript.steps.iter().map(|step| step.state(capabilities)).collect();
        let count = |wanted: fn(&State<'_>) -> bool| states.iter().filter(|state| wanted(state)).count();
        let _ = writeln!(
            page,
            "| {} {} | {} | {} | {} | {} |",
            number(transcript),
            transcript.title,
            states.len(),
            count(|state| matches!(state, State::Passes)),
            count(|state| matches!(state, State::Waits(_))),
            count(|state| matches!(state, State::NotRun { .. })),
        );
    }
    page.push_str("\n## What is awaited\n\n| capability | what it is | comes with |\n| --- | --- | --- |\n");
    for (name, capability) in capabilities {
        let from = capability.awaited.as_deref().unwrap_or("here");
        let _ = writeln!(page, "| {name} | {} | {from} |", cell(&capability.is));
    }
    for transcript in transcripts {
        let _ = writeln!(page, "\n## {} {}\n", number(transcript), transcript.title);
        page.push_str("| step | in the document | state | differs |\n| --- | --- | --- | --- |\n");
        for step in &transcript.steps {
            page.push_str(&row(step, capabilities));
        }
    }
    page
}

fn row(step: &Step, capabilities: &Capabilities) -> String {
    let state = match step.state(capabilities) {
        State::Passes => "passes".to_owned(),
        State::Waits(capability) => format!("waits for {capability}"),
        State::NotRun { why, waits: None } => format!("not run: {}", cell(why)),
        State::NotRun { why, waits: Some(capability) } => {
            format!("not run, waits for {capability}: {}", cell(why))
        }
    };
    let at = step.at.as_deref().unwrap_or("(ours)");
    let differs = step.differs.as_deref().map(cell).unwrap_or_default();
    format!("| {} | {} | {state} | {differs} |\n", cell(&step.name), cell(at))
}

fn number(transcript: &Transcript) -> &str {
    transcript.document.split('_').next().unwrap_or_default()
}

/// Text that stays within one cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
