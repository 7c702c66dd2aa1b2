//! Scenarios as text: a cluster, what happens to it, and beside each round the plan and the reasons.
//!
//! Lines that begin with `|` are what the round before them said; `UPDATE_GOLDEN=1` writes them anew. The words are
//! explained in `scenarios/README.md`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod world;

use jiff::{SignedDuration, Timestamp};
use model::{
    Change, DaemonSetKey, Decision, Input, InputState, Ledger, MachineState, NodeName, OutcomeKind, PodKey,
    Reason, Step,
};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use world::{Attributes, World, headroom_key, outlook_key, pool_id, rule_set_key};

#[test]
fn scenarios_say_what_is_written_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let mut wrong = String::new();
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        count += text.lines().filter(|line| line.starts_with("== ")).count();
        let said = check(&text);
        if said == text {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &said).unwrap();
        } else {
            let _ = writeln!(wrong, "--- {}\n{}", file.display(), difference(&text, &said));
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nIf this is right, write it down with UPDATE_GOLDEN=1.");
    assert!(count >= 60, "only {count} scenarios were found");
}

fn difference(expected: &str, said: &str) -> String {
    let pairs = expected.lines().zip(said.lines()).enumerate();
    let mut text = String::new();
    for (number, (old, new)) in pairs.filter(|(_, (old, new))| old != new).take(6) {
        let _ = writeln!(text, "line {}:\n  - {old}\n  + {new}", number + 1);
    }
    text
}

/// Runs a file of scenarios and answers it with what the rounds said.
fn check(text: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    let mut start = world.now;
    for line in text.lines().filter(|line| !line.starts_with('|')) {
        let _ = writeln!(out, "{line}");
        if line.starts_with("== ") {
            world = World::new();
            // Scenarios of soft taints ask for them.
            world.policies.draining.soft_taints = 0;
            start = world.now;
        } else if let Some(said) = command(&mut world, start, line.split('#').next().unwrap_or("").trim()) {
            out.push_str(&said);
        }
    }
    out
}

/// One line; answers what a round says.
fn command(world: &mut World, start: Timestamp, line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let word = words.next()?;
    if let Some(wait) = word.strip_prefix('+') {
        world.pass(wait.parse().expect("a time"));
        return None;
    }
    if word == "round" {
        let (decision, complaints) = world.round();
        return Some(said(&decision, &complaints, start));
    }
    if word == "others" {
        return Some(others(world));
    }
    if matches!(word, "obey" | "join" | "schedule" | "answer" | "restart" | "forget-ledger" | "wake") {
        happen(world, word, words);
        return None;
    }
    let name = words.next().unwrap_or_else(|| panic!("a name after: {line}"));
    make(world, word, name, &Attributes::of(words), line);
    None
}

/// What a round would not buy, and why.
fn others(world: &World) -> String {
    let decision = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now);
    let line = |other: &model::Alternative| {
        let price = other.price.map_or_else(String::new, |price| format!(" for {price}"));
        format!("| not {} of {}{price}: {}\n", other.machines, other.pool, other.why)
    };
    decision.growth.alternatives.iter().map(line).collect()
}

fn make(world: &mut World, word: &str, name: &str, a: &Attributes<'_>, line: &str) {
    match word {
        "policy" => policy(world, name),
        "pool" => world.make_pool(name, a),
        "direct" => world.make_direct_pool(name, a),
        "resize" => world.change_pool(name, |pool| {
            let number = |key: &str, old: u32| a.get(key).map_or(old, |v| v.parse().unwrap());
            (pool.min, pool.max) = (number("min", pool.min), number("max", pool.max));
            pool.target = number("target", pool.target);
            pool.frozen = a.get("frozen").map(Arc::from);
        }),
        "machine" => world.make_machine(name, a),
        "node" => world.make_node(name, a),
        "nodes" | "pods" => {
            let count: u32 = a.get("count").expect("count=").parse().unwrap();
            for number in 1..=count {
                // A star in a value stands for the number: one pod on each node.
                let line = line.replace('*', &number.to_string());
                let (one, a) = (format!("{name}-{number}"), Attributes::of(line.split_whitespace().skip(2)));
                if word == "nodes" { world.make_node(&one, &a) } else { world.make_pod(&one, &a) }
            }
        }
        "pod" => world.make_pod(name, a),
        "workload" => world.make_workload(name, a),
        "headroom" => world.make_headroom(name, a),
        "daemonset" => world.make_daemon_set(name, a),
        "pdb" => world.make_pdb(name, a),
        "chooses" => choose(world, name),
        "ruleset" => world.make_rule_set(name, a),
        "rule" => world.make_rule(name, a),
        "alert" => world.alert(name, a),
        "outlook" => world.make_outlook(name, a),
        "gone" => gone(world, name, a),
        "stale" | "fresh" => freshness(world, word == "stale", name),
        "notready" => {
            let since = world.now;
            world.change_node(name, |node| node.readiness = model::Readiness::NotReady { since });
        }
        "fails" => fail_machines(world, name, a),
        _ => panic!("what is: {line}"),
    }
}

/// The program outside answers what it would be asked now: these pools, or `none`.
fn choose(world: &mut World, pools: &str) {
    world.policies.choice.answer = None;
    let decision = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now);
    let question = decision.growth.question.expect("a question");
    let chosen = question.options.iter().filter(|option| pools.split(',').any(|name| name == &*option.name));
    let pools = chosen.map(|option| option.pool.clone()).collect();
    let until = world.now.checked_add(SignedDuration::from_secs(30)).unwrap();
    world.policies.choice.answer = Some(model::ExpanderAnswer { digest: question.digest, pools, until });
}

fn happen<'t>(world: &mut World, word: &str, mut words: impl Iterator<Item = &'t str>) {
    match word {
        "obey" => {
            let which = words.next();
            world.obey(|step| which.is_none_or(|which| step_line(step).starts_with(which)));
        }
        "join" => {
            let pool = words.next().expect("a pool");
            let most = words.next().map_or(usize::MAX, |n| n.parse().unwrap());
            world.join(pool, most);
        }
        "schedule" => world.schedule(),
        "answer" => {
            let kind = outcome(world, words.next().expect("done, failed:CODE, later:TIME or obsolete"));
            let which = words.next();
            world.answer(&kind, |step| which.is_none_or(|which| step_line(step).starts_with(which)));
        }
        "restart" => {
            world.ledger.epoch += 1;
            world.open.clear();
        }
        "wake" => {
            let decision = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now);
            world.now = decision.wake_at.expect("nothing to wake for");
        }
        _ => {
            world.ledger = Ledger { epoch: world.ledger.epoch + 1, ..Ledger::default() };
            world.open.clear();
        }
    }
}

fn outcome(world: &World, word: &str) -> OutcomeKind {
    match word.split_once(':').unwrap_or((word, "")) {
        ("done", _) => OutcomeKind::Done,
        ("failed", code) => OutcomeKind::Failed { code: code.into(), message: "no".into() },
        ("later", wait) => {
            let wait: SignedDuration = wait.parse().unwrap();
            OutcomeKind::Deferred { until: world.now.checked_add(wait).unwrap(), why: "busy".into() }
        }
        _ => OutcomeKind::Obsolete { why: "the world moved on".into() },
    }
}

fn policy(world: &mut World, pair: &str) {
    let (key, value) = pair.split_once('=').expect("key=value");
    let p = &mut world.policies;
    let number = || value.parse::<u32>().unwrap();
    let time = || value.parse::<SignedDuration>().unwrap();
    let flag = || value.parse::<bool>().unwrap();
    match key {
        "of" => {
            let profile = serde_json::from_value(value.into()).unwrap();
            *p = model::Policies::of(profile);
            p.draining.soft_taints = 0;
        }
        "dry_run" => p.dry_run = flag(),
        "dry_run_pools" => p.dry_run_pools = value.split(',').map(str::to_owned).collect(),
        "scale_up_enabled" => p.scale_up_enabled = flag(),
        "scale_down_enabled" => p.scale_down_enabled = flag(),
        "max_nodes_total" => p.max_nodes_total = number(),
        "max_nodes_per_scale_up" => p.max_nodes_per_scale_up = number(),
        "new_pod_scale_up_delay" => p.new_pod_scale_up_delay = time(),
        "utilization_threshold_percent" => p.utilization_threshold_percent = number(),
        "unneeded_time" => p.unneeded_time = time(),
        "delay_after_add" => p.delay_after_add = time(),
        "delay_after_delete" => p.delay_after_delete = time(),
        "max_drain_parallelism" => p.max_drain_parallelism = number(),
        "max_scale_down_parallelism" => p.max_scale_down_parallelism = number(),
        "skip_nodes_with_local_storage" => p.skip_nodes_with_local_storage = flag(),
        "skip_nodes_with_system_pods" => p.skip_nodes_with_system_pods = flag(),
        "skip_nodes_with_custom_controller_pods" => p.skip_nodes_with_custom_controller_pods = flag(),
        "min_replica_count" => p.min_replica_count = number(),
        "cordon_node_before_terminating" => p.cordon_node_before_terminating = flag(),
        "ignore_daemonsets_utilization" => p.ignore_daemonsets_utilization = flag(),
        "ignore_mirror_pods_utilization" => p.ignore_mirror_pods_utilization = flag(),
        "missing_replicas_limit" => p.missing_replicas_limit = number(),
        "max_provision_time" => p.max_provision_time = time(),
        "rules_missed_deadline" => p.rules_missed_deadline = time(),
        // By the path that it has in a configuration.
        _ => {
            let mut all = serde_json::to_value(&*p).unwrap();
            let mut place = &mut all;
            for part in key.split('.') {
                place = &mut place[part];
            }
            *place = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            *p = serde_json::from_value(all).unwrap_or_else(|error| panic!("{pair}: {error}"));
        }
    }
}

fn gone(world: &mut World, what: &str, a: &Attributes<'_>) {
    let name = |key: &str| a.get(key).unwrap_or_else(|| panic!("gone {what} {key}="));
    let change = match what {
        "node" => Change::Node(NodeName::from(name("name")), None),
        "machine" => Change::Machine(format!("simulated://{}", name("name")).into(), None),
        "pool" => Change::Pool(pool_id(name("name")), None),
        "outlook" => Change::Outlook(outlook_key(name("name"), a), None),
        "daemonset" => Change::DaemonSet(DaemonSetKey::new("default", name("name")), None),
        "ruleset" => Change::RuleSet(rule_set_key(name("name")), None),
        "headroom" => Change::Headroom(headroom_key(name("name")), None),
        _ => Change::Pod(PodKey::new(a.get("ns").unwrap_or("default"), name("name")), None),
    };
    world.cluster.apply(change);
}

fn freshness(world: &mut World, stale: bool, name: &str) {
    let input = match name {
        "nodes" => Input::Nodes,
        "pods" => Input::Pods,
        "workloads" => Input::Workloads,
        "daemonsets" => Input::DaemonSets,
        "pdbs" => Input::Pdbs,
        "noderules" => Input::NodeRules,
        "outlooks" => Input::Outlooks,
        "headroom" => Input::Headroom,
        provider => Input::Pools(provider.into()),
    };
    let state = if stale {
        InputState::Stale { since: world.now, why: "watch closed".into() }
    } else {
        InputState::Fresh
    };
    world.cluster.apply(Change::Input(input, state));
}

fn fail_machines(world: &mut World, pool: &str, a: &Attributes<'_>) {
    let code = a.get("code").unwrap_or("SoldOut");
    let machines: Vec<_> = world
        .cluster
        .machines_of(&pool_id(pool))
        .filter(|machine| machine.state == MachineState::Creating)
        .map(Arc::clone)
        .collect();
    for machine in machines {
        let mut failed = model::Machine::clone(&machine);
        failed.state = MachineState::Failed { code: code.into(), message: "none left".into() };
        world.cluster.apply(Change::Machine(failed.id.clone(), Some(Arc::new(failed))));
    }
}

fn step_line(step: &Step) -> String {
    let short = |pool: &model::PoolId| pool.as_str().trim_start_matches("simulated/").to_owned();
    match step {
        Step::Buy(b) => {
            let mut pods = 0;
            let mut missing = 0;
            let mut by_rule = String::new();
            for served in b.serves.iter() {
                match served {
                    model::Served::Pod(_) => pods += 1,
                    model::Served::Missing { replicas, .. } => missing += replicas,
                    model::Served::Rule { rule, nodes, .. } => by_rule = format!(", {nodes} by rule {rule}"),
                    model::Served::Ahead(demand) => {
                        let _ = write!(by_rule, ", {} ahead for {}", demand.replicas, demand.outlook.name);
                    }
                }
            }
            format!(
                "buy {} {}->{} (max {}) for {pods} pods, {missing} missing{by_rule}",
                short(&b.pool),
                b.from,
                b.to,
                b.max
            )
        }
        Step::Lower(l) => format!("lower {} {}->{}", short(&l.pool), l.from, l.to),
        Step::MarkNode(m) => format!("mark {}{}", m.node, if m.cordon { " and cordon" } else { "" }),
        Step::Evict(e) => {
            let grace = e.grace_seconds.map_or_else(String::new, |s| format!(" with {s} s"));
            format!("evict {} from {}{grace}", e.pod, e.node)
        }
        Step::Release(r) => {
            let name = r.machine.as_str().trim_start_matches("simulated://");
            format!("release {name} of {} ({})", short(&r.pool), r.cause)
        }
        Step::UndoNode(u) => format!("undo {}{}", u.node, if u.uncordon { " and uncordon" } else { "" }),
        Step::DeleteNode { node, .. } => format!("delete node {node}"),
        Step::SoftTaint(soft) if soft.put => format!("soften {}", soft.node),
        Step::SoftTaint(soft) => format!("harden {}", soft.node),
    }
}

fn said(decision: &Decision, complaints: &[String], start: Timestamp) -> String {
    let mut out = String::new();
    for step in &decision.plan.steps {
        let _ = writeln!(out, "| {}", step_line(step));
    }
    for step in &decision.rehearsed.steps {
        let _ = writeln!(out, "| would {}", step_line(step));
    }
    let reason = |reason: &Reason| reason.to_string().replace("simulated/", "").replace("simulated://", "");
    let verdicts = &decision.verdicts;
    let pods = verdicts.pods.iter().map(|(key, r)| (format!("pod {}", key.name), reason(r)));
    let nodes = verdicts.nodes.iter().map(|(name, r)| (format!("node {name}"), reason(r)));
    let pools = verdicts
        .pools
        .iter()
        .map(|(id, r)| (format!("pool {}", id.as_str().trim_start_matches("simulated/")), reason(r)));
    let rules = rule_lines(decision);
    let outlooks = verdicts.outlooks.iter().map(|(key, verdict)| {
        let came = verdict.came.iter().map(|one| format!("; told {}, came {}", one.told, one.came));
        let who = format!("outlook {} ({} live)", key.name, verdict.live);
        (who, format!("{}{}", reason(&verdict.reason), came.collect::<String>()))
    });
    let round = verdicts.round.iter().map(|r| ("round".to_owned(), reason(r)));
    let headroom = verdicts.headroom.iter().map(|(key, v)| (format!("headroom {}", key.name), v.to_string()));
    for (who, why) in
        together(pods.chain(headroom).chain(nodes).chain(pools).chain(rules).chain(outlooks).chain(round))
    {
        let _ = writeln!(out, "|   {who}: {}", relative(&why, start));
    }
    if let Some(at) = decision.wake_at {
        let _ = writeln!(out, "|   wakes at +{:#}", at.duration_since(start));
    }
    for complaint in complaints {
        let _ = writeln!(out, "| WRONG: {complaint}");
    }
    if out.is_empty() {
        out.push_str("| nothing\n");
    }
    out
}

/// What is said of rules, pool by pool, and of the targets that are no pools.
fn rule_lines(decision: &Decision) -> impl Iterator<Item = (String, String)> {
    let mut lines = Vec::new();
    for (set, verdict) in &decision.verdicts.rules {
        for target in &verdict.unknown_pools {
            lines.push((format!("rules {}", set.name), format!("{target} is no pool")));
        }
        for rule in &verdict.rules {
            let name = format!("rule {}/{}", set.name, rule.name);
            let missed = if rule.missed > 0 { format!(" ({} missed)", rule.missed) } else { String::new() };
            for (pool, reason) in &rule.pools {
                let who = format!("{name} {}", pool.as_str().trim_start_matches("simulated/"));
                lines.push((who, format!("{}: {reason}{missed}", reason.code())));
            }
            if let Some(reason) = &rule.reason {
                lines.push((name.clone(), format!("{}: {reason}{missed}", reason.code())));
            }
            if let Some(percent) = rule.removal_threshold_percent {
                lines.push((name, format!("nodes go under {percent} %, which is no lower")));
            }
        }
    }
    lines.into_iter()
}

/// Neighbours with one reason share a line.
fn together(lines: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String, String, usize)> = Vec::new();
    for (who, why) in lines {
        match merged.last_mut() {
            Some((_, last, reason, count)) if *reason == why => {
                *last = who;
                *count += 1;
            }
            _ => merged.push((who.clone(), who, why, 1)),
        }
    }
    merged
        .into_iter()
        .map(|(first, last, why, count)| match count {
            1 => (first, why),
            _ => (format!("{first} to {last} ({count})"), why),
        })
        .collect()
}

/// Moments as time since the scenario's start.
fn relative(text: &str, start: Timestamp) -> String {
    text.split(' ')
        .map(|word| {
            let (bare, tail) = match word.char_indices().find(|(_, c)| matches!(c, ';' | ':' | ',')) {
                Some(_) if word.ends_with([';', ',', ':']) => word.split_at(word.len() - 1),
                _ => (word, ""),
            };
            match bare.parse::<Timestamp>() {
                Ok(at) => format!("{}{tail}", offset(at.duration_since(start))),
                Err(_) => word.to_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn offset(since: SignedDuration) -> String {
    if since.is_negative() { format!("-{:#}", -since) } else { format!("+{since:#}") }
}
