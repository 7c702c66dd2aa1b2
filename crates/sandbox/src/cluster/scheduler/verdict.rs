//! Why a pod fits on no node, in kube-scheduler's words.

use super::picture::Picture;
use model::PodShape;
use packing::{ClassIx, FailedScheduling};

/// The message of the `PodScheduled` condition.
pub(super) fn message(picture: &Picture, class: ClassIx, shape: &PodShape) -> String {
    let mut message = FailedScheduling::of(shape);
    for (_, spot) in picture.spots() {
        if let Some(rejection) = picture.room().rejection(class, spot) {
            message.refused_by(&picture.room().node(spot).name, &rejection);
        }
    }
    message.to_string()
}
