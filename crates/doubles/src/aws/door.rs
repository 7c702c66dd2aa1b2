//! The door before moto: who may do what, what goes wrong on the way, and answers that moto does not give.
//!
//! Owns the understanding of a request as far as that needs it: its service, its action, its group.

use super::{Http, LARGEST_ANSWER, unpoisoned};
use axum::body::Body;
use axum::extract::State as Shared;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

/// The region that everything is in.
pub(super) const REGION: &str = "cn-north-1";
/// Who asks, in refusals.
const PRINCIPAL: &str = "arn:aws:sts::614342226570:assumed-role/eksctl-NodeInstanceRole/i-05fc13d652fcf4d6e";
/// Calls that are remembered.
const MOST_CALLS: usize = 100_000;

/// What goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused for its rate.
    Throttle,
    /// No answer, ever.
    Hang,
    /// An error of the service; nothing was done.
    Error,
    /// Carried out, and the answer lost.
    LoseAnswer,
    /// Refused with a code and a message.
    Refuse { code: &'static str, message: &'static str },
    /// This text instead of moto's answer.
    Answer(String),
}

/// A scaling activity; moto keeps none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    pub id: String,
    pub description: String,
    pub status: &'static str,
    pub message: String,
    /// Such as `2026-01-01T00:00:00Z`.
    pub start: String,
}

/// A call as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As in policies: `autoscaling:SetDesiredCapacity`.
    pub action: String,
    pub body: String,
    pub refused: bool,
}

/// An answer that the door gives itself, for what moto does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canned {
    /// As in policies.
    pub action: &'static str,
    /// What the request's body must contain.
    pub about: String,
    pub answer: String,
}

/// What stands at the door.
#[derive(Default)]
pub struct State {
    /// Actions that may be done; `None` for all.
    pub granted: Option<BTreeSet<String>>,
    /// What goes wrong with the next calls of an action, one each.
    pub faults: BTreeMap<String, VecDeque<Fault>>,
    /// Activities by group, the newest first.
    pub activities: BTreeMap<String, Vec<Activity>>,
    /// Instances that lists leave out.
    pub hidden: BTreeSet<String>,
    /// Instances that lists name twice.
    pub doubled: BTreeSet<String>,
    pub calls: Vec<Seen>,
    /// Answers of the door's own; the last that fits is given.
    pub canned: Vec<Canned>,
    /// Answers to fleets by their tokens: EC2 gives the same again, and moto does not.
    fleets: BTreeMap<String, Bytes>,
}

impl State {
    /// How often an action was asked for.
    pub fn count(&self, action: &str) -> usize {
        self.calls.iter().filter(|call| call.action == action).count()
    }

    /// Actions that were refused for want of a permission.
    pub fn refused(&self) -> BTreeSet<&str> {
        self.calls.iter().filter(|call| call.refused).map(|call| call.action.as_str()).collect()
    }

    /// Lets the next call of an action go wrong.
    pub fn fail(&mut self, action: &str, fault: Fault) {
        self.faults.entry(action.to_owned()).or_default().push_back(fault);
    }
}

pub(super) struct Door {
    moto: String,
    http: Http,
    state: Mutex<State>,
}

impl Door {
    pub(super) fn new(moto: String, http: Http) -> Self {
        Self { moto, http, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(&self.state)
    }

    async fn forward(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> (u16, HeaderMap, Bytes) {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.moto));
        // moto tells services apart by the scope of the signature, not by the host.
        for name in ["authorization", "content-type", "x-amz-date", "x-amz-target"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let Ok(request) = request.body(Full::from(body)) else {
            return (500, HeaderMap::new(), Bytes::new());
        };
        match self.http.request(request).await {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                (parts.status.as_u16(), parts.headers, body)
            }
            Err(error) => (502, HeaderMap::new(), Bytes::from(error.to_string())),
        }
    }
}

pub(super) async fn pass(Shared(door): Shared<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST_ANSWER).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let service = service(&parts.headers);
    let action = format!("{service}:{}", action(&service, &parts, &text));
    let (refused, fault) = {
        let mut state = door.state();
        let refused = state.granted.as_ref().is_some_and(|granted| !granted.contains(&action));
        if state.calls.len() < MOST_CALLS {
            state.calls.push(Seen { action: action.clone(), body: text.clone(), refused });
        }
        let fault = state.faults.get_mut(&action).and_then(VecDeque::pop_front);
        (refused, fault)
    };
    if refused {
        return denied(&service, &action);
    }
    match fault {
        None => {}
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Throttle) => return error(&service, 400, "Throttling", "Rate exceeded"),
        Some(Fault::Error) => return error(&service, 500, "InternalFailure", "try again"),
        Some(Fault::Refuse { code, message }) => return error(&service, 400, code, message),
        Some(Fault::Answer(answer)) => return plain(200, answer),
        Some(Fault::LoseAnswer) => {
            let (_, _, answer) = door.forward(parts.method, &parts.uri, &parts.headers, body).await;
            if action == "ec2:CreateFleet" {
                door.state().fleets.insert(parameter(&text, "ClientToken"), answer);
            }
            return error(&service, 500, "InternalFailure", "the answer was lost");
        }
    }
    if action == "autoscaling:DescribeScalingActivities" {
        let group = parameter(&text, "AutoScalingGroupName");
        let activities = door.state().activities.get(&group).cloned().unwrap_or_default();
        return plain(200, listed(&group, &activities));
    }
    if let Some(canned) = door.state().canned(&action, &text) {
        let is_json = canned.starts_with(['{', '[']);
        let kind = if is_json { "application/x-amz-json-1.1" } else { "text/xml" };
        let response = Response::builder().header("content-type", kind);
        return response.body(Body::from(canned)).unwrap_or_default();
    }
    let token = (action == "ec2:CreateFleet").then(|| parameter(&text, "ClientToken"));
    if let Some(known) = token.as_ref().and_then(|token| door.state().fleets.get(token).cloned()) {
        return plain(200, String::from_utf8_lossy(&known).into_owned());
    }
    let (status, headers, mut answer) = door.forward(parts.method, &parts.uri, &parts.headers, body).await;
    if let Some(token) = token.filter(|token| !token.is_empty() && status == 200) {
        door.state().fleets.insert(token, answer.clone());
    }
    if action == "autoscaling:DescribeAutoScalingGroups" {
        answer = Bytes::from(door.state().distort(&String::from_utf8_lossy(&answer)));
    }
    let mut response = Response::builder().status(status);
    if let Some(kind) = headers.get("content-type") {
        response = response.header("content-type", kind);
    }
    response.body(Body::from(answer)).unwrap_or_default()
}

impl State {
    fn canned(&self, action: &str, body: &str) -> Option<String> {
        let fits = |canned: &&Canned| canned.action == action && decoded(body).contains(&canned.about);
        self.canned.iter().rev().find(fits).map(|canned| canned.answer.clone())
    }

    /// A list with instances left out or named twice.
    fn distort(&self, list: &str) -> String {
        let mut list = list.to_owned();
        for (ids, times) in [(&self.hidden, 0), (&self.doubled, 2)] {
            for id in ids {
                let Some(at) = list.find(&format!("<InstanceId>{id}<")) else { continue };
                let Some(begin) = list[..at].rfind("<member>") else { continue };
                let Some(end) = list[at..].find("</member>").map(|end| at + end + "</member>".len()) else {
                    continue;
                };
                let member = list[begin..end].repeat(times);
                list.replace_range(begin..end, &member);
            }
        }
        list
    }
}

/// The service that a signature is for.
fn service(headers: &HeaderMap) -> String {
    let text = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split('/').nth(3).unwrap_or_default().to_owned()
}

fn action(service: &str, request: &http::request::Parts, body: &str) -> String {
    let target = request.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    match target.and_then(|target| target.rsplit('.').next()) {
        Some(action) => action.to_owned(),
        // The actions of EKS that are used are told by their paths.
        None if service == "eks" && request.uri.path().contains("/node-groups") => {
            "DescribeNodegroup".to_owned()
        }
        None if service == "eks" => "DescribeCluster".to_owned(),
        None => parameter(body, "Action"),
    }
}

/// A parameter of a form, decoded.
fn parameter(body: &str, name: &str) -> String {
    let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    decoded(value.unwrap_or_default())
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => plain.push(b' '),
            b'%' => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                plain.extend(u8::from_str_radix(&digits, 16).ok());
            }
            _ => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A text as a form carries it.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

fn plain(status: u16, text: String) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "text/xml");
    response.body(Body::from(text)).unwrap_or_default()
}

fn denied(service: &str, action: &str) -> Response<Body> {
    let told = format!(
        "User: {PRINCIPAL} is not authorized to perform: {action} because no identity-based policy allows the {action} action"
    );
    match service {
        "ec2" => {
            let told = format!("You are not authorized to perform this operation. {told}");
            error(service, 403, "UnauthorizedOperation", &told)
        }
        "eks" => error(service, 403, "AccessDeniedException", &told),
        _ => error(service, 403, "AccessDenied", &told),
    }
}

fn error(service: &str, status: u16, code: &str, message: &str) -> Response<Body> {
    match service {
        "ec2" => plain(
            status,
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>r</RequestID></Response>"
            ),
        ),
        "eks" => {
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .header("x-amzn-errortype", code);
            let body = serde_json::json!({"message": message}).to_string();
            response.body(Body::from(body)).unwrap_or_default()
        }
        _ => plain(
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>r</RequestId></ErrorResponse>"
            ),
        ),
    }
}

fn listed(group: &str, activities: &[Activity]) -> String {
    let members = activities.iter().fold(String::new(), |mut all, one| {
        let running = one.status == "InProgress";
        let end = if running { String::new() } else { format!("<EndTime>{}</EndTime>", one.start) };
        let _ = write!(
            all,
            "<member><ActivityId>{}</ActivityId><AutoScalingGroupName>{group}</AutoScalingGroupName>\
             <Description>{}</Description><Cause>x</Cause><StartTime>{}</StartTime>{end}\
             <StatusCode>{}</StatusCode><StatusMessage>{}</StatusMessage></member>",
            one.id, one.description, one.start, one.status, one.message
        );
        all
    });
    format!(
        "<DescribeScalingActivitiesResponse><DescribeScalingActivitiesResult><Activities>{members}</Activities>\
         </DescribeScalingActivitiesResult></DescribeScalingActivitiesResponse>"
    )
}
