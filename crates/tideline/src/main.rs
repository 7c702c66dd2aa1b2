//! The `tideline` command: reads the command line and hands over to one file per command.
//!
//! Owns arguments, exit codes and how errors look in a terminal. What the commands do is the other crates'
//! business: this one wires them together.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of arguments are help texts, where backticks are noise"
)]

mod admission_flags;
mod ahead_flags;
mod alert_flags;
mod alibaba_flags;
#[cfg(feature = "aws")]
mod aws_flags;
mod capacity_flags;
mod chart;
mod commands;
mod configuration;
mod duration;
mod error;
mod external_flags;
mod foreign_flags;
mod group_flags;
mod huawei_flags;
mod karpenter_log;
mod logs;
mod machine_flags;
mod metrics_flags;
mod outside_expander;
mod page;
mod page_flags;
mod policy_flags;
mod priorities;
mod rule_flags;
mod shell_flags;
mod source;
mod steps;
mod table;
mod trace_flags;
mod workload_flags;

use clap::{Parser, Subcommand};
use commands::{
    alert_triggered_autoscaler, algorithm, command_reference, compare, controller, crds, doctor, exit,
    explain, forecast, import, kapacity_manager, manifests, plan, provider, replay, report, sandbox, shell,
    simulate, status,
};
use error::CommandError;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Keeps Kubernetes clusters at the right size: nodes follow pods.
#[derive(Parser)]
#[command(name = "tideline", version, max_term_width = 100)]
#[command(after_help = "Start with `tideline sandbox --demo`, and open the page that it names.")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sandbox(Box<sandbox::Arguments>),
    Controller(Box<controller::Arguments>),
    AlertTriggeredAutoscaler(Box<alert_triggered_autoscaler::Arguments>),
    KapacityManager(Box<kapacity_manager::Arguments>),
    Algorithm(Box<algorithm::Arguments>),
    Plan(Box<plan::Arguments>),
    Status(status::Arguments),
    Top(status::TopArguments),
    Explain(explain::Arguments),
    Simulate(simulate::Arguments),
    Forecast(forecast::Arguments),
    Replay(replay::Arguments),
    Report(report::Arguments),
    Compare(compare::Arguments),
    Exit(exit::Arguments),
    Doctor(doctor::Arguments),
    Manifests(manifests::Arguments),
    Crds(crds::Arguments),
    Import(import::Arguments),
    Provider(provider::Arguments),
    Completion(shell::CompletionArguments),
    Man(shell::ManArguments),
    #[command(hide = true)]
    #[command(name = "command-reference")]
    Reference(command_reference::Arguments),
}

fn main() -> ExitCode {
    let arguments = match prepared(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return failed(&error),
    };
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        // Help and version are "errors" too; clap knows which go to standard output and end with 0.
        Err(error) => error.exit(),
    };
    let outcome = match line.command {
        Command::Sandbox(arguments) => sandbox::run(&arguments),
        Command::Controller(arguments) => controller::run(&arguments),
        Command::AlertTriggeredAutoscaler(arguments) => alert_triggered_autoscaler::run(&arguments),
        Command::KapacityManager(arguments) => kapacity_manager::run(&arguments),
        Command::Algorithm(arguments) => algorithm::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Top(arguments) => status::top(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Forecast(arguments) => forecast::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Exit(arguments) => exit::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Manifests(arguments) => manifests::run(&arguments),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Provider(arguments) => provider::run(&arguments),
        Command::Completion(arguments) => {
            shell::completion(&arguments, <CommandLine as clap::CommandFactory>::command())
        }
        Command::Man(arguments) => shell::man(&arguments, <CommandLine as clap::CommandFactory>::command()),
        Command::Reference(arguments) => {
            command_reference::run(&arguments, <CommandLine as clap::CommandFactory>::command())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &CommandError) -> ExitCode {
    use std::io::Write as _;
    // A reader that closed its end (`tideline plan … | head`) is no failure of ours.
    if error.is_broken_pipe() {
        return ExitCode::SUCCESS;
    }
    let mut message = format!("tideline: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some libraries print their causes themselves.
        if !message.contains(&text) {
            message.push_str("\n  because: ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    // Nobody is left to tell where standard error is closed too.
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(error.exit_code())
}

/// The command line as clap shall see it: under the names of the programs whose place we take we are the command that
/// takes it, and Cluster Autoscaler's flags that mean nothing here are taken out with a note.
fn prepared(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, CommandError> {
    let called_as = arguments.first().and_then(|path| Path::new(path).file_stem()).map(OsString::from);
    match called_as.as_deref().and_then(OsStr::to_str) {
        Some("cluster-autoscaler") => {
            // With that program's roles and dashboards.
            let with = ["controller", "--ledger-with-status", "--peer-metrics", "--workloads=false"]
                .map(OsString::from);
            arguments.splice(1..1, with);
        }
        Some(name @ ("alert-triggered-autoscaler" | "kapacity-manager")) => {
            arguments.insert(1, OsString::from(name));
        }
        _ => {}
    }
    // The image of the predictive algorithm has no commands, so its containers give flags only.
    let flags_of_the_algorithm = ["--re-", "--tsf-", "--scaling-freq"];
    let first = arguments.get(1).and_then(|first| first.to_str()).unwrap_or_default();
    if flags_of_the_algorithm.iter().any(|flag| first.starts_with(flag)) {
        arguments.insert(1, OsString::from("algorithm"));
    }
    if arguments.get(1).is_none_or(|command| command != "controller") {
        return Ok(arguments);
    }
    let mut text = Vec::new();
    for argument in arguments {
        text.push(argument.into_string().map_err(|argument| {
            CommandError::Usage(format!(
                "argument {} is not valid UTF-8; write it in UTF-8",
                argument.display()
            ))
        })?);
    }
    let sorted = foreign_flags::sort(text);
    for note in sorted.notes {
        eprintln!("tideline: {note}");
    }
    Ok(sorted.arguments.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_alias_name_runs_the_controller() {
        let line = prepared(words("/usr/bin/cluster-autoscaler --scan-interval=10s --v=4")).unwrap();
        let as_run = "/usr/bin/cluster-autoscaler controller --ledger-with-status --peer-metrics --workloads=false --v=4";
        assert_eq!(line, words(as_run));
        let line = prepared(words("/alert-triggered-autoscaler --v=0")).unwrap();
        assert_eq!(line, words("/alert-triggered-autoscaler alert-triggered-autoscaler --v=0"));
        assert!(CommandLine::try_parse_from(line).is_ok());
        let line =
            prepared(words("/kapacity-manager --leader-elect --zap-log-level=1 --kube-api-qps=100")).unwrap();
        assert!(CommandLine::try_parse_from(line).is_ok());
        assert_eq!(prepared(words("tideline crds")).unwrap(), words("tideline crds"));
        let line = prepared(words("/tideline --tsf-model-path=/m --re-history-len=24H")).unwrap();
        assert_eq!(line[1], "algorithm");
    }
}
