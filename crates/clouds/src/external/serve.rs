//! The simulated cloud, offered by the protocol: the other end, for Cluster Autoscaler or for us.
//!
//! Owns who may ask and what each call answers. Nothing is kept between calls: each one reads the cluster's
//! `SimulatedPool`s and `SimulatedMachine`s, and orders are the simulated provider's own.

use super::protocol as wire;
use super::protocol::cloud_provider_server::{CloudProvider, CloudProviderServer};
use super::protocol::instance_status::InstanceState;
use crate::objects::{Objects, is_deleting};
use crate::protobuf;
use crate::simulated::{self, Simulated};
use crate::watching::WatchSettings;
use crate::{OrderAnswer, Provider as _, ProviderError};
use api::simulated::{SimulatedMachine, SimulatedPool};
use clock::Clock;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use model::{
    Buy, IntentId, Lower, Machine, MachineId, MachineState, NodeName, Pool, Release, RemovalCause, Serves,
};
use serde::de::DeserializeOwned;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Requests of one connection that are worked on at once, and the longest that one may take.
const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);
/// Nodes that one call may delete.
const MOST_DELETED: usize = 1_000;
/// Classes of errors, as the protocol numbers them.
const OUT_OF_RESOURCES: i32 = 1;
const OTHER: i32 = 99;

/// Certificates of the server, in files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who must have signed the callers' certificates; without it everybody may call.
    pub clients: Option<PathBuf>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the provider cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{path} cannot be read: {source}; check the path and its rights")]
    Read { path: PathBuf, source: io::Error },
    #[error("the provider ended: {0}")]
    Ended(#[from] tonic::transport::Error),
}

/// Serves until `shutdown` resolves; `bound` is told the address once connections are taken.
pub async fn serve(
    client: Client,
    clock: Clock,
    address: SocketAddr,
    tls: Option<&ServingTls>,
    bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let mut server = Server::builder().concurrency_limit_per_connection(AT_ONCE).timeout(PATIENCE);
    if let Some(tls) = tls {
        let identity = Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?);
        let mut settings = ServerTlsConfig::new().identity(identity);
        if let Some(clients) = &tls.clients {
            settings = settings.client_ca_root(Certificate::from_pem(read(clients)?));
        }
        server = server.tls_config(settings)?;
    }
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    bound(listener.local_addr().map_err(failed)?);
    let service = CloudProviderServer::new(Offer::new(client, clock));
    server
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|source| ServeError::Read { path: path.to_owned(), source })
}

/// What is offered.
struct Offer {
    pools: Objects,
    machines: Objects,
    provider: Simulated,
    clock: Clock,
    /// Sizes come as differences: one change at a time.
    turn: Mutex<()>,
}

impl Offer {
    fn new(client: Client, clock: Clock) -> Self {
        let settings = WatchSettings::default();
        let whole = |resource: &ApiResource, kind| Objects {
            api: Api::<DynamicObject>::all_with(client.clone(), resource),
            kind,
            limit: settings.call_timeout,
        };
        Self {
            pools: whole(&ApiResource::erase::<SimulatedPool>(&()), "SimulatedPool"),
            machines: whole(&ApiResource::erase::<SimulatedMachine>(&()), "SimulatedMachine"),
            provider: Simulated::new(client, clock, settings),
            clock,
            turn: Mutex::new(()),
        }
    }

    async fn pool(&self, id: &str) -> Result<Pool, Status> {
        let found = if id.is_empty() { None } else { self.pools.get(id).await.map_err(|e| status(&e))? };
        let found = found.filter(|pool| !is_deleting(pool));
        let found = found.ok_or_else(|| Status::not_found(format!("there is no SimulatedPool {id}")))?;
        Ok(simulated::read_pool(&typed(found)?))
    }

    /// A pool that may be changed.
    async fn changeable(&self, id: &str) -> Result<Pool, Status> {
        let pool = self.pool(id).await?;
        match &pool.frozen {
            Some(why) => Err(Status::failed_precondition(why.to_string())),
            None => Ok(pool),
        }
    }

    async fn machines_of(&self, pool: &str) -> Result<Vec<Machine>, Status> {
        let selector = format!("{}={pool}", api::labels::POOL);
        let found = self.machines.list(&selector).await.map_err(|error| status(&error))?;
        let found = found.into_iter().map(|object| Ok(intake::simulated_machine(&typed(object)?)));
        found.collect()
    }

    fn intent(&self) -> IntentId {
        IntentId::from(format!("externalgrpc-{}", self.clock.now().as_millisecond()))
    }
}

fn typed<T: DeserializeOwned + kube::Resource>(object: DynamicObject) -> Result<T, Status> {
    let name = object.name_any();
    object.try_parse().map_err(|error| Status::internal(format!("{name} cannot be read: {error}")))
}

fn status(error: &ProviderError) -> Status {
    match error {
        ProviderError::Transient { .. } | ProviderError::Later { .. } => {
            Status::unavailable(error.to_string())
        }
        ProviderError::Refused { .. } => Status::failed_precondition(error.to_string()),
    }
}

fn answered(answer: Result<OrderAnswer, ProviderError>) -> Result<(), Status> {
    match answer {
        Ok(OrderAnswer::Done) => Ok(()),
        Ok(OrderAnswer::Obsolete { why }) => Err(Status::failed_precondition(why.to_string())),
        Err(error) => Err(status(&error)),
    }
}

fn group(pool: &Pool) -> wire::NodeGroup {
    let size = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let debug = match &pool.frozen {
        Some(why) => format!("{}: {why}", pool.name),
        None => format!("{}: {} of {} to {} simulated machines", pool.name, pool.target, pool.min, pool.max),
    };
    wire::NodeGroup { id: pool.name.to_string(), min_size: size(pool.min), max_size: size(pool.max), debug }
}

fn instance(machine: &Machine) -> wire::Instance {
    let (state, error_info) = match &machine.state {
        MachineState::Creating => (InstanceState::InstanceCreating, None),
        MachineState::Running => (InstanceState::InstanceRunning, None),
        MachineState::Deleting => (InstanceState::InstanceDeleting, None),
        MachineState::Failed { code, message } => {
            let short = &**code == "OutOfStock";
            let error = wire::InstanceErrorInfo {
                error_code: code.to_string(),
                error_message: message.to_string(),
                instance_error_class: if short { OUT_OF_RESOURCES } else { OTHER },
            };
            (InstanceState::InstanceCreating, Some(error))
        }
    };
    let status = wire::InstanceStatus { instance_state: state.into(), error_info };
    wire::Instance { id: machine.id.to_string(), status: Some(status) }
}

/// A positive difference of sizes.
fn positive(delta: i32) -> Result<u32, Status> {
    u32::try_from(delta)
        .ok()
        .filter(|delta| *delta > 0)
        .ok_or_else(|| Status::invalid_argument(format!("delta is {delta}; it must point the call's way")))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CloudProvider for Offer {
    async fn node_groups(&self, _: Request<wire::NodeGroupsRequest>) -> Answer<wire::NodeGroupsResponse> {
        let found = self.pools.list("").await.map_err(|error| status(&error))?;
        let mut node_groups = Vec::new();
        for object in found.into_iter().filter(|pool| !is_deleting(pool)) {
            node_groups.push(group(&simulated::read_pool(&typed(object)?)));
        }
        Ok(Response::new(wire::NodeGroupsResponse { node_groups }))
    }

    async fn node_group_for_node(
        &self,
        request: Request<wire::NodeGroupForNodeRequest>,
    ) -> Answer<wire::NodeGroupForNodeResponse> {
        let node = request.into_inner().node.unwrap_or_default();
        // simulated://POOL/MACHINE
        let id = node.provider_id.strip_prefix("simulated://").and_then(|path| path.split_once('/'));
        let node_group = match id {
            None => wire::NodeGroup::default(),
            Some((pool, _)) => match self.pool(pool).await {
                Ok(pool) => group(&pool),
                Err(status) if status.code() == tonic::Code::NotFound => wire::NodeGroup::default(),
                Err(status) => return Err(status),
            },
        };
        Ok(Response::new(wire::NodeGroupForNodeResponse { node_group: Some(node_group) }))
    }

    async fn pricing_node_price(
        &self,
        request: Request<wire::PricingNodePriceRequest>,
    ) -> Answer<wire::PricingNodePriceResponse> {
        let request = request.into_inner();
        let node = request.node.unwrap_or_default();
        let pool = self.pool(node.labels.get(api::labels::POOL).map_or("", String::as_str)).await?;
        let moment = |time: Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
        let seconds = moment(request.end_timestamp).saturating_sub(moment(request.start_timestamp)).max(0);
        let price = pool.price.0 as f64 / 1e6 * (seconds as f64 / 3600.0);
        Ok(Response::new(wire::PricingNodePriceResponse { price }))
    }

    async fn pricing_pod_price(
        &self,
        _: Request<wire::PricingPodPriceRequest>,
    ) -> Answer<wire::PricingPodPriceResponse> {
        Err(Status::unimplemented("simulated machines have prices, pods have none"))
    }

    async fn gpu_label(&self, _: Request<wire::GpuLabelRequest>) -> Answer<wire::GpuLabelResponse> {
        Ok(Response::new(wire::GpuLabelResponse::default()))
    }

    async fn get_available_gpu_types(
        &self,
        _: Request<wire::GetAvailableGpuTypesRequest>,
    ) -> Answer<wire::GetAvailableGpuTypesResponse> {
        Ok(Response::new(wire::GetAvailableGpuTypesResponse::default()))
    }

    async fn cleanup(&self, _: Request<wire::CleanupRequest>) -> Answer<wire::CleanupResponse> {
        Ok(Response::new(wire::CleanupResponse {}))
    }

    async fn refresh(&self, _: Request<wire::RefreshRequest>) -> Answer<wire::RefreshResponse> {
        Ok(Response::new(wire::RefreshResponse {}))
    }

    async fn node_group_target_size(
        &self,
        request: Request<wire::NodeGroupTargetSizeRequest>,
    ) -> Answer<wire::NodeGroupTargetSizeResponse> {
        let pool = self.pool(&request.into_inner().id).await?;
        let target_size = i32::try_from(pool.target).unwrap_or(i32::MAX);
        Ok(Response::new(wire::NodeGroupTargetSizeResponse { target_size }))
    }

    async fn node_group_increase_size(
        &self,
        request: Request<wire::NodeGroupIncreaseSizeRequest>,
    ) -> Answer<wire::NodeGroupIncreaseSizeResponse> {
        let request = request.into_inner();
        let by = positive(request.delta)?;
        let _turn = self.turn.lock().await;
        let pool = self.changeable(&request.id).await?;
        let order = Buy {
            intent: self.intent(),
            pool: pool.id.clone(),
            from: pool.target,
            to: pool.target.saturating_add(by),
            max: pool.max,
            serves: Serves::default(),
            launches: Vec::new(),
        };
        answered(self.provider.buy(&order).await)?;
        Ok(Response::new(wire::NodeGroupIncreaseSizeResponse {}))
    }

    async fn node_group_delete_nodes(
        &self,
        request: Request<wire::NodeGroupDeleteNodesRequest>,
    ) -> Answer<wire::NodeGroupDeleteNodesResponse> {
        let request = request.into_inner();
        if request.nodes.is_empty() || request.nodes.len() > MOST_DELETED {
            let text = format!("{} nodes are named; name 1 to {MOST_DELETED}", request.nodes.len());
            return Err(Status::invalid_argument(text));
        }
        let _turn = self.turn.lock().await;
        let pool = self.changeable(&request.id).await?;
        let known = self.machines_of(&request.id).await?;
        let staying =
            |id: &str| known.iter().any(|one| one.id.as_str() == id && one.state != MachineState::Deleting);
        // All or nothing where that can be known beforehand.
        let named = request.nodes.iter().map(|node| node.provider_id.as_str());
        if let Some(foreign) = named.clone().find(|id| !staying(id)) {
            return Err(Status::not_found(format!("{foreign} is no machine of {}", request.id)));
        }
        if pool.target.saturating_sub(request.nodes.len() as u32) < pool.min {
            let text = format!("{} would be under its minimum of {}", request.id, pool.min);
            return Err(Status::failed_precondition(text));
        }
        for id in named {
            let order = Release {
                intent: self.intent(),
                pool: pool.id.clone(),
                machine: MachineId::from(id),
                node: None::<NodeName>,
                cause: RemovalCause::Empty,
                min: pool.min,
            };
            answered(self.provider.release(&order).await)?;
        }
        Ok(Response::new(wire::NodeGroupDeleteNodesResponse {}))
    }

    async fn node_group_decrease_target_size(
        &self,
        request: Request<wire::NodeGroupDecreaseTargetSizeRequest>,
    ) -> Answer<wire::NodeGroupDecreaseTargetSizeResponse> {
        let request = request.into_inner();
        let by = positive(request.delta.saturating_neg())?;
        let _turn = self.turn.lock().await;
        let pool = self.changeable(&request.id).await?;
        let to = pool.target.checked_sub(by).ok_or_else(|| {
            Status::failed_precondition(format!("{} is asked for {} machines only", request.id, pool.target))
        })?;
        let order = Lower { intent: self.intent(), pool: pool.id.clone(), from: pool.target, to };
        answered(self.provider.lower(&order).await)?;
        Ok(Response::new(wire::NodeGroupDecreaseTargetSizeResponse {}))
    }

    async fn node_group_nodes(
        &self,
        request: Request<wire::NodeGroupNodesRequest>,
    ) -> Answer<wire::NodeGroupNodesResponse> {
        let pool = self.pool(&request.into_inner().id).await?;
        let machines = self.machines_of(&pool.name).await?;
        let instances = machines.iter().map(instance).collect();
        Ok(Response::new(wire::NodeGroupNodesResponse { instances }))
    }

    async fn node_group_template_node_info(
        &self,
        request: Request<wire::NodeGroupTemplateNodeInfoRequest>,
    ) -> Answer<wire::NodeGroupTemplateNodeInfoResponse> {
        let pool = self.changeable(&request.into_inner().id).await?;
        let Some(template) = &pool.template else {
            return Err(Status::failed_precondition(format!("{} has no template", pool.name)));
        };
        let bytes = protobuf::node(&format!("{}-new", pool.name), template);
        Ok(Response::new(wire::NodeGroupTemplateNodeInfoResponse {
            node_info: bytes.clone(),
            node_bytes: bytes,
            resource_slice_bytes: Vec::new(),
        }))
    }

    async fn node_group_get_options(
        &self,
        request: Request<wire::NodeGroupAutoscalingOptionsRequest>,
    ) -> Answer<wire::NodeGroupAutoscalingOptionsResponse> {
        let request = request.into_inner();
        let pool = self.pool(&request.id).await?;
        let mut options = request.defaults.unwrap_or_default();
        let given = &pool.options;
        if let Some(percent) = given.utilization_threshold_percent {
            options.scale_down_utilization_threshold = f64::from(percent) / 100.0;
        }
        let both = |wait: jiff::SignedDuration| {
            let new = prost_types::Duration { seconds: wait.as_secs(), nanos: wait.subsec_nanos() };
            let nanoseconds = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
            (Some(new), Some(wire::OldDuration { nanoseconds }))
        };
        if let Some(wait) = given.unneeded_time {
            (options.scale_down_unneeded_duration, options.scale_down_unneeded_time) = both(wait);
        }
        if let Some(wait) = given.unready_time {
            (options.scale_down_unready_duration, options.scale_down_unready_time) = both(wait);
        }
        if let Some(wait) = given.max_provision_time {
            (options.max_node_provision_duration, options.max_node_provision_time) = both(wait);
        }
        let node_group_autoscaling_options = Some(options);
        Ok(Response::new(wire::NodeGroupAutoscalingOptionsResponse { node_group_autoscaling_options }))
    }
}
