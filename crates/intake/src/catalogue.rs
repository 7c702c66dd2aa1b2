//! Catalogues of machine types from files.
//!
//! Owns two formats: a list of types with requirements and offerings, as Karpenter's benchmark describes them, and
//! one region's list of types with labels and one price. Everything in a catalogue comes from outside, so each
//! complaint names the type, the field and the fix.

use crate::{IntakeError, quantity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{CapacityType, InstanceType, MicroUsdPerHour, Offering, Operator, Requirement, Resources};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ZONE: &str = api::labels::ZONE;
const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// A price above this is a slip of the decimal point, not a machine.
const HIGHEST_PRICE_USD: f64 = 1_000_000.0;

/// What holds for every type of a regional list.
struct Region {
    zones: Vec<Arc<str>>,
    capacity_type: CapacityType,
}

/// Reads a catalogue. The error names the type and the field.
pub fn catalogue(text: &str) -> Result<Vec<InstanceType>, IntakeError> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        IntakeError::field(format!("line {}", error.line()), error.to_string(), "mend the JSON there")
    })?;
    let (list, region) = match value {
        Value::Array(list) => (list, None),
        Value::Object(mut fields) => {
            let region = region(&fields)?;
            (take_list(&mut fields, "instanceTypes")?, Some(region))
        }
        _ => return Err(not_a_catalogue("is neither a list nor an object")),
    };
    if list.is_empty() {
        return Err(not_a_catalogue("holds no machine types"));
    }
    let mut types = Vec::with_capacity(list.len());
    let mut names = BTreeSet::new();
    for (i, entry) in list.into_iter().enumerate() {
        let entry = instance_type(entry, region.as_ref(), i)?;
        if !names.insert(entry.name.clone()) {
            return Err(IntakeError::field("name", "is given to two types", "leave one of them out").of(
                "type",
                "",
                &entry.name,
            ));
        }
        types.push(entry);
    }
    Ok(types)
}

fn not_a_catalogue(problem: &str) -> IntakeError {
    IntakeError::field(
        "the catalogue",
        problem,
        "give a list of {name, allocatable, requirements, offerings}, or {zones, capacityType, instanceTypes}",
    )
}

fn region(fields: &Map<String, Value>) -> Result<Region, IntakeError> {
    let zones = match fields.get("zones") {
        Some(value) => texts("zones", value)?,
        None => return Err(not_a_catalogue("is an object without zones")),
    };
    if zones.is_empty() {
        return Err(IntakeError::field("zones", "is empty", "name the zones where the types are sold"));
    }
    let capacity_type = match fields.get("capacityType") {
        Some(value) => capacity_type("capacityType", value)?,
        None => CapacityType::OnDemand,
    };
    Ok(Region { zones, capacity_type })
}

fn instance_type(value: Value, region: Option<&Region>, at: usize) -> Result<InstanceType, IntakeError> {
    let Value::Object(mut fields) = value else {
        return Err(not_a_catalogue(&format!("holds something that is no machine type at place {at}")));
    };
    let name = text(&format!("types[{at}].name"), fields.get("name").unwrap_or(&Value::Null))?;
    let of_type = |error: IntakeError| error.of("type", "", &name);
    let mut requirements = Vec::new();
    for (i, value) in take_optional_list(&mut fields, "requirements").map_err(of_type)?.iter().enumerate() {
        let read = requirement(value).map_err(|error| error.under(&format!("requirements[{i}]")));
        requirements.push(read.map_err(of_type)?);
    }
    requirements.extend(labels(&fields).map_err(of_type)?);
    let allocatable = amounts(&fields, "allocatable").map_err(of_type)?.ok_or_else(|| {
        of_type(IntakeError::field("allocatable", "is missing", "say what pods can use of a machine"))
    })?;
    let capacity = amounts(&fields, "capacity").map_err(of_type)?.unwrap_or_else(|| allocatable.clone());
    let offerings = match region {
        Some(region) => regional(&fields, region),
        None => offerings(&mut fields, &requirements),
    };
    Ok(InstanceType {
        requirements,
        capacity,
        allocatable,
        offerings: offerings.map_err(of_type)?,
        name: name.clone(),
    })
}

/// `labels: {key: value}` says the same as a requirement with one value.
fn labels(fields: &Map<String, Value>) -> Result<Vec<Requirement>, IntakeError> {
    let Some(value) = fields.get("labels") else { return Ok(Vec::new()) };
    let Value::Object(labels) = value else {
        return Err(IntakeError::field("labels", "is not an object", "write {key: value}"));
    };
    let one = |(key, value): (&String, &Value)| {
        Ok(Requirement {
            key: Arc::from(key.as_str()),
            operator: Operator::In,
            values: vec![label_value(&format!("labels.{key}"), value)?],
        })
    };
    labels.iter().map(one).collect()
}

/// Reads `{key, operator, values}`; `Gte` and `Lte` become the stricter bound that means the same.
pub(crate) fn requirement(value: &Value) -> Result<Requirement, IntakeError> {
    let key = model::today_name(&text("key", value.get("key").unwrap_or(&Value::Null))?);
    let values = value.get("values").map_or_else(|| Ok(Vec::new()), |list| texts("values", list))?;
    let word = text("operator", value.get("operator").unwrap_or(&Value::Null))?;
    let bound = |shift: i64| -> Result<Vec<Arc<str>>, IntakeError> {
        let number = match values.as_slice() {
            [one] => one.parse::<i64>().ok(),
            _ => None,
        };
        let number = number.and_then(|number| number.checked_add(shift)).ok_or_else(|| {
            IntakeError::field("values", format!("{word} needs one whole number"), "write such as [\"4\"]")
        })?;
        Ok(vec![Arc::from(number.to_string())])
    };
    let (operator, values) = match &*word {
        "In" if values.is_empty() => {
            return Err(IntakeError::field("values", "In has no values", "list at least one"));
        }
        "In" => (Operator::In, values),
        "NotIn" => (Operator::NotIn, values),
        "Exists" => (Operator::Exists, Vec::new()),
        "DoesNotExist" => (Operator::DoesNotExist, Vec::new()),
        "Gt" => (Operator::Gt, bound(0)?),
        "Lt" => (Operator::Lt, bound(0)?),
        "Gte" => (Operator::Gt, bound(-1)?),
        "Lte" => (Operator::Lt, bound(1)?),
        other => {
            return Err(IntakeError::field(
                "operator",
                format!("\"{other}\" is unknown"),
                "use In, NotIn, Exists, DoesNotExist, Gt, Lt, Gte or Lte",
            ));
        }
    };
    Ok(Requirement { key, operator, values })
}

fn amounts(fields: &Map<String, Value>, field: &str) -> Result<Option<Resources>, IntakeError> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    let Value::Object(list) = value else {
        return Err(IntakeError::field(field, "is not an object", "write {cpu: \"4\", memory: 16Gi}"));
    };
    let mut quantities = BTreeMap::new();
    for (name, value) in list {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(IntakeError::field(
                    format!("{field}.{name}"),
                    "is not a quantity",
                    "write a number such as 500m, 2, 1.5Gi",
                ));
            }
        };
        quantities.insert(name.clone(), Quantity(text));
    }
    quantity::resources(&quantities).map(Some).map_err(|error| error.under(field))
}

fn regional(fields: &Map<String, Value>, region: &Region) -> Result<Vec<Offering>, IntakeError> {
    let price = price("priceUsdPerHour", fields.get("priceUsdPerHour"))?;
    let in_zone = |zone: &Arc<str>| Offering {
        zone: zone.clone(),
        capacity_type: region.capacity_type,
        price,
        available: true,
        remaining: None,
    };
    Ok(region.zones.iter().map(in_zone).collect())
}

fn offerings(
    fields: &mut Map<String, Value>,
    requirements: &[Requirement],
) -> Result<Vec<Offering>, IntakeError> {
    let mut offerings: Vec<Offering> = Vec::new();
    for (i, value) in take_list(fields, "offerings")?.iter().enumerate() {
        let at = |error: IntakeError| error.under(&format!("offerings[{i}]"));
        let offering = offering(value, requirements).map_err(at)?;
        let same = |other: &&Offering| {
            (&other.zone, other.capacity_type) == (&offering.zone, offering.capacity_type)
        };
        if offerings.iter().find(same).is_some() {
            let twice = format!("{} in {} is offered twice", offering.capacity_type, offering.zone);
            return Err(at(IntakeError::field("zone", twice, "leave one of them out")));
        }
        offerings.push(offering);
    }
    Ok(offerings)
}

fn offering(value: &Value, requirements: &[Requirement]) -> Result<Offering, IntakeError> {
    let field = |name: &str| value.get(name).unwrap_or(&Value::Null);
    let zone = text("zone", field("zone"))?;
    let capacity_type = capacity_type("capacityType", field("capacityType"))?;
    // A type lists its zones and capacity types; an offering elsewhere is a slip in one of the two.
    for (key, name, found) in
        [(ZONE, "zone", &*zone), (CAPACITY_TYPE, "capacityType", capacity_type.as_str())]
    {
        let listed = requirements.iter().find(|r| &*r.key == key && r.operator == Operator::In);
        if let Some(listed) = listed.filter(|listed| !listed.matches_value(Some(found))) {
            return Err(IntakeError::field(
                name,
                format!("\"{found}\" is not among the type's ({})", listed.values.join(", ")),
                format!("use one of them, or add it to the requirement on {key}"),
            ));
        }
    }
    let available = match value.get("available") {
        None => true,
        Some(value) => value.as_bool().ok_or_else(|| {
            IntakeError::field("available", format!("{value} is neither true nor false"), "write one of them")
        })?,
    };
    let remaining = match value.get("remaining") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
            IntakeError::field("remaining", format!("{value} is no count of machines"), "write 0 or more")
        })?),
    };
    let price = price("price", value.get("price"))?;
    Ok(Offering { zone, capacity_type, price, available, remaining })
}

fn price(field: &str, value: Option<&Value>) -> Result<MicroUsdPerHour, IntakeError> {
    let fix = "write US dollars an hour, such as 0.192";
    let Some(value) = value else { return Err(IntakeError::field(field, "is missing", fix)) };
    let wrong = |problem: &str| IntakeError::field(field, format!("{value} {problem}"), fix);
    let dollars = value.as_f64().ok_or_else(|| wrong("is not a number"))?;
    if !(dollars.is_finite() && dollars >= 0.0) {
        return Err(wrong("is less than nothing"));
    }
    if dollars > HIGHEST_PRICE_USD {
        return Err(wrong("is more than a machine can cost"));
    }
    Ok(MicroUsdPerHour((dollars * 1e6).round() as u64))
}

fn capacity_type(field: &str, value: &Value) -> Result<CapacityType, IntakeError> {
    let word = text(field, value)?;
    CapacityType::named(&word).ok_or_else(|| {
        IntakeError::field(field, format!("\"{word}\" is unknown"), "use on-demand, spot or reserved")
    })
}

fn text(field: &str, value: &Value) -> Result<Arc<str>, IntakeError> {
    let wrong = |problem: String| IntakeError::field(field, problem, "write a text that is not empty");
    match value {
        Value::String(text) if !text.is_empty() => Ok(Arc::from(text.as_str())),
        Value::String(_) => Err(wrong("is empty".to_owned())),
        Value::Null => Err(wrong("is missing".to_owned())),
        other => Err(wrong(format!("{other} is not a text"))),
    }
}

fn texts(field: &str, value: &Value) -> Result<Vec<Arc<str>>, IntakeError> {
    let Value::Array(list) = value else {
        return Err(IntakeError::field(field, "is not a list", "write a list of texts"));
    };
    list.iter().enumerate().map(|(i, value)| label_value(&format!("{field}[{i}]"), value)).collect()
}

/// The value of a label, which may be empty.
fn label_value(field: &str, value: &Value) -> Result<Arc<str>, IntakeError> {
    match value {
        Value::String(text) => Ok(Arc::from(text.as_str())),
        other => text(field, other),
    }
}

fn take_list(fields: &mut Map<String, Value>, field: &str) -> Result<Vec<Value>, IntakeError> {
    match fields.remove(field) {
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(IntakeError::field(field, "is not a list", "write a list")),
        None => Err(IntakeError::field(field, "is missing", "add it")),
    }
}

fn take_optional_list(fields: &mut Map<String, Value>, field: &str) -> Result<Vec<Value>, IntakeError> {
    if fields.contains_key(field) { take_list(fields, field) } else { Ok(Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = r#"{"name": "m1", "capacity": {"cpu": "2", "memory": "8Gi", "pods": "20"},
        "allocatable": {"cpu": "1900m", "memory": "7Gi", "pods": "20"},
        "requirements": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]},
            {"key": "size", "operator": "Gte", "values": ["4"]}],
        "offerings": [
            {"zone": "a", "capacityType": "on-demand", "price": 0.25, "available": true},
            {"zone": "b", "capacityType": "spot", "price": 0.1}]}"#;

    #[test]
    fn both_formats_are_read() {
        let types = catalogue(&format!("[{TYPE}]")).unwrap();
        assert_eq!(types[0].offerings[1].price, MicroUsdPerHour(100_000));
        assert_eq!(types[0].capacity.cpu.0, 2000);
        assert_eq!(types[0].requirements[1].operator, Operator::Gt);
        assert_eq!(&*types[0].requirements[1].values[0], "3");

        let region = r#"{"region": "r", "zones": ["r1", "r2"], "capacityType": "on-demand", "instanceTypes": [
            {"name": "x", "labels": {"kubernetes.io/arch": "arm64"}, "allocatable": {"cpu": "940m"},
             "priceUsdPerHour": 0.0255}]}"#;
        let types = catalogue(region).unwrap();
        assert_eq!(types[0].offerings.len(), 2);
        assert_eq!(types[0].offerings[0].price, MicroUsdPerHour(25_500));
        assert_eq!(&*types[0].requirements[0].values[0], "arm64");
    }

    #[test]
    fn bad_catalogues_name_type_field_and_fix() {
        let without = |part: &str, instead: &str| {
            assert!(TYPE.contains(part), "{part}");
            format!("[{}]", TYPE.replace(part, instead))
        };
        let table: &[(String, &[&str])] = &[
            ("[{\"name\": 1,}]".into(), &["line 1"]),
            ("7".into(), &["neither a list nor an object"]),
            ("[]".into(), &["holds no machine types"]),
            ("[3]".into(), &["place 0"]),
            ("{\"instanceTypes\": []}".into(), &["without zones"]),
            (format!("[{TYPE}, {TYPE}]"), &["type m1", "name", "two types", "leave one of them out"]),
            (without("\"m1\"", "\"\""), &["types[0].name", "is empty"]),
            (without("\"price\": 0.25", "\"price\": -0.25"), &["type m1", "offerings[0].price", "-0.25"]),
            (without("\"price\": 0.25", "\"price\": 1e300"), &["offerings[0].price", "more than a machine"]),
            (without("\"price\": 0.25, ", ""), &["offerings[0].price", "is missing"]),
            (without("\"zone\": \"b\"", "\"zone\": \"z\""), &["offerings[1].zone", "\"z\"", "(a, b)"]),
            (
                without(
                    "\"zone\": \"b\", \"capacityType\": \"spot\"",
                    "\"zone\": \"a\", \"capacityType\": \"on-demand\"",
                ),
                &["offerings[1].zone", "twice"],
            ),
            (without("\"spot\"", "\"free\""), &["offerings[1].capacityType", "\"free\"", "on-demand, spot"]),
            (without("1900m", "-1900m"), &["type m1", "allocatable.cpu", "negative"]),
            (without("7Gi", "99999999Ei"), &["allocatable.memory", "larger than a quantity"]),
            (without("\"Gte\"", "\"Near\""), &["requirements[1].operator", "\"Near\""]),
            (
                without("\"In\", \"values\": [\"a\", \"b\"]", "\"In\", \"values\": []"),
                &["requirements[0].values"],
            ),
            (
                without("[\"4\"]", "[\"9223372036854775807\", \"1\"]"),
                &["requirements[1].values", "one whole number"],
            ),
        ];
        for (text, parts) in table {
            let error = catalogue(text).unwrap_err().to_string();
            for part in *parts {
                assert!(error.contains(part), "\"{part}\" is not in: {error}");
            }
        }
    }
}
