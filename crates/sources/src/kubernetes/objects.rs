//! Objects of a cluster as they are, for commands that look at a few kinds once.

use kube::Client;
use serde::Deserialize;
use serde_json::Value;

/// Objects of one page.
const PAGE: usize = 500;
/// Objects of one kind at most: no cluster has more pods.
const MOST: usize = 200_000;

/// All objects under a collection's path, such as `/api/v1/pods`, page by page.
///
/// # Errors
/// What the API server said, or why it could not be asked.
pub async fn list_objects(client: &Client, path: &'static str) -> Result<Vec<Value>, String> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        metadata: Meta,
        #[serde(default)]
        items: Vec<Value>,
    }
    #[derive(Deserialize, Default)]
    struct Meta {
        #[serde(rename = "continue")]
        next: Option<String>,
    }
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        // The API server's own word, which has characters that mean something in a query.
        let encoded: String = next
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let request = http::Request::get(format!("{path}?limit={PAGE}&continue={encoded}"))
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let page: Page = client.request(request).await.map_err(|error| match error {
            kube::Error::Api(status) => format!("{path}: status {}", status.code),
            other => format!("{path}: {other}"),
        })?;
        all.extend(page.items);
        next = page.metadata.next.unwrap_or_default();
        if next.is_empty() {
            return Ok(all);
        }
        if all.len() > MOST {
            return Err(format!("{path}: more than {MOST} objects"));
        }
    }
}
