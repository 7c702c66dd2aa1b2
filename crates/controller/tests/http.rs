//! The read-only HTTP surface, on a real socket of the loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use world::{Machines, World, config};

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn probes_metrics_and_state_are_served() {
    let world = World::new(Machines::Simulated).await;
    let controller = world.controller(world.sandbox.client("tideline"), config());
    let handle = controller.handle();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = controller::router(handle.clone());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let early = get(address, "/readyz").await;
    assert!(early.starts_with("HTTP/1.1 503") && early.contains("waiting for"), "{early}");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(async { drop(stopped.await) }));
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while handle.not_ready().is_some() {
        assert!(tokio::time::Instant::now() < end, "never ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").await.contains("ok: leading"));
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("# EOF") && metrics.contains("tideline_leader 1"), "{metrics}");
    let state = get(address, "/api/v1/state").await;
    assert!(state.contains("\"leading\":true"), "{state}");
    assert!(get(address, "/api/v1/nothing").await.starts_with("HTTP/1.1 404"));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut pushed = Vec::new();
    while !String::from_utf8_lossy(&pushed).contains("event: state") {
        let mut bytes = [0; 4096];
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "the stream ended");
        pushed.extend_from_slice(&bytes[..read]);
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 500"));
    server.abort();
}
