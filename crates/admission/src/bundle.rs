//! The authorities that API servers trust, as a bundle in PEM: each replica adds its own and leaves others' alone.
//!
//! Pure. Bounded: those of replicas that are long gone fall out as new ones come.

/// Authorities in a bundle; more than there are replicas, and restarts of one within a minute.
const MOST: usize = 16;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The bundle with `mine` in it, or `None` where it is there already. `retired` goes out.
pub(crate) fn with(bundle: &str, mine: &[String], retired: &[String]) -> Option<String> {
    let before = blocks(bundle);
    let of = |texts: &[String]| -> Vec<String> { texts.iter().flat_map(|text| blocks(text)).collect() };
    let (mine, retired) = (of(mine), of(retired));
    let mut after: Vec<String> = before.iter().filter(|block| !retired.contains(block)).cloned().collect();
    let missing = mine.into_iter().filter(|block| !before.contains(block));
    after.extend(missing);
    let surplus = after.len().saturating_sub(MOST);
    after.drain(..surplus);
    (after != before).then(|| after.concat())
}

/// The certificates of a text, each with its frame and a line's end.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let Some(length) = rest[start..].find(END) else { break };
        let end = start + length + END.len();
        found.push(rest[start..end].replace('\r', "") + "\n");
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> String {
        format!("{BEGIN}\n{text}\n{END}\n")
    }

    #[test]
    fn mine_is_added_once_and_retired_ones_go() {
        let (a, b, c) = (block("a"), block("b"), block("c"));
        let one = with("", std::slice::from_ref(&a), &[]).unwrap();
        let two = with(&one, std::slice::from_ref(&b), &[]).unwrap();
        assert_eq!(two, format!("{a}{b}"));
        assert_eq!(with(&two, std::slice::from_ref(&b), &[]), None, "there already");
        assert_eq!(with(&two, &[b.clone(), c.clone()], &[a]).unwrap(), format!("{b}{c}"));
        assert_eq!(
            with("\n garbage", std::slice::from_ref(&c), &[]).unwrap(),
            c,
            "what is no certificate is no loss"
        );
    }

    #[test]
    fn the_oldest_fall_out() {
        let all: Vec<String> = (0..MOST).map(|n| block(&n.to_string())).collect();
        let bundle = with(&all.concat(), &[block("new")], &[]).unwrap();
        assert!(!bundle.contains(&all[0]) && bundle.contains(&all[1]) && bundle.contains("new"), "{bundle}");
    }
}
