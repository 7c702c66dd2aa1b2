//! The calls of the protocol, one function each, in our words.
//!
//! Owns the limits on calls and the bounds on what an answer may hold. Whether an answer makes sense is `view`'s and
//! `facts`' business.

use super::connection::{Connection, Purpose, Server, failure};
use super::protocol as wire;
use super::protocol::cloud_provider_client::CloudProviderClient;
use crate::calls::{CallLimits, Calls, Failure, FailureKind};
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Largest answer: a hundred thousand machines with ids of a hundred letters, several times over.
const LARGEST_ANSWER: usize = 64 << 20;
/// Groups and machines that are believed; more is an error of the program's.
const MOST_GROUPS: usize = 2_000;
const MOST_MACHINES: usize = 100_000;

pub(super) struct Asked {
    connection: Connection,
    calls: Calls,
    timeout: Duration,
}

/// A call's name with the group it is about.
fn named(call: &str, group: &str) -> String {
    if group.is_empty() { call.to_owned() } else { format!("{call} of {group}") }
}

impl Asked {
    pub(super) fn new(server: Server, limits: CallLimits) -> Result<Self, String> {
        let connection = Connection::open(server)?;
        Ok(Self { connection, calls: Calls::new(limits), timeout: limits.timeout })
    }

    fn client(&self) -> CloudProviderClient<Channel> {
        CloudProviderClient::new(self.connection.channel()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// A request that the server need not go on with once we wait no more.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    async fn read<T, F>(&self, call: &str, group: &str, send: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let once = || async {
            let answer = send().await;
            answer
                .map(Response::into_inner)
                .map_err(|status| failure(&named(call, group), Purpose::Read, &status))
        };
        self.calls.read(once).await
    }

    async fn change<T>(
        &self,
        call: &str,
        group: &str,
        send: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<(), Failure> {
        let once = async {
            let answer = send.await;
            answer.map(drop).map_err(|status| failure(&named(call, group), Purpose::Change, &status))
        };
        self.calls.once(once).await
    }

    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let send = || async { self.client().refresh(self.request(wire::RefreshRequest {})).await };
        self.read("Refresh", "", send).await.map(drop)
    }

    pub(super) async fn groups(&self) -> Result<Vec<wire::NodeGroup>, Failure> {
        let send = || async { self.client().node_groups(self.request(wire::NodeGroupsRequest {})).await };
        let groups = self.read("NodeGroups", "", send).await?.node_groups;
        within(groups, MOST_GROUPS, "NodeGroups")
    }

    pub(super) async fn target(&self, group: &str) -> Result<u32, Failure> {
        let message = || wire::NodeGroupTargetSizeRequest { id: group.to_owned() };
        let send = || async { self.client().node_group_target_size(self.request(message())).await };
        let size = self.read("NodeGroupTargetSize", group, send).await?.target_size;
        u32::try_from(size).map_err(|_| {
            let message = format!("NodeGroupTargetSize of {group}: {size} is no number of nodes");
            Failure::new(FailureKind::Refused, "BadAnswer", message)
        })
    }

    pub(super) async fn machines(&self, group: &str) -> Result<Vec<wire::Instance>, Failure> {
        let message = || wire::NodeGroupNodesRequest { id: group.to_owned() };
        let send = || async { self.client().node_group_nodes(self.request(message())).await };
        let machines = self.read("NodeGroupNodes", group, send).await?.instances;
        within(machines, MOST_MACHINES, "NodeGroupNodes")
    }

    /// The new node in protobuf form, and whether devices come with it; `None` where the program has no such call.
    pub(super) async fn template(&self, group: &str) -> Result<Option<(Vec<u8>, bool)>, Failure> {
        let message = || wire::NodeGroupTemplateNodeInfoRequest { id: group.to_owned() };
        let send = || async { self.client().node_group_template_node_info(self.request(message())).await };
        let answer = optional(self.read("NodeGroupTemplateNodeInfo", group, send).await)?;
        Ok(answer.and_then(|answer| {
            let bytes = if answer.node_bytes.is_empty() { answer.node_info } else { answer.node_bytes };
            (!bytes.is_empty()).then_some((bytes, !answer.resource_slice_bytes.is_empty()))
        }))
    }

    pub(super) async fn options(
        &self,
        group: &str,
        defaults: &wire::NodeGroupAutoscalingOptions,
    ) -> Result<Option<wire::NodeGroupAutoscalingOptions>, Failure> {
        let message =
            || wire::NodeGroupAutoscalingOptionsRequest { id: group.to_owned(), defaults: Some(*defaults) };
        let send = || async { self.client().node_group_get_options(self.request(message())).await };
        let answer = optional(self.read("NodeGroupGetOptions", group, send).await)?;
        Ok(answer.and_then(|answer| answer.node_group_autoscaling_options))
    }

    /// What a node with these labels costs from `now` for an hour.
    pub(super) async fn price(
        &self,
        group: &str,
        labels: &HashMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<f64>, Failure> {
        let moment = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        let message = || wire::PricingNodePriceRequest {
            node: Some(wire::ExternalGrpcNode {
                name: format!("template-of-{group}"),
                labels: labels.clone(),
                ..wire::ExternalGrpcNode::default()
            }),
            start_timestamp: Some(moment(now.as_second())),
            end_timestamp: Some(moment(now.as_second() + 3600)),
        };
        let send = || async { self.client().pricing_node_price(self.request(message())).await };
        Ok(optional(self.read("PricingNodePrice", group, send).await)?.map(|answer| answer.price))
    }

    pub(super) async fn increase(&self, group: &str, by: i32) -> Result<(), Failure> {
        let message = wire::NodeGroupIncreaseSizeRequest { delta: by, id: group.to_owned() };
        let mut client = self.client();
        self.change("NodeGroupIncreaseSize", group, client.node_group_increase_size(self.request(message)))
            .await
    }

    pub(super) async fn decrease(&self, group: &str, by: i32) -> Result<(), Failure> {
        let message = wire::NodeGroupDecreaseTargetSizeRequest { delta: -by, id: group.to_owned() };
        let mut client = self.client();
        let send = client.node_group_decrease_target_size(self.request(message));
        self.change("NodeGroupDecreaseTargetSize", group, send).await
    }

    pub(super) async fn delete(&self, group: &str, node: wire::ExternalGrpcNode) -> Result<(), Failure> {
        let message = wire::NodeGroupDeleteNodesRequest { nodes: vec![node], id: group.to_owned() };
        let mut client = self.client();
        self.change("NodeGroupDeleteNodes", group, client.node_group_delete_nodes(self.request(message)))
            .await
    }
}

/// Calls that a program may leave out.
fn optional<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if &*failure.code == "Unimplemented" => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn within<T>(list: Vec<T>, most: usize, call: &str) -> Result<Vec<T>, Failure> {
    if list.len() > most {
        let message = format!("{call}: {} entries, more than the {most} that are believed", list.len());
        return Err(Failure::new(FailureKind::Refused, "BadAnswer", message));
    }
    Ok(list)
}
