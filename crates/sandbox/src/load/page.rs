//! The same use as a page for Prometheus, under the names of cAdvisor, kube-state-metrics and the NGINX ingress
//! controller.
//!
//! Owns the counters: each look adds what was used since the look before. Their first values are zero, whatever was
//! used earlier, as if everything had been restarted.

use super::Picture;
use super::usage::{rate_of, uses};
use crate::cluster::controllers::objects::{is_ready, node_of};
use crate::store::{ApiError, Object};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// What was used up to the last look.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    at: Option<Timestamp>,
    /// By labels; of what is still there.
    cpu_seconds: BTreeMap<String, f64>,
    requests: BTreeMap<String, f64>,
}

impl Counters {
    /// The page as of `now`.
    pub(super) fn page(&self, picture: &Picture, now: Timestamp) -> Result<String, ApiError> {
        let measured = uses(picture, now)?;
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = counted.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        counted.at = Some(now);
        let (mut cpu, mut memory, mut ready) = (BTreeMap::new(), String::new(), String::new());
        for (pod, uses) in &measured {
            for one in uses {
                let labels = format!(
                    "namespace=\"{}\",pod=\"{}\",container=\"{}\",node=\"{}\"",
                    pod.namespace(),
                    pod.name(),
                    one.name,
                    node_of(pod).unwrap_or_default()
                );
                let _ = writeln!(memory, "container_memory_working_set_bytes{{{labels}}} {}", one.bytes);
                let before = counted.cpu_seconds.get(&labels).copied().unwrap_or_default();
                cpu.insert(labels, before + one.cores * seconds);
            }
        }
        for pod in &picture.pods {
            let holds = is_ready(pod);
            for (condition, value) in [("true", holds), ("false", !holds), ("unknown", false)] {
                let (namespace, name) = (pod.namespace(), pod.name());
                let _ = writeln!(
                    ready,
                    "kube_pod_status_ready{{namespace=\"{namespace}\",pod=\"{name}\",condition=\"{condition}\"}} {}",
                    u8::from(value)
                );
            }
        }
        let mut requests = BTreeMap::new();
        for (labels, per_minute) in ingress_rates(picture, now)? {
            let before = counted.requests.get(&labels).copied().unwrap_or_default();
            requests.insert(labels, before + per_minute / 60.0 * seconds);
        }
        (counted.cpu_seconds, counted.requests) = (cpu, requests);
        let mut text = "# TYPE container_cpu_usage_seconds_total counter\n".to_owned();
        for (labels, value) in &counted.cpu_seconds {
            let _ = writeln!(text, "container_cpu_usage_seconds_total{{{labels}}} {value}");
        }
        text.push_str("# TYPE container_memory_working_set_bytes gauge\n");
        text.push_str(&memory);
        text.push_str("# TYPE kube_pod_status_ready gauge\n");
        text.push_str(&ready);
        text.push_str("# TYPE nginx_ingress_controller_requests counter\n");
        for (labels, value) in &counted.requests {
            let _ = writeln!(text, "nginx_ingress_controller_requests{{{labels}}} {value}");
        }
        Ok(text)
    }
}

/// Requests a minute of each Service behind an Ingress.
fn ingress_rates(picture: &Picture, now: Timestamp) -> Result<BTreeMap<String, f64>, ApiError> {
    let mut rates = BTreeMap::new();
    for ingress in &picture.ingresses {
        for name in services_of(ingress) {
            let service = picture.loaded.iter().find(|object| {
                object.resource() == crate::store::resource::SERVICES
                    && object.namespace() == ingress.namespace()
                    && object.name() == name
            });
            let Some(service) = service else { continue };
            let Some(rate) = rate_of(service, now)? else { continue };
            let labels = format!(
                "namespace=\"{}\",ingress=\"{}\",service=\"{name}\",status=\"200\"",
                ingress.namespace(),
                ingress.name()
            );
            rates.insert(labels, rate);
        }
    }
    Ok(rates)
}

fn services_of(ingress: &Object) -> Vec<&str> {
    let rules = ingress.at("spec.rules").and_then(Value::as_array).into_iter().flatten();
    let paths = rules.filter_map(|rule| rule.pointer("/http/paths")?.as_array()).flatten();
    let backends = paths.filter_map(|path| path.get("backend")).chain(ingress.at("spec.defaultBackend"));
    let mut names: Vec<&str> =
        backends.filter_map(|backend| backend.pointer("/service/name")?.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
