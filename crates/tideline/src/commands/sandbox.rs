//! `tideline sandbox`: a cluster that lives in this process, with the controller inside, for trying things out.
//!
//! Owns what such a cluster starts with, the files it leaves, and what is printed. The cluster itself is the sandbox
//! crate's, the breathing workload of `--demo` is `demo`'s business.

mod demo;

use super::{asked_to_end, print, runtime, write};
use crate::error::CommandError;
use crate::metrics_flags::MetricsFlags;
use crate::policy_flags::PolicyFlags;
use crate::workload_flags::told;
use crate::{duration, logs, page, steps};
use api::simulated::SimulatedPool;
use axum::body::Body;
use axum::extract::Request;
use axum::serve::ListenerExt as _;
use clock::Clock;
use controller::{Config, Controller, JournalConfig, LeaderElection};
use jiff::SignedDuration;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use model::{Expander, Policies};
use sandbox::{Options, Sandbox};
use scaler::Scaler;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

/// The pools that every sandbox starts with.
const POOLS: &str = include_str!("../../../../examples/pools.yaml");

/// The port that the documents' examples use.
const USUAL_PORT: u16 = 18_080;

/// Starts a small Kubernetes cluster in this process, with simulated machines and the controller inside.
///
/// kubectl works on it. Waits are short, so that things can be seen to happen. Ctrl-C ends it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1 for the Kubernetes API and the page; 0 takes a free one [default: 18080, or a free one
    /// where that is taken]
    #[arg(long)]
    port: Option<u16>,
    /// Apply workloads that grow and shrink with the hours of a day that passes quickly
    #[arg(long)]
    demo: bool,
    /// How many times faster than a real day the demo's day passes
    #[arg(long, default_value_t = 288, value_parser = clap::value_parser!(u32).range(1..=8640))]
    speed: u32,
    /// Where the kubeconfig and the journal are written [default: a folder named for the port in the system's
    /// temporary folder]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Seeds everything that is drawn: boot times, names, the demo's noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    policies: PolicyFlags,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start_quiet();
    // The API answers from memory and the decisions are quick: two threads keep a page and a kubectl going.
    runtime()?.block_on(start(arguments))
}

/// Direct pools as they are tried out.
fn direct_pools(config: &Config) -> claims::Settings {
    claims::Settings {
        watches: config.watch_settings(),
        simulate_clouds: true,
        heeds_others: true,
        repairs: true,
        clouds: Vec::new(),
    }
}

async fn start(arguments: &Arguments) -> Result<(), CommandError> {
    let (listener, address) = listen(arguments.port).await?;
    let folder = arguments
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("tideline-sandbox-{}", address.port())));
    let kubeconfig = folder.join("kubeconfig");
    let journal = folder.join("journal");

    let clock = Clock::system();
    let mut cluster = Sandbox::start(Options::new(clock, arguments.seed))?;
    let pools = create_pools(&cluster).await?;
    let mut policies = pleasant();
    arguments.policies.apply(&mut policies);
    if policies.choice.expanders.contains(&Expander::Grpc) {
        return Err(CommandError::Usage(
            "--expander=grpc is of `tideline controller`, which asks the program; run one on the sandbox"
                .to_owned(),
        ));
    }
    let config = Config {
        policies: policies.clone(),
        leader_election: LeaderElection { enabled: false, ..LeaderElection::default() },
        journal: Some(JournalConfig::at(journal.clone())),
        seed: arguments.seed,
        ..Config::default()
    };
    let (direct, keeper) = claims::start(&cluster.client("tideline"), clock, &direct_pools(&config));
    let controller = Controller::new(cluster.client("tideline"), config, clock)?
        .with_provider(direct)
        .with_hook(Box::new(narrate));
    let handle = controller.handle();
    let keeping = tokio::spawn(keeper.run(move || handle.leads()));
    let scaler = scaler(&cluster, clock, &arguments.metrics, &controller).await?;
    let api =
        ServiceExt::<Request>::map_response(cluster.api().service(), |response| response.map(Body::new));
    let routes = page::router(controller.handle()).fallback_service(api);
    // Watch events are small; waiting to fill packets would only delay them.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });

    write(&kubeconfig, &kubeconfig_text(address))?;
    print(&greeting(address, &kubeconfig, &journal, &pools, &policies))?;

    let (end, ended) = watch::channel(false);
    let scaling = tokio::spawn(scaler.run(told(ended.clone())));
    let mut controlling = tokio::spawn(controller.run(told(ended)));
    let demo = arguments
        .demo
        .then(|| tokio::spawn(demo::breathe(cluster.client("demo"), clock, arguments.speed, arguments.seed)));
    let outcome = tokio::select! {
        biased;
        () = asked_to_end() => None,
        outcome = &mut controlling => Some(outcome),
    };
    if let Some(demo) = demo {
        demo.abort();
    }
    let outcome = if let Some(outcome) = outcome {
        outcome
    } else {
        let _ = end.send(true);
        controlling.await
    };
    scaling.abort();
    server.abort();
    keeping.abort();
    cluster.stop();
    // It leads nowhere any more; where it cannot be removed, nothing is lost.
    let _ = std::fs::remove_file(&kubeconfig);
    print(&format!("\nThe sandbox has ended. Its journal: tideline replay {}\n", journal.display()))?;
    match outcome {
        Ok(outcome) => Ok(outcome?),
        Err(panicked) => Err(CommandError::Input(format!("the controller ended unexpectedly: {panicked}"))),
    }
}

/// What scales workloads: by the metrics of the sandbox's load model, or by a Prometheus that looks at it.
async fn scaler(
    cluster: &Sandbox,
    clock: Clock,
    flags: &MetricsFlags,
    controller: &Controller,
) -> Result<Scaler, CommandError> {
    let client = cluster.client("tideline-workloads");
    let source = flags.source(&client, api::kapacity::NAMESPACE, clock).await?;
    flags.serve(source.clone()).await?;
    let config = scaler::Config {
        leader_election: LeaderElection { enabled: false, ..LeaderElection::default() },
        ..scaler::Config::default()
    };
    let scaler = Scaler::new(client, clock, config, source)?;
    let figures = scaler.figures();
    page::show_workloads(&controller.handle(), figures);
    Ok(scaler)
}

/// The port that was asked for; without one the port that the documents name, or where that is taken a free one.
async fn listen(port: Option<u16>) -> Result<(TcpListener, SocketAddr), CommandError> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let address = at(port.unwrap_or(USUAL_PORT));
    let bound = match TcpListener::bind(address).await {
        Err(error) if port.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(at(0)).await
        }
        bound => bound,
    };
    let failed = |source| CommandError::Listen { address, source };
    let listener = bound.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Policies with waits that a person who watches is content with.
fn pleasant() -> Policies {
    let seconds = SignedDuration::from_secs;
    Policies {
        unneeded_time: seconds(20),
        unready_time: seconds(60),
        delay_after_add: seconds(10),
        delay_after_failure: seconds(10),
        max_provision_time: seconds(120),
        max_startup_time: seconds(120),
        initial_back_off: seconds(15),
        max_back_off: seconds(60),
        delay_after_taint: seconds(1),
        max_drain_parallelism: 3,
        ..Policies::default()
    }
}

async fn create_pools(cluster: &Sandbox) -> Result<Vec<SimulatedPool>, CommandError> {
    let api: Api<SimulatedPool> = Api::all(cluster.client("tideline-sandbox"));
    let mut pools = Vec::new();
    for object in intake::files::read_objects("the sandbox's own pools", &mut POOLS.as_bytes())? {
        let pool: SimulatedPool = object.decode()?;
        let created =
            api.create(&PostParams::default(), &pool).await.map_err(|source| CommandError::Api {
                attempted: format!("create pool {}", pool.name_any()),
                source: Box::new(source),
            })?;
        pools.push(created);
    }
    Ok(pools)
}

/// Prints the steps of each round that has any.
fn narrate(round: &controller::Round<'_>) {
    if !round.adopted {
        return;
    }
    let mut text = String::new();
    for step in &round.decision.plan.steps {
        // Evictions are many, and said by the drain that they are part of.
        if matches!(step, model::Step::Evict(_)) {
            continue;
        }
        let words = steps::words(step, round.cluster, round.decision);
        let at = round.now.strftime("%H:%M:%S");
        let _ = writeln!(text, "{at}  {}: {}", words.what, words.reason);
    }
    // A closed terminal is no reason to stop.
    let _ = print(&text);
}

fn kubeconfig_text(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: tideline-sandbox\n\
         clusters:\n- name: tideline-sandbox\n  cluster:\n    server: http://{address}\n\
         users:\n- name: tideline-sandbox\n  user: {{}}\n\
         contexts:\n- name: tideline-sandbox\n  context:\n    cluster: tideline-sandbox\n    \
         user: tideline-sandbox\n    namespace: default\n"
    )
}

fn greeting(
    address: SocketAddr,
    kubeconfig: &Path,
    journal: &Path,
    pools: &[SimulatedPool],
    policies: &Policies,
) -> String {
    let mut text = format!(
        "A Kubernetes cluster runs in this process, with the controller inside.\n\n  \
         page        http://{address}/\n  \
         kubeconfig  {}\n  \
         journal     {}\n\n",
        kubeconfig.display(),
        journal.display()
    );
    for pool in pools {
        let spec = &pool.spec;
        let amount = |name: &str| spec.template.allocatable.get(name).map_or("?", |quantity| &quantity.0);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "  pool {:<10} {} to {} machines of {} cpu and {}, each up after {} to {} s",
            pool.name_any(),
            spec.min,
            spec.max,
            amount("cpu"),
            amount("memory"),
            spec.boot.min_seconds,
            spec.boot.max_seconds
        );
    }
    let wait = duration::short;
    let _ = write!(
        text,
        "\nWaits are short here, so that you can watch (Cluster Autoscaler's defaults in brackets):\n  \
         a node goes when unneeded for {} (10m), and not within {} of a scale-up (10m)\n\n",
        wait(policies.unneeded_time),
        wait(policies.delay_after_add)
    );
    let kubectl = format!("kubectl --kubeconfig {}", kubeconfig.display());
    let _ = write!(
        text,
        "Try:\n  {kubectl} get nodes\n  {kubectl} apply -f examples/nginx.yaml\n  \
         {kubectl} scale deployment nginx --replicas=50\n\nCtrl-C ends it. What is decided:\n\n"
    );
    text
}
