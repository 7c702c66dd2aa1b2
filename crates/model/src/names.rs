//! Pods by name, as runs of lists that are shared: ten thousand pods that are alike are one run of one list.
//!
//! Owns the order of the names and cutting them up. Who is on a list is the cluster's to know.

use crate::PodKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A stretch of one list.
#[derive(Clone)]
struct Run {
    list: Arc<[PodKey]>,
    begin: usize,
    end: usize,
}

/// Some pods in an order.
#[derive(Clone, Default)]
pub struct PodNames {
    runs: VecDeque<Run>,
    len: usize,
}

impl PodNames {
    pub fn one(pod: PodKey) -> Self {
        Self::from(Arc::from([pod]))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &PodKey> {
        self.runs.iter().flat_map(|run| &run.list[run.begin..run.end])
    }

    /// Puts more pods behind these.
    pub fn append(&mut self, more: Self) {
        for run in more.runs {
            self.len += run.end - run.begin;
            match self.runs.back_mut() {
                Some(last) if Arc::ptr_eq(&last.list, &run.list) && last.end == run.begin => {
                    last.end = run.end;
                }
                _ => self.runs.push_back(run),
            }
        }
    }

    /// Takes the first pods off, at most as many as there are.
    #[must_use]
    pub fn take_first(&mut self, count: usize) -> Self {
        let mut taken = Self::default();
        let mut left = count.min(self.len);
        self.len -= left;
        taken.len = left;
        while left > 0
            && let Some(run) = self.runs.front_mut()
        {
            let here = left.min(run.end - run.begin);
            let end = run.begin + here;
            taken.runs.push_back(Run { list: Arc::clone(&run.list), begin: run.begin, end });
            run.begin = end;
            left -= here;
            if run.begin == run.end {
                self.runs.pop_front();
            }
        }
        taken
    }

    /// The same names on lists of their own, so that they keep no longer ones alive.
    #[must_use]
    pub fn unshared(&self) -> Self {
        self.iter().cloned().collect()
    }
}

impl From<Arc<[PodKey]>> for PodNames {
    fn from(list: Arc<[PodKey]>) -> Self {
        let len = list.len();
        let run = Run { list, begin: 0, end: len };
        Self { runs: VecDeque::from([run]), len }
    }
}

impl FromIterator<PodKey> for PodNames {
    fn from_iter<I: IntoIterator<Item = PodKey>>(pods: I) -> Self {
        Self::from(pods.into_iter().collect::<Arc<[PodKey]>>())
    }
}

impl PartialEq for PodNames {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for PodNames {}

impl fmt::Debug for PodNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for PodNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PodNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> PodNames {
        text.split_whitespace().map(|name| PodKey::new("n", name)).collect()
    }

    #[test]
    fn names_are_cut_and_joined_in_order() {
        let all = names("a b c d e");
        let mut rest = all.clone();
        let mut taken = rest.take_first(2);
        assert_eq!((taken.clone(), rest.clone()), (names("a b"), names("c d e")));
        taken.append(rest.take_first(1));
        assert_eq!(taken.runs.len(), 1, "neighbours on one list are one run");
        taken.append(names("x"));
        assert_eq!((taken.len(), taken.clone()), (4, names("a b c x")));
        assert_eq!(taken.take_first(9), names("a b c x"));
        assert!(taken.is_empty() && taken.take_first(1).is_empty());
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<PodNames>(&text).unwrap(), all);
    }
}
