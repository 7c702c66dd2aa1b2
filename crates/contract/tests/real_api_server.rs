//! The suite against the real control plane, where that was asked for.

use contract::{Needs, Server, client_of, run};
use testbed::{ControlPlane, Options};

#[tokio::test(flavor = "multi_thread")]
async fn the_real_api_server_keeps_the_contract() {
    if !testbed::wanted("the contract suite against the real API server") {
        return;
    }
    let options = Options { audit: false, scheduler: false, controllers: false, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    let client = client_of(cluster.kubeconfig()).await;
    // What happened while the API server started is before anything that its caches hold.
    let server = Server { client, prefix: "contract".into(), forgotten: "1".into(), at_once: 8 };
    run(&server, Needs::ApiServer, &[]).await.assert_green();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_controllers_keep_the_contract() {
    if !testbed::wanted("the contract suite against the real controllers") {
        return;
    }
    let options = Options { audit: false, scheduler: false, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    let client = client_of(cluster.kubeconfig()).await;
    let server = Server { client, prefix: "controlled".into(), forgotten: "1".into(), at_once: 8 };
    run(&server, Needs::Controllers, &[]).await.assert_green();
}
