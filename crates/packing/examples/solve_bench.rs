//! Times the optimiser on the workloads of `docs/benchmarks.md` as numeric problems.
//!
//! Usage: `solve_bench DIRECTORY [STEPS]`, where the directory holds `diverse-5000.json.gz` and its catalogue.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on should stop")]

use packing::solve::{BitSet, Class, Effort, NO_DOMAIN, Offering, Pool, Problem, Rule, Spot, Tally, solve};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

#[path = "../tests/solve/verify.rs"]
mod verify;

fn read(path: &Path) -> Value {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("valid JSON")
}

fn milli(text: &str) -> u64 {
    text.strip_suffix('m').map_or_else(|| plain(text) * 1000, |m| m.parse().expect("cpu"))
}

fn plain(text: &str) -> u64 {
    text.strip_suffix('k').map_or_else(|| text.parse::<u64>().expect("number"), |k| plain(k) * 1000)
}

fn mebi(text: &str) -> u64 {
    let number = |s: &str| s.parse::<u64>().expect("memory");
    text.strip_suffix("Gi").map_or_else(|| number(text.strip_suffix("Mi").expect("Mi")), |g| number(g) * 1024)
}

fn offerings(types: &Value) -> Vec<Offering> {
    let mut all = Vec::new();
    for (ix, one) in types.as_array().expect("types").iter().enumerate() {
        let room = &one["allocatable"];
        let text = |name: &str| room[name].as_str().expect("text").to_owned();
        for offering in one["offerings"].as_array().expect("offerings") {
            let zone: u32 = offering["zone"].as_str().expect("zone")[10..].parse().expect("zone");
            all.push(Offering {
                pool: 0,
                machine_type: ix as u32,
                room: vec![milli(&text("cpu")), mebi(&text("memory")), plain(&text("pods"))],
                price: (offering["price"].as_f64().expect("price") * 1e6).round() as u64,
                available: true,
                domains: vec![NO_DOMAIN, zone - 1],
                uses: vec![],
                values: vec![],
            });
        }
    }
    all
}

/// Requests, rules (kind and tally), labels.
type Alike = (Vec<u64>, Vec<(u8, usize)>, Vec<(String, String)>);

/// (key, selector) -> tally.
type Tallies = BTreeMap<(usize, (String, String)), usize>;

fn tally(tallies: &mut Tallies, key: &Value, selector: &Value) -> usize {
    let key = usize::from(key.as_str().expect("key") != "kubernetes.io/hostname");
    let (name, value) = selector["matchLabels"].as_object().expect("labels").iter().next().expect("one");
    let next = tallies.len();
    *tallies.entry((key, (name.clone(), value.as_str().expect("value").to_owned()))).or_insert(next)
}

fn diverse(pods: &Value, types: &Value) -> Problem {
    let offerings = offerings(types);
    let mut tallies = Tallies::new();
    let mut classes: BTreeMap<Alike, u32> = BTreeMap::new();
    for pod in pods["items"].as_array().expect("items") {
        let requests = &pod["spec"]["containers"][0]["resources"]["requests"];
        let amounts = vec![
            milli(requests["cpu"].as_str().expect("cpu")),
            mebi(requests["memory"].as_str().expect("mem")),
            1,
        ];
        let labels = pod["metadata"]["labels"].as_object().expect("labels");
        let labels = labels.iter().map(|(k, v)| (k.clone(), v.as_str().expect("label").to_owned())).collect();
        let mut rules = Vec::new();
        for spread in pod["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten() {
            rules.push((0, tally(&mut tallies, &spread["topologyKey"], &spread["labelSelector"])));
        }
        for (kind, field) in [(1, "podAffinity"), (2, "podAntiAffinity")] {
            let terms = &pod["spec"]["affinity"][field]["requiredDuringSchedulingIgnoredDuringExecution"];
            for term in terms.as_array().into_iter().flatten() {
                rules.push((kind, tally(&mut tallies, &term["topologyKey"], &term["labelSelector"])));
            }
        }
        *classes.entry((amounts, rules, labels)).or_default() += 1;
    }
    let mut list: Vec<Tally> = vec![Tally::default(); tallies.len()];
    for ((key, _), ix) in &tallies {
        list[*ix].key = *key;
    }
    let all = BitSet::full(offerings.len());
    let classes = classes.into_iter().map(|((requests, rules, labels), count)| Class {
        count,
        requests,
        priority: 0,
        offerings: all.clone(),
        kinds: BitSet::default(),
        counts_in: {
            let mut of: Vec<usize> = tallies
                .iter()
                .filter(|((_, selector), _)| labels.contains(selector))
                .map(|(_, ix)| *ix)
                .collect();
            of.sort_unstable();
            of
        },
        rules: rules
            .into_iter()
            .map(|(kind, tally)| match kind {
                0 => Rule::Spread { tally, max_skew: 1, min_domains: 1 },
                1 => Rule::Affinity { tally },
                _ => Rule::Anti { tally },
            })
            .collect(),
        softs: vec![],
    });
    Problem {
        resources: 3,
        keys: vec![0, 3],
        classes: classes.collect(),
        tallies: list,
        pools: vec![Pool { flexible: true, ..Pool::default() }],
        offerings,
        spots: vec![],
        max_new: None,
    }
}

fn show(name: &str, problem: &Problem, steps: u64) {
    if std::env::var("ONLY").is_ok_and(|only| !name.contains(&only)) {
        return;
    }
    let mut best = f64::MAX;
    let mut answer = None;
    let runs = std::env::var("RUNS").map_or(9, |runs| runs.parse().expect("runs"));
    for _ in 0..runs {
        let start = Instant::now();
        answer = Some(solve(problem, Effort { steps, close_permille: 0 }).expect("solvable"));
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    let answer = answer.expect("ran");
    assert_eq!(verify::faults(problem, &answer), [""; 0], "{name}");
    if std::env::var_os("SHOW_TYPES").is_some() {
        let mut types: BTreeMap<usize, (u32, Vec<u64>)> = BTreeMap::new();
        for machine in &answer.machines {
            let entry = types.entry(machine.offering).or_insert((0, vec![0; problem.resources]));
            entry.0 += 1;
            for (class, n) in &machine.pods {
                for (sum, r) in entry.1.iter_mut().zip(&problem.classes[*class].requests) {
                    *sum += r * u64::from(*n);
                }
            }
        }
        for (offering, (n, load)) in types {
            let of = &problem.offerings[offering];
            println!("{n:5} x {} {:?} used {load:?}", of.price, of.room);
        }
    }
    let unplaced: u32 = answer.unplaced.iter().map(|u| u.count).sum();
    println!(
        "{name:28} {best:9.2} ms  {:6} machines  {:10.2} USD/h  bound {:10.2}  ratio {:.4}  unplaced {unplaced}  steps {}",
        answer.machines.len(),
        answer.price as f64 / 1e6,
        answer.bound as f64 / 1e6,
        answer.price as f64 / answer.bound.max(1) as f64,
        answer.steps,
    );
}

fn plain_class(count: u32, requests: Vec<u64>) -> Class {
    Class { count, requests, offerings: BitSet::full(8192), kinds: BitSet::full(8), ..Class::default() }
}

/// One group pool of one template, and nodes of it that exist.
fn group(room: Vec<u64>, max_new: u32, classes: Vec<Class>, spots: usize) -> Problem {
    Problem {
        resources: 3,
        keys: vec![0],
        classes,
        pools: vec![Pool { max_new: Some(max_new), ..Pool::default() }],
        offerings: vec![Offering {
            room: room.clone(),
            price: 1_000_000,
            available: true,
            domains: vec![NO_DOMAIN],
            ..Offering::default()
        }],
        spots: vec![Spot { kind: 0, free: room, domains: vec![NO_DOMAIN] }; spots],
        ..Problem::default()
    }
}

/// 200 Deployments of mixed shapes on the real catalogue, in four zones.
fn catalogue(types: &Value) -> Problem {
    let mut offerings = Vec::new();
    for (ix, one) in types["instanceTypes"].as_array().expect("types").iter().enumerate() {
        let text = |name: &str| one["allocatable"][name].as_str().expect("text").to_owned();
        for zone in 0..4 {
            offerings.push(Offering {
                pool: 0,
                machine_type: ix as u32,
                room: vec![milli(&text("cpu")), mebi(&text("memory")), plain(&text("pods"))],
                price: (one["priceUsdPerHour"].as_f64().expect("price") * 1e6).round() as u64,
                available: true,
                domains: vec![NO_DOMAIN, zone],
                ..Offering::default()
            });
        }
    }
    let cpus = [50, 100, 250, 500, 1000, 2000, 4000];
    let memories = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
    let classes = (0..200usize).map(|at| {
        let mut class = plain_class(50, vec![cpus[at * 7 % 11 % 7], memories[at * 13 % 17 % 9], 1]);
        if at % 4 == 0 {
            class.counts_in = vec![at / 4];
            class.rules = vec![Rule::Spread { tally: at / 4, max_skew: 1, min_domains: 1 }];
        }
        class
    });
    Problem {
        resources: 3,
        keys: vec![0, 4],
        classes: classes.collect(),
        tallies: vec![Tally { key: 1, ..Tally::default() }; 50],
        pools: vec![Pool { flexible: true, ..Pool::default() }],
        offerings,
        ..Problem::default()
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("usage: solve_bench DIRECTORY [STEPS]");
    let steps = args.next().map_or(0, |s| s.parse().expect("steps"));
    let types = read(&Path::new(&dir).join("instance-types-400.json.gz"));
    for name in ["diverse-1000", "diverse-5000"] {
        let pods = read(&Path::new(&dir).join(format!("{name}.json.gz")));
        show(name, &diverse(&pods, &types), steps);
    }
    for nodes in [200, 5000] {
        let classes = vec![plain_class(nodes * 50, vec![200, 200, 1])];
        show(&format!("scale-up {nodes}"), &group(vec![10_000, 10_000, 100], 10_000, classes, 0), steps);
    }
    let classes = vec![plain_class(50_000, vec![50, 100, 1]), plain_class(1000, vec![95, 190, 1])];
    show("estimate", &group(vec![1000, 5000 << 20, 100], 100_000, classes, 0), steps);
    let classes = vec![plain_class(60_000, vec![1000, 1 << 40, 1])];
    show("nowhere", &group(vec![10_000, 10_000, 100], 10_000, classes, 200), steps);
    let classes = vec![plain_class(1, vec![200, 200, 1])];
    show("one pod, 5000 nodes", &group(vec![10_000, 10_000, 100], 10_000, classes, 5000), steps);
    let catalogs = args.next().expect("usage: solve_bench DIRECTORY STEPS CATALOGS");
    show("catalogue", &catalogue(&read(&Path::new(&catalogs).join("aws-us-east-1.json.gz"))), steps);
}
