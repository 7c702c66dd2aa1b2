//! Devices that pods claim (dynamic resource allocation): what slices offer, what classes and claims ask for.
//!
//! Owns the nouns and the evaluation of selectors, as far as they compare a driver or an attribute with a value.
//! Which pods and nodes they concern is joined in [`crate::Cluster`]; there a count of devices is a resource like any
//! other, under a name that begins with [`DEVICE_CLASS_PREFIX`].

use crate::{NodeName, ResourceName, UnmodelledRule, VolumeClaimKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Resources that are devices of a class. Kubernetes uses the same prefix for classes asked for as a resource.
pub const DEVICE_CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";
/// Resources that stand for a claim which is allocated: only its node has them.
pub const DEVICE_CLAIM_PREFIX: &str = "resourceclaim.resource.kubernetes.io/";

impl ResourceName {
    /// Whether it counts devices that claims are given, and not what the kubelet reports.
    pub fn is_claimed_device(&self) -> bool {
        self.0.starts_with(DEVICE_CLASS_PREFIX) || self.is_device_claim()
    }

    /// Whether it stands for a claim that is allocated.
    pub fn is_device_claim(&self) -> bool {
        self.0.starts_with(DEVICE_CLAIM_PREFIX)
    }
}

/// A value of a device's attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceValue {
    Text(Arc<str>),
    Whole(i64),
    Flag(bool),
    /// A version or a list: nothing here compares it.
    Other,
}

/// One device of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub name: Arc<str>,
    /// By domain and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(Arc<str>, Arc<str>, DeviceValue)>,
    /// Nobody is given it: it has a taint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
    /// It is given whole, to one claim, by itself.
    pub whole: bool,
}

/// A part of a pool of devices, as its driver publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSlice {
    pub driver: Arc<str>,
    pub pool: Arc<str>,
    pub generation: i64,
    /// Slices that the pool consists of.
    pub of: i64,
    /// `None` where the devices are not those of one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
}

/// Which devices a class or a request accepts: all of its terms must hold. `None` where that is not modelled.
pub type DeviceSelector = Option<Vec<DeviceTerm>>;

/// One comparison of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceTerm {
    /// Domain and name of the attribute; `None` for the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<(Arc<str>, Arc<str>)>,
    pub equal: bool,
    pub value: DeviceValue,
}

impl DeviceTerm {
    /// Whether a device of a driver passes; `None` where Kubernetes would call it an error, such as an attribute that
    /// the device does not have.
    fn holds(&self, driver: &str, device: &Device) -> Option<bool> {
        let text;
        let value = match &self.attribute {
            None => {
                text = DeviceValue::Text(Arc::from(driver));
                &text
            }
            Some((domain, name)) => {
                let known = device.attributes.iter().find(|(d, n, _)| d == domain && n == name);
                &known?.2
            }
        };
        let alike = std::mem::discriminant(value) == std::mem::discriminant(&self.value);
        (alike && *value != DeviceValue::Other).then(|| (*value == self.value) == self.equal)
    }
}

impl fmt::Display for DeviceTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.attribute {
            None => f.write_str("driver")?,
            Some((domain, name)) => write!(f, "{domain}/{name}")?,
        }
        f.write_str(if self.equal { " = " } else { " != " })?;
        match &self.value {
            DeviceValue::Text(text) => f.write_str(text),
            DeviceValue::Whole(number) => write!(f, "{number}"),
            DeviceValue::Flag(flag) => write!(f, "{flag}"),
            DeviceValue::Other => f.write_str("?"),
        }
    }
}

/// Whether a device passes all terms; `None` where one of them is an error and no other refuses the device.
pub(crate) fn accepts(terms: &[DeviceTerm], driver: &str, device: &Device) -> Option<bool> {
    let mut verdict = Some(true);
    for term in terms {
        match term.holds(driver, device) {
            Some(false) => return Some(false),
            None => verdict = None,
            Some(true) => {}
        }
    }
    verdict
}

/// A `DeviceClass`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceClass {
    pub name: Arc<str>,
    pub selector: DeviceSelector,
}

/// So many devices of a class that a selector of their own narrows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRequest {
    pub class: Arc<str>,
    /// Terms of its own selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<DeviceTerm>,
    pub count: u64,
}

/// What a claim, or the template of one, asks for; the rule where that is not modelled.
pub type DeviceAsk = Result<Vec<DeviceRequest>, UnmodelledRule>;

/// A `ResourceClaim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceClaim {
    pub ask: DeviceAsk,
    /// The devices that it was given: driver, pool and name of each. `None` while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Vec<DeviceId>>,
}

/// Driver, pool and name of a device.
pub type DeviceId = (Arc<str>, Arc<str>, Arc<str>);

/// A claim of devices that a pod names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodDeviceClaim {
    /// The claim, named by the pod or made for it; `None` where it has not been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Arc<str>>,
}

/// One observed change of devices. `None` means that the object is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceChange {
    Slice(Arc<str>, Option<Arc<DeviceSlice>>),
    Class(Arc<str>, Option<Arc<DeviceClass>>),
    /// By namespace and name, as all claims.
    Claim(VolumeClaimKey, Option<Arc<DeviceClaim>>),
    Template(VolumeClaimKey, Option<Arc<DeviceAsk>>),
}

impl DeviceChange {
    /// The same object, gone.
    #[must_use]
    pub fn gone(self) -> Self {
        match self {
            Self::Slice(key, _) => Self::Slice(key, None),
            Self::Class(key, _) => Self::Class(key, None),
            Self::Claim(key, _) => Self::Claim(key, None),
            Self::Template(key, _) => Self::Template(key, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_attribute_is_an_error_unless_another_term_refuses() {
        let device = Device {
            name: "gpu-0".into(),
            attributes: vec![("x".into(), "model".into(), DeviceValue::Text("a".into()))],
            tainted: false,
            whole: true,
        };
        let term = |name: Option<&str>, value: &str| DeviceTerm {
            attribute: name.map(|name| ("x".into(), name.into())),
            equal: true,
            value: DeviceValue::Text(value.into()),
        };
        let passes = |terms: &[DeviceTerm]| accepts(terms, "x", &device);
        assert_eq!(passes(&[term(None, "x"), term(Some("model"), "a")]), Some(true));
        assert_eq!(passes(&[term(Some("model"), "b")]), Some(false));
        assert_eq!(passes(&[term(Some("size"), "b")]), None);
        assert_eq!(passes(&[term(Some("size"), "b"), term(None, "y")]), Some(false));
        let other_kind = DeviceTerm { value: DeviceValue::Whole(1), ..term(Some("model"), "a") };
        assert_eq!(passes(&[other_kind]), None);
    }
}
