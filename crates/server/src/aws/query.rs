//! The AWS Query protocol: parameters in, XML (or JSON) out (STS spec, section 1).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most parameters of one request; AWS operations stay far below.
const MAX_PARAMETERS: usize = 4096;

/// Names and values.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The parameters of one call: query string and form body together.
#[derive(Debug, Default)]
pub struct Parameters<'a> {
    pairs: Pairs<'a>,
}

/// Why parameters cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// A percent escape is cut off.
    #[error("Incomplete trailing escape % sequence")]
    CutEscape,
    /// A percent escape is not hex.
    #[error("Illegal hex character in escape % pattern")]
    BadEscape,
    /// Not UTF-8, or a NUL.
    #[error("Parameters must be UTF-8 without NUL")]
    Characters,
    /// Over 4,096 parameters.
    #[error("Too many parameters")]
    TooMany,
    /// The same parameter twice with different values.
    #[error("The same parameter was given twice with different values")]
    Conflict,
}

impl<'a> Parameters<'a> {
    /// Reads form body and query string; on a name given in both, the body wins.
    ///
    /// # Errors
    /// Bad escapes, bytes that are not UTF-8, too many parameters, a name twice in one place with different values.
    pub fn parse(query: &'a str, body: &'a [u8]) -> Result<Self, ParameterError> {
        let mut pairs = Vec::new();
        decode_into(body, &mut pairs)?;
        reject_conflicts(&pairs)?;
        let in_body = pairs.len();
        let mut more = Vec::new();
        decode_into(query.as_bytes(), &mut more)?;
        reject_conflicts(&more)?;
        for (name, value) in more {
            if !pairs.iter().take(in_body).any(|(known, _)| *known == name) {
                pairs.push((name, value));
            }
        }
        Ok(Self { pairs })
    }

    /// The value of `name`; the first wins.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_ref())
    }

    /// All parameters in the order received, body first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// The parameters of a query string in the order received; names may repeat.
///
/// # Errors
/// As [`Parameters::parse`], conflicts apart.
pub(super) fn pairs(query: &str) -> Result<Pairs<'_>, ParameterError> {
    let mut pairs = Vec::new();
    decode_into(query.as_bytes(), &mut pairs)?;
    Ok(pairs)
}

fn reject_conflicts(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<(), ParameterError> {
    let mut seen = std::collections::HashMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        if seen
            .insert(name.as_ref(), value.as_ref())
            .is_some_and(|before| before != value)
        {
            return Err(ParameterError::Conflict);
        }
    }
    Ok(())
}

fn decode_into<'a>(text: &'a [u8], pairs: &mut Pairs<'a>) -> Result<(), ParameterError> {
    for part in text.split(|byte| *byte == b'&') {
        if part.is_empty() {
            continue;
        }
        if pairs.len() == MAX_PARAMETERS {
            return Err(ParameterError::TooMany);
        }
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        pairs.push((name, value));
    }
    Ok(())
}

fn decode(text: &[u8]) -> Result<Cow<'_, str>, ParameterError> {
    let plain = !text.iter().any(|byte| matches!(byte, b'%' | b'+' | 0));
    if plain {
        return std::str::from_utf8(text)
            .map(Cow::Borrowed)
            .map_err(|_| ParameterError::Characters);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (Some(high), Some(low)) = (rest.next(), rest.next()) else {
                    return Err(ParameterError::CutEscape);
                };
                hex(high)? << 4 | hex(low)?
            }
            other => other,
        });
    }
    if bytes.contains(&0) {
        return Err(ParameterError::Characters);
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| ParameterError::Characters)
}

fn hex(digit: u8) -> Result<u8, ParameterError> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
        .ok_or(ParameterError::BadEscape)
}

/// A member of an answer; the same tree prints as XML and as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Member {
    /// Text, escaped by the printer.
    Text(String),
    /// An instant: `2026-03-14T10:26:53Z` in XML, epoch seconds in JSON.
    Time(jiff::Timestamp),
    /// A number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
    /// Named members in the order AWS gives them; absent ones are left out.
    Structure(Vec<(&'static str, Member)>),
    /// A list, printed as `member` elements in XML.
    List(Vec<Member>),
    /// A map, printed as `entry` elements with `key` and `value` in XML.
    Map(Vec<(String, Member)>),
    /// Bytes, printed in base64.
    Blob(Vec<u8>),
    /// A policy document, percent-encoded as in every answer of IAM: all but RFC 3986's unreserved characters.
    Document(String),
    /// An answer in JSON that was written before: that of an earlier call with the same token.
    Written(String),
    /// The answer of an operation that has none: no result element.
    None,
}

impl Member {
    /// The same tree as JSON, as STS prints it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut text = String::new();
        json_member(&mut text, self);
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/xml`.
    Xml,
    /// `application/json`, as real STS serves it when asked.
    Json,
}

impl Format {
    /// JSON when `Accept` names `application/json` before `*/*` and XML; XML otherwise.
    #[must_use]
    pub fn of_accept(accept: Option<&str>) -> Self {
        let first = accept
            .unwrap_or_default()
            .split(',')
            .map(|range| range.split(';').next().unwrap_or_default().trim())
            .find(|range| {
                matches!(
                    *range,
                    "application/json" | "*/*" | "text/xml" | "application/xml"
                )
            });
        if first == Some("application/json") {
            Self::Json
        } else {
            Self::Xml
        }
    }

    /// The content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Xml => "text/xml",
            Self::Json => "application/json",
        }
    }
}

/// The body of a successful answer.
#[must_use]
pub fn success(
    format: Format,
    namespace: &str,
    operation: &str,
    result: &Member,
    request_id: &str,
) -> String {
    let mut out = String::with_capacity(1024);
    match format {
        Format::Xml => {
            out.push_str(&format!("<{operation}Response xmlns=\"{namespace}\">\n"));
            if *result != Member::None {
                out.push_str(&format!("  <{operation}Result>\n"));
                xml_members(&mut out, result, 2);
                out.push_str(&format!("  </{operation}Result>\n"));
            }
            out.push_str(&format!(
                "  <ResponseMetadata>\n    <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n</{operation}Response>\n"
            ));
        }
        Format::Json => {
            out.push_str(&format!(
                "{{\"{operation}Response\":{{\"{operation}Result\":"
            ));
            json_member(&mut out, result);
            out.push_str(&format!(
                ",\"ResponseMetadata\":{{\"RequestId\":\"{request_id}\"}}}}}}"
            ));
        }
    }
    out
}

/// The body of an error; `Type` follows from the status.
#[must_use]
pub fn error(
    format: Format,
    namespace: &str,
    status: u16,
    code: &str,
    message: &str,
    request_id: &str,
) -> String {
    let kind = if status >= 500 { "Receiver" } else { "Sender" };
    match format {
        Format::Xml => {
            let mut escaped = String::with_capacity(message.len());
            xml_escape(&mut escaped, message);
            let message = if message.is_empty() {
                String::new()
            } else {
                format!("    <Message>{escaped}</Message>\n")
            };
            format!(
                "<ErrorResponse xmlns=\"{namespace}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{code}</Code>\n{message}  </Error>\n  <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n"
            )
        }
        Format::Json => {
            let mut out = String::from("{\"Error\":{\"Code\":");
            json_string(&mut out, code);
            out.push_str(",\"Message\":");
            json_string(&mut out, message);
            out.push_str(&format!(
                ",\"Type\":\"{kind}\"}},\"RequestId\":\"{request_id}\"}}"
            ));
            out
        }
    }
}

fn xml_members(out: &mut String, member: &Member, depth: usize) {
    let pad = |out: &mut String, depth: usize| (0..depth).for_each(|_| out.push_str("  "));
    let mut element = |name: &str, value: &Member| {
        pad(out, depth);
        if is_empty(value) {
            out.push_str(&format!("<{name}/>\n"));
            return;
        }
        match value {
            Member::Structure(_) | Member::List(_) | Member::Map(_) => {
                out.push_str(&format!("<{name}>\n"));
                xml_members(out, value, depth + 1);
                pad(out, depth);
            }
            Member::Text(text) => {
                out.push_str(&format!("<{name}>"));
                xml_escape(out, text);
            }
            Member::Time(time) => {
                out.push_str(&format!("<{name}>{}", time.strftime("%Y-%m-%dT%H:%M:%SZ")))
            }
            Member::Number(number) => out.push_str(&format!("<{name}>{number}")),
            Member::Bool(value) => out.push_str(&format!("<{name}>{value}")),
            Member::Blob(bytes) => out.push_str(&format!("<{name}>{}", STANDARD.encode(bytes))),
            Member::Document(text) => out.push_str(&format!("<{name}>{}", percent_encoded(text))),
            // Services that answer so do not speak XML.
            Member::Written(_) => out.push_str(&format!("<{name}>")),
            // Nothing is left out where the tree is made; this is the whole answer only.
            Member::None => out.push_str(&format!("<{name}>")),
        }
        out.push_str(&format!("</{name}>\n"));
    };
    match member {
        Member::Structure(members) => members
            .iter()
            .for_each(|(name, value)| element(name, value)),
        Member::List(items) => items.iter().for_each(|item| element("member", item)),
        Member::Map(entries) => {
            for (key, value) in entries {
                let key = Member::Text(key.clone());
                element(
                    "entry",
                    &Member::Structure(vec![("key", key), ("value", value.clone())]),
                );
            }
        }
        Member::Text(_)
        | Member::Time(_)
        | Member::Number(_)
        | Member::Bool(_)
        | Member::Blob(_)
        | Member::Document(_)
        | Member::Written(_)
        | Member::None => {}
    }
}

fn is_empty(member: &Member) -> bool {
    match member {
        Member::Structure(members) => members.is_empty(),
        Member::List(items) => items.is_empty(),
        Member::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

/// All but the unreserved characters of RFC 3986 escaped.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn xml_escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(c),
            // XML 1.0 cannot carry these at all, not even escaped.
            c if u32::from(c) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
}

fn json_member(out: &mut String, member: &Member) {
    match member {
        Member::Text(text) => json_string(out, text),
        Member::Time(time) => out.push_str(&format!("{}.0", time.as_second())),
        Member::Number(number) => out.push_str(&number.to_string()),
        Member::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Member::Structure(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json_string(out, name);
                out.push(':');
                json_member(out, value);
            }
            out.push('}');
        }
        Member::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json_member(out, item);
            }
            out.push(']');
        }
        Member::Map(entries) => {
            out.push('{');
            for (index, (name, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json_string(out, name);
                out.push(':');
                json_member(out, value);
            }
            out.push('}');
        }
        Member::Blob(bytes) => json_string(out, &STANDARD.encode(bytes)),
        Member::Document(text) => json_string(out, &percent_encoded(text)),
        Member::Written(text) => out.push_str(text),
        Member::None => out.push_str("null"),
    }
}

fn json_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into()));
}
