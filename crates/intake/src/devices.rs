//! Slices of devices, their classes, claims and templates into the model, and the claims that pods name.
//!
//! Owns the reading of selectors: comparisons of the driver or of an attribute with a value, joined by `&&`. What says
//! more is told apart as not modelled, and so is every request that is not for a number of devices.

use crate::IntakeError;
use crate::files::Object;
use crate::slim::{self, devices};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{
    Device, DeviceAsk, DeviceChange, DeviceClaim, DeviceClass, DeviceRequest, DeviceSelector, DeviceSlice,
    DeviceTerm, DeviceValue, PodDeviceClaim, UnmodelledRule, VolumeClaimKey,
};
use std::sync::Arc;

/// Reads an object of one of the kinds of devices; `None` where it is of another kind.
pub(crate) fn device_change(object: &Object) -> Result<Option<DeviceChange>, IntakeError> {
    Ok(Some(match object.kind() {
        "ResourceSlice" => {
            let slice: devices::ResourceSlice = object.decode()?;
            DeviceChange::Slice(name(&slice.metadata), Some(Arc::new(device_slice(&slice))))
        }
        "DeviceClass" => {
            let class: devices::DeviceClass = object.decode()?;
            DeviceChange::Class(name(&class.metadata), Some(Arc::new(device_class(&class))))
        }
        "ResourceClaim" => {
            let claim: devices::ResourceClaim = object.decode()?;
            DeviceChange::Claim(key(&claim.metadata), Some(Arc::new(device_claim(&claim))))
        }
        "ResourceClaimTemplate" => {
            let template: devices::ResourceClaimTemplate = object.decode()?;
            DeviceChange::Template(key(&template.metadata), Some(Arc::new(device_template(&template))))
        }
        _ => return Ok(None),
    }))
}

/// The claims of devices that a pod names, and those made for it from templates.
pub(crate) fn claims_of(spec: &slim::PodSpec, status: &slim::PodStatus) -> Vec<PodDeviceClaim> {
    let made = |name: &str| {
        let all = status.resource_claim_statuses.iter().flatten();
        all.filter(|made| made.name == name).find_map(|made| made.resource_claim_name.as_deref())
    };
    let text = |text: &str| Arc::from(text);
    (spec.resource_claims.iter().flatten())
        .map(|claim| PodDeviceClaim {
            claim: claim.resource_claim_name.as_deref().or_else(|| made(&claim.name)).map(text),
            template: claim.resource_claim_template_name.as_deref().map(text),
        })
        .collect()
}

pub fn device_slice(slice: &devices::ResourceSlice) -> DeviceSlice {
    let spec = &slice.spec;
    let local = spec.per_device_node_selection != Some(true);
    DeviceSlice {
        driver: spec.driver.as_str().into(),
        pool: spec.pool.name.as_str().into(),
        generation: spec.pool.generation,
        of: spec.pool.resource_slice_count,
        node: spec.node_name.as_deref().filter(|node| local && !node.is_empty()).map(Into::into),
        devices: spec.devices.iter().flatten().map(|one| device(&spec.driver, one)).collect(),
    }
}

fn device(driver: &str, device: &devices::Device) -> Device {
    let attributes = device.attributes.iter().flatten().map(|(name, value)| {
        // A name without a domain is of the driver's own.
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        let value = match value {
            devices::Attribute { string: Some(text), .. } => DeviceValue::Text(text.as_str().into()),
            devices::Attribute { int: Some(number), .. } => DeviceValue::Whole(*number),
            devices::Attribute { bool: Some(flag), .. } => DeviceValue::Flag(*flag),
            _ => DeviceValue::Other,
        };
        (domain.into(), name.into(), value)
    });
    let keeps_off = |taint: &devices::Taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute");
    let any = |list: Option<usize>| list.is_some_and(|count| count > 0);
    Device {
        name: device.name.as_str().into(),
        attributes: attributes.collect(),
        tainted: device.taints.iter().flatten().any(keeps_off),
        whole: device.allow_multiple_allocations != Some(true)
            && device.binds_to_node != Some(true)
            && !any(device.consumes_counters.as_ref().map(Vec::len))
            && !any(device.binding_conditions.as_ref().map(Vec::len))
            && device.node_allocatable_resources.as_ref().is_none_or(std::collections::BTreeMap::is_empty),
    }
}

pub fn device_class(class: &devices::DeviceClass) -> DeviceClass {
    let selector = selector(class.spec.selectors.as_deref().unwrap_or_default());
    DeviceClass { name: name(&class.metadata), selector }
}

pub fn device_claim(claim: &devices::ResourceClaim) -> DeviceClaim {
    let given = claim.status.allocation.as_ref().map(|allocation| {
        let results = allocation.devices.results.iter().flatten();
        let held = results.filter(|result| result.admin_access != Some(true));
        held.map(|of| (of.driver.as_str().into(), of.pool.as_str().into(), of.device.as_str().into()))
            .collect()
    });
    DeviceClaim { ask: ask(&claim.spec), given }
}

pub fn device_template(template: &devices::ResourceClaimTemplate) -> DeviceAsk {
    ask(&template.spec.spec)
}

fn ask(spec: &devices::ClaimSpec) -> DeviceAsk {
    if spec.devices.constraints.as_ref().is_some_and(|constraints| !constraints.is_empty()) {
        return Err(UnmodelledRule::DeviceRequest);
    }
    spec.devices.requests.iter().flatten().map(request).collect()
}

fn request(request: &devices::Request) -> Result<DeviceRequest, UnmodelledRule> {
    let Some(exactly) = &request.exactly else { return Err(UnmodelledRule::DeviceRequest) };
    let counts = matches!(exactly.allocation_mode.as_deref(), None | Some("" | "ExactCount"));
    let plain = exactly.admin_access != Some(true)
        && exactly.capacity.is_none()
        && exactly.tolerations.as_ref().is_none_or(Vec::is_empty)
        && exactly.derived_attributes.as_ref().is_none_or(Vec::is_empty);
    let count = u64::try_from(exactly.count.unwrap_or(1)).ok().filter(|_| counts && plain);
    let terms = selector(exactly.selectors.as_deref().unwrap_or_default());
    Ok(DeviceRequest {
        class: exactly.device_class_name.as_str().into(),
        terms: terms.ok_or(UnmodelledRule::DeviceSelector)?,
        count: count.ok_or(UnmodelledRule::DeviceRequest)?,
    })
}

fn selector(selectors: &[devices::Selector]) -> DeviceSelector {
    let mut terms = Vec::new();
    for selector in selectors {
        terms.extend(expression(&selector.cel.as_ref()?.expression)?);
    }
    terms.sort();
    terms.dedup();
    Some(terms)
}

/// The terms of an expression; `None` where it is more than comparisons joined by `&&`.
fn expression(text: &str) -> Option<Vec<DeviceTerm>> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            // Escapes are left to whoever evaluates expressions.
            (_, '\\') => return None,
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '&') => {
                letters.next_if_eq(&'&')?;
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut()?.push(letter);
    }
    parts.iter().map(|part| term(part.trim())).collect()
}

fn term(text: &str) -> Option<DeviceTerm> {
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let (attribute, rest) = subject(text)?;
    let rest = rest.trim();
    if rest.is_empty() {
        attribute.as_ref()?;
        return Some(DeviceTerm { attribute, equal: true, value: DeviceValue::Flag(!negated) });
    }
    let (equal, literal) = match (rest.strip_prefix("=="), rest.strip_prefix("!=")) {
        (Some(literal), _) => (true, literal),
        (_, Some(literal)) => (false, literal),
        _ => return None,
    };
    let value = literal_value(literal.trim()).filter(|_| !negated)?;
    Some(DeviceTerm { attribute, equal, value })
}

/// Domain and name of an attribute, `None` for the driver, and what follows.
type Subject<'t> = (Option<(Arc<str>, Arc<str>)>, &'t str);

fn subject(text: &str) -> Option<Subject<'_>> {
    let rest = text.strip_prefix("device.")?;
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if let Some(rest) = rest.strip_prefix("driver").filter(|rest| !rest.starts_with(word)) {
        return Some((None, rest));
    }
    let rest = rest.strip_prefix("attributes[")?;
    let (domain, rest) = quoted(rest)?;
    let rest = rest.strip_prefix("].")?;
    let end = rest.find(|letter| !word(letter)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    (!name.is_empty()).then(|| (Some((domain.into(), name.into())), rest))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn literal_value(text: &str) -> Option<DeviceValue> {
    match text {
        "true" => return Some(DeviceValue::Flag(true)),
        "false" => return Some(DeviceValue::Flag(false)),
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return Some(DeviceValue::Whole(number));
    }
    let (inside, rest) = quoted(text)?;
    rest.is_empty().then(|| DeviceValue::Text(inside.into()))
}

fn name(meta: &ObjectMeta) -> Arc<str> {
    Arc::from(meta.name.as_deref().unwrap_or_default())
}

fn key(meta: &ObjectMeta) -> VolumeClaimKey {
    VolumeClaimKey::new(meta.namespace.as_deref().unwrap_or("default"), name(meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_that_compare_are_read_and_others_are_not() {
        let said = |text: &str| {
            expression(text).map(|terms| terms.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(said("device.driver == 'gpu.x'").unwrap(), ["driver = gpu.x"]);
        let both = "device.driver == \"gpu.x\" &&\n device.attributes['gpu.x'].model != \"a && b\"";
        assert_eq!(said(both).unwrap(), ["driver = gpu.x", "gpu.x/model != a && b"]);
        assert_eq!(said("!device.attributes['x'].ecc").unwrap(), ["x/ecc = false"]);
        assert_eq!(said("device.attributes['x'].cores == -4").unwrap(), ["x/cores = -4"]);
        for more in [
            "",
            "true",
            "device.driver",
            "device.driver == 'a' || device.driver == 'b'",
            "device.driver in ['a']",
            "device.capacity['x'].memory.compareTo(quantity('1Gi')) > 0",
            "device.driver == 'a' & true",
            "(device.driver == 'a')",
            "device.attributes['x'].model.startsWith('a')",
            "device.attributes['x'].model == 'a\\'b'",
            "device.drivers == 'a'",
        ] {
            assert_eq!(said(more), None, "{more}");
        }
    }

    #[test]
    fn requests_for_a_number_are_read_and_others_say_so() {
        let read = |exactly: &str| -> DeviceAsk {
            let text = format!("devices: {{requests: [{{name: a, {exactly}}}]}}");
            ask(&serde_saphyr::from_str(&text).unwrap())
        };
        let plain = read("exactly: {deviceClassName: gpu}").unwrap();
        assert_eq!((&*plain[0].class, plain[0].count), ("gpu", 1));
        assert_eq!(read("exactly: {deviceClassName: gpu, count: 4}").unwrap()[0].count, 4);
        for more in [
            "firstAvailable: [{name: b, deviceClassName: gpu}]",
            "exactly: {deviceClassName: gpu, allocationMode: All}",
            "exactly: {deviceClassName: gpu, adminAccess: true}",
            "exactly: {deviceClassName: gpu, capacity: {requests: {memory: 1Gi}}}",
            "exactly: {deviceClassName: gpu, tolerations: [{operator: Exists}]}",
            "exactly: {deviceClassName: gpu, count: -1}",
        ] {
            assert_eq!(read(more), Err(UnmodelledRule::DeviceRequest), "{more}");
        }
        let selector = "exactly: {deviceClassName: gpu, selectors: [{cel: {expression: 'true'}}]}";
        assert_eq!(read(selector), Err(UnmodelledRule::DeviceSelector));
    }
}
