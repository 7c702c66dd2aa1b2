//! Interruptions: what `EventBridge` puts into a queue of SQS is heard and told as notices of machines.
//!
//! Owns the reading of messages and their end. A message is deleted only once it was acted on: its claim is being
//! deleted, or the machine is marked. What is not about a machine of ours, or cannot be read, is deleted at once.

use super::compute::Instance;
use super::{AT_RISK, NODE_CLAIM, Shared, held};
use api::karpenter::NodeClaim;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::Message;
use claims::cloud::Notice;
use clouds::aws::failure;
use clouds::calls::{Calls, Failure};
use clouds::watching::{code, within};
use futures::StreamExt as _;
use futures::stream;
use kube::Api;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const WAIT_SECONDS: i32 = 20;
const AT_ONCE: i32 = 10;
/// While a message is worked on nobody else is given it.
const HIDDEN_SECONDS: i32 = 30;
/// How long the end of a claim is waited for before the message comes again.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const TRY_AGAIN: Duration = Duration::from_secs(10);
const WHILE_OTHERS_LEAD: Duration = Duration::from_secs(2);

/// What a message says of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
struct News {
    instances: Vec<String>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Ends { reason: &'static str, message: String, short: bool },
    AtRisk { message: String },
}

/// Reads a message; the error says what is wrong with it. `None`: it is about nothing that we act on.
fn read(body: &str) -> Result<Option<News>, String> {
    let message: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let text = |at: &str| message.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let one = || vec![text("/detail/instance-id").to_owned()];
    let ends = |reason, message: String, short| What::Ends { reason, message, short };
    let (instances, what) = match (text("/source"), text("/detail-type")) {
        ("", _) | (_, "") => return Err("it has no source or no detail-type".to_owned()),
        ("aws.ec2", "EC2 Spot Instance Interruption Warning") => {
            let told = "EC2 takes the spot machine back in two minutes".to_owned();
            (one(), ends("SpotInterrupted", told, true))
        }
        ("aws.ec2", "EC2 Instance Rebalance Recommendation") => {
            let told = "EC2 says that the spot machine is likely to be taken back".to_owned();
            (one(), What::AtRisk { message: told })
        }
        ("aws.ec2", "EC2 Instance State-change Notification") => {
            let state = text("/detail/state");
            let reason = match state {
                "stopping" | "stopped" => "InstanceStopping",
                "shutting-down" | "terminated" => "InstanceTerminating",
                _ => return Ok(None),
            };
            (one(), ends(reason, format!("EC2 says that the machine is {state}"), false))
        }
        ("aws.health", "AWS Health Event") => {
            let of_ec2 = text("/detail/service") == "EC2";
            if !of_ec2 || text("/detail/eventTypeCategory") != "scheduledChange" {
                return Ok(None);
            }
            let entities = message.pointer("/detail/affectedEntities").and_then(Value::as_array);
            let ids = entities.into_iter().flatten().filter_map(|one| one.get("entityValue")?.as_str());
            let told = format!("AWS Health: {}", text("/detail/eventTypeCode"));
            (ids.map(str::to_owned).collect(), ends("ScheduledChange", told, false))
        }
        _ => return Ok(None),
    };
    let instances: Vec<String> = instances.into_iter().filter(|id| id.starts_with("i-")).collect();
    if instances.is_empty() {
        return Err("it names no instance".to_owned());
    }
    Ok(Some(News { instances, what }))
}

pub(super) async fn follow(shared: Arc<Shared>, client: Client, name: String) {
    let calls = Calls::new(clouds::calls::CallLimits {
        timeout: Duration::from_secs(u64::from(WAIT_SECONDS.unsigned_abs()) + 10),
        ..shared.settings.limits
    });
    let mut url = None;
    while shared.is_wanted() {
        if !(shared.leads)() || shared.list.borrow().is_none() {
            tokio::time::sleep(WHILE_OTHERS_LEAD).await;
            continue;
        }
        let result = match &url {
            None => address(&client, &calls, &name).await.map(|found| {
                tracing::info!(queue = name, "hearing of interruptions");
                url = Some(found);
            }),
            Some(url) => take(&shared, &client, &calls, url).await,
        };
        if let Err(why) = result {
            tracing::warn!(%why, queue = name, "the queue of interruptions is not heard; tried again");
            tokio::time::sleep(TRY_AGAIN.min(shared.settings.pace.classes)).await;
        }
    }
}

async fn address(client: &Client, calls: &Calls, name: &str) -> Result<String, Failure> {
    let call = || async {
        let sent = Box::pin(client.get_queue_url().queue_name(name).send()).await;
        sent.map_err(|error| failure("sqs:GetQueueUrl", &error))
    };
    Ok(calls.read(call).await?.queue_url.unwrap_or_default())
}

async fn take(shared: &Shared, client: &Client, calls: &Calls, url: &str) -> Result<(), Failure> {
    let call = async {
        let request = client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(AT_ONCE)
            .visibility_timeout(HIDDEN_SECONDS)
            .wait_time_seconds(WAIT_SECONDS);
        Box::pin(request.send()).await.map_err(|error| failure("sqs:ReceiveMessage", &error))
    };
    let messages = calls.once(call).await?.messages.unwrap_or_default();
    let each = messages.into_iter().map(|message| one(shared, client, calls, url, message));
    let results: Vec<Result<(), Failure>> =
        stream::iter(each).buffer_unordered(AT_ONCE.unsigned_abs() as usize).collect().await;
    results.into_iter().collect()
}

async fn one(
    shared: &Shared,
    client: &Client,
    calls: &Calls,
    url: &str,
    message: Message,
) -> Result<(), Failure> {
    let done = match read(message.body().unwrap_or_default()) {
        Ok(None) => true,
        Err(why) => {
            tracing::warn!(why, "a message of the queue cannot be read; it is deleted");
            true
        }
        Ok(Some(news)) => act(shared, &news).await,
    };
    let Some(receipt) = message.receipt_handle.filter(|_| done) else { return Ok(()) };
    let call = async {
        let sent = Box::pin(client.delete_message().queue_url(url).receipt_handle(&receipt).send()).await;
        sent.map_err(|error| failure("sqs:DeleteMessage", &error))
    };
    calls.once(call).await.map(drop)
}

/// True when everything that follows from it is done, so that the message may go.
async fn act(shared: &Shared, news: &News) -> bool {
    let ours: Vec<Instance> = {
        let state = shared.state();
        let is_named = |instance: &Instance| news.instances.contains(&instance.id);
        state.held.values().map(|seen| seen.instance.clone()).filter(is_named).collect()
    };
    let mut done = true;
    for instance in ours {
        tracing::info!(instance = instance.id, news = ?news.what, "EC2 tells of a machine");
        done &= match &news.what {
            What::AtRisk { message } => mark(shared, &instance, message).await,
            What::Ends { reason, message, short } => {
                let notice = Notice::Ends { reason, message: message.clone(), short: *short };
                shared.state().ending.insert(instance.id.clone(), notice);
                held::show(shared, None);
                goes(shared, instance.tags.get(NODE_CLAIM).map_or("", String::as_str)).await
            }
        };
    }
    done
}

/// Notes on the machine itself that it is at risk, so that it is not forgotten with this process.
async fn mark(shared: &Shared, instance: &Instance, message: &str) -> bool {
    if instance.tags.contains_key(AT_RISK) {
        return true;
    }
    let tags: BTreeMap<String, String> = [(AT_RISK.to_owned(), message.to_owned())].into();
    if let Err(why) = shared.compute.tag(&instance.id, &tags).await {
        tracing::warn!(%why, instance = instance.id, "not marked as at risk; tried again");
        return false;
    }
    let mut state = shared.state();
    for seen in state.held.values_mut().filter(|seen| seen.instance.id == instance.id) {
        seen.instance.tags.extend(tags.clone());
    }
    drop(state);
    held::show(shared, None);
    true
}

/// Waits until a claim is on its way out.
async fn goes(shared: &Shared, claim: &str) -> bool {
    let api: Api<NodeClaim> = Api::all(shared.client.clone());
    let limit = shared.settings.watches.call_timeout;
    let waited = tokio::time::timeout(LONGEST_WAIT, async {
        loop {
            match within(limit, api.get(claim)).await {
                Ok(found) if found.metadata.deletion_timestamp.is_some() => return,
                Err(error) if code(&error) == Some(404) => return,
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    });
    waited.await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(source: &str, kind: &str, detail: &Value) -> String {
        json!({"version": "0", "source": source, "detail-type": kind, "detail": detail}).to_string()
    }

    #[test]
    fn messages_are_read() {
        let spot = event("aws.ec2", "EC2 Spot Instance Interruption Warning", &json!({"instance-id": "i-1"}));
        let news = read(&spot).unwrap().unwrap();
        assert_eq!(news.instances, ["i-1"]);
        assert!(matches!(news.what, What::Ends { reason: "SpotInterrupted", short: true, .. }));
        let risk = event("aws.ec2", "EC2 Instance Rebalance Recommendation", &json!({"instance-id": "i-1"}));
        assert!(matches!(read(&risk).unwrap().unwrap().what, What::AtRisk { .. }));
        let state = |state: &str| {
            let detail = json!({"instance-id": "i-1", "state": state});
            read(&event("aws.ec2", "EC2 Instance State-change Notification", &detail)).unwrap()
        };
        assert!(state("running").is_none() && state("stopping").is_some());
        let health = json!({
            "service": "EC2", "eventTypeCategory": "scheduledChange", "eventTypeCode": "AWS_EC2_REBOOT",
            "affectedEntities": [{"entityValue": "i-1"}, {"entityValue": "i-2"}],
        });
        assert_eq!(
            read(&event("aws.health", "AWS Health Event", &health)).unwrap().unwrap().instances.len(),
            2
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(read("no json").is_err() && read("{}").is_err());
        let nameless = event("aws.ec2", "EC2 Spot Instance Interruption Warning", &json!({}));
        assert_eq!(read(&nameless).unwrap_err(), "it names no instance");
        assert_eq!(read(&event("aws.s3", "Object Created", &json!({}))), Ok(None));
    }
}
