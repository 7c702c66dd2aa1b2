//! The elements of a list, cut out of an answer while it comes.
//!
//! Owns finding where elements begin and end, so that an answer about tens of thousands of pods is never in memory as a
//! whole. What an element says is read by who asks; that the answer is JSON is known only as far as its brackets tell.

/// Finds the objects of the arrays right under the outermost object: `items` of a list.
#[derive(Debug, Default)]
pub(super) struct Elements {
    depth: usize,
    listing: bool,
    in_text: bool,
    escaped: bool,
    /// Something came that is not the beginning of an object, or came behind its end.
    odd: bool,
    ended: bool,
    /// An element that began in an earlier part.
    begun: Vec<u8>,
}

impl Elements {
    /// Takes the next part, and hands over each element that ends in it.
    pub(super) fn take(&mut self, part: &[u8], mut each: impl FnMut(&[u8])) {
        let mut from = 0;
        for (at, byte) in part.iter().enumerate() {
            match self.step(*byte) {
                Step::Begins => from = at,
                Step::Ends => {
                    if self.begun.is_empty() {
                        each(&part[from..=at]);
                    } else {
                        self.begun.extend_from_slice(&part[..=at]);
                        each(&self.begun);
                        self.begun.clear();
                    }
                    from = at + 1;
                }
                Step::None => {}
            }
        }
        if self.listing && self.depth > 2 {
            self.begun.extend_from_slice(&part[from..]);
        }
    }

    /// Whether it was one object, whole.
    pub(super) fn is_whole(&self) -> bool {
        self.ended && !self.odd
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.in_text {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_text = !closes;
            return Step::None;
        }
        match byte {
            b'{' | b'[' => return self.open(byte),
            b'}' | b']' => return self.close(),
            b'"' => self.in_text = true,
            _ => {}
        }
        self.odd |= self.depth == 0 && !byte.is_ascii_whitespace();
        Step::None
    }

    fn open(&mut self, byte: u8) -> Step {
        self.odd |= self.depth == 0 && (byte == b'[' || self.ended);
        self.depth += 1;
        match self.depth {
            2 => self.listing = byte == b'[',
            3 if self.listing => return Step::Begins,
            _ => {}
        }
        Step::None
    }

    fn close(&mut self) -> Step {
        let Some(depth) = self.depth.checked_sub(1) else {
            self.odd = true;
            return Step::None;
        };
        self.depth = depth;
        self.ended |= depth == 0;
        if depth == 2 && self.listing { Step::Ends } else { Step::None }
    }
}

enum Step {
    Begins,
    Ends,
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#" {"kind":"List","metadata":{"a":[{"no":1}]},"items":[ {"a":"}]\"[{"} ,{"b":{"c":[{}]}}],"rest":null}
"#;

    fn found(parts: &[&str]) -> (Vec<String>, bool) {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        for part in parts {
            elements.take(part.as_bytes(), |one| found.push(String::from_utf8_lossy(one).into_owned()));
        }
        (found, elements.is_whole())
    }

    #[test]
    fn elements_are_the_same_wherever_an_answer_is_cut() {
        let expected = [r#"{"a":"}]\"[{"}"#, r#"{"b":{"c":[{}]}}"#].map(str::to_owned).to_vec();
        assert_eq!(found(&[LIST]), (expected.clone(), true));
        for at in 0..LIST.len() {
            for to in at..LIST.len() {
                let parts = [&LIST[..at], &LIST[at..to], &LIST[to..]];
                assert_eq!(found(&parts), (expected.clone(), true), "cut at {at} and {to}");
            }
        }
    }

    #[test]
    fn what_is_not_one_whole_object_is_told_from_it() {
        assert_eq!(found(&[r#"{"items":null}"#]), (Vec::new(), true));
        for odd in ["", "<html>", "null", "[{}]", r#"{"items":[{}"#, "{}{}", "}{}", "{} x"] {
            assert!(!found(&[odd]).1, "{odd}");
        }
    }
}
