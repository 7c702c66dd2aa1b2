//! Query templates as Prometheus Adapter writes them: Go's, between `<<` and `>>`.
//!
//! Owns the part of that language that queries use: fields and lookups in the map of label values. Anything else is
//! refused when the configuration is read, not when a query is needed.

use std::collections::BTreeMap;

/// What a template may put in.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    /// `Series`, `LabelMatchers`, `GroupBy`, or `Resource` and `Group`.
    pub(super) fields: BTreeMap<&'static str, String>,
    pub(super) label_values: BTreeMap<String, String>,
}

/// A template that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(&'static str),
    /// The values of one label, `a|b`.
    LabelValue(String),
}

impl Template {
    /// Reads a template that may use the given fields. The error is one sentence part with the fix.
    pub(super) fn read(text: &str, fields: &[&'static str]) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("<<") {
            let (action, tail) =
                after.split_once(">>").ok_or_else(|| format!("\"<<{after}\" is never closed; add >>"))?;
            let (trim_before, action) = match action.strip_prefix("- ") {
                Some(action) => (true, action),
                None => (false, action),
            };
            let (trim_after, action) = match action.strip_suffix(" -") {
                Some(action) => (true, action),
                None => (false, action),
            };
            parts.push(Part::Text(if trim_before { before.trim_end() } else { before }.to_owned()));
            parts.push(part(action.trim(), fields)?);
            rest = if trim_after { tail.trim_start() } else { tail };
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    pub(super) fn fill(&self, values: &Values) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(name) => out.push_str(values.fields.get(name).map_or("", String::as_str)),
                Part::LabelValue(name) => {
                    out.push_str(values.label_values.get(name).map_or("", String::as_str));
                }
            }
        }
        out
    }
}

fn part(action: &str, fields: &[&'static str]) -> Result<Part, String> {
    let unknown = || {
        let known = fields.iter().map(|field| format!("<<.{field}>>")).collect::<Vec<_>>().join(", ");
        format!("\"<<{action}>>\" is not understood; use {known} or <<index .LabelValuesByName \"label\">>")
    };
    if let Some(name) = action.strip_prefix('.') {
        if let Some(label) = name.strip_prefix("LabelValuesByName.") {
            return Ok(Part::LabelValue(label.to_owned()));
        }
        // The slice prints as its elements in Go, so it is used with a function only; the joined form is what
        // queries mean.
        let name = if name == "GroupBySlice" { "GroupBy" } else { name };
        return fields
            .iter()
            .find(|field| **field == name)
            .map(|field| Part::Field(field))
            .ok_or_else(unknown);
    }
    let label = action.strip_prefix("index ").map(str::trim_start);
    let label = label.and_then(|rest| rest.strip_prefix(".LabelValuesByName")).map(str::trim);
    let label = label.and_then(|rest| rest.strip_prefix('"')?.strip_suffix('"'));
    label.map(|label| Part::LabelValue(label.to_owned())).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            fields: [("Series", "up".to_owned()), ("LabelMatchers", "a=\"b\"".to_owned())].into(),
            label_values: [("pod".to_owned(), "x|y".to_owned())].into(),
        }
    }

    #[test]
    fn fields_and_label_values_are_put_in() {
        for (text, filled) in [
            ("sum(<<.Series>>{<<.LabelMatchers>>})", "sum(up{a=\"b\"})"),
            ("<< .Series >> <<- .Series>>", "upup"),
            ("<<index .LabelValuesByName \"pod\">>/<<.LabelValuesByName.pod>>", "x|y/x|y"),
            ("<<.LabelValuesByName.none>>", ""),
            ("a < b", "a < b"),
        ] {
            let template = Template::read(text, &["Series", "LabelMatchers"]).unwrap();
            assert_eq!(template.fill(&values()), filled, "{text}");
        }
    }

    #[test]
    fn other_actions_are_refused() {
        for text in ["<<.Nothing>>", "<<range .X>>", "<<.Series", "<<index .LabelValuesByName pod>>"] {
            assert!(Template::read(text, &["Series"]).is_err(), "{text}");
        }
    }
}
