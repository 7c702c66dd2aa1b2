//! The ledger as a backup has it: put back while the controller runs and the cloud goes on.
//!
//! Owns the copies and the moments. That resource versions go back as well is shown on a real etcd, by
//! `crates/acceptance/tests/restored.rs`.

use super::observer::SharedSeen;
use super::phases::HitLog;
use super::users::{Events, Window, moment};
use crate::random_source::stream;
use crate::scenario::FaultSpec;
use controller::LEDGER_CONFIG_MAP;
use sandbox::store::resource::CONFIG_MAPS;
use sandbox::store::{Part, Store};
use serde_json::Value;

/// Where a simulated controller keeps its ledger.
const NAMESPACE: &str = "kube-system";

/// Takes a copy when the window begins and after each restore; puts it back at random moments of the window.
pub(super) async fn now_and_then(
    store: Store,
    window: Window,
    fault: FaultSpec,
    hits: HitLog,
    seen: SharedSeen,
) {
    let mut rng = stream(window.seed, &format!("restored/{}", window.place));
    let mut events = Events::new(store.clock(), window, &fault, &hits);
    store.clock().sleep_until(moment(window.start, events.second)).await;
    let mut backup = ledger(&store);
    while events.next(&mut rng).await {
        if let Some(copy) = backup {
            hits.hit(fault.kind);
            // What came before is judged by the ledger that stood then.
            seen.sync();
            seen.with(|seen| seen.checks.ledger_restored(store.clock().now()));
            let _ = store.modify(CONFIG_MAPS, NAMESPACE, LEDGER_CONFIG_MAP, Part::Main, |object| {
                object["data"] = copy;
                true
            });
            seen.sync();
        }
        backup = ledger(&store);
    }
}

fn ledger(store: &Store) -> Option<Value> {
    store.find(CONFIG_MAPS, NAMESPACE, LEDGER_CONFIG_MAP)?.value().get("data").cloned()
}
