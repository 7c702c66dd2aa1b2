//! Which image a machine boots from: aliases of published images, and the choice among those that are found.
//!
//! Owns the names under which AWS publishes images for each version of Kubernetes. Asking for them is `resolve`'s.

use super::compute::Image;
use super::rows::Row;
use api::karpenter::{AmiTerm, Ec2NodeClassSpec};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// How a node of an image is told which cluster it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Al2,
    Al2023,
    Bottlerocket,
    /// The class' own user data does it.
    Custom,
}

/// For which machines an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Plain,
    Nvidia,
    Neuron,
}

/// An image with what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) image: Image,
    /// `None` where any machine of the architecture can boot it.
    pub(super) kind: Option<Kind>,
}

/// A published image: its parameter, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) parameter: String,
    pub(super) kind: Kind,
}

/// The family of a class; the error is for its status.
pub(super) fn family(spec: &Ec2NodeClassSpec) -> Result<Family, String> {
    let alias = spec.ami_selector_terms.iter().find_map(|term| term.alias.as_deref());
    let name = match (&spec.ami_family, alias) {
        (Some(name), _) => name.to_lowercase(),
        (None, Some(alias)) => alias.split('@').next().unwrap_or_default().to_owned(),
        (None, None) => return Err("spec.amiFamily is missing; give it, or a term with an alias".to_owned()),
    };
    match name.as_str() {
        "al2" => Ok(Family::Al2),
        "al2023" => Ok(Family::Al2023),
        "bottlerocket" => Ok(Family::Bottlerocket),
        "custom" => Ok(Family::Custom),
        other if other.starts_with("windows") => {
            Err(format!("the family {other} is not served: nodes of Windows are not planned for"))
        }
        other => Err(format!("the family {other} is not known; use al2023, al2, bottlerocket or Custom")),
    }
}

/// The parameters under which the images of an alias are published.
pub(super) fn published(alias: &str, kubernetes: &str) -> Result<Vec<Published>, String> {
    let (name, version) = alias
        .split_once('@')
        .filter(|(_, version)| !version.is_empty())
        .ok_or_else(|| format!("the alias {alias} has no version; write {alias}@latest"))?;
    let latest = version == "latest";
    let of = |parameter: String, kind| Published { parameter, kind };
    let amazon = "/aws/service/eks/optimized-ami";
    Ok(match name {
        "al2023" => [("x86_64", "standard"), ("arm64", "standard"), ("x86_64", "nvidia"), ("arm64", "nvidia"), ("x86_64", "neuron")]
            .into_iter()
            .map(|(architecture, variant)| {
                let image = if latest {
                    "recommended".to_owned()
                } else {
                    format!("amazon-eks-node-al2023-{architecture}-{variant}-{kubernetes}-{version}")
                };
                let kind = match variant {
                    "nvidia" => Kind::Nvidia,
                    "neuron" => Kind::Neuron,
                    _ => Kind::Plain,
                };
                of(
                    format!("{amazon}/{kubernetes}/amazon-linux-2023/{architecture}/{variant}/{image}/image_id"),
                    kind,
                )
            })
            .collect(),
        "al2" => [
            ("amazon-linux-2", "amazon-eks-node", Kind::Plain),
            ("amazon-linux-2-arm64", "amazon-eks-arm64-node", Kind::Plain),
            ("amazon-linux-2-gpu", "amazon-eks-gpu-node", Kind::Nvidia),
            ("amazon-linux-2-gpu", "amazon-eks-gpu-node", Kind::Neuron),
        ]
        .into_iter()
        .map(|(folder, prefix, kind)| {
            let image = if latest { "recommended".to_owned() } else { format!("{prefix}-{kubernetes}-{version}") };
            of(format!("{amazon}/{kubernetes}/{folder}/{image}/image_id"), kind)
        })
        .collect(),
        "bottlerocket" => [("", "x86_64"), ("", "arm64"), ("-nvidia", "x86_64"), ("-nvidia", "arm64")]
            .into_iter()
            .map(|(variant, architecture)| {
                let version = version.trim_start_matches('v');
                let kind = if variant.is_empty() { Kind::Plain } else { Kind::Nvidia };
                of(
                    format!(
                        "/aws/service/bottlerocket/aws-k8s-{kubernetes}{variant}/{architecture}/{version}/image_id"
                    ),
                    kind,
                )
            })
            .collect(),
        other => return Err(format!("the alias {other} is not served; use al2023, al2 or bottlerocket")),
    })
}

/// What the terms say together, as far as one alone does not.
pub(super) fn check(terms: &[AmiTerm]) -> Result<(), String> {
    for (at, term) in terms.iter().enumerate() {
        let others =
            term.id.is_some() || term.name.is_some() || !term.tags.is_empty() || term.owner.is_some();
        let wrong = |why: &str| Err(format!("spec.amiSelectorTerms[{at}]: {why}"));
        if term.alias.is_some() && (others || term.ssm_parameter.is_some() || terms.len() > 1) {
            return wrong("an alias must be the only term, with nothing beside it");
        }
        if term.id.is_some() && (term.name.is_some() || !term.tags.is_empty() || term.owner.is_some()) {
            return wrong("an id stands alone");
        }
        if term.alias.is_none() && term.ssm_parameter.is_none() && !others {
            return wrong("it is empty; give alias, id, name, tags or ssmParameter");
        }
    }
    Ok(())
}

/// The newest first; of those for the same machines, only the first is ever taken.
pub(super) fn sorted(mut choices: Vec<Choice>) -> Vec<Choice> {
    choices
        .sort_by_key(|choice| (Reverse(choice.image.created.clone()), choice.image.id.clone(), choice.kind));
    choices.dedup();
    choices
}

/// The images that are taken now: of those for the same machines the newest.
pub(super) fn current(choices: &[Choice]) -> BTreeSet<&str> {
    let mut taken = BTreeSet::new();
    let newest = choices.iter().filter(|choice| taken.insert((choice.kind, choice.image.architecture)));
    newest.map(|choice| choice.image.id.as_str()).collect()
}

/// The image for a machine of a type.
pub(super) fn choose<'a>(choices: &'a [Choice], row: &Row) -> Option<&'a Choice> {
    let wanted = match (&row.gpu, &row.neuron) {
        (Some(gpu), _) if gpu.manufacturer == "nvidia" => Kind::Nvidia,
        (_, Some(_)) => Kind::Neuron,
        _ => Kind::Plain,
    };
    let fits = |choice: &&Choice| {
        choice.image.architecture == row.architecture && choice.kind.is_none_or(|kind| kind == wanted)
    };
    choices.iter().find(fits)
}

#[cfg(test)]
mod tests {
    use super::super::rows::Devices;
    use super::super::rows::tests::plain;
    use super::*;

    fn choice(id: &str, created: &str, kind: Option<Kind>) -> Choice {
        let image =
            Image { id: id.into(), created: created.into(), architecture: "amd64", ..Image::default() };
        Choice { image, kind }
    }

    #[test]
    fn parameters_of_aliases() {
        let first = |alias: &str| published(alias, "1.30").unwrap()[0].parameter.clone();
        assert_eq!(
            first("al2023@latest"),
            "/aws/service/eks/optimized-ami/1.30/amazon-linux-2023/x86_64/standard/recommended/image_id"
        );
        assert_eq!(
            first("al2@v20240703"),
            "/aws/service/eks/optimized-ami/1.30/amazon-linux-2/amazon-eks-node-1.30-v20240703/image_id"
        );
        assert_eq!(
            first("bottlerocket@v1.20.3"),
            "/aws/service/bottlerocket/aws-k8s-1.30/x86_64/1.20.3/image_id"
        );
        assert!(published("windows2022@latest", "1.30").is_err() && published("al2023", "1.30").is_err());
    }

    #[test]
    fn the_newest_image_for_the_machine_is_taken() {
        let choices = sorted(vec![
            choice("ami-1", "2024-01-01", Some(Kind::Plain)),
            choice("ami-2", "2024-02-01", Some(Kind::Plain)),
            choice("ami-3", "2024-03-01", Some(Kind::Nvidia)),
        ]);
        let id = |row: &Row| choose(&choices, row).map(|choice| choice.image.id.as_str());
        let mut row = plain("m5.large", 2, 8192);
        assert_eq!(id(&row), Some("ami-2"));
        assert_eq!(current(&choices), BTreeSet::from(["ami-2", "ami-3"]));
        row.gpu = Some(Devices { manufacturer: "nvidia".into(), ..Devices::default() });
        assert_eq!(id(&row), Some("ami-3"));
        row.architecture = "arm64";
        assert_eq!(id(&row), None);
    }

    #[test]
    fn terms_that_contradict_are_refused() {
        let alias = AmiTerm { alias: Some("al2023@latest".into()), ..AmiTerm::default() };
        let id = AmiTerm { id: Some("ami-1".into()), ..AmiTerm::default() };
        assert!(check(std::slice::from_ref(&alias)).is_ok() && check(std::slice::from_ref(&id)).is_ok());
        assert!(check(&[alias, id]).unwrap_err().contains("only term"));
        assert!(check(&[AmiTerm::default()]).unwrap_err().contains("amiSelectorTerms[0]"));
    }
}
