//! Reads Rust source just far enough to count functions' lines and find words outside comments and strings.
//!
//! Owns a small scanner, not a parser: it blanks comments, strings and character literals, then matches braces.
//! That is enough for the house's rules and costs the build nothing.

/// One file, scanned.
pub(crate) struct Source {
    pub(crate) lines: usize,
    /// The first line is a `//!` comment.
    pub(crate) opens_with_purpose: bool,
    pub(crate) functions: Vec<Function>,
    code: String,
}

/// One function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line of its `fn`, from 1.
    pub(crate) at: usize,
    /// From `fn` to its closing brace.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let code = blank(text);
        Self {
            lines: text.lines().count(),
            opens_with_purpose: text.starts_with("//!"),
            functions: functions(&code),
            code,
        }
    }

    /// Every use of one of `words` as a whole identifier, with its line.
    pub(crate) fn words<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> + 'a {
        self.code.lines().enumerate().flat_map(move |(index, line)| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| words.contains(word))
                .map(move |word| (index + 1, word))
        })
    }
}

/// What the scanner is inside of.
enum Inside {
    Code,
    LineComment,
    BlockComment(usize),
    /// A string that ends with a quote and this many hashes; escapes count where there are none.
    Text(Option<usize>),
}

/// The text with comments and literals replaced by blanks, lines kept.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let step = match inside {
            Inside::Code => in_code(rest, chars[..at].last().copied(), &mut inside, &mut out),
            Inside::LineComment => {
                if rest[0] == '\n' {
                    inside = Inside::Code;
                }
                blanks(rest, 1, &mut out)
            }
            Inside::BlockComment(depth) => in_block_comment(rest, depth, &mut inside, &mut out),
            Inside::Text(hashes) => in_text(rest, hashes, &mut inside, &mut out),
        };
        at += step;
    }
    out
}

fn blanks(rest: &[char], count: usize, out: &mut String) -> usize {
    let count = count.min(rest.len());
    out.extend(rest[..count].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    count
}

fn in_code(rest: &[char], before: Option<char>, inside: &mut Inside, out: &mut String) -> usize {
    let starts = |text: &str| rest.len() >= text.len() && text.chars().zip(rest).all(|(a, b)| a == *b);
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if starts("//") {
        *inside = Inside::LineComment;
        return blanks(rest, 2, out);
    }
    if starts("/*") {
        *inside = Inside::BlockComment(1);
        return blanks(rest, 2, out);
    }
    if rest[0] == '"' {
        *inside = Inside::Text(None);
        return blanks(rest, 1, out);
    }
    if !in_word && let Some((hashes, length)) = raw_string(rest) {
        *inside = Inside::Text(Some(hashes));
        return blanks(rest, length, out);
    }
    if rest[0] == '\''
        && let Some(length) = char_literal(rest)
    {
        return blanks(rest, length, out);
    }
    out.push(rest[0]);
    1
}

/// Hashes and length of an opening `r"`, `r#"`, `br"`, …
fn raw_string(rest: &[char]) -> Option<(usize, usize)> {
    let prefix = match rest {
        ['r', ..] => 1,
        ['b' | 'c', 'r', ..] => 2,
        _ => return None,
    };
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    (rest.get(prefix + hashes) == Some(&'"')).then_some((hashes, prefix + hashes + 1))
}

/// Length of a character literal, `None` for a lifetime.
fn char_literal(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', ..] => {
            // The escaped character itself may be a quote.
            rest.iter().skip(3).position(|c| *c == '\'').map(|at| at + 4)
        }
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn in_block_comment(rest: &[char], depth: usize, inside: &mut Inside, out: &mut String) -> usize {
    match rest {
        ['/', '*', ..] => {
            *inside = Inside::BlockComment(depth + 1);
            blanks(rest, 2, out)
        }
        ['*', '/', ..] => {
            *inside = if depth == 1 { Inside::Code } else { Inside::BlockComment(depth - 1) };
            blanks(rest, 2, out)
        }
        _ => blanks(rest, 1, out),
    }
}

fn in_text(rest: &[char], hashes: Option<usize>, inside: &mut Inside, out: &mut String) -> usize {
    match (rest[0], hashes) {
        ('\\', None) => blanks(rest, 2, out),
        ('"', None) => {
            *inside = Inside::Code;
            blanks(rest, 1, out)
        }
        ('"', Some(hashes)) if rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
            *inside = Inside::Code;
            blanks(rest, 1 + hashes, out)
        }
        _ => blanks(rest, 1, out),
    }
}

/// Functions with bodies, in the order of their `fn`; nested ones count in the outer one too.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + 3..];
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // `fn(u32) -> u32` is a type.
        if name.is_empty() {
            continue;
        }
        if let Some(length) = body_end(rest) {
            let lines = rest[..length].matches('\n').count() + 1;
            found.push(Function { name, at: code[..at].matches('\n').count() + 1, lines });
        }
    }
    found
}

/// Offset just behind the closing brace; `None` where the function has no body.
fn body_end(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && brackets == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_do_not_count() {
        let text = "//! Purpose.\nfn a<'x>(c: char) -> [u8; 2] {\n  let s = \"} HashMap\"; // {\n  let q = '\\'';\n  \
                    let r = r#\"\"}\"#;\n}\n\nfn b() {}\ntrait T { fn c(&self); }\n";
        let source = Source::read(text);
        assert!(source.opens_with_purpose);
        let seen: Vec<_> = source.functions.iter().map(|f| (f.name.as_str(), f.at, f.lines)).collect();
        assert_eq!(seen, [("a", 2, 5), ("b", 8, 1)]);
        assert_eq!(source.words(&["HashMap"]).count(), 0);
    }

    #[test]
    fn words_are_whole() {
        let source = Source::read("use x::{HashMap, MyHashMap};\n");
        assert_eq!(source.words(&["HashMap"]).collect::<Vec<_>>(), [(1, "HashMap")]);
    }
}
