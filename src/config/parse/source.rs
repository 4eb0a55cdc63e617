//! The text that is being read: errors name their place in it.

use std::ops::Range;
use std::path::Path;

use crate::config::nearest;
use crate::exit::Fault;
use crate::text::escape;

/// The text that is being read, for messages that name a place in it.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl Source<'_> {
    pub(super) fn at(&self, span: Range<usize>, what: impl Into<String>) -> Fault {
        let (line, column) = line_and_column(self.text, span.start);
        Fault::permanent(format!(
            "{}:{line}:{column}: {}",
            self.path.display(),
            what.into()
        ))
    }

    /// Words an error of the TOML parser or of serde, and adds the nearest known key to one
    /// that is unknown.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Fault {
        let message = escape(
            error
                .message()
                .lines()
                .next()
                .unwrap_or("is not valid TOML"),
        )
        .replace("a sequence", "a list")
        // The parser's own; what is the file's stands in backquotes.
        .replace("\\\"", "\"");
        let span = error.span().unwrap_or(0..0);
        if message.starts_with("unknown variant") {
            let key = self.key_before(span.start);
            return self.at(span, format!("`{key}`: {message}"));
        }
        let rest = self.text.get(span.start..).unwrap_or_default();
        let may_be_address = rest
            .lines()
            .next()
            .is_some_and(|line| line.contains(['.', ':']));
        let fault = self.at(span, &message);
        if message.starts_with("invalid basic string") {
            return fault
                .remedy("A value that begins with a quotation mark ends with one, in its line.");
        }
        if ["float", "integer", "number", "key with no value"]
            .iter()
            .any(|word| message.contains(word))
        {
            return match may_be_address {
                true => fault.remedy("Put an address in quotes: vip = \"192.168.56.250/24\"."),
                false => fault,
            };
        }
        let mut quoted = error.message().split('`').skip(1).step_by(2);
        match quoted.next() {
            Some(key) if error.message().starts_with("unknown field") => match nearest(key, quoted)
            {
                Some(near) => fault.remedy(format!("Did you mean `{near}`?")),
                None => fault,
            },
            _ => fault,
        }
    }

    /// Returns the key whose value begins at this offset.
    fn key_before(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let key = line.trim_end().trim_end_matches('=').trim();
        escape(key)
    }
}

/// Returns line and column, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}
