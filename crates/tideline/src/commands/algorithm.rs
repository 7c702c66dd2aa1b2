//! `tideline algorithm`: one run of the predictive algorithm as a job, in the place of Kapacity's image.
//!
//! Owns its flags and environment, which are the original's, and a note for each flag that sets nothing here. What a
//! run does is crate `scaler`'s business.

use super::{client, runtime};
use crate::error::CommandError;
use crate::logs;
use clock::Clock;
use forecast::{LoadSettings, PredictorSettings};
use jiff::SignedDuration;
use metrics::grpc::{ProviderClient, ProviderClientSettings};
use scaler::Once;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Steps of ten minutes that a plan reaches at least; jobs start more often, so plans overlap.
const LEAST_STEPS: i64 = 18;
const STEP_SECONDS: i64 = 600;
const TIMEOUT: Duration = Duration::from_mins(1);

/// Plans the replicas of one HorizontalPortrait once, and leaves them in the ConfigMap that its controller reads.
///
/// Takes the place of the image of Kapacity's predictive algorithm: the same flags and environment. A container that runs
/// our image and gives flags only runs this command. Nothing is trained beforehand.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Namespace of the HorizontalPortrait
    #[arg(long, env = "HP_NAMESPACE", value_name = "NAMESPACE")]
    hp_namespace: String,
    /// Name of the HorizontalPortrait
    #[arg(long, env = "HP_NAME", value_name = "NAME")]
    hp_name: String,
    /// Metrics service
    #[arg(long, env = "METRICS_SERVER_ADDR", value_name = "HOST:PORT")]
    metrics_server_addr: String,
    /// File with the token that the metrics service asks for
    #[arg(long, env = "METRICS_SERVER_TOKEN_FILE", value_name = "FILE")]
    metrics_server_token_file: Option<PathBuf>,
    /// File with the authority of the metrics service's certificate; without it the connection is plain
    #[arg(long, env = "METRICS_SERVER_CA_FILE", value_name = "FILE")]
    metrics_server_ca_file: Option<PathBuf>,
    /// Kubeconfig of the cluster [default: the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// History that is learned from, such as 24H, 7D or 90min
    #[arg(long, value_name = "SPAN", value_parser = span)]
    re_history_len: SignedDuration,
    /// Hours that the workload's zone is ahead of UTC
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-14..=14))]
    re_time_delta_hours: i64,
    /// End of the history that what was learned is tried on
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i64).range(60..))]
    re_test_dataset_size_in_seconds: i64,
    /// Correlation of pods' use with traffic that is asked for
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    re_min_correlation_allowed: f64,
    /// Replicas change at most so often, such as 10min or 1H
    #[arg(long, value_name = "SPAN", value_parser = span)]
    scaling_freq: SignedDuration,
    /// More replicas come so much before they are due
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=3_600))]
    scale_up_ahead_seconds: i64,
    /// Quantile of traffic that replicas are for
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    quantile: f64,
    /// Taken without effect: nothing is trained beforehand
    #[arg(long, value_name = "DIRECTORY", hide_short_help = true)]
    tsf_model_path: Option<String>,
    /// Taken without effect
    #[arg(long, value_name = "COUNT", hide_short_help = true)]
    tsf_dataloader_num_workers: Option<String>,
    /// Taken without effect: errors are judged as shares
    #[arg(long, value_name = "ERROR", hide_short_help = true)]
    re_max_mse_allowed: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start(0);
    for (flag, given, why) in [
        ("--tsf-model-path", &arguments.tsf_model_path, "models are not trained beforehand"),
        ("--tsf-dataloader-num-workers", &arguments.tsf_dataloader_num_workers, "there is no training"),
        ("--re-max-mse-allowed", &arguments.re_max_mse_allowed, "errors are judged as shares of the value"),
    ] {
        if given.is_some() {
            tracing::info!(flag, why, "has no effect");
        }
    }
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| CommandError::Read { path: path.clone(), source })
    };
    let token = arguments.metrics_server_token_file.as_ref().map(read).transpose()?;
    let settings = ProviderClientSettings {
        address: arguments.metrics_server_addr.clone(),
        authority_pem: arguments.metrics_server_ca_file.as_ref().map(read).transpose()?,
        token: token.map(|token| Arc::from(token.trim())),
        timeout: TIMEOUT,
    };
    let once = once(arguments)?;
    runtime()?.block_on(async {
        let source = ProviderClient::new(settings).map_err(CommandError::Usage)?;
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let map = once.run(&client, &source, Clock::system().now()).await?;
        let series = map.data.unwrap_or_default();
        let planned = series.get("timeSeries").map_or("", String::as_str);
        tracing::info!(planned, "the plan was left in the ConfigMap");
        Ok(())
    })
}

fn once(arguments: &Arguments) -> Result<Once, CommandError> {
    let wrong = |what: &str| Err(CommandError::Usage(what.to_owned()));
    let every = arguments.scaling_freq.as_secs();
    if !(STEP_SECONDS..=86_400).contains(&every) {
        return wrong("--scaling-freq: forecasts are made in steps of ten minutes; give 10min to 1D");
    }
    if !(0.0..=1.0).contains(&arguments.re_min_correlation_allowed) {
        return wrong("--re-min-correlation-allowed: give 0 to 1");
    }
    if !(3_600..=5_184_000).contains(&arguments.re_history_len.as_secs()) {
        return wrong("--re-history-len: give 1H to 60D; some days are best");
    }
    let steps = (3 * every / STEP_SECONDS).max(LEAST_STEPS);
    Ok(Once {
        namespace: arguments.hp_namespace.clone(),
        name: arguments.hp_name.clone(),
        history: arguments.re_history_len,
        settings: PredictorSettings {
            load: LoadSettings {
                offset_seconds: arguments.re_time_delta_hours * 3_600,
                test_seconds: arguments.re_test_dataset_size_in_seconds,
                least_correlation: arguments.re_min_correlation_allowed,
                ..LoadSettings::default()
            },
            quantile: arguments.quantile,
            horizon: usize::try_from(steps).unwrap_or(18),
            change_every_seconds: every,
            ahead_seconds: arguments.scale_up_ahead_seconds,
            ..PredictorSettings::default()
        },
    })
}

/// A span as the original writes it: days, hours or minutes with D, H or min. What it takes for nothing is refused.
fn span(text: &str) -> Result<SignedDuration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let minutes = match &text[digits.len()..] {
        "D" => 1_440,
        "H" => 60,
        "min" | "T" => 1,
        _ => 0,
    };
    let count = if digits.is_empty() { Some(1) } else { digits.parse::<u16>().ok() };
    match count {
        Some(count) if minutes > 0 && count > 0 => Ok(SignedDuration::from_mins(minutes * i64::from(count))),
        _ => Err(format!("{text:?} is no span; write days, hours or minutes such as 7D, 24H or 10min")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn line(flags: &str) -> Result<Arguments, clap::Error> {
        let given = "job --hp-namespace=default --hp-name=p --metrics-server-addr=localhost:9090 ";
        Line::try_parse_from(format!("{given}{flags}").split(' ')).map(|line| line.arguments)
    }

    #[test]
    fn the_flags_of_the_document_are_served() {
        let arguments = line(
            "--tsf-model-path=/opt/kapacity/timeseries/forecasting/model --re-history-len=24H \
             --re-time-delta-hours=-7 --re-test-dataset-size-in-seconds=3600 --scaling-freq=10min",
        )
        .unwrap();
        let once = once(&arguments).unwrap();
        assert_eq!((once.history.as_hours(), once.settings.load.offset_seconds), (24, -7 * 3_600));
        assert_eq!((once.settings.horizon, once.settings.change_every_seconds), (18, 600));
        let hourly = line("--re-history-len=7D --re-time-delta-hours=8 --scaling-freq=1H").unwrap();
        assert_eq!(self::once(&hourly).unwrap().settings.horizon, 18);
    }

    #[test]
    fn spans_that_the_original_takes_for_nothing_are_refused() {
        assert_eq!(span("90min").unwrap().as_mins(), 90);
        assert_eq!(span("H").unwrap().as_mins(), 60);
        for text in ["24h", "0H", "", "soon", "-3H"] {
            assert!(span(text).unwrap_err().contains("24H"), "{text}");
        }
        let fine = line("--re-history-len=24H --re-time-delta-hours=0 --scaling-freq=1min").unwrap();
        assert!(once(&fine).err().is_some_and(|error| error.to_string().contains("10min to 1D")));
    }
}
