//! The feeds of devices: slices, classes, claims and templates of claims.
//!
//! None of it is needed but by pods that claim devices: where a server does not know the kinds or does not let us read
//! them, such pods are left to the scheduler and say so.

use super::{Heard, Source, readable};
use clouds::watching::WatchSettings;
use futures::stream::BoxStream;
use intake::slim::devices as slim;
use kube::{Client, Resource, ResourceExt as _};
use model::{Change, DeviceChange, StorageChange, VolumeClaimKey};
use std::sync::Arc;

/// Sources of the input `Devices`.
pub(super) const SOURCES: usize = 4;

pub(super) fn all(client: &Client, settings: WatchSettings) -> Vec<BoxStream<'static, Heard>> {
    let seen = |change| Change::Storage(StorageChange::Devices(change));
    let source = Source::Devices;
    vec![
        readable(
            client,
            settings,
            source(0),
            "resourceslices",
            name,
            move |slice: &slim::ResourceSlice| {
                seen(DeviceChange::Slice(name(slice), Some(Arc::new(intake::device_slice(slice)))))
            },
            |key| Change::Storage(StorageChange::Devices(DeviceChange::Slice(key, None))),
        ),
        readable(
            client,
            settings,
            source(1),
            "deviceclasses",
            name,
            move |class: &slim::DeviceClass| {
                seen(DeviceChange::Class(name(class), Some(Arc::new(intake::device_class(class)))))
            },
            |key| Change::Storage(StorageChange::Devices(DeviceChange::Class(key, None))),
        ),
        readable(
            client,
            settings,
            source(2),
            "resourceclaims",
            namespaced,
            move |claim: &slim::ResourceClaim| {
                seen(DeviceChange::Claim(namespaced(claim), Some(Arc::new(intake::device_claim(claim)))))
            },
            |key| Change::Storage(StorageChange::Devices(DeviceChange::Claim(key, None))),
        ),
        readable(
            client,
            settings,
            source(3),
            "resourceclaimtemplates",
            namespaced,
            move |template: &slim::ResourceClaimTemplate| {
                let ask = Arc::new(intake::device_template(template));
                seen(DeviceChange::Template(namespaced(template), Some(ask)))
            },
            |key| Change::Storage(StorageChange::Devices(DeviceChange::Template(key, None))),
        ),
    ]
}

fn namespaced<K: Resource>(object: &K) -> VolumeClaimKey {
    VolumeClaimKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn name<K: Resource>(object: &K) -> Arc<str> {
    Arc::from(object.name_any())
}
