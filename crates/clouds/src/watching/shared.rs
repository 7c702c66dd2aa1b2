//! One watch for several listeners: the kind of which there are most is asked for, sent and decoded once.
//!
//! Owns handing on. Each listener hears everything from the beginning, in order; one that is slow holds the others up
//! once its queue is full, one that has gone is left out.

use super::{Seen, WatchSettings, watch};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use intake::slim;
use kube::{Api, Client};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Objects that wait for one listener: a second of a list being read, a few megabytes of pods.
const MOST_WAITING: usize = 2048;

/// Pods that several listen to.
pub type Pods = BoxStream<'static, Seen<Arc<slim::Pod>>>;

/// Pods for so many listeners, read by one watch in a task of its own, which ends with the last listener.
pub fn pods<const LISTENERS: usize>(client: &Client, settings: WatchSettings) -> [Pods; LISTENERS] {
    shared(watch(Api::all(client.clone()), "pods", settings))
}

/// Hands all that `seen` brings to so many listeners.
fn shared<K, const LISTENERS: usize>(
    mut seen: BoxStream<'static, Seen<K>>,
) -> [BoxStream<'static, Seen<Arc<K>>>; LISTENERS]
where
    K: Send + Sync + 'static,
{
    let mut senders = Vec::new();
    let listeners = std::array::from_fn(|_| {
        let (sender, receiver) = mpsc::channel::<Seen<Arc<K>>>(MOST_WAITING);
        senders.push(sender);
        let heard = |mut receiver: mpsc::Receiver<_>| async { Some((receiver.recv().await?, receiver)) };
        stream::unfold(receiver, heard).boxed()
    });
    tokio::spawn(async move {
        while let Some(one) = seen.next().await {
            let one = one.in_common();
            let mut at = 0;
            while at < senders.len() {
                match senders[at].send(one.clone()).await {
                    Ok(()) => at += 1,
                    Err(_) => drop(senders.swap_remove(at)),
                }
            }
            if senders.is_empty() {
                return;
            }
        }
    });
    listeners
}

impl<K> Seen<K> {
    /// The same with an object that several may hold.
    fn in_common(self) -> Seen<Arc<K>> {
        self.map(Arc::new)
    }

    /// The same of another form of the object.
    pub fn map<T>(self, form: impl FnOnce(K) -> T) -> Seen<T> {
        match self {
            Self::Begin => Seen::Begin,
            Self::Object(object) => Seen::Object(form(object)),
            Self::Gone(object) => Seen::Gone(form(object)),
            Self::Synced => Seen::Synced,
            Self::Broken { why, missing_kind } => Seen::Broken { why, missing_kind },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_listener_hears_everything_and_one_that_goes_holds_nobody_up() {
        let objects = (0..3 * MOST_WAITING).map(Seen::Object);
        let seen =
            stream::iter([Seen::Begin]).chain(stream::iter(objects)).chain(stream::iter([Seen::Synced]));
        let [absent, mut quitter, heard] = shared(seen.boxed());
        drop(absent);
        assert_eq!(quitter.next().await, Some(Seen::Begin));
        assert_eq!(quitter.next().await, Some(Seen::Object(Arc::new(0))));
        drop(quitter);
        let all: Vec<_> = heard.collect().await;
        assert_eq!(all.len(), 3 * MOST_WAITING + 2);
        assert_eq!((all.first(), all.last()), (Some(&Seen::Begin), Some(&Seen::Synced)));
        assert_eq!(all[MOST_WAITING], Seen::Object(Arc::new(MOST_WAITING - 1)));
    }
}
