//! Which groups are pools: named ones with bounds, and those that carry tags.
//!
//! Owns the two forms of Cluster Autoscaler's flags. Specs of tags are joined by OR, the tags of one spec by AND.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Largest size of a group that is believed; more is a typing error.
const MOST_MACHINES: u32 = 100_000;

/// A group as `--nodes=min:max:name` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub min: u32,
    pub max: u32,
    pub group: String,
}

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("\"{text}\": {why}; write min:max:name, such as 1:10:eks-workers");
        let mut parts = text.splitn(3, ':');
        let (Some(min), Some(max), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("three parts are needed"));
        };
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|number| *number <= MOST_MACHINES);
        let min = number(min).ok_or_else(|| wrong("the minimum is no whole number of machines"))?;
        let max = number(max).ok_or_else(|| wrong("the maximum is no whole number of machines"))?;
        let group = group.trim();
        if group.is_empty() || group.len() > 255 || group.contains(':') || group.contains(char::is_control) {
            return Err(wrong("the last part is no name of an Auto Scaling group"));
        }
        if max == 0 || min > max {
            return Err(wrong("the minimum is over the maximum, or the maximum is 0"));
        }
        Ok(Self { min, max, group: group.to_owned() })
    }
}

/// Tags that a group must carry, all of them, each with its value where one is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Discovery {
    pub tags: BTreeMap<String, Option<String>>,
}

impl Discovery {
    /// Whether a group with these tags is meant.
    pub(super) fn covers(&self, tags: &BTreeMap<String, String>) -> bool {
        self.tags.iter().all(|(key, value)| {
            tags.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        })
    }
}

impl FromStr for Discovery {
    type Err = String;

    /// Reads `asg:tag=key,key=value`; a key may hold colons and slashes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "\"{text}\": {why}; write asg:tag=key[=value][,key[=value]…], such as \
                 asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/my-cluster"
            )
        };
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong("it does not begin with asg:"))?;
        if kind != "asg" {
            return Err(wrong("only asg: is known on AWS"));
        }
        let listed = rest.strip_prefix("tag=").ok_or_else(|| wrong("tag= is missing"))?;
        let mut tags = BTreeMap::new();
        for part in listed.split(',') {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned()).filter(|value| !value.is_empty())),
                None => (part, None),
            };
            if key.trim().is_empty() {
                return Err(wrong("a tag has no key"));
            }
            if tags.insert(key.trim().to_owned(), value).is_some() {
                return Err(wrong("a key is there twice"));
            }
        }
        Ok(Self { tags })
    }
}

/// All that was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declarations {
    pub named: Vec<Declared>,
    pub discovered: Vec<Discovery>,
}

impl Declarations {
    /// Refuses what cannot work; the message names the flag and the fix.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.named.is_empty() && self.discovered.is_empty() {
            return Err("no Auto Scaling group is named; add --nodes=min:max:name for each, or \
                        --node-group-auto-discovery=asg:tag=… for those that carry tags"
                .to_owned());
        }
        let mut seen = BTreeSet::new();
        match self.named.iter().find(|declared| !seen.insert(&declared.group)) {
            Some(twice) => Err(format!("--nodes names {} twice; keep one of them", twice.group)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_and_wrong_ones_say_how() {
        let read = |text: &str| text.parse::<Declared>();
        assert_eq!(read("1:5:test-asg"), Ok(Declared { min: 1, max: 5, group: "test-asg".into() }));
        for text in ["a", "a:b:c", "1:", "1:2:", "5:1:x", "0:0:x", "1:2:a:b"] {
            let why = read(text).unwrap_err();
            assert!(why.contains("write min:max:name"), "{why}");
        }
    }

    #[test]
    fn tags_are_read_with_colons_and_without_values() {
        let read = |text: &str| text.parse::<Discovery>().map(|found| found.tags);
        let tags = |list: &[(&str, Option<&str>)]| {
            Ok(list.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect())
        };
        assert_eq!(read("asg:tag=tag,anothertag"), tags(&[("tag", None), ("anothertag", None)]));
        assert_eq!(
            read("asg:tag=my:label=value,my:otherlabel=othervalue"),
            tags(&[("my:label", Some("value")), ("my:otherlabel", Some("othervalue"))])
        );
        for text in ["tag=a", "mig:a", "asg:tag=", "asg:=tag", "asg:tag", "asg:tag=a,a=b"] {
            let why = read(text).unwrap_err();
            assert!(why.contains("write asg:tag="), "{why}");
        }
    }

    #[test]
    fn a_spec_covers_groups_with_all_its_tags() {
        let spec: Discovery = "asg:tag=enabled,cluster=a".parse().unwrap();
        let tags = |list: &[(&str, &str)]| {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(spec.covers(&tags(&[("enabled", "yes"), ("cluster", "a"), ("more", "")])));
        assert!(!spec.covers(&tags(&[("enabled", "yes"), ("cluster", "b")])));
        assert!(!spec.covers(&tags(&[("cluster", "a")])));
    }
}
