//! Label selectors as text, the way URLs and the gRPC service carry them.

use model::{LabelSelector, Operator, Requirement};
use std::sync::Arc;

/// Longest text that is read; a selector of Kubernetes' own limits is far shorter.
const LONGEST: usize = 16 << 10;

/// `a=b,c in (d,e),!f`: what `labelSelector` of a list takes.
pub fn selector_text(selector: &LabelSelector) -> String {
    let exact = selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().map(|requirement| {
        let (key, values) = (&requirement.key, requirement.values.join(","));
        match requirement.operator {
            Operator::In => format!("{key} in ({values})"),
            Operator::NotIn => format!("{key} notin ({values})"),
            Operator::Exists => key.to_string(),
            Operator::DoesNotExist => format!("!{key}"),
            Operator::Gt => format!("{key}>{values}"),
            Operator::Lt => format!("{key}<{values}"),
        }
    });
    exact.chain(expressions).collect::<Vec<_>>().join(",")
}

/// Reads such a text; the empty one selects everything. The error is one sentence with the fix.
pub fn parse_selector(text: &str) -> Result<LabelSelector, String> {
    if text.len() > LONGEST {
        return Err(format!("the selector has {} bytes; {LONGEST} are taken at most", text.len()));
    }
    let mut selector = LabelSelector::default();
    for part in parts(text) {
        let part = part.trim();
        if part.is_empty() {
            if text.trim().is_empty() {
                continue;
            }
            return Err(format!("\"{text}\" has an empty requirement; remove the extra comma"));
        }
        selector.match_expressions.push(requirement(part)?);
    }
    Ok(selector)
}

/// Splits at commas that stand outside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut out, mut begin, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[begin..]);
    out
}

fn requirement(part: &str) -> Result<Requirement, String> {
    if let Some(key) = part.strip_prefix('!') {
        return made(part, key, Operator::DoesNotExist, Vec::new());
    }
    if let Some(inner) = part.strip_suffix(')') {
        let (head, list) =
            inner.split_once('(').ok_or_else(|| format!("\"{part}\" has no opening parenthesis"))?;
        let (key, word) = head.trim().split_once(char::is_whitespace).unwrap_or((head.trim(), ""));
        let operator = match word.trim() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => return Err(format!("\"{part}\": \"{other}\" is no operator; use in or notin")),
        };
        return made(part, key, operator, list.split(',').map(str::trim).collect());
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::Gt),
        ("<", Operator::Lt),
    ] {
        if let Some((key, value)) = part.split_once(sign) {
            return made(part, key, operator, vec![value.trim()]);
        }
    }
    made(part, part, Operator::Exists, Vec::new())
}

fn made(part: &str, key: &str, operator: Operator, values: Vec<&str>) -> Result<Requirement, String> {
    let key = key.trim();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(name) {
        return Err(format!(
            "\"{part}\": \"{key}\" is no label key; write key=value, key in (a,b), key or !key"
        ));
    }
    if let Some(bad) = values.iter().find(|value| !value.chars().all(|c| name(c) && c != '/')) {
        return Err(format!("\"{part}\": \"{bad}\" is no label value"));
    }
    Ok(Requirement { key: Arc::from(key), operator, values: values.into_iter().map(Arc::from).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_survive_their_text() {
        for text in ["app in (a,b),!old,tier notin (x),up", "key in (value)", ""] {
            assert_eq!(selector_text(&parse_selector(text).unwrap()), text);
        }
        let equal = parse_selector("key=value, other != x").unwrap();
        assert_eq!(selector_text(&equal), "key in (value),other notin (x)");
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part() {
        for text in ["a=b,,c", "a in b)", "a like (b)", "=x", "a=b c", "(", "a=ü"] {
            assert!(parse_selector(text).is_err(), "{text}");
        }
    }
}
