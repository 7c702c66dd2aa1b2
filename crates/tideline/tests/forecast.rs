//! `tideline forecast` and `tideline simulate compare` on files: their answers, and what they say to bad input.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DAY: usize = 1_440;

fn tideline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tideline")).args(arguments).output().unwrap()
}

fn answer(arguments: &[&str]) -> String {
    let output = tideline(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&answer(arguments)).unwrap()
}

/// What is said of a command line that cannot be served, and its exit code.
fn complaint(arguments: &[&str]) -> (String, i32) {
    let output = tideline(arguments);
    assert!(!output.status.success() && output.stdout.is_empty());
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

/// Requests of every minute of some days: a wave with noise.
fn wave(days: usize) -> Vec<u64> {
    (0..days * DAY)
        .map(|minute| {
            let wave = 1.3 - (std::f64::consts::TAU * (minute % DAY) as f64 / DAY as f64).cos();
            let noise = ((minute * 7_919) % 101) as f64 / 100.0;
            (300.0 * wave * (0.9 + 0.2 * noise)) as u64
        })
        .collect()
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn minutes(folder: &Path, days: usize) -> PathBuf {
    let mut text = String::from("minute,requests\n");
    for (minute, requests) in wave(days).into_iter().enumerate() {
        writeln!(text, "{minute},{requests}").unwrap();
    }
    file(folder, "traffic.csv", &text)
}

#[test]
fn a_backtest_gives_shares_of_one_for_three_horizons() {
    let folder = tempfile::tempdir().unwrap();
    let series = minutes(folder.path(), 12);
    let page = folder.path().join("page/backtest.html");
    let found = json(&[
        "forecast",
        "backtest",
        "--series",
        series.to_str().unwrap(),
        "--step",
        "10m",
        "--test-share",
        "0.3",
        "-o",
        "json",
        "--report",
        page.to_str().unwrap(),
    ]);
    let horizons = found["horizons"].as_array().unwrap();
    let steps: Vec<u64> = horizons.iter().map(|horizon| horizon["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [3, 6, 144]);
    for horizon in horizons {
        assert!((0.0..0.1).contains(&horizon["wape"].as_f64().unwrap()), "{horizon}");
        assert!((0.5..=1.0).contains(&horizon["coverage90"].as_f64().unwrap()), "{horizon}");
    }
    assert!(found["trainMs"].as_f64().unwrap() > 0.0 && found["model"].is_string());
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn a_prediction_continues_the_series_in_its_own_times() {
    let folder = tempfile::tempdir().unwrap();
    let start = jiff::Timestamp::from_second(1_767_571_200).unwrap();
    let mut text = String::new();
    for (at, value) in wave(9).into_iter().enumerate().filter(|(at, _)| at % 10 == 0) {
        let time = start + jiff::SignedDuration::from_mins(at as i64);
        writeln!(text, "{time},{value}").unwrap();
    }
    let series = file(folder.path(), "stamps.csv", &text);
    let found = json(&[
        "forecast",
        "predict",
        "--series",
        series.to_str().unwrap(),
        "--horizon",
        "6",
        "--time-zone",
        "Europe/Berlin",
        "--special-day",
        "2026-01-14=sunday",
        "-o",
        "json",
    ]);
    let steps = found["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 6);
    assert_eq!(steps[0]["time"], "2026-01-14T00:00:00Z");
    for step in steps {
        let level = |name: &str| step[name].as_f64().unwrap();
        assert!(level("q10") <= level("q50") && level("q50") <= level("q90"), "{step}");
    }
}

/// A server that answers as Prometheus does, with a wave by the minute, until the test ends.
fn prometheus(series: usize) -> String {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).unwrap_or(0) > 2 {
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let field = |name: &str| {
                let found = body.split('&').find_map(|field| field.strip_prefix(&format!("{name}=")));
                found.unwrap().parse::<f64>().unwrap() as i64
            };
            let values: Vec<Value> = (field("start")..=field("end"))
                .step_by(60)
                .map(|at| {
                    let minute = (at / 60).rem_euclid(1_440) as usize;
                    serde_json::json!([at, wave(1)[minute].to_string()])
                })
                .collect();
            let result: Vec<Value> = (0..series)
                .map(|at| serde_json::json!({"metric": {"pod": at.to_string()}, "values": values}))
                .collect();
            let data = serde_json::json!({"resultType": "matrix", "result": result});
            let text = serde_json::json!({"status": "success", "data": data}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            stream.get_mut().write_all((head + &text).as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_prometheus_is_asked_for_the_series() {
    let address = prometheus(1);
    let found = json(&[
        "forecast",
        "backtest",
        "--prometheus",
        &address,
        "--query",
        "sum(rate(requests[3m]))",
        "--range",
        "10d",
        "-o",
        "json",
    ]);
    assert_eq!(found["horizons"].as_array().unwrap().len(), 3);
    assert!(found["horizons"][0]["wape"].as_f64().unwrap() < 0.2, "{found}");
}

#[test]
fn what_a_prometheus_cannot_be_asked_is_said_with_the_fix() {
    let of = |arguments: &[&str]| complaint(&[&["forecast", "predict"], arguments].concat());
    let several = prometheus(3);
    let (text, _) = of(&["--prometheus", &several, "--query", "requests", "--range", "1d"]);
    assert!(text.contains("3 series") && text.contains("sum("), "{text}");
    let (text, _) = of(&["--prometheus", "prometheus:9090", "--query", "requests"]);
    assert!(text.contains("--prometheus") && text.contains("http"), "{text}");
    assert!(of(&["--prometheus", &several]).0.contains("--query"));
    assert!(of(&["--prometheus", &several, "--query", "x", "--range", "0d"]).0.contains("14d"));
    assert!(of(&[]).0.contains("--series"));
}

#[test]
fn what_cannot_be_forecast_is_said_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let series = minutes(folder.path(), 3);
    let series = series.to_str().unwrap();
    let of = |arguments: &[&str]| complaint(&[&["forecast", "backtest", "--series"], arguments].concat());
    let (text, code) = of(&["/nowhere.csv"]);
    assert!(text.contains("/nowhere.csv") && code == 1, "{text}");
    let (text, code) = of(&[series, "--time-zone", "Mars/Olympus"]);
    assert!(text.contains("Europe/Berlin") && code == 2, "{text}");
    assert!(of(&[series, "--step", "7m"]).0.contains("divides a day"));
    assert!(of(&[series, "--test-share", "1.5"]).0.contains("0.05 to 0.9"));
    assert!(of(&[series, "--special-day", "soon=sunday"]).0.contains("2026-12-25=sunday"));
    let broken = file(folder.path(), "broken.csv", "minute,requests\n0,1\n1,many\n");
    let (text, _) = of(&[broken.to_str().unwrap()]);
    assert!(text.contains("line 3") && text.contains("12.5"), "{text}");
    let empty = file(folder.path(), "empty.csv", "");
    assert!(of(&[empty.to_str().unwrap()]).0.contains("no line"));
}

#[test]
fn policies_are_compared_in_a_table_as_json_and_as_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let traffic = minutes(folder.path(), 8);
    let traffic = traffic.to_str().unwrap();
    let page = folder.path().join("compare.html");
    let found = json(&[
        "simulate",
        "compare",
        "--traffic",
        traffic,
        "-o",
        "json",
        "--machine-price",
        "0.12",
        "--report",
        page.to_str().unwrap(),
    ]);
    let policies = found["policies"].as_array().unwrap();
    let named = |name: &str| policies.iter().find(|policy| policy["policy"] == name).unwrap();
    assert_eq!(policies.len(), 10);
    let minutes = |name: &str| named(name)["replicaMinutes"].as_u64().unwrap();
    assert!(minutes("static") > minutes("hpa") && minutes("hpa") > minutes("oracle-full-use"));
    assert!(named("hpa")["price"].as_f64().unwrap() > 0.0);
    assert_eq!(named("oracle")["overloadedMinutes"], 0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Cost against harm") && !page.contains("NaN") && !page.contains("https://"));
    let table = answer(&["simulate", "compare", "--traffic", traffic, "--policies", "hpa,predictive"]);
    assert!(table.contains("hpa") && table.contains("predictive") && !table.contains("oracle"), "{table}");
}

#[test]
fn what_cannot_be_compared_is_said_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let traffic = minutes(folder.path(), 3);
    let of = |arguments: &[&str]| {
        complaint(&[&["simulate", "compare", "--traffic", traffic.to_str().unwrap()], arguments].concat())
    };
    let (text, code) = of(&["--policies", "hpa,luck"]);
    assert!(text.contains("predictive-joined") && code == 2, "{text}");
    assert!(of(&["--start-up", "90s"]).0.contains("whole minutes"));
    assert!(of(&["--target", "1.4"]).0.contains("at most 1"));
    assert!(of(&["--machine-price", "-1"]).1 == 2);
    let mut sparse = String::new();
    for minute in (0..3 * DAY).step_by(3) {
        writeln!(sparse, "{minute},5").unwrap();
    }
    let sparse = file(folder.path(), "sparse.csv", &sparse);
    let (text, _) = complaint(&["simulate", "compare", "--traffic", sparse.to_str().unwrap()]);
    assert!(text.contains("every minute"), "{text}");
    assert!(complaint(&["simulate", "compare"]).0.contains("--traffic"));
}
