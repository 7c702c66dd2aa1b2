//! What is counted: alerts by verdict and reason.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Labels = Vec<(String, String)>;

/// All metrics of one endpoint. Labels come from closed lists, so their number is bounded.
pub(crate) struct Metrics {
    registry: Registry,
    alerts: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (mut registry, alerts) = (Registry::default(), Family::default());
        registry.register("tideline_alerts", "Alerts by verdict and reason", Family::clone(&alerts));
        Self { registry, alerts }
    }
}

impl Metrics {
    pub(crate) fn count(&self, verdict: &str, reason: &str) {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        self.alerts.get_or_create(&vec![label("verdict", verdict), label("reason", reason)]).inc();
    }

    /// All of them, as Prometheus reads them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
