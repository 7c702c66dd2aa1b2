//! `tideline explain`: why one thing is as it is, until when, and what would change it.
//!
//! Owns the arguments and the text; what there is to say is put together by the controller.

use super::print;
use crate::error::CommandError;
use crate::source::Source;
use clap::ValueEnum;
use controller::{Because, Explanation, Subject};
use jiff::Timestamp;
use scaler::AutoscalerView;
use std::fmt::Write as _;

/// Explains a pod, node, pool, workload, headroom or decision: why it is so, until when, what would change it.
///
/// Asks the leading controller of a cluster, or reads a journal (--journal), also for a moment in the past.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What kind of thing
    #[arg(value_enum)]
    kind: Kind,
    /// Its name; of pods, workloads and headroom NAMESPACE/NAME, or NAME with --namespace
    name: String,
    /// Namespace of the pod, workload or headroom
    #[arg(long, short, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    source: Source,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "pods", alias = "po")]
    Pod,
    #[value(alias = "nodes", alias = "no")]
    Node,
    #[value(alias = "pools")]
    Pool,
    #[value(aliases = ["deployment", "deploy", "replicaset", "rs", "statefulset", "sts", "job", "workloads"])]
    Workload,
    /// Room for pods that do not exist: a `CapacityBuffer`
    #[value(aliases = ["capacitybuffer", "cb", "buffer"])]
    Headroom,
    #[value(alias = "decisions")]
    Decision,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let explanation = arguments.source.explanation(&subject(arguments))?;
    match arguments.output {
        Output::Text => {
            let mut text = text(&explanation);
            if let Subject::Workload { namespace, name } = subject(arguments) {
                for one in arguments.source.autoscalers_of(&namespace, &name) {
                    autoscaler(&mut text, &one, explanation.now);
                }
            }
            print(&text)
        }
        Output::Json => {
            let text = serde_json::to_string_pretty(&explanation).map_err(|error| CommandError::Encode {
                what: "the explanation".into(),
                why: error.to_string(),
            })?;
            print(&(text + "\n"))
        }
    }
}

fn subject(arguments: &Arguments) -> Subject {
    let name = arguments.name.clone();
    let (namespace, of_namespace) = match name.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (arguments.namespace.clone(), name.clone()),
    };
    match arguments.kind {
        Kind::Pod => Subject::Pod { namespace, name: of_namespace },
        Kind::Workload => Subject::Workload { namespace, name: of_namespace },
        Kind::Headroom => Subject::Headroom { namespace, name: of_namespace },
        Kind::Node => Subject::Node(name),
        Kind::Pool => Subject::Pool(name),
        Kind::Decision => Subject::Decision(name),
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{}: {}\n", explanation.subject, explanation.state);
    for because in &explanation.because {
        say(&mut text, because);
    }
    // Writing to a String does not fail.
    if explanation.more > 0 {
        let _ = writeln!(text, "  and {} reasons more (-o json has no more either)", explanation.more);
    }
    if explanation.because.is_empty() && explanation.decisions.is_empty() {
        text.push_str("  nothing was decided about it\n");
    }
    if !explanation.decisions.is_empty() {
        text.push_str("\ndecided:\n");
    }
    for decision in &explanation.decisions {
        let at = decision.at.strftime("%Y-%m-%d %H:%M:%S");
        let end = decision.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let _ = writeln!(text, "  {at}  {}{end}  ({})", decision.what, decision.intent);
    }
    text
}

fn say(text: &mut String, because: &Because) {
    let of = because.of.as_ref().map_or_else(String::new, |of| format!("{of}: "));
    let _ = writeln!(text, "  {of}{} [{}]", because.sentence, because.code);
    if let Some(until) = because.until {
        let _ = writeln!(text, "      until {until:.0}");
    }
    if let Some(change) = &because.change {
        let _ = writeln!(text, "      -> {change}");
    }
}

/// What an autoscaler makes of the workload.
fn autoscaler(text: &mut String, one: &AutoscalerView, now: Timestamp) {
    let count = |count: Option<i32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let still =
        one.stands_still.as_ref().map_or_else(String::new, |why| format!("; {why}: nothing is changed"));
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "\nscaled by IHPA {}: {} online of {} wanted, between {} and {}{still}",
        one.name,
        count(one.online),
        count(one.desired),
        one.min,
        one.max
    );
    for problem in &one.problems {
        let _ = writeln!(text, "  ! {problem}");
    }
    for portrait in &one.portraits {
        let counts = if one.follows.as_ref() == Some(&portrait.provider) { ", which counts" } else { "" };
        let says =
            portrait.replicas.map_or_else(|| "nothing now".to_owned(), |replicas| replicas.to_string());
        let until = portrait.until.map_or_else(String::new, |until| format!(" until {until:.0}"));
        let problem = portrait.problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
        let (provider, priority) = (&portrait.provider, portrait.priority);
        let _ = writeln!(text, "  {provider} (priority {priority}) says {says}{until}{counts}{problem}");
    }
    for forecast in &one.forecasts {
        let (trust, error) = (&forecast.trust, forecast.error_percent);
        let _ = writeln!(text, "  forecast by {}: {trust}; mean error lately {error} %", forecast.model);
    }
    if let Some(next) = one.next_change.as_ref().filter(|next| next.at > now) {
        let to = next.replicas.map_or_else(String::new, |replicas| format!(" to {replicas}"));
        let _ = writeln!(text, "  changes{to} at {:.0}, as far as is known now", next.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_is_told_with_each_portrait() {
        let portrait = |provider: &str, replicas| scaler::PortraitView {
            provider: provider.into(),
            priority: 1,
            replicas,
            until: None,
            problem: None,
        };
        let at = Timestamp::from_second(60).unwrap();
        let one = AutoscalerView {
            name: "shop/web".into(),
            min: 1,
            max: 9,
            online: Some(2),
            desired: Some(3),
            follows: Some("Static".into()),
            portraits: vec![portrait("Static", Some(3)), portrait("Cron", None)],
            next_change: Some(scaler::PointView { at, replicas: Some(5), provider: None }),
            ..AutoscalerView::default()
        };
        let mut told = String::new();
        autoscaler(&mut told, &one, Timestamp::UNIX_EPOCH);
        assert_eq!(
            told,
            "\nscaled by IHPA shop/web: 2 online of 3 wanted, between 1 and 9\n  Static (priority 1) says 3, which \
             counts\n  Cron (priority 1) says nothing now\n  changes to 5 at 1970-01-01T00:01:00Z, as far as is known \
             now\n"
        );
    }

    #[test]
    fn a_reason_is_told_with_its_end_and_its_fix() {
        let because = Because {
            of: Some("pool small".into()),
            code: "backOff".into(),
            sentence: "in backoff after failed scale-up".into(),
            until: Some(jiff::Timestamp::UNIX_EPOCH),
            change: Some("see why".into()),
        };
        let mut told = String::new();
        say(&mut told, &because);
        assert_eq!(
            told,
            "  pool small: in backoff after failed scale-up [backOff]\n      until 1970-01-01T00:00:00Z\n      -> \
             see why\n"
        );
    }
}
