//! The scenario's faults of the API as a plan of the sandbox's fault layer.
//!
//! Owns the translation of kinds; drawing and injecting are the layer's.

use crate::scenario::{FaultKind, FaultSpec};
use sandbox::fault::{Fault, FaultPlan, FaultRule};

/// How far back a stale list looks: enough to miss what happened in the last minutes, far within the change log.
const STALE_REVISIONS: u64 = 40;
const RETRY_AFTER_SECONDS: u32 = 2;

pub(super) fn plan(faults: &[FaultSpec], end: u64) -> FaultPlan {
    FaultPlan { rules: faults.iter().filter_map(|fault| rule(fault, end)).collect() }
}

fn rule(spec: &FaultSpec, end: u64) -> Option<FaultRule> {
    let milliseconds = spec.delay.seconds.saturating_mul(1000);
    let fault = match spec.kind {
        FaultKind::Latency => Fault::Latency { most_milliseconds: milliseconds },
        FaultKind::Conflict => Fault::Conflict {},
        FaultKind::Throttle => Fault::TooManyRequests { retry_after_seconds: RETRY_AFTER_SECONDS },
        FaultKind::ServerError => Fault::ServerError { code: 503 },
        FaultKind::LateWatch => Fault::LateWatch { milliseconds },
        FaultKind::StaleList => Fault::StaleList { revisions: STALE_REVISIONS },
        FaultKind::LostResponse => Fault::LostResponse { code: None },
        FaultKind::ApiAway => Fault::LostRequest {},
        // A watch that is open already is broken on the line itself.
        FaultKind::DroppedWatch
        | FaultKind::LedgerRestored
        | FaultKind::NeverJoins
        | FaultKind::MachineFails
        | FaultKind::NotReady
        | FaultKind::Vanishes
        | FaultKind::Blockade
        | FaultKind::ControllerCutOff
        | FaultKind::ControllerKilled
        | FaultKind::ClockSkew => return None,
    };
    let percent = if spec.kind == FaultKind::ApiAway { 100 } else { spec.percent };
    Some(FaultRule {
        fault,
        probability: f64::from(percent) / 100.0,
        from_seconds: spec.from.seconds,
        until_seconds: Some(spec.until.map_or(end, |until| until.seconds).max(spec.from.seconds + 1)),
        verbs: Vec::new(),
        resources: Vec::new(),
        most: None,
    })
}

/// The scenario's word for what the layer injected.
pub(super) fn kind_of(name: &str) -> Option<FaultKind> {
    Some(match name {
        "latency" => FaultKind::Latency,
        "conflict" => FaultKind::Conflict,
        "tooManyRequests" => FaultKind::Throttle,
        "serverError" => FaultKind::ServerError,
        "lateWatch" => FaultKind::LateWatch,
        "staleList" => FaultKind::StaleList,
        "lostResponse" => FaultKind::LostResponse,
        "lostRequest" => FaultKind::ApiAway,
        _ => return None,
    })
}
