//! Queries of the RPC form: names with values, lists as `Name.1`, `Name.2`.

use std::collections::BTreeMap;

/// Parameters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.parse().ok()
    }

    pub(crate) fn is_true(&self, name: &str, otherwise: bool) -> bool {
        self.0.get(name).map_or(otherwise, |value| value.eq_ignore_ascii_case("true"))
    }

    /// The values of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|at| self.0.get(&format!("{name}.{at}")).cloned()).collect()
    }

    /// The canonical form that is signed.
    pub(crate) fn canonical(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        pairs.join("&")
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(text: &str) -> String {
    let keep = |byte: u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_written_in_order() {
        let query = Query::parse("B=x%20y&A=%E4%BC%B8+z&L.1=a&L.2=b&L.4=d");
        assert_eq!(query.get("A"), "伸 z");
        assert_eq!(query.list("L"), ["a", "b"]);
        assert_eq!(query.canonical(), "A=%E4%BC%B8%20z&B=x%20y&L.1=a&L.2=b&L.4=d");
    }
}
