//! HTTP archives, the export format of browsers and debugging proxies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{CaptureError, Captured, Url};

#[derive(Deserialize)]
struct Archive {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    request: HarRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HarRequest {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<NameValue>,
    post_data: Option<PostData>,
}

#[derive(Deserialize)]
struct NameValue {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct PostData {
    #[serde(default)]
    text: String,
    /// Not in the format's specification, yet written by several proxies.
    encoding: Option<String>,
}

pub(super) fn read(text: &[u8]) -> Result<Vec<Captured>, CaptureError> {
    let archive: Archive = serde_json::from_slice(text).map_err(CaptureError::Har)?;
    archive
        .log
        .entries
        .into_iter()
        .enumerate()
        .map(|(i, entry)| captured(entry.request, i + 1))
        .collect()
}

fn captured(request: HarRequest, entry: usize) -> Result<Captured, CaptureError> {
    let url = Url::read(&request.url)?;
    let body = match request.post_data {
        None => Vec::new(),
        Some(data) if data.encoding.as_deref() == Some("base64") => STANDARD
            .decode(data.text)
            .map_err(|_| CaptureError::HarBody { entry })?,
        Some(data) => data.text.into_bytes(),
    };
    // HTTP/2 pseudo-headers are listed among the headers; all but the authority repeat the request line.
    let headers = request
        .headers
        .into_iter()
        .filter(|h| !h.name.starts_with(':') || h.name == ":authority")
        .map(|h| (h.name, h.value.into_bytes()))
        .collect();
    let mut captured = Captured {
        method: request.method,
        target: url.target.into_bytes(),
        headers,
        body,
        tls: url.tls,
    };
    if !captured.has_header("host") && !captured.has_header(":authority") {
        captured
            .headers
            .push(("host".to_owned(), url.host.as_bytes().to_vec()));
    }
    Ok(captured)
}
