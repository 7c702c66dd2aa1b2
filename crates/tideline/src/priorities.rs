//! The ConfigMap of the expander `priority`, read while the controller runs.
//!
//! Owns reading `cluster-autoscaler-priority-expander` as Cluster Autoscaler writes it (a number, then patterns of names)
//! and telling the policies. A text that cannot be used changes nothing: the last good one holds, and the log says why.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use model::{Expander, Policies};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const NAME: &str = "cluster-autoscaler-priority-expander";
const KEY: &str = "priorities";
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Priorities = BTreeMap<i32, Vec<Arc<str>>>;

/// Reads the text of the ConfigMap; the error names the line's number or pattern and the fix.
fn read(text: &str) -> Result<Priorities, String> {
    let lists: BTreeMap<i32, Vec<String>> = serde_saphyr::from_str(text)
        .map_err(|error| format!("{error}; write a number, and under it a list of patterns"))?;
    for pattern in lists.values().flatten() {
        Regex::new(pattern).map_err(|error| format!("pattern \"{pattern}\": {error}"))?;
    }
    let shared = |patterns: Vec<String>| patterns.into_iter().map(Arc::from).collect();
    Ok(lists.into_iter().map(|(number, patterns)| (number, shared(patterns))).collect())
}

/// What was found, for telling once of each change.
#[derive(PartialEq)]
enum Found {
    Good(Priorities),
    Missing,
    Bad(String),
    Unread(String),
}

async fn look(maps: &Api<ConfigMap>) -> Found {
    let answer = tokio::time::timeout(ANSWER_WITHIN, maps.get_opt(NAME)).await;
    let map = match answer {
        Ok(Ok(map)) => map,
        Ok(Err(error)) => return Found::Unread(error.to_string()),
        Err(_) => return Found::Unread(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    };
    let Some(map) = map else { return Found::Missing };
    match map.data.as_ref().and_then(|data| data.get(KEY)) {
        None => Found::Bad(format!("it has no key {KEY}")),
        Some(text) => read(text).map_or_else(Found::Bad, Found::Good),
    }
}

/// Follows the ConfigMap, and puts what it says into the policies that are told. Never ends.
pub(crate) async fn follow(client: Client, namespace: String, told: watch::Sender<Policies>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut others = told.subscribe();
    let (mut last, mut good) = (None, None);
    loop {
        // A file that is read again may have taken the expander away, or brought it.
        if told.borrow().choice.expanders.contains(&Expander::Priority) {
            let found = look(&maps).await;
            if last.as_ref() != Some(&found) {
                tell(&found, &namespace);
            }
            if let Found::Good(priorities) = &found {
                good = Some(priorities.clone());
            }
            last = Some(found);
            if let Some(good) = &good {
                told.send_if_modified(|policies| {
                    let changed = policies.choice.priorities != *good;
                    policies.choice.priorities.clone_from(good);
                    changed
                });
            }
        }
        others.mark_unchanged();
        // A configuration that was read again has brought its own priorities, or none.
        let _looks_again = tokio::time::timeout(LOOK_EVERY, others.changed()).await;
    }
}

fn tell(found: &Found, namespace: &str) {
    match found {
        Found::Good(_) => tracing::info!(namespace, name = NAME, "priorities of the expander were read"),
        Found::Missing => tracing::warn!(
            namespace,
            name = NAME,
            "the expander priority has no ConfigMap: pools are not told apart by it until there is one"
        ),
        Found::Bad(why) => {
            tracing::error!(
                namespace,
                name = NAME,
                why,
                "the priorities are not taken; the last good ones hold"
            );
        }
        Found::Unread(why) => {
            tracing::warn!(
                namespace,
                name = NAME,
                why,
                "the priorities cannot be read; the last good ones hold"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7: what is written there is what the next choice goes by.
    #[tokio::test(start_paused = true)]
    async fn changes_are_told_and_mistakes_change_nothing() {
        let clock = clock::Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let store = sandbox::store::Store::new(clock, &sandbox::store::StoreOptions::default());
        let client = sandbox::api::Api::new(store).client();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        let write = async |text: &str| {
            let map: ConfigMap = serde_json::from_value(serde_json::json!({
                "metadata": {"name": NAME}, "data": {KEY: text},
            }))
            .unwrap();
            if maps.get_opt(NAME).await.unwrap().is_some() {
                let patch = kube::api::Patch::Merge(&map);
                maps.patch(NAME, &kube::api::PatchParams::default(), &patch).await.unwrap();
            } else {
                maps.create(&kube::api::PostParams::default(), &map).await.unwrap();
            }
        };
        let mut policies = Policies::default();
        policies.choice.expanders = vec![Expander::Priority];
        let (told, mut heard) = watch::channel(policies);
        let following = tokio::spawn(follow(client.clone(), "kube-system".into(), told));

        write("10:\n- .*t2.*\n50: [m4]\n").await;
        tokio::time::timeout(LOOK_EVERY * 3, heard.changed()).await.unwrap().unwrap();
        assert_eq!(heard.borrow_and_update().choice.priorities[&50], [Arc::from("m4")]);
        write("10: ['(']\n").await;
        assert!(tokio::time::timeout(LOOK_EVERY * 3, heard.changed()).await.is_err());
        write("7: [x]\n").await;
        tokio::time::timeout(LOOK_EVERY * 3, heard.changed()).await.unwrap().unwrap();
        assert_eq!(heard.borrow().choice.priorities.keys().copied().collect::<Vec<_>>(), [7]);
        following.abort();
    }

    #[test]
    fn mistakes_are_named() {
        assert!(read("ten: [a]").unwrap_err().contains("a number"));
        assert!(read("10: ['(']").unwrap_err().contains("\"(\""));
        assert!(read("").is_err() || read("").unwrap().is_empty());
    }
}
