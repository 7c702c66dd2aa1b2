//! `tideline forecast`: what forecasts of a recorded series would have been worth, and what comes next.
//!
//! Owns the arguments, the tables, JSON and page. Forecasting is the crate `forecast`'s business, reading files
//! `samples`'.

use super::{print, runtime, samples, write};
use crate::chart::{self, Chart, Layer, Scale};
use crate::duration;
use crate::error::CommandError;
use crate::table::Table;
use clock::Clock;
use forecast::{
    Backtest, Calendar, Forecast, Forecaster, Kind, Series, Settings, Weekday, backtest, share_missing,
};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use metrics::Range;
use metrics::prometheus::{Connection, Credentials, one_series};
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// Horizons whose figures are shown.
const HORIZONS: [usize; 3] = [3, 6, 144];
/// Forecasts that are timed, of which the mean is shown.
const TIMED: u32 = 200;

/// Shows what forecasts of a recorded series would have been worth, and what comes next.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Forecast the end of the series from what came before, step by step, and compare.
    Backtest {
        #[command(flatten)]
        series: SeriesArguments,
        /// Share of the series, at its end, that is forecast
        #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
        test_share: f64,
    },
    /// Forecast what comes after the series.
    Predict {
        #[command(flatten)]
        series: SeriesArguments,
        /// Steps to forecast
        #[arg(long, value_name = "STEPS", default_value_t = 144)]
        horizon: usize,
    },
}

#[derive(clap::Args)]
struct SeriesArguments {
    /// A CSV file (gzip or not) with two columns, a minute or an RFC 3339 time, and a value
    #[arg(long, value_name = "FILE", required_unless_present = "prometheus")]
    series: Option<PathBuf>,
    /// A Prometheus to ask instead of a file, such as http://prometheus.monitoring:9090
    #[arg(long, value_name = "URL", conflicts_with = "series", requires = "query")]
    prometheus: Option<String>,
    /// What to ask it: a query that yields one series
    #[arg(long, value_name = "PROMQL", requires = "prometheus")]
    query: Option<String>,
    /// How far back to ask
    #[arg(long, value_name = "DURATION", default_value = "28d", value_parser = duration::past)]
    range: SignedDuration,
    /// File with the bearer token that the Prometheus asks for
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    prometheus_token_file: Option<PathBuf>,
    /// Time between the values that are forecast; finer samples are averaged
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::wait)]
    step: SignedDuration,
    /// The value is a counter that only grows; its growth a second is forecast
    #[arg(long)]
    counter: bool,
    /// Zone that days and weekdays are counted in, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// A day that is like another day of the week, such as 2026-12-25=sunday; may be given several times
    #[arg(long, value_name = "DATE=WEEKDAY", value_parser = special_day)]
    special_day: Vec<(Date, Weekday)>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write the answer as one self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
    Html,
}

/// An answer in the three forms that it is printed in.
struct Answer {
    table: String,
    json: serde_json::Value,
    html: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let (arguments, answer) = match &arguments.what {
        What::Backtest { series, test_share } => (series, tested(series, *test_share)?),
        What::Predict { series, horizon } => (series, predicted(series, *horizon)?),
    };
    if let Some(path) = &arguments.report {
        write(path, &answer.html)?;
    }
    print(&match arguments.output {
        Output::Table => answer.table,
        Output::Json => format!("{:#}\n", answer.json),
        Output::Html => answer.html,
    })
}

fn special_day(text: &str) -> Result<(Date, Weekday), String> {
    let wrong = || format!("\"{text}\" is no special day; write DATE=WEEKDAY such as 2026-12-25=sunday");
    let (date, like) = text.split_once('=').ok_or_else(wrong)?;
    let like = match like.to_ascii_lowercase().as_str() {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return Err(wrong()),
    };
    Ok((date.parse().map_err(|_| wrong())?, like))
}

impl SeriesArguments {
    /// Where the series is from, for people.
    fn source(&self) -> String {
        match (&self.series, &self.query) {
            (Some(file), _) => file.display().to_string(),
            (None, query) => query.clone().unwrap_or_default(),
        }
    }

    fn samples(&self) -> Result<Vec<(i64, f64)>, CommandError> {
        if let Some(file) = &self.series {
            return samples::read(file);
        }
        let now = Clock::system().now();
        let start = now
            .checked_sub(self.range)
            .map_err(|error| CommandError::Usage(format!("--range: {error}; write one such as 14d")))?;
        let connection = Connection {
            address: self.prometheus.clone().unwrap_or_default(),
            credentials: self.prometheus_token_file.clone().map_or(Credentials::None, Credentials::TokenFile),
            authority_file: None,
        };
        // As fine as a minute, so that a step holds the mean of its minutes.
        let range = Range { start, end: now, step: self.step.min(SignedDuration::from_mins(1)) };
        let query = self.query.clone().unwrap_or_default();
        let points = runtime()?
            .block_on(async {
                // A second call finds it installed, which is as good.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                one_series(&connection, &query, &range).await
            })
            .map_err(|why| CommandError::Input(why.replace("--prometheus-address", "--prometheus")))?;
        Ok(points.into_iter().map(|point| (point.at.as_second(), point.value)).collect())
    }
}

/// The series that is asked for, with what a forecaster is told of it.
fn read(arguments: &SeriesArguments, horizon: usize) -> Result<(Series, Settings), CommandError> {
    let samples = arguments.samples()?;
    let input = |text: String| CommandError::Input(text);
    let step_seconds = u32::try_from(arguments.step.as_secs())
        .map_err(|_| CommandError::Usage("--step is too long; give one such as 10m".into()))?;
    let kind = if arguments.counter { Kind::Counter } else { Kind::Gauge };
    let series = Series::of(&samples, step_seconds, kind)
        .map_err(|error| input(format!("{}: {error}", arguments.source())))?;
    let zone = TimeZone::get(&arguments.time_zone).map_err(|error| {
        CommandError::Usage(format!(
            "--time-zone {}: {error}; give a name such as Europe/Berlin",
            arguments.time_zone
        ))
    })?;
    let last = series.start_seconds + series.values.len() as i64 * i64::from(step_seconds);
    let offset = Timestamp::from_second(last).map_or(0, |last| zone.to_offset(last).seconds());
    let mut calendar = Calendar::default();
    for (date, like) in &arguments.special_day {
        let day =
            date.to_zoned(TimeZone::UTC).map_or(0, |start| start.timestamp().as_second().div_euclid(86_400));
        calendar.set(day, *like);
    }
    let start_seconds = series.start_seconds + i64::from(offset);
    Ok((series, Settings { start_seconds, step_seconds, horizon, calendar }))
}

/// Milliseconds of learning from the whole history, and microseconds of one forecast.
fn timed(forecaster: &Forecaster) -> (f64, f64) {
    let mut forecaster = forecaster.clone();
    let start = Instant::now();
    forecaster.refit();
    let train = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    for _ in 0..TIMED {
        std::hint::black_box(forecaster.forecast(&[0.5, 0.9]));
    }
    (rounded(train), rounded(start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMED)))
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The time of a value on a plot: dates where the file had dates, else days from the start.
fn place(series: &Series, index: usize) -> (f64, Scale) {
    let seconds = series.start_seconds as f64 + index as f64 * f64::from(series.step_seconds);
    // Minutes counted from any start lie in the years around 1970.
    if series.start_seconds < 315_532_800 {
        (seconds / 86_400.0, Scale::Days)
    } else {
        (seconds, Scale::Time)
    }
}

fn tested(arguments: &SeriesArguments, test_share: f64) -> Result<Answer, CommandError> {
    let (series, settings) = read(arguments, 144)?;
    let found = backtest(&settings, &series.values, test_share, &HORIZONS)
        .map_err(|error| CommandError::Input(format!("{}: {error}", arguments.source())))?;
    let (train, predict) = timed(&found.forecaster);
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let header = ["STEPS", "WAPE", "MASE", "PINBALL 0.5", "PINBALL 0.9", "COVERAGE 0.9"];
    let mut table = Table::new(&header);
    let mut rows = vec![header.map(String::from).to_vec()];
    for horizon in &found.horizons {
        let row = vec![
            horizon.steps.to_string(),
            percent(horizon.wape),
            format!("{:.3}", horizon.mase),
            percent(horizon.pinball50),
            percent(horizon.pinball90),
            percent(horizon.coverage90),
        ];
        table.row(row.clone());
        rows.push(row);
    }
    let model = found.forecaster.basis().name();
    let missing = share_missing(&series.values, series.step_seconds);
    let about = format!(
        "{} values, the last {} forecast; {} missing; model {model}, {}",
        series.values.len(),
        series.values.len() - found.test_from,
        percent(missing),
        found.forecaster.trust()
    );
    let mut text = format!("{about}\nlearned in {train} ms, a forecast of 144 steps in {predict} µs\n\n");
    text.push_str(&table.text());
    let title = format!("Backtest of {}", arguments.source());
    let html = chart::page(&title, &about, &format!("{}{}", chart::table(&rows), plots(&series, &found)));
    let horizons: Vec<_> = found
        .horizons
        .iter()
        .map(|horizon| {
            json!({
                "steps": horizon.steps, "wape": horizon.wape, "mase": horizon.mase,
                "pinball50": horizon.pinball50, "pinball90": horizon.pinball90,
                "coverage90": horizon.coverage90,
            })
        })
        .collect();
    let json = json!({
        "model": model, "trainMs": train, "predictMicros": predict, "horizons": horizons,
    });
    Ok(Answer { table: text, json, html })
}

/// The last days of the test part in detail, then all of it.
fn plots(series: &Series, found: &Backtest) -> String {
    let days = (3 * 86_400 / series.step_seconds.max(1)) as usize;
    let last = &found.compared[found.compared.len().saturating_sub(days)..];
    let mut text = String::new();
    for (title, compared) in [("The last days", last), ("The whole test part", &found.compared[..])] {
        let at = |index: usize| place(series, index).0;
        let chart = Chart {
            title: title.to_owned(),
            note: "each value beside what was forecast up to six steps earlier; the area reaches from the expected \
                   value to the one that is exceeded one time in ten"
                .to_owned(),
            x: place(series, found.test_from).1,
            layers: vec![
                Layer::Band {
                    name: "up to the 0.9 quantile".into(),
                    colour: "--band",
                    points: compared
                        .iter()
                        .map(|c| (at(c.index), f64::from(c.expected), f64::from(c.upper)))
                        .collect(),
                },
                Layer::Line {
                    name: "came".into(),
                    colour: "--came",
                    points: compared.iter().map(|c| (at(c.index), f64::from(c.came))).collect(),
                },
                Layer::Line {
                    name: "expected".into(),
                    colour: "--demand",
                    points: compared.iter().map(|c| (at(c.index), f64::from(c.expected))).collect(),
                },
            ],
        };
        text.push_str(&chart.section());
    }
    text
}

fn predicted(arguments: &SeriesArguments, horizon: usize) -> Result<Answer, CommandError> {
    let (series, settings) = read(arguments, horizon)?;
    let forecaster = Forecaster::new(settings, &series.values)
        .map_err(|error| CommandError::Input(format!("{}: {error}", arguments.source())))?;
    let forecast = forecaster.forecast(&[0.1, 0.5, 0.9]);
    let (train, predict) = timed(&forecaster);
    let (model, trust) = (forecaster.basis().name(), forecaster.trust());
    let mut about = format!("{} values; model {model}, {trust}", series.values.len());
    for season in forecaster.seasons() {
        let hours = season.bins as f64 * f64::from(series.step_seconds) / 3600.0;
        let _ = write!(about, "; season of {hours} h, strength {:.2}", season.strength);
    }
    let time = |step: usize| {
        let seconds = series.start_seconds + (forecast.origin + step) as i64 * i64::from(series.step_seconds);
        Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    let mut table = Table::new(&["TIME", "EXPECTED", "0.1", "0.5", "0.9"]);
    let mut points = Vec::new();
    for step in 1..=horizon {
        let level = |at: usize| forecast.quantiles[at][step - 1];
        let expected = forecast.expected[step - 1];
        table.row([
            time(step),
            format!("{expected:.2}"),
            format!("{:.2}", level(0)),
            format!("{:.2}", level(1)),
            format!("{:.2}", level(2)),
        ]);
        points.push(json!({
            "time": time(step), "expected": expected, "q10": level(0), "q50": level(1), "q90": level(2),
        }));
    }
    let title = format!("Forecast of {}", arguments.source());
    let html = chart::page(&title, &about, &ahead(&series, &forecast));
    let json = json!({
        "model": model, "trainMs": train, "predictMicros": predict, "trusted": trust.is_trusted(),
        "trust": trust.to_string(), "steps": points,
    });
    Ok(Answer { table: format!("{about}\n\n{}", table.text()), json, html })
}

/// The last days and what is expected after them.
fn ahead(series: &Series, forecast: &Forecast) -> String {
    let days = (3 * 86_400 / series.step_seconds.max(1)) as usize;
    let from = series.values.len().saturating_sub(days);
    let at = |index: usize| place(series, index).0;
    let came =
        (from..series.values.len()).map(|index| (at(index), f64::from(series.values[index]))).collect();
    let next = |step: usize| at(forecast.origin + 1 + step);
    let band = (0..forecast.expected.len())
        .map(|step| {
            (next(step), f64::from(forecast.quantiles[0][step]), f64::from(forecast.quantiles[2][step]))
        })
        .collect();
    let expected =
        forecast.expected.iter().enumerate().map(|(step, value)| (next(step), f64::from(*value))).collect();
    Chart {
        title: "The last days and what is expected".to_owned(),
        note: "the area holds eight of ten values".to_owned(),
        x: place(series, from).1,
        layers: vec![
            Layer::Band { name: "0.1 to 0.9 quantile".into(), colour: "--band", points: band },
            Layer::Line { name: "came".into(), colour: "--came", points: came },
            Layer::Line { name: "expected".into(), colour: "--demand", points: expected },
        ],
    }
    .section()
}
