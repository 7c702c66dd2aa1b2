//! The client of a program that chooses among purchases: Cluster Autoscaler's gRPC expander.
//!
//! Owns the wire form of a question and of its answer, and the limits on asking. When to ask, and what follows from the
//! answer, is others' business.

pub mod protocol;

use crate::calls::{CallLimits, Calls, Failure};
use crate::external::Server;
use crate::external::connection::{Connection, Purpose, failure};
use crate::protobuf;
use model::{NodeTemplate, Pod};
use protocol as wire;
use protocol::expander_client::ExpanderClient;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Largest question and answer; Cluster Autoscaler's.
const LARGEST: usize = 128 << 20;

/// One of the purchases that are chosen among.
#[derive(Clone, Debug)]
pub struct Offer {
    pub group: Arc<str>,
    pub machines: u32,
    pub pods: Vec<Arc<Pod>>,
    pub template: Option<NodeTemplate>,
}

/// The client.
pub struct Expander {
    connection: Connection,
    calls: Calls,
    timeout: Duration,
}

impl Expander {
    /// The error is one sentence that names what is wrong with address or certificate. Must run in a tokio runtime.
    pub fn new(server: Server, limits: CallLimits) -> Result<Self, String> {
        Ok(Self { connection: Connection::open(server)?, calls: Calls::new(limits), timeout: limits.timeout })
    }

    /// The names of the groups that the program chooses; names that were not asked about are left out.
    pub async fn best(&self, offers: &[Offer]) -> Result<Vec<Arc<str>>, Failure> {
        let message = question(offers);
        let call = || async {
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(self.timeout);
            let mut client = ExpanderClient::new(self.connection.channel())
                .max_decoding_message_size(LARGEST)
                .max_encoding_message_size(LARGEST);
            let answer = client.best_options(request).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| failure("BestOptions", Purpose::Read, &status))
        };
        let answer = self.calls.once(call()).await?;
        let named: Vec<String> = answer.options.into_iter().map(|option| option.node_group_id).collect();
        let chosen = offers.iter().filter(|offer| named.iter().any(|name| **name == *offer.group));
        Ok(chosen.map(|offer| offer.group.clone()).collect())
    }
}

fn question(offers: &[Offer]) -> wire::BestOptionsRequest {
    let mut nodes = BTreeMap::new();
    let mut options = Vec::new();
    for offer in offers {
        if let Some(template) = &offer.template {
            let name = format!("template-of-{}", offer.group);
            nodes.insert(offer.group.to_string(), protobuf::node(&name, template));
        }
        let pods: Vec<Vec<u8>> = offer.pods.iter().map(|pod| protobuf::pod(pod)).collect();
        options.push(wire::Option {
            node_group_id: offer.group.to_string(),
            node_count: i32::try_from(offer.machines).unwrap_or(i32::MAX),
            debug: format!("{} machines for {} pods", offer.machines, offer.pods.len()),
            pod: pods.clone(),
            pod_bytes: pods,
        });
    }
    let nodes: std::collections::HashMap<String, Vec<u8>> = nodes.into_iter().collect();
    wire::BestOptionsRequest { options, node_map: nodes.clone(), node_bytes_map: nodes }
}
