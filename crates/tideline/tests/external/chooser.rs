//! A program that chooses among purchases by name, and remembers what it was asked.

use clouds::expander::protocol::expander_server::{Expander, ExpanderServer};
use clouds::expander::protocol::{BestOptionsRequest, BestOptionsResponse};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
pub(crate) struct Chooser {
    /// The group that it wants; it is ill without one.
    pub(crate) wants: Arc<Mutex<Option<String>>>,
    pub(crate) asked: Arc<Mutex<Vec<BestOptionsRequest>>>,
}

impl Chooser {
    /// Serves with a certificate and its key, in files; answers the port.
    pub(crate) async fn serve(&self, cert: &str, key: &str) -> u16 {
        let read = |path: &str| std::fs::read(path).unwrap();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(read(cert), read(key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router =
            Server::builder().tls_config(tls).unwrap().add_service(ExpanderServer::new(self.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        port
    }
}

#[tonic::async_trait]
impl Expander for Chooser {
    async fn best_options(
        &self,
        request: Request<BestOptionsRequest>,
    ) -> Result<Response<BestOptionsResponse>, Status> {
        let request = request.into_inner();
        self.asked.lock().unwrap().push(request.clone());
        let wants = self.wants.lock().unwrap().clone();
        let wants = wants.ok_or_else(|| Status::unavailable("not now"))?;
        let options = request.options.into_iter().filter(|option| option.node_group_id == wants).collect();
        Ok(Response::new(BestOptionsResponse { options }))
    }
}
