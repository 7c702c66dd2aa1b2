//! The rules one by one, on alerts and clusters made by hand.

use super::*;
use crate::history::Entry;
use crate::trigger::{API_VERSION, KIND, read};

fn at(second: i64) -> Timestamp {
    moment(second)
}

/// The document's alert, changed.
fn alert(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Alert {
    let pairs = [
        ("alert_cluster", "cluster-1"),
        ("alert_involved_object_kind", "Cluster"),
        ("alert_indicator", "cluster.resource.request.cpu.utilization"),
        ("alert_resource", "autoscaler"),
        ("alert_name", "cpu-4pBud"),
    ];
    let mut labels: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    change(&mut labels);
    Alert { status: Status::Firing, labels, fingerprint: "f".into(), starts_at: Some(at(90)), ends_at: None }
}

fn set(name: &str, value: &str) -> Alert {
    alert(|labels| {
        labels.insert(name.to_owned(), value.to_owned());
    })
}

fn deployment(name: &str) -> Deployment {
    Deployment {
        namespace: "ns".into(),
        name: name.into(),
        labels: BTreeMap::from([("pool".to_owned(), name.to_owned())]),
        replicas: 3,
        max: Ok(None),
        paused: None,
        record: Ok(Record::default()),
    }
}

fn scaling(fingerprint: &str, starts_at: i64, scale_time: i64) -> Scaling {
    Scaling {
        fingerprint: fingerprint.into(),
        starts_at: Some(at(starts_at)),
        scale_time,
        alert_name: "autoscaler/cpu-4pBud".into(),
        from: 2,
        to: 3,
        by: String::new(),
    }
}

/// Everything that the decision follows, to be changed by a test.
struct Case {
    alert: Alert,
    settings: Settings,
    deployments: Vec<Deployment>,
    addresses: Addresses,
    history: History,
    now: Timestamp,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            alert: alert(|_| {}),
            settings: Settings::default(),
            deployments: vec![deployment("a")],
            addresses: Addresses::Unlimited,
            history: History::default(),
            now: at(100),
        }
    }
}

impl Case {
    fn decide(&self) -> Result<(u32, u32), &'static str> {
        let demand = triage(&self.alert, &self.settings, self.now).map_err(|reason| reason.code())?;
        let (_, target) = choose(&demand, &self.deployments).map_err(|reason| reason.code())?;
        let found = (self.deployments.as_slice(), target);
        decide((&demand, &self.alert), found, (&self.addresses, &self.history), self.now)
            .map(|scaling| (scaling.from, scaling.to))
            .map_err(|reason| reason.code())
    }
}

#[test]
fn the_documents_alert_adds_one_machine() {
    let case = Case::default();
    assert_eq!(case.decide(), Ok((3, 4)));
    let demand = triage(&case.alert, &case.settings, case.now).unwrap();
    assert_eq!(demand.alert_name, "autoscaler/cpu-4pBud");
    assert_eq!(demand.interval.as_secs(), 3600);
}

#[test]
fn other_alerts_are_refused_with_a_reason() {
    for (alert, code) in [
        (set("alert_involved_object_kind", "Pod"), "NotClusterScope"),
        (set("alert_involved_object_kind", ""), "NotClusterScope"),
        (set("alert_indicator", "custom"), "CustomIndicator"),
        (set("alert_indicator", "cluster.pod.count"), "OtherIndicator"),
        (set("alert_cluster", "global"), "GlobalCluster"),
        (set("alert_cluster", ""), "ClusterNotNamed"),
        (set("alert_cluster", "../etc"), "ClusterNameUnusable"),
        (set("alert_cluster", "a b"), "ClusterNameUnusable"),
        (alert(BTreeMap::clear), "NoTrigger"),
        (Alert { status: Status::Resolved, ..alert(|_| {}) }, "Resolved"),
        (Alert { ends_at: Some(at(-400)), ..alert(|_| {}) }, "Ended"),
    ] {
        assert_eq!(Case { alert, ..Case::default() }.decide(), Err(code));
    }
    let ends_soon = Alert { ends_at: Some(at(99)), ..alert(|_| {}) };
    assert_eq!(Case { alert: ends_soon, ..Case::default() }.decide(), Ok((3, 4)));
}

#[test]
fn one_machine_deployment_must_be_meant() {
    let several = vec![deployment("a"), deployment("b")];
    let select = |key: &str, value: &str| Settings {
        selector: Some(Selector { key: key.into(), value: value.into() }),
        ..Settings::default()
    };
    let case = |settings, deployments| Case { settings, deployments, ..Case::default() };
    assert_eq!(case(Settings::default(), vec![]).decide(), Err("NoMachineDeployment"));
    assert_eq!(case(Settings::default(), several.clone()).decide(), Err("SeveralMachineDeployments"));
    assert_eq!(case(select("pool", "b"), several.clone()).decide(), Ok((3, 4)));
    assert_eq!(case(select("pool", "c"), several.clone()).decide(), Err("NoMachineDeployment"));
    // The document's own selector is on every MachineDeployment of a cluster.
    let mut labelled = several;
    for deployment in &mut labelled {
        deployment.labels.insert("cluster.x-k8s.io/cluster-name".into(), "cluster-1".into());
    }
    let case = case(select("cluster.x-k8s.io/cluster-name", "cluster-1"), labelled);
    assert_eq!(case.decide(), Err("SeveralMachineDeployments"));
    let demand = triage(&case.alert, &case.settings, case.now).unwrap();
    let sentence = choose(&demand, &case.deployments).unwrap_err().to_string();
    assert!(sentence.contains("ns/a, ns/b"), "{sentence}");
}

#[test]
fn the_interval_counts_from_record_and_history() {
    let mut by_history = Case { now: at(3699), ..Case::default() };
    let entry = Entry { alert_name: "x/y".into(), scale_time: 100, other: serde_json::Map::new() };
    by_history.history.entries.push(entry);
    assert_eq!(by_history.decide(), Err("IntervalNotOver"));
    by_history.now = at(3700);
    assert_eq!(by_history.decide(), Ok((3, 4)));

    // Another MachineDeployment of the cluster counts as well.
    let mut by_record = Case { now: at(3699), ..Case::default() };
    by_record.settings.selector = Some(Selector { key: "pool".into(), value: "a".into() });
    let mut other = deployment("b");
    other.record.as_mut().unwrap().push(scaling("g", 50, 100));
    by_record.deployments.push(other);
    assert_eq!(by_record.decide(), Err("IntervalNotOver"));

    let mut none = Case { now: at(101), ..by_history };
    none.settings.interval = SignedDuration::ZERO;
    assert_eq!(none.decide(), Ok((3, 4)));
    none.alert.starts_at = None;
    assert_eq!(none.decide(), Err("IntervalNotOver"), "deliveries that cannot be told apart wait");
}

#[test]
fn one_alert_acts_once_however_often_and_late_it_comes() {
    let mut case = Case { now: at(1_000_000), ..Case::default() };
    let record = case.deployments[0].record.as_mut().unwrap();
    record.push(scaling("f", 90, 100));
    record.push(scaling("g", 95, 5000));
    assert_eq!(case.decide(), Err("AlreadyActedOn"));
    case.alert.starts_at = Some(at(91));
    assert_eq!(case.decide(), Ok((3, 4)), "the same labels, fired anew");
    case.deployments[0].record.as_mut().unwrap().forgotten_up_to = Some(at(91));
    assert_eq!(case.decide(), Err("TooOldToTell"));
    case.deployments[0].record = Err("annotation is damaged".into());
    assert_eq!(case.decide(), Err("Unreadable"));
}

#[test]
fn limits_hold() {
    let change = |change: fn(&mut Case)| {
        let mut case = Case::default();
        change(&mut case);
        case.decide()
    };
    assert_eq!(change(|case| case.deployments[0].max = Ok(Some(3))), Err("AtMaximum"));
    assert_eq!(change(|case| case.deployments[0].max = Ok(Some(4))), Ok((3, 4)));
    assert_eq!(change(|case| case.deployments[0].max = Err("x".into())), Err("Unreadable"));
    assert_eq!(change(|case| case.deployments[0].paused = Some("paused".into())), Err("Paused"));
    let limited = |free| Addresses::Limited { pool: "p".into(), free };
    let with = |addresses| Case { addresses, ..Case::default() };
    assert_eq!(with(limited(1)).decide(), Ok((3, 4)));
    assert_eq!(with(limited(0)).decide(), Err("TooFewAddresses"));
    let unknown = Reason::AddressPoolUnreadable { pool: "p".into() };
    assert_eq!(with(Addresses::Unknown(unknown)).decide(), Err("AddressPoolUnreadable"));
    // An address for every machine, and not more machines than the maximum.
    let mut two = Case { addresses: limited(1), ..Case::default() };
    two.settings.step = 2;
    assert_eq!(two.decide(), Err("TooFewAddresses"));
    two.deployments[0].max = Ok(Some(4));
    assert_eq!(two.decide(), Ok((3, 4)));
}

fn triggers(list: &str) -> Settings {
    let document = format!("apiVersion: {API_VERSION}\nkind: {KIND}\ntriggers:\n{list}\n");
    Settings { triggers: read("test", &document).unwrap(), ..Settings::default() }
}

#[test]
fn any_rule_may_be_a_trigger() {
    let settings = triggers(
        "- {name: in, match: ['alertname=Idle'], size: {machines: 1}, direction: In, on: resolved, intervalSeconds: 1}
- {name: out, match: ['alertname=~\"Deep|Slow\"'], size: {percent: 50}, cluster: cluster-1, intervalSeconds: 60}",
    );
    let named = |name: &str, status| Alert {
        status,
        ..alert(|labels| *labels = BTreeMap::from([("alertname".to_owned(), name.to_owned())]))
    };
    let case = |alert| Case { alert, settings: settings.clone(), ..Case::default() };
    assert_eq!(case(named("Deep", Status::Firing)).decide(), Ok((3, 5)), "half of three, rounded up");
    assert_eq!(case(named("Deep", Status::Resolved)).decide(), Err("Resolved"));
    assert_eq!(case(named("Idle", Status::Resolved)).decide(), Err("ScaleInNeedsController"));
    assert_eq!(case(named("Idle", Status::Firing)).decide(), Err("NoTrigger"));
    assert_eq!(case(named("Else", Status::Firing)).decide(), Err("NoTrigger"));
    assert_eq!(case(alert(|_| {})).decide(), Ok((3, 4)), "the platform's own still scale");
    // The interval of a trigger is its own pool's.
    let mut recent = case(named("Slow", Status::Firing));
    recent.history.entries.push(Entry {
        alert_name: "x/y".into(),
        scale_time: 99,
        other: serde_json::Map::new(),
    });
    assert_eq!(recent.decide(), Ok((3, 5)));
    recent.deployments[0].record.as_mut().unwrap().push(scaling("g", 95, 99));
    assert_eq!(recent.decide(), Err("IntervalNotOver"));
}
