//! Replies of the Redis protocol (RESP2), decoded as they arrive and within limits: whatever the
//! peer is, and whatever length it announces, it costs a few MiB at most. No recursion, and nothing
//! is allocated by an announced length.
//!
//! An own decoder because the kept ones have no such limits: the `redis` crate's makes up to 262,144
//! values of an answer of 1 MiB, and `redis-protocol` begins anew with every byte that arrives.

use crate::text::escape;

/// The largest answer, in bytes. 1 MiB holds the description of 800 replicas.
pub const ANSWER_LIMIT: usize = 1 << 20;

/// The most values in an answer, lists included: 800 replicas with 40 fields each.
pub const VALUES_LIMIT: usize = 1 << 16;

/// The deepest list in lists: ROLE has 3.
const DEPTH_LIMIT: usize = 8;

/// A value in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value: a null text or a null list.
    Nil,
    /// An integer.
    Int(i64),
    /// A text, bulk or simple; bytes that are not UTF-8 are replaced.
    Text(String),
    /// An error.
    Error(String),
    /// A list.
    Array(Vec<Value>),
}

impl Value {
    /// Returns about how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let own = size_of::<Value>();
        match self {
            Value::Nil | Value::Int(_) => own,
            Value::Text(text) | Value::Error(text) => own + text.len(),
            Value::Array(list) => own + list.iter().map(Value::size).sum::<usize>(),
        }
    }
}

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Above [`ANSWER_LIMIT`] or [`VALUES_LIMIT`], announced or received.
    TooLong,
    /// Not this protocol, and what it is instead.
    NotRedis(String),
    /// A TLS alert: the server wants TLS.
    Tls,
}

/// Returns the first reply in these bytes and the number of bytes that it fills; `None` if more
/// bytes are needed.
///
/// # Errors
///
/// The bytes cannot become a reply, whatever follows.
pub fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut decoder = Decoder::default();
    let value = decoder.decode(bytes)?;
    Ok(value.map(|value| (value, decoder.used)))
}

/// A reply of which some bytes have arrived. It looks at no byte twice.
#[derive(Default)]
pub struct Decoder {
    /// How many bytes are decoded.
    used: usize,
    /// Up to where no end of the line was found.
    searched: usize,
    /// The length of the text whose bytes come next.
    announced: Option<usize>,
    /// The lists that are not complete, the outermost first.
    open: Vec<OpenList>,
    /// How many values were announced.
    values: usize,
}

struct OpenList {
    values: Vec<Value>,
    missing: usize,
}

/// What a line, or a text after its line, begins or is.
enum Element {
    Value(Value),
    List(usize),
}

impl Decoder {
    /// Returns the reply once it is complete, `None` before that. `bytes` are all that have arrived
    /// since its first byte; those after it are left alone.
    ///
    /// # Errors
    ///
    /// As [`decode`]. After one, this decoder is of no more use.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Option<Value>, Malformed> {
        while let Some(element) = self.element(bytes)? {
            let complete = match element {
                Element::Value(value) => self.put(value),
                Element::List(length) => {
                    self.open_list(length)?;
                    None
                }
            };
            if complete.is_some() {
                return match self.used > ANSWER_LIMIT {
                    true => Err(Malformed::TooLong),
                    false => Ok(complete),
                };
            }
        }
        match bytes.len() > ANSWER_LIMIT {
            true => Err(Malformed::TooLong),
            false => Ok(None),
        }
    }

    /// Returns how many bytes the complete reply fills.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Puts a value into its list, and every list that is complete by that into its own. Returns
    /// the value that is in no list.
    fn put(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut list) = self.open.pop() {
            list.values.push(value);
            list.missing -= 1;
            if list.missing > 0 {
                self.open.push(list);
                return None;
            }
            value = Value::Array(list.values);
        }
        Some(value)
    }

    fn open_list(&mut self, length: usize) -> Result<(), Malformed> {
        self.values = self.values.saturating_add(length);
        if self.values > VALUES_LIMIT {
            return Err(Malformed::TooLong);
        }
        if self.open.len() == DEPTH_LIMIT {
            let what = format!("lists nested more than {DEPTH_LIMIT} deep");
            return Err(Malformed::NotRedis(what));
        }
        self.open.push(OpenList {
            values: Vec::new(),
            missing: length,
        });
        Ok(())
    }

    /// Returns the next element that has arrived whole.
    fn element(&mut self, bytes: &[u8]) -> Result<Option<Element>, Malformed> {
        if let Some(length) = self.announced {
            return self.text(bytes, length);
        }
        let Some(kind) = bytes.get(self.used) else {
            return Ok(None);
        };
        // Before the line is there: other protocols have none.
        if !b"+-:$*".contains(kind) {
            return Err(what_instead(&bytes[self.used..]));
        }
        let Some(line) = self.line(bytes)? else {
            return Ok(None);
        };
        let text = || String::from_utf8_lossy(line).into_owned();
        Ok(Some(Element::Value(match kind {
            b'+' => Value::Text(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(number(line)?),
            b'$' => match length(line)? {
                None => Value::Nil,
                Some(length) if length > ANSWER_LIMIT => return Err(Malformed::TooLong),
                Some(length) => {
                    self.announced = Some(length);
                    return self.text(bytes, length);
                }
            },
            _ => match length(line)? {
                None => Value::Nil,
                Some(0) => Value::Array(Vec::new()),
                Some(length) => return Ok(Some(Element::List(length))),
            },
        })))
    }

    /// Returns the line that begins here without its kind and its end.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let from = self.searched.max(self.used + 1);
        let unseen = bytes.get(from..).unwrap_or_default();
        let Some(newline) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = bytes.len();
            return Ok(None);
        };
        let line = &bytes[self.used + 1..from + newline];
        self.used = from + newline + 1;
        match line.split_last() {
            Some((b'\r', line)) => Ok(Some(line)),
            _ => Err(Malformed::NotRedis("a line without CR LF".into())),
        }
    }

    /// Returns the announced text once it is there with its CR LF.
    fn text(&mut self, bytes: &[u8], length: usize) -> Result<Option<Element>, Malformed> {
        let end = self.used + length;
        let (Some(text), Some(after)) = (bytes.get(self.used..end), bytes.get(end..end + 2)) else {
            return Ok(None);
        };
        if after != b"\r\n" {
            let what = "a text longer than its announced length";
            return Err(Malformed::NotRedis(what.into()));
        }
        self.used = end + 2;
        self.announced = None;
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(Some(Element::Value(Value::Text(text))))
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    let number = std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        let text = String::from_utf8_lossy(&line[..line.len().min(QUOTED)]);
        Malformed::NotRedis(format!("\"{}\" in place of a number", escape(&text)))
    })
}

/// Returns a length, `None` for -1, which stands for no value.
fn length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| Malformed::NotRedis(format!("a length of {length}"))),
    }
}

/// How much of another protocol is quoted, in bytes.
const QUOTED: usize = 40;

/// The type of an alert among TLS records (RFC 8446 section 5.1), with which a server that wants TLS
/// answers plain text.
pub(super) const TLS_ALERT: u8 = 21;

/// Returns what bytes are that do not begin a reply.
fn what_instead(bytes: &[u8]) -> Malformed {
    if bytes[0] == TLS_ALERT {
        return Malformed::Tls;
    }
    let line = bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let text = String::from_utf8_lossy(&line[..line.len().min(QUOTED)]);
    Malformed::NotRedis(format!("\"{}\"", escape(&text)))
}

/// Returns a value as text, if it is a text or a number.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the value of a field in a flat list of names and values, as Sentinel describes an
/// instance.
pub fn field(value: &Value, name: &str) -> Option<String> {
    let Value::Array(list) = value else {
        return None;
    };
    list.chunks_exact(2)
        .find(|pair| matches!(&pair[0], Value::Text(text) if text == name))
        .and_then(|pair| text(&pair[1]))
}

/// Returns whether a value is no answer to a command, but what a subscription brings: anybody may have published it.
pub fn is_pushed(value: &Value) -> bool {
    let Value::Array(parts) = value else {
        return false;
    };
    let kind = parts.first().and_then(text);
    matches!(kind.as_deref(), Some("subscribe" | "message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn every_kind_of_reply_is_decoded_and_what_follows_is_left_alone() {
        let cases: &[(&str, Value)] = &[
            ("+OK\r\n", word("OK")),
            ("+\r\n", word("")),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            (":-12\r\n", Value::Int(-12)),
            ("$-1\r\n", Value::Nil),
            ("$0\r\n\r\n", word("")),
            ("$4\r\na\r\nb\r\n", word("a\r\nb")),
            ("*-1\r\n", Value::Nil),
            ("*0\r\n", Value::Array(vec![])),
            (
                "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$-1\r\n",
                Value::Array(vec![
                    word("a"),
                    Value::Array(vec![Value::Int(1), Value::Array(vec![])]),
                    Value::Nil,
                ]),
            ),
        ];
        for (text, value) in cases {
            let more = format!("{text}:7\r\n");
            assert_eq!(
                decode(more.as_bytes()),
                Ok(Some((value.clone(), text.len()))),
                "{text:?}"
            );
            for end in 0..text.len() {
                assert_eq!(decode(&text.as_bytes()[..end]), Ok(None), "{text:?} {end}");
            }
        }
    }

    #[test]
    fn an_announced_length_above_the_limit_is_too_long_before_anything_else_has_arrived() {
        for text in [
            "$536000000\r\n",
            "$1048577\r\n",
            "*1000000000\r\n",
            "*9223372036854775807\r\n",
            "*60000\r\n*60000\r\n",
            "*2\r\n$1\r\na\r\n*65535\r\n",
        ] {
            assert_eq!(decode(text.as_bytes()), Err(Malformed::TooLong), "{text:?}");
        }
        assert_eq!(decode(b"$1048576\r\n"), Ok(None));
        assert_eq!(decode(b"*65536\r\n"), Ok(None));
    }

    #[test]
    fn what_never_ends_is_too_long_at_the_limit() {
        for (begin, more) in [
            ("+", "x"),
            ("-ERR ", "x"),
            (":", "1"),
            (
                "*60000\r\n",
                "$80\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678\r\r\n",
            ),
        ] {
            let mut bytes = begin.as_bytes().to_vec();
            let mut decoder = Decoder::default();
            while bytes.len() + more.len() <= ANSWER_LIMIT {
                bytes.extend_from_slice(more.as_bytes());
            }
            assert_eq!(decoder.decode(&bytes), Ok(None), "{begin:?}");
            bytes.extend_from_slice(more.as_bytes());
            assert_eq!(decoder.decode(&bytes), Err(Malformed::TooLong), "{begin:?}");
            assert_eq!(decode(&bytes), Err(Malformed::TooLong), "{begin:?}");
        }
    }

    #[test]
    fn what_is_not_this_protocol_is_named() {
        let deep = "*1\r\n".repeat(DEPTH_LIMIT + 1);
        for (bytes, named) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n"[..],
                "\"HTTP/1.1 400 Bad Request\"",
            ),
            (b"H", "\"H\""),
            (b"SSH-2.0-x\n", "\"SSH-2.0-x\""),
            (b"\x00\xff", "\"\\0"),
            // RESP3, for which nobody asks.
            (b"%1\r\n", "\"%1\""),
            (b"$-2\r\n", "a length of -2"),
            (b"*-2\r\n", "a length of -2"),
            (b"$x\r\n", "\"x\" in place of a number"),
            (b":\r\n", "\"\" in place of a number"),
            (b"*99999999999999999999\r\n", "in place of a number"),
            (b"$1\r\nab\r\n", "longer than its announced length"),
            (b"+a\n", "without CR LF"),
            (deep.as_bytes(), "nested more than 8 deep"),
        ] {
            let shown = String::from_utf8_lossy(bytes);
            match decode(bytes) {
                Err(Malformed::NotRedis(text)) => assert!(text.contains(named), "{shown}: {text}"),
                other => panic!("{shown}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_tls_alert_is_a_server_that_wants_tls() {
        let alert = b"\x15\x03\x01\x00\x02\x02\x46";
        assert_eq!(decode(alert), Err(Malformed::Tls));
        assert_eq!(decode(&alert[..1]), Err(Malformed::Tls));
    }

    #[test]
    fn a_field_is_found_by_its_name_and_not_by_a_value() {
        let described = Value::Array(vec![
            word("name"),
            word("port"),
            word("port"),
            Value::Int(6379),
            word("flags"),
        ]);
        assert_eq!(field(&described, "port").as_deref(), Some("6379"));
        assert_eq!(field(&described, "flags"), None);
        assert_eq!(field(&Value::Nil, "port"), None);
    }

    /// Replies, and what looks like them.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            r"[+:$*-]-?[0-9]{0,3}\r\n".prop_map(String::into_bytes),
            r"\$3\r\nabc\r\n".prop_map(String::into_bytes),
            r"\*[0-3]\r\n".prop_map(String::into_bytes),
            r":[0-9]\r\n".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_clean_result(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn bytes_that_arrive_one_by_one_make_the_same_reply(bytes in bytes()) {
            let at_once = decode(&bytes);
            let mut decoder = Decoder::default();
            let mut one_by_one = Ok(None);
            for end in 0..=bytes.len() {
                one_by_one = decoder.decode(&bytes[..end]);
                if one_by_one != Ok(None) {
                    break;
                }
            }
            match (at_once, one_by_one) {
                (Ok(Some((value, used))), Ok(Some(same))) => {
                    prop_assert_eq!(value, same);
                    prop_assert_eq!(used, decoder.used());
                }
                (Ok(None), Ok(None))
                | (Err(Malformed::TooLong), Err(Malformed::TooLong))
                | (Err(Malformed::Tls), Err(Malformed::Tls))
                | (Err(Malformed::NotRedis(_)), Err(Malformed::NotRedis(_))) => {}
                (at_once, one_by_one) => prop_assert!(false, "{at_once:?} {one_by_one:?}"),
            }
        }
    }
}
