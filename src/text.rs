//! Text from outside, made safe to show.

/// The longest value that is shown, in characters: arguments may have 128 KiB.
const SHOWN: usize = 256;

/// Returns text from outside made safe to quote in a message: quotes, backslashes and whatever
/// does not print escaped, and cut where it is too long.
///
/// Once, where the text comes in: what is escaped twice cannot be read.
///
/// ```
/// use vipswitch::text::{escape, printable};
/// let name = "a\" exit=0\u{1b}[31m";
/// assert_eq!(escape(name), r#"a\" exit=0\u{1b}[31m"#);
/// // The last guard leaves what is escaped as it is.
/// assert_eq!(printable(&escape(name)), escape(name));
/// ```
pub fn escape(text: &str) -> String {
    let (shown, cut) = match text.char_indices().nth(SHOWN) {
        None => (text, ""),
        Some((end, _)) => (&text[..end], "…"),
    };
    shown.escape_debug().to_string().replace("\\'", "'") + cut
}

/// Returns text with every character escaped that does not print (line ends, terminal
/// sequences, bidirectional overrides), as the last guard before a log or a terminal.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

/// Returns what was found, one after another: a sentence within that ends with a full stop ends with the semicolon.
///
/// ```
/// use vipswitch::text::joined;
/// let faults = ["it failed. Run it as root.", "so did this. Try again."];
/// assert_eq!(joined(&faults), "it failed. Run it as root; so did this. Try again.");
/// ```
pub fn joined(texts: &[impl AsRef<str>]) -> String {
    let mut all = String::new();
    for text in texts {
        if !all.is_empty() {
            all.truncate(all.trim_end_matches('.').len());
            all += "; ";
        }
        all += text.as_ref();
    }
    all
}

/// What a text is shown in on a terminal that has colours: a number of ECMA-48's SGR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// What does not work.
    Red = 31,
    /// What is as it should be.
    Green = 32,
    /// What may surprise somebody.
    Yellow = 33,
}

impl Ink {
    /// Returns the text in this colour, or as it is without `colours`. It must be printable
    /// already.
    pub fn paint(self, text: &str, colours: bool) -> String {
        match colours {
            true => format!("\x1b[{}m{text}\x1b[m", self as u8),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_is_escaped_once_and_cut() {
        assert_eq!(
            escape("it's \"a\"\n\\\u{202e}é"),
            "it's \\\"a\\\"\\n\\\\\\u{202e}é"
        );
        assert_eq!(escape(&"x".repeat(300)), "x".repeat(256) + "…");
    }
}
