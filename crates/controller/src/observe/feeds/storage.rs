//! The feeds of storage: claims, volumes and classes, and what CSI drivers attach.
//!
//! What cannot be read is left out. A pod that needs it then finds its claim, volume or class missing, and waits.

use super::{Heard, Kind, Source, feed};
use clouds::watching::WatchSettings;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use intake::IntakeError;
use intake::slim::storage as slim;
use kube::{Client, Resource, ResourceExt as _};
use model::{Change, NodeName, StorageChange, VolumeClaimKey, VolumeName};
use std::sync::Arc;

/// Sources of the input `Volumes`, and of `Attachments`.
pub(super) const VOLUME_SOURCES: usize = 3;
pub(super) const ATTACHMENT_SOURCES: usize = 4;

pub(super) fn all(client: &Client, settings: WatchSettings, narrow: bool) -> Vec<BoxStream<'static, Heard>> {
    let mut feeds = volumes(client, settings);
    feeds.extend(attachments(client, settings, narrow));
    feeds
}

/// One kind of storage: how an object is named, how it is read, and which change it is.
macro_rules! storage {
    ($client:ident, $settings:ident, $what:literal, $source:expr, $object:ty, $key:expr, $read:expr, $change:expr) => {
        feed(
            $client,
            $settings,
            &Kind {
                what: $what,
                source: $source,
                key: $key,
                read: |object: &$object| {
                    let value: Result<Option<_>, IntakeError> = $read(object);
                    Ok(Change::Storage($change($key(object), value?.map(Arc::new))))
                },
                gone: |key| Change::Storage($change(key, None)),
                instead: |object: &$object| Change::Storage($change($key(object), None)),
            },
        )
    };
}

fn volumes(client: &Client, settings: WatchSettings) -> Vec<BoxStream<'static, Heard>> {
    vec![
        storage!(
            client,
            settings,
            "persistentvolumeclaims",
            Source::Volumes(0),
            slim::PersistentVolumeClaim,
            namespaced,
            |claim| intake::volume_claim(claim).map(Some),
            StorageChange::Claim
        ),
        storage!(
            client,
            settings,
            "persistentvolumes",
            Source::Volumes(1),
            slim::PersistentVolume,
            volume_name,
            |volume| intake::persistent_volume(volume).map(Some),
            StorageChange::Volume
        ),
        storage!(
            client,
            settings,
            "storageclasses",
            Source::Volumes(2),
            slim::StorageClass,
            name,
            |class| intake::storage_class(class).map(Some),
            StorageChange::Class
        ),
    ]
}

fn attachments(client: &Client, settings: WatchSettings, narrow: bool) -> Vec<BoxStream<'static, Heard>> {
    let mut feeds = vec![
        storage!(
            client,
            settings,
            "csinodes",
            Source::Attachments(0),
            slim::CsiNode,
            node_name,
            |node| Ok(Some(intake::node_drivers(node))),
            StorageChange::NodeDrivers
        ),
        storage!(
            client,
            settings,
            "csidrivers",
            Source::Attachments(1),
            slim::CsiDriver,
            name,
            |driver| Ok(Some(intake::csi_driver(driver))),
            StorageChange::Driver
        ),
        storage!(
            client,
            settings,
            "csistoragecapacities",
            Source::Attachments(2),
            slim::CsiStorageCapacity,
            namespaced,
            |capacity| intake::storage_capacity(capacity).map(Some),
            StorageChange::Capacity
        ),
    ];
    let source = Source::Attachments(3);
    feeds.push(if narrow {
        // May not be read: what is still attached to a node that its pods have left is not counted then.
        stream::iter([Heard::Synced(source)]).chain(stream::pending()).boxed()
    } else {
        storage!(
            client,
            settings,
            "volumeattachments",
            source,
            slim::VolumeAttachment,
            name,
            |attachment| Ok(intake::attachment(attachment)),
            StorageChange::Attachment
        )
    });
    feeds
}

fn namespaced<K: Resource>(object: &K) -> VolumeClaimKey {
    VolumeClaimKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn name<K: Resource>(object: &K) -> Arc<str> {
    Arc::from(object.name_any())
}

fn volume_name(volume: &slim::PersistentVolume) -> VolumeName {
    VolumeName::from(volume.name_any())
}

fn node_name(node: &slim::CsiNode) -> NodeName {
    NodeName::from(node.name_any())
}
