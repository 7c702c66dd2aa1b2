//! Label matchers of PromQL.
//!
//! Owns quoting: whatever a name or a value holds, it stays a value.

use model::{LabelSelector, Operator, Requirement};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Matchers of one selection, and the values by label that templates may ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Matchers {
    written: Vec<String>,
    pub(super) values: BTreeMap<String, String>,
}

impl Matchers {
    /// `label="value"`, or a choice of several values.
    pub(super) fn one_of(&mut self, label: &str, values: &[Arc<str>]) {
        match values {
            [one] => self.push(label, "=", &quoted(one)),
            several => self.push(label, "=~", &quoted(&alternatives(several))),
        }
        self.values.insert(label.to_owned(), values.join("|"));
    }

    /// `label=~"pattern"`.
    pub(super) fn pattern(&mut self, label: &str, pattern: &str) {
        self.push(label, "=~", &quoted(pattern));
        self.values.insert(label.to_owned(), pattern.to_owned());
    }

    /// A selector of Kubernetes.
    pub(super) fn selected(&mut self, selector: &LabelSelector) -> Result<(), String> {
        for (label, value) in &selector.match_labels {
            self.one_of(label, std::slice::from_ref(value));
        }
        for Requirement { key, operator, values } in &selector.match_expressions {
            match operator {
                Operator::In => self.one_of(key, values),
                Operator::NotIn => {
                    let (sign, text) = match values.as_slice() {
                        [one] => ("!=", quoted(one)),
                        several => ("!~", quoted(&alternatives(several))),
                    };
                    self.push(key, sign, &text);
                    self.values.insert(key.to_string(), values.join("|"));
                }
                Operator::Exists => self.push(key, "!=", &quoted("")),
                Operator::DoesNotExist => self.push(key, "=", &quoted("")),
                Operator::Gt | Operator::Lt => {
                    return Err(format!("the metric's selector compares {key} by size; Prometheus cannot"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn text(&self) -> String {
        self.written.join(",")
    }

    fn push(&mut self, label: &str, sign: &str, value: &str) {
        self.written.push(format!("{label}{sign}{value}"));
    }
}

/// A text as PromQL quotes it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A pattern that matches exactly these texts.
fn alternatives(texts: &[Arc<str>]) -> String {
    texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join("|")
}

/// A text as a pattern that matches only itself.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // The hyphen means something inside brackets only, where a name never stands.
        if c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '/' | ':') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_become_matchers_and_values_stay_values() {
        let selector = crate::parse_selector("a=x,b in (y,z.1),c!=w,d notin (u,v),e,!f").unwrap();
        let mut matchers = Matchers::default();
        matchers.one_of("pod", &["evil\"} or vector(1) #".into()]);
        matchers.selected(&selector).unwrap();
        assert_eq!(
            matchers.text(),
            r#"pod="evil\"} or vector(1) #",a="x",b=~"y|z\\.1",c!="w",d!~"u|v",e!="",f="""#
        );
        assert_eq!(matchers.values["b"], "y|z.1");
    }
}
