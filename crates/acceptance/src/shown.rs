//! Whether a command printed what a document shows, but for what no two runs share.
//!
//! Allowed to differ: ages, times, addresses, repeat counts such as `(x2 over 33m)`, and the width of columns. In the
//! expected text, a line `...` stands for any lines, as it does in the documents, and `{any}` for part of a word.

const ANY_LINES: &str = "...";
const ANY_TEXT: &str = "{any}";
/// A kind of word that is compared as a kind only.
const AGE: &str = "<age>";
const AHEAD: &str = "<invalid>";
const TIME: &str = "<time>";
const ADDRESS: &str = "<address>";

/// Whether `printed` is what `expected` shows.
pub fn matches(expected: &str, printed: &str) -> bool {
    let lines = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(words).filter(|words| !words.is_empty()).collect()
    };
    let (expected, printed) = (lines(expected), lines(printed));
    lines_match(&expected, &printed)
}

fn lines_match(expected: &[Vec<String>], printed: &[Vec<String>]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return printed.is_empty() };
    if first.len() == 1 && first[0] == ANY_LINES {
        return (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]));
    }
    let Some((line, below)) = printed.split_first() else { return false };
    let equal =
        first.len() == line.len() && first.iter().zip(line).all(|(want, got)| word_matches(want, got));
    equal && lines_match(rest, below)
}

fn word_matches(expected: &str, printed: &str) -> bool {
    let Some((before, after)) = expected.split_once(ANY_TEXT) else { return expected == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    // At least one character stands where the document has a made-up one.
    (1..=rest.len()).filter(|end| rest.is_char_boundary(*end)).any(|end| word_matches(after, &rest[end..]))
}

/// The words of a line, with what may differ replaced by its kind and repeat counts left out.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut pieces = line.split_whitespace().peekable();
    while let Some(piece) = pieces.next() {
        let repeats = piece.strip_prefix("(x").is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()));
        if repeats && pieces.peek() == Some(&"over") {
            pieces.next();
            pieces.next();
            continue;
        }
        words.push(normal(piece));
    }
    words
}

fn normal(word: &str) -> String {
    let bare = word.trim_matches('"');
    if is_age(bare) {
        AGE.to_owned()
    } else if is_time(bare) {
        TIME.to_owned()
    } else {
        word.split(',').map(normal_address).collect::<Vec<_>>().join(",")
    }
}

/// `3m15s`, `2d1h`, `5s`; kubectl's word for what lies ahead, where a trial's clock runs fast.
fn is_age(word: &str) -> bool {
    if word == AHEAD {
        return true;
    }
    let mut digits = false;
    for c in word.chars() {
        match c {
            '0'..='9' => digits = true,
            's' | 'm' | 'h' | 'd' | 'y' if digits => digits = false,
            _ => return false,
        }
    }
    !word.is_empty() && !digits
}

/// `2023-10-25T11:00:00Z`.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

/// `10.1.5.52` and `10.1.5.52:80`, the port staying.
fn normal_address(word: &str) -> String {
    let (host, port) = word.split_once(':').map_or((word, None), |(host, port)| (host, Some(port)));
    let octets: Vec<&str> = host.split('.').collect();
    if octets.len() != 4 || octets.iter().any(|octet| octet.parse::<u8>().is_err()) {
        return word.to_owned();
    }
    port.map_or_else(|| ADDRESS.to_owned(), |port| format!("{ADDRESS}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_times_addresses_counts_and_columns_may_differ() {
        let documented =
            "NAME   ENDPOINTS                      AGE\nnginx  10.1.5.52:80,10.1.5.68:80 + 2 more...  3d3h";
        let printed = "NAME ENDPOINTS AGE\nnginx 10.96.0.9:80,10.96.0.1:80 + 2 more... 5s\n";
        assert!(matches(documented, printed));
        assert!(!matches(documented, "NAME ENDPOINTS AGE\nnginx 10.96.0.9:81,10.96.0.1:80 + 2 more... 5s\n"));
        assert!(matches("Normal Up 33m (x2 over 33m) c 3 -> 4", "Normal  Up  2s   c  3 -> 4"));
        assert!(matches("Normal Up 33m c", "Normal Up <invalid> c"));
        assert!(!matches("Normal Up 33m c 3 -> 4", "Normal Up 2s c 3 -> 5"));
        assert!(matches("at: \"2023-10-25T11:00:00Z\"", "  at: \"2026-01-02T03:04:05Z\""));
    }

    #[test]
    fn dots_stand_for_lines_and_any_for_part_of_a_word() {
        assert!(matches("...\nEvents:\n...\nlast", "a\nb\nEvents:\nc\nlast\n"));
        assert!(matches("...", ""));
        assert!(!matches("...\nEvents:", "a\nEvents:\nb"));
        assert!(matches("nginx-{any}-{any} 0/1", "nginx-7d9-x2x 0/1"));
        assert!(!matches("nginx-{any} 0/1", "nginx- 0/1"));
        assert!(!matches("one", "one\ntwo"));
    }
}
