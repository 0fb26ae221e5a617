//! A `curl` command, from a shell's history or a browser's "copy as cURL".

use super::{CaptureError, Captured, Url};
use crate::encode::{Slash, encode};

/// Options without a value that do not change what is signed.
const IGNORED_FLAGS: [&str; 30] = [
    "-#",
    "-4",
    "-6",
    "-f",
    "-i",
    "-k",
    "-L",
    "-N",
    "-q",
    "-s",
    "-S",
    "-v",
    "--anyauth",
    "--compressed",
    "--fail",
    "--fail-with-body",
    "--globoff",
    "--http1.1",
    "--http2",
    "--include",
    "--insecure",
    "--ipv4",
    "--ipv6",
    "--location",
    "--no-buffer",
    "--path-as-is",
    "--show-error",
    "--silent",
    "--verbose",
    "-g",
];

/// Options with a value that do not change what is signed, or whose effect the server does not see.
const IGNORED_VALUES: [&str; 24] = [
    "-m",
    "-o",
    "-w",
    "-x",
    "-u",
    "-c",
    "-D",
    "--aws-sigv4",
    "--cacert",
    "--cert",
    "--connect-timeout",
    "--connect-to",
    "--cookie-jar",
    "--dump-header",
    "--key",
    "--max-time",
    "--output",
    "--proxy",
    "--resolve",
    "--retry",
    "--user",
    "--write-out",
    "-E",
    "--unix-socket",
];

#[derive(Default)]
struct Command {
    method: Option<String>,
    url: Option<String>,
    headers: Vec<(String, Option<String>)>,
    data: Option<String>,
    data_in_query: bool,
    json: bool,
    head: bool,
}

pub(super) fn read(command: &str) -> Result<Captured, CaptureError> {
    let mut words = words(command)?.into_iter();
    if words.next().as_deref() != Some("curl") {
        return Err(CaptureError::CurlUrl);
    }
    let mut parsed = Command::default();
    while let Some(word) = words.next() {
        if word.len() > 1 && word.starts_with('-') {
            parsed.option(&word, &mut words)?;
        } else if parsed.url.replace(word).is_some() {
            return Err(CaptureError::CurlUrl);
        }
    }
    parsed.into_captured()
}

impl Command {
    /// One word that begins with `-`: a long option, or short ones written together, as in `-sSXPOST`.
    fn option(
        &mut self,
        word: &str,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), CaptureError> {
        if word.starts_with("--") {
            return self.named(word, None, words);
        }
        let mut cluster = word.strip_prefix('-').unwrap_or(word).chars();
        while let Some(letter) = cluster.next() {
            let name = format!("-{letter}");
            let rest = cluster.as_str();
            if IGNORED_FLAGS.contains(&name.as_str()) || matches!(letter, 'G' | 'I') {
                self.named(&name, None, words)?;
            } else {
                return self.named(&name, (!rest.is_empty()).then_some(rest), words);
            }
        }
        Ok(())
    }

    fn named(
        &mut self,
        name: &str,
        attached: Option<&str>,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), CaptureError> {
        match name {
            _ if IGNORED_FLAGS.contains(&name) => {}
            "-G" | "--get" => self.data_in_query = true,
            "-I" | "--head" => self.head = true,
            _ => {
                let mut value = || {
                    attached
                        .map(str::to_owned)
                        .or_else(|| words.next())
                        .ok_or_else(|| CaptureError::CurlValue(name.to_owned()))
                };
                match name {
                    "-X" | "--request" => self.method = Some(value()?),
                    "--url" => {
                        if self.url.replace(value()?).is_some() {
                            return Err(CaptureError::CurlUrl);
                        }
                    }
                    "-H" | "--header" => self.header(&value()?)?,
                    "-A" | "--user-agent" => {
                        self.headers.push(("User-Agent".into(), Some(value()?)))
                    }
                    "-e" | "--referer" => self.headers.push(("Referer".into(), Some(value()?))),
                    "-b" | "--cookie" => self.headers.push(("Cookie".into(), Some(value()?))),
                    "-d" | "--data" | "--data-ascii" | "--data-binary" => {
                        self.data(name, &value()?, true)?
                    }
                    "--data-raw" => self.data(name, &value()?, false)?,
                    "--data-urlencode" => {
                        let encoded = url_encoded(&value()?)?;
                        self.data(name, &encoded, false)?;
                    }
                    "--json" => {
                        self.json = true;
                        self.data(name, &value()?, true)?;
                    }
                    _ if IGNORED_VALUES.contains(&name) => drop(value()?),
                    _ => return Err(CaptureError::CurlOption(name.to_owned())),
                }
            }
        }
        Ok(())
    }

    /// `Name: value`, `Name;` for an empty value, `Name:` to suppress one that curl would add.
    fn header(&mut self, text: &str) -> Result<(), CaptureError> {
        if text.starts_with('@') {
            return Err(CaptureError::CurlFile("-H".into()));
        }
        match (text.split_once(':'), text.strip_suffix(';')) {
            (Some((name, value)), _) if value.trim().is_empty() => {
                self.headers.push((name.trim().into(), None))
            }
            (Some((name, value)), _) => self
                .headers
                .push((name.trim().into(), Some(value.trim().into()))),
            (None, Some(name)) => self.headers.push((name.trim().into(), Some(String::new()))),
            (None, None) => {}
        }
        Ok(())
    }

    fn data(&mut self, option: &str, text: &str, files: bool) -> Result<(), CaptureError> {
        if files && text.starts_with('@') {
            return Err(CaptureError::CurlFile(option.to_owned()));
        }
        match &mut self.data {
            Some(data) => {
                if option != "--json" {
                    data.push('&');
                }
                data.push_str(text);
            }
            None => self.data = Some(text.to_owned()),
        }
        Ok(())
    }

    fn into_captured(self) -> Result<Captured, CaptureError> {
        let url = self.url.ok_or(CaptureError::CurlUrl)?;
        let url = if url.contains("://") {
            url
        } else {
            format!("http://{url}")
        };
        let url = Url::read(&url)?;
        let mut target = url.target.clone();
        let mut body = None;
        match self.data {
            Some(data) if self.data_in_query || self.head => {
                target.push(if target.contains('?') { '&' } else { '?' });
                target.push_str(&data);
            }
            data => body = data,
        }
        let method = self.method.unwrap_or_else(|| match (&body, self.head) {
            (_, true) => "HEAD".into(),
            (Some(_), _) => "POST".into(),
            (None, _) => "GET".into(),
        });
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        let mut add =
            |name: &str, value: &str| headers.push((name.to_owned(), value.as_bytes().to_vec()));
        if !given("host") {
            add("Host", url.host);
        }
        if !given("accept") {
            add("Accept", if self.json { "application/json" } else { "*/*" });
        }
        if body.is_some() && !given("content-type") {
            add(
                "Content-Type",
                if self.json {
                    "application/json"
                } else {
                    "application/x-www-form-urlencoded"
                },
            );
        }
        if let Some(body) = &body
            && !given("content-length")
        {
            add("Content-Length", &body.len().to_string());
        }
        for (name, value) in &self.headers {
            if let Some(value) = value {
                add(name, value);
            }
        }
        Ok(Captured {
            method,
            target: target.into_bytes(),
            headers,
            body: body.unwrap_or_default().into_bytes(),
            tls: url.tls,
        })
    }
}

/// `content`, `=content` or `name=content`; the content is percent-encoded.
fn url_encoded(text: &str) -> Result<String, CaptureError> {
    let (prefix, content) = match text.split_once('=') {
        Some(("", content)) => (String::new(), content),
        Some((name, content)) => (format!("{name}="), content),
        None if text.contains('@') => {
            return Err(CaptureError::CurlFile("--data-urlencode".into()));
        }
        None => (String::new(), text),
    };
    let mut out = prefix.into_bytes();
    encode(content.as_bytes(), Slash::Encode, &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Splits a command into words as a POSIX shell does, with `$'…'`; nothing is expanded.
fn words(command: &str) -> Result<Vec<String>, CaptureError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some('\r') if chars.peek() == Some(&'\n') => drop(chars.next()),
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' => single_quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '$' if chars.peek() == Some(&'\'') => {
                chars.next();
                ansi_quoted(&mut chars, word.get_or_insert_default())?;
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

type Chars<'c> = std::iter::Peekable<std::str::Chars<'c>>;

fn single_quoted(chars: &mut Chars<'_>, word: &mut String) -> Result<(), CaptureError> {
    loop {
        match chars.next().ok_or(CaptureError::OpenQuote)? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(chars: &mut Chars<'_>, word: &mut String) -> Result<(), CaptureError> {
    loop {
        match chars.next().ok_or(CaptureError::OpenQuote)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(CaptureError::OpenQuote)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                '\n' => {}
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

fn ansi_quoted(chars: &mut Chars<'_>, word: &mut String) -> Result<(), CaptureError> {
    loop {
        match chars.next().ok_or(CaptureError::OpenQuote)? {
            '\'' => return Ok(()),
            '\\' => match chars.next().ok_or(CaptureError::OpenQuote)? {
                'n' => word.push('\n'),
                'r' => word.push('\r'),
                't' => word.push('\t'),
                'x' => word.extend(hex_char(chars, 2)),
                'u' => word.extend(hex_char(chars, 4)),
                c => word.push(c),
            },
            c => word.push(c),
        }
    }
}

fn hex_char(chars: &mut Chars<'_>, digits: usize) -> Option<char> {
    let mut value = 0;
    for _ in 0..digits {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)) else {
            break;
        };
        value = value * 16 + digit;
        chars.next();
    }
    char::from_u32(value)
}
