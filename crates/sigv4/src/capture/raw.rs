//! Raw HTTP/1.x text, from a proxy's log or a packet capture.

use super::{CaptureError, Captured, Url};

pub(super) fn read(text: &[u8]) -> Result<Captured, CaptureError> {
    // Blank lines in front come from pasting; the body is taken to the very end.
    let start = text
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .ok_or(CaptureError::Empty)?;
    let mut rest = text.get(start..).unwrap_or_default();
    let (method, target) = request_line(next_line(&mut rest).ok_or(CaptureError::RequestLine)?)?;

    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    let mut number = 1;
    while let Some(line) = next_line(&mut rest) {
        number += 1;
        match line {
            [] => break,
            [b' ' | b'\t', ..] => {
                let (_, value) = headers
                    .last_mut()
                    .ok_or(CaptureError::HeaderLine { line: number })?;
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            _ => {
                let colon = line.iter().position(|b| *b == b':').filter(|at| *at > 0);
                let (name, value) =
                    line.split_at(colon.ok_or(CaptureError::HeaderLine { line: number })?);
                let value = value.get(1..).unwrap_or_default().trim_ascii();
                headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
            }
        }
    }
    let absolute = std::str::from_utf8(target)
        .ok()
        .and_then(|t| Url::read(t).ok());
    let tls = absolute.as_ref().is_some_and(|url| url.tls);
    let target = absolute.map_or_else(|| target.to_vec(), |url| url.target.into_bytes());
    Ok(Captured {
        method: String::from_utf8_lossy(method).into_owned(),
        target,
        headers,
        body: rest.to_vec(),
        tls,
    })
}

/// Cuts off one line without its end, LF or CRLF; `None` when nothing is left.
fn next_line<'t>(rest: &mut &'t [u8]) -> Option<&'t [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let (line, tail) = rest.split_at(end);
    *rest = tail.get(1..).unwrap_or_default();
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// Method before the first blank, target up to the last one if a version follows: targets with blanks inside exist.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8]), CaptureError> {
    let blank = line
        .iter()
        .position(|b| *b == b' ')
        .ok_or(CaptureError::RequestLine)?;
    let (method, rest) = line.split_at(blank);
    let rest = rest.trim_ascii();
    let target = match rest.iter().rposition(|b| *b == b' ') {
        Some(last)
            if rest
                .get(last + 1..)
                .is_some_and(|v| v.starts_with(b"HTTP/")) =>
        {
            rest.get(..last).unwrap_or_default().trim_ascii()
        }
        _ => rest,
    };
    if method.is_empty() || target.is_empty() || !method.iter().all(u8::is_ascii_alphabetic) {
        return Err(CaptureError::RequestLine);
    }
    Ok((method, target))
}
