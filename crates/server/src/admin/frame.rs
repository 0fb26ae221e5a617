//! Messages on the socket: four bytes of length, most significant first, and that many bytes of JSON.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Longest request: an import of all of IAM in an account. Who may connect at all is the server's own user.
pub(super) const MAX_REQUEST: usize = 64 << 20;
/// Longest answer: an export of the same.
pub(super) const MAX_ANSWER: usize = 64 << 20;

/// Sends one message. It may hold a secret, so its copy is wiped.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let bytes = Zeroizing::new(serde_json::to_vec(message).map_err(io::Error::other)?);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Receives one message of at most `most` bytes.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes, at most {most} are possible"),
        ));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    // As it arrives, so that a length alone reserves nothing.
    from.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a message. The parser's own text could show a part of it, so only the place is told.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "the message is not one this version knows (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}
