//! A watch as it comes over the wire: one JSON document a line.
//!
//! Owns framing and the deadline for each event. Leaves what events mean to the cases.

use bytes::{Buf as _, Bytes};
use futures::stream::{BoxStream, StreamExt as _};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for an event that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The events of one watch.
pub struct WatchStream {
    asked: String,
    chunks: BoxStream<'static, Result<Bytes, kube::Error>>,
    buffer: Vec<u8>,
}

impl WatchStream {
    pub(crate) fn new(asked: String, chunks: BoxStream<'static, Result<Bytes, kube::Error>>) -> Self {
        Self { asked, chunks, buffer: Vec::new() }
    }

    /// The next event, or `None` at the end of the stream.
    pub async fn next_or_end(&mut self) -> Option<(String, Value)> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .unwrap_or_else(|_| panic!("{}: no event within {PATIENCE:?}", self.asked))
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap_or_else(|error| {
                    panic!("{}: {error} in {}", self.asked, String::from_utf8_lossy(&line))
                });
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Some((kind, event["object"].take()));
            }
            match self.chunks.next().await? {
                Ok(chunk) => self.buffer.extend_from_slice(chunk.chunk()),
                Err(error) => panic!("{}: {error}", self.asked),
            }
        }
    }

    /// The next event, which must be of this type; its object.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let (found, object) =
            self.next_or_end().await.unwrap_or_else(|| panic!("{}: ended instead of {kind}", self.asked));
        assert_eq!(found, kind, "{}: {object}", self.asked);
        object
    }

    /// The next event, which must be of this type and about the object of this name.
    pub async fn expect_named(&mut self, kind: &str, name: &str) -> Value {
        let object = self.expect(kind).await;
        assert_eq!(object["metadata"]["name"], name, "{}: {kind} of {object}", self.asked);
        object
    }

    /// The end of an object that may first be seen dying. A forced deletion of a pod is told as one event or two.
    pub async fn expect_end_of(&mut self, name: &str) -> Value {
        loop {
            let (kind, object) = self.next_or_end().await.unwrap_or_else(|| panic!("{}: ended", self.asked));
            assert_eq!(object["metadata"]["name"], name, "{}: {kind} of {object}", self.asked);
            if kind == "DELETED" {
                return object;
            }
            assert!(
                kind == "MODIFIED" && object["metadata"]["deletionTimestamp"].is_string(),
                "{kind} of {object}"
            );
        }
    }

    /// The next event about the object of this name, whatever happens to others; its type and its object.
    pub async fn about(&mut self, name: &str) -> (String, Value) {
        loop {
            let (kind, object) = self.next_or_end().await.unwrap_or_else(|| panic!("{}: ended", self.asked));
            if object["metadata"]["name"] == name {
                return (kind, object);
            }
        }
    }
}
