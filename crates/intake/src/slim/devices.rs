//! The kinds of devices: what drivers publish, classes, claims and their templates.
//!
//! They are of a later version of Kubernetes than our types, so where they are found is said here.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

macro_rules! devices {
    ($name:ident, $plural:literal, $scope:ty, { $($field:ident: $ty:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            #[serde(deserialize_with = "crate::slim::metadata::without_history")]
            pub metadata: ObjectMeta,
            $(pub $field: $ty),*
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($name).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "resource.k8s.io".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

devices!(ResourceSlice, "resourceslices", k8s_openapi::ClusterResourceScope, { spec: SliceSpec });
devices!(DeviceClass, "deviceclasses", k8s_openapi::ClusterResourceScope, { spec: ClassSpec });
devices!(ResourceClaim, "resourceclaims", k8s_openapi::NamespaceResourceScope, {
    spec: ClaimSpec,
    status: ClaimStatus,
});
devices!(ResourceClaimTemplate, "resourceclaimtemplates", k8s_openapi::NamespaceResourceScope, {
    spec: TemplateSpec,
});

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceSpec {
    pub driver: String,
    pub pool: SlicePool,
    pub node_name: Option<String>,
    pub per_device_node_selection: Option<bool>,
    pub devices: Option<Vec<Device>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlicePool {
    pub name: String,
    pub generation: i64,
    pub resource_slice_count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    pub name: String,
    pub attributes: Option<BTreeMap<String, Attribute>>,
    pub taints: Option<Vec<Taint>>,
    pub consumes_counters: Option<Vec<Value>>,
    pub allow_multiple_allocations: Option<bool>,
    pub binds_to_node: Option<bool>,
    pub binding_conditions: Option<Vec<String>>,
    pub node_allocatable_resources: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attribute {
    pub string: Option<String>,
    pub int: Option<i64>,
    pub bool: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub effect: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassSpec {
    pub selectors: Option<Vec<Selector>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    pub cel: Option<Expression>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub expression: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TemplateSpec {
    pub spec: ClaimSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimSpec {
    pub devices: Asked,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub requests: Option<Vec<Request>>,
    pub constraints: Option<Vec<Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    pub name: String,
    pub exactly: Option<Exactly>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exactly {
    pub device_class_name: String,
    pub selectors: Option<Vec<Selector>>,
    pub allocation_mode: Option<String>,
    pub count: Option<i64>,
    pub admin_access: Option<bool>,
    pub tolerations: Option<Vec<core::Toleration>>,
    pub capacity: Option<Value>,
    pub derived_attributes: Option<Vec<Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimStatus {
    pub allocation: Option<Allocation>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocation {
    pub devices: Given,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    pub results: Option<Vec<Result>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Result {
    pub driver: String,
    pub pool: String,
    pub device: String,
    pub admin_access: Option<bool>,
}
