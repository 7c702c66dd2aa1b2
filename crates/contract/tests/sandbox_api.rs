//! The suite against the sandbox: in process, and over its socket.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use contract::{KNOWN_DIFFERENCES, Needs, Server, all, run, run_named};
use kube::config::Config;
use sandbox::api::{Api, serve};
use sandbox::store::{Part, Store, StoreOptions, resource::CONFIG_MAPS};
use sandbox::{Options, Sandbox};
use serde_json::json;

/// Few changes are remembered, so that the first are forgotten soon; more than one case makes.
const CHANGES: usize = 4_000;

fn known() -> Vec<&'static str> {
    KNOWN_DIFFERENCES.iter().map(|(case, _)| *case).collect()
}

fn api() -> Api {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::new(clock, &StoreOptions { change_limit: CHANGES, ..StoreOptions::default() });
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old", "namespace": "default"}});
    store.create(CONFIG_MAPS, "default", map).unwrap();
    for number in 0..=CHANGES {
        let text = number.to_string();
        let change = |object: &mut serde_json::Value| {
            object["data"] = json!({"n": text});
            true
        };
        store.modify(CONFIG_MAPS, "default", "old", Part::Main, change).unwrap();
    }
    Api::new(store)
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_keeps_the_contract_in_process() {
    let server =
        Server { client: api().client(), prefix: "inside".into(), forgotten: "1".into(), at_once: 1 };
    run(&server, Needs::ApiServer, &known()).await.assert_green();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_keeps_the_contract_over_its_socket() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(serve(api(), listener));
    let mut config = Config::new(address.parse().unwrap());
    config.proxy_url = None;
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let server = Server { client, prefix: "socket".into(), forgotten: "1".into(), at_once: 4 };
    run(&server, Needs::ApiServer, &known()).await.assert_green();
    served.abort();
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_with_its_controllers_keeps_the_contract() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let sandbox = Sandbox::start(Options::new(clock, 3)).unwrap();
    let client = sandbox.client("contract");
    let server = Server { client, prefix: "controlled".into(), forgotten: "1".into(), at_once: 1 };
    run(&server, Needs::Controllers, &known()).await.assert_green();
}

/// A difference that is gone is no longer excused, and each is told to users.
#[tokio::test(start_paused = true)]
async fn known_differences_are_there_and_written_down() {
    let server = Server { client: api().client(), prefix: "known".into(), forgotten: "1".into(), at_once: 1 };
    let page = include_str!("../../../docs/sandbox.md");
    for (name, _) in KNOWN_DIFFERENCES {
        assert!(all().iter().any(|case| case.name == *name), "there is no case {name}");
        assert!(run_named(&server, name).await.is_err(), "{name} passes: it is no difference any more");
        assert!(page.contains(name), "docs/sandbox.md does not tell of {name}");
    }
}
