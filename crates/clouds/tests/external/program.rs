//! A program that speaks the externalgrpc protocol, holds groups in memory, and fails on demand.

use clouds::external::protocol as wire;
use clouds::external::protocol::cloud_provider_server::{CloudProvider, CloudProviderServer};
use clouds::external::protocol::instance_status::InstanceState;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub(crate) const RUNNING: Machine = Machine { state: InstanceState::InstanceRunning, code: "" };
pub(crate) const CREATING: Machine = Machine { state: InstanceState::InstanceCreating, code: "" };
pub(crate) const FAILED: Machine = Machine { state: InstanceState::InstanceCreating, code: "SoldOut" };

#[derive(Clone, Copy)]
pub(crate) struct Machine {
    state: InstanceState,
    code: &'static str,
}

/// A node of four cores and 16 GiB, labelled tier=web, in Kubernetes' protobuf form.
fn node() -> Vec<u8> {
    let label = [&[10, 4][..], b"tier", &[18, 3], b"web"].concat();
    let metadata = [&[90, label.len() as u8][..], &label].concat();
    let amount = |name: &str, value: &str| {
        let quantity = [&[10, value.len() as u8][..], value.as_bytes()].concat();
        let entry =
            [&[10, name.len() as u8][..], name.as_bytes(), &[18, quantity.len() as u8], &quantity].concat();
        [&[18, entry.len() as u8][..], &entry].concat()
    };
    let status = [amount("cpu", "4"), amount("memory", "16Gi"), amount("pods", "58")].concat();
    [&[10, metadata.len() as u8][..], &metadata, &[26, status.len() as u8], &status].concat()
}

#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) min: i32,
    pub(crate) max: i32,
    pub(crate) target: i32,
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) template: Vec<u8>,
    /// Leaves out what a program may leave out.
    pub(crate) without_extras: bool,
    pub(crate) wants_all_or_none: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            min: 0,
            max: 0,
            target: 0,
            machines: BTreeMap::new(),
            template: node(),
            without_extras: false,
            wants_all_or_none: false,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Fault {
    Unavailable,
    Exhausted,
    /// No answer, and nothing is done.
    Silent,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// An answer with nothing in it.
    Empty,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<String, Group>,
    /// By call and group; a group of `*` is any.
    faults: BTreeMap<(String, String), (Fault, bool)>,
    calls: BTreeMap<String, u32>,
}

#[derive(Clone, Default)]
pub(crate) struct Program {
    state: Arc<Mutex<State>>,
}

impl Program {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn add(&self, name: &str, group: Group) {
        self.state().groups.insert(name.to_owned(), group);
    }

    pub(crate) fn target(&self, name: &str) -> i32 {
        self.state().groups[name].target
    }

    pub(crate) fn count(&self, call: &str) -> u32 {
        self.state().calls.get(call).copied().unwrap_or(0)
    }

    /// The next such call fails.
    pub(crate) fn fault(&self, call: &str, fault: Fault) {
        self.state().faults.insert((call.to_owned(), "*".to_owned()), (fault, true));
    }

    pub(crate) fn fault_for_good(&self, call: &str, fault: Fault) {
        self.state().faults.insert((call.to_owned(), "*".to_owned()), (fault, false));
    }

    pub(crate) fn fault_of(&self, group: &str, call: &str, fault: Fault) {
        self.state().faults.insert((call.to_owned(), group.to_owned()), (fault, false));
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Waits until single faults were met.
    pub(crate) async fn until_used(&self, calls: &[&str]) {
        let unused = |state: &State| {
            calls.iter().any(|call| state.faults.contains_key(&((*call).to_owned(), "*".to_owned())))
        };
        let wait = async {
            while unused(&self.state()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(super::DEADLINE, wait).await.unwrap();
    }

    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = CloudProviderServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    /// Counts a call, and does or answers with `act` unless a fault comes first.
    async fn answer<T: Default>(
        &self,
        call: &str,
        group: &str,
        act: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let fault = {
            let mut state = self.state();
            *state.calls.entry(call.to_owned()).or_default() += 1;
            let keys = [(call.to_owned(), group.to_owned()), (call.to_owned(), "*".to_owned())];
            let key = keys.into_iter().find(|key| state.faults.contains_key(key));
            let found = key.as_ref().and_then(|key| state.faults.get(key).copied());
            if let (Some(key), Some((_, true))) = (key, found) {
                state.faults.remove(&key);
            }
            found.map(|(fault, _)| fault)
        };
        match fault {
            None => act(&mut self.state()).map(Response::new),
            Some(Fault::Empty) => Ok(Response::new(T::default())),
            Some(Fault::Unavailable) => Err(Status::unavailable("busy elsewhere")),
            Some(Fault::Exhausted) => Err(Status::resource_exhausted("sold out")),
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::AnswerLost) => {
                act(&mut self.state())?;
                std::future::pending().await
            }
        }
    }
}

fn known<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Group, Status> {
    state.groups.get_mut(id).ok_or_else(|| Status::not_found(format!("no group {id}")))
}

fn unimplemented<T>(state: &mut State, id: &str, answer: impl FnOnce(&Group) -> T) -> Result<T, Status> {
    let group = known(state, id)?;
    if group.without_extras { Err(Status::unimplemented("no such call")) } else { Ok(answer(group)) }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CloudProvider for Program {
    async fn node_groups(&self, _: Request<wire::NodeGroupsRequest>) -> Answer<wire::NodeGroupsResponse> {
        self.answer("NodeGroups", "", |state| {
            let groups = state.groups.iter();
            let node_groups = groups.map(|(id, group)| wire::NodeGroup {
                id: id.clone(),
                min_size: group.min,
                max_size: group.max,
                debug: String::new(),
            });
            Ok(wire::NodeGroupsResponse { node_groups: node_groups.collect() })
        })
        .await
    }

    async fn node_group_for_node(
        &self,
        _: Request<wire::NodeGroupForNodeRequest>,
    ) -> Answer<wire::NodeGroupForNodeResponse> {
        Err(Status::unimplemented("not asked"))
    }

    async fn pricing_node_price(
        &self,
        request: Request<wire::PricingNodePriceRequest>,
    ) -> Answer<wire::PricingNodePriceResponse> {
        let tier = request.into_inner().node.unwrap().labels.get("tier").cloned();
        self.answer("PricingNodePrice", "", |_| match tier.as_deref() {
            Some("web") => Ok(wire::PricingNodePriceResponse { price: 0.192 }),
            _ => Err(Status::unimplemented("no such call")),
        })
        .await
    }

    async fn pricing_pod_price(
        &self,
        _: Request<wire::PricingPodPriceRequest>,
    ) -> Answer<wire::PricingPodPriceResponse> {
        Err(Status::unimplemented("not asked"))
    }

    async fn gpu_label(&self, _: Request<wire::GpuLabelRequest>) -> Answer<wire::GpuLabelResponse> {
        Err(Status::unimplemented("not asked"))
    }

    async fn get_available_gpu_types(
        &self,
        _: Request<wire::GetAvailableGpuTypesRequest>,
    ) -> Answer<wire::GetAvailableGpuTypesResponse> {
        Err(Status::unimplemented("not asked"))
    }

    async fn cleanup(&self, _: Request<wire::CleanupRequest>) -> Answer<wire::CleanupResponse> {
        Err(Status::unimplemented("not asked"))
    }

    async fn refresh(&self, _: Request<wire::RefreshRequest>) -> Answer<wire::RefreshResponse> {
        self.answer("Refresh", "", |_| Ok(wire::RefreshResponse {})).await
    }

    async fn node_group_target_size(
        &self,
        request: Request<wire::NodeGroupTargetSizeRequest>,
    ) -> Answer<wire::NodeGroupTargetSizeResponse> {
        let id = request.into_inner().id;
        self.answer("NodeGroupTargetSize", &id, |state| {
            Ok(wire::NodeGroupTargetSizeResponse { target_size: known(state, &id)?.target })
        })
        .await
    }

    async fn node_group_increase_size(
        &self,
        request: Request<wire::NodeGroupIncreaseSizeRequest>,
    ) -> Answer<wire::NodeGroupIncreaseSizeResponse> {
        let request = request.into_inner();
        self.answer("NodeGroupIncreaseSize", &request.id, |state| {
            known(state, &request.id)?.target += request.delta;
            Ok(wire::NodeGroupIncreaseSizeResponse {})
        })
        .await
    }

    async fn node_group_delete_nodes(
        &self,
        request: Request<wire::NodeGroupDeleteNodesRequest>,
    ) -> Answer<wire::NodeGroupDeleteNodesResponse> {
        let request = request.into_inner();
        self.answer("NodeGroupDeleteNodes", &request.id, |state| {
            let group = known(state, &request.id)?;
            for node in &request.nodes {
                let removed = group.machines.remove(&node.provider_id);
                removed.ok_or_else(|| Status::not_found("no such machine"))?;
                group.target -= 1;
            }
            Ok(wire::NodeGroupDeleteNodesResponse {})
        })
        .await
    }

    async fn node_group_decrease_target_size(
        &self,
        request: Request<wire::NodeGroupDecreaseTargetSizeRequest>,
    ) -> Answer<wire::NodeGroupDecreaseTargetSizeResponse> {
        let request = request.into_inner();
        self.answer("NodeGroupDecreaseTargetSize", &request.id, |state| {
            assert!(request.delta < 0, "the protocol lowers by negative differences");
            known(state, &request.id)?.target += request.delta;
            Ok(wire::NodeGroupDecreaseTargetSizeResponse {})
        })
        .await
    }

    async fn node_group_nodes(
        &self,
        request: Request<wire::NodeGroupNodesRequest>,
    ) -> Answer<wire::NodeGroupNodesResponse> {
        let id = request.into_inner().id;
        self.answer("NodeGroupNodes", &id, |state| {
            let machines = known(state, &id)?.machines.iter();
            let instances = machines.map(|(id, machine)| wire::Instance {
                id: id.clone(),
                status: Some(wire::InstanceStatus {
                    instance_state: machine.state.into(),
                    error_info: Some(wire::InstanceErrorInfo {
                        error_code: machine.code.to_owned(),
                        ..wire::InstanceErrorInfo::default()
                    }),
                }),
            });
            Ok(wire::NodeGroupNodesResponse { instances: instances.collect() })
        })
        .await
    }

    async fn node_group_template_node_info(
        &self,
        request: Request<wire::NodeGroupTemplateNodeInfoRequest>,
    ) -> Answer<wire::NodeGroupTemplateNodeInfoResponse> {
        let id = request.into_inner().id;
        self.answer("NodeGroupTemplateNodeInfo", &id, |state| {
            unimplemented(state, &id, |group| wire::NodeGroupTemplateNodeInfoResponse {
                node_bytes: group.template.clone(),
                ..wire::NodeGroupTemplateNodeInfoResponse::default()
            })
        })
        .await
    }

    async fn node_group_get_options(
        &self,
        request: Request<wire::NodeGroupAutoscalingOptionsRequest>,
    ) -> Answer<wire::NodeGroupAutoscalingOptionsResponse> {
        let request = request.into_inner();
        self.answer("NodeGroupGetOptions", &request.id, |state| {
            unimplemented(state, &request.id, |group| {
                let mut options = request.defaults.unwrap_or_default();
                options.zero_or_max_node_scaling = group.wants_all_or_none;
                wire::NodeGroupAutoscalingOptionsResponse { node_group_autoscaling_options: Some(options) }
            })
        })
        .await
    }
}
