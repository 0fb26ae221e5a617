//! Which cgroup a connection of the node itself belongs to: the kernel's `sock_diag`, asked for one TCP socket by its two ends.

use std::net::{IpAddr, SocketAddr};

/// `SOCK_DIAG_BY_FAMILY`, of question and answer.
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_CGROUP_ID`, an attribute of the answer.
const CGROUP_ID: u16 = 21;
const HEAD: usize = 16;
/// `struct inet_diag_msg`, before the attributes.
const ANSWER: usize = 72;

/// The question: the socket whose own end is `source` and whose other end is `destination`.
fn question(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const TCP: u8 = 6;
    const REQUEST: u16 = 1;
    const LENGTH: u32 = 72;
    let family = if source.is_ipv4() { 2 } else { 10 };
    let mut bytes = Vec::with_capacity(HEAD + 56);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence number and port: one question, one answer.
    bytes.extend([0; 8]);
    bytes.extend([family, TCP, 0, 0]);
    // Whatever state it is in.
    bytes.extend([0xff; 4]);
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => {
                bytes.extend(ip.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    // Any interface, and no cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

/// The number of the cgroup in the answer; none when there is no such socket.
pub(crate) fn cgroup_id(answer: &[u8]) -> Option<u64> {
    let two = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at.checked_add(2)?)?;
        bytes.try_into().ok().map(u16::from_ne_bytes)
    };
    if two(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut left = answer.get(HEAD + ANSWER..)?;
    loop {
        let length = usize::from(two(left, 0)?);
        let value = left.get(4..length)?;
        if two(left, 2)? == CGROUP_ID {
            return value.try_into().ok().map(u64::from_ne_bytes);
        }
        left = left.get(length.checked_next_multiple_of(4)?..)?;
    }
}

/// Asks the kernel, which answers at once.
#[cfg(target_os = "linux")]
pub(super) fn ask(source: SocketAddr, destination: SocketAddr) -> std::io::Result<Option<u64>> {
    use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
    let socket = rtnetlink::sys::Socket::new(NETLINK_SOCK_DIAG)?;
    socket.set_non_blocking(true)?;
    socket.connect(&rtnetlink::sys::SocketAddr::new(0, 0))?;
    socket.send(&question(source, destination), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    Ok(cgroup_id(&answer))
}

/// There is no such thing here.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask(source: SocketAddr, destination: SocketAddr) -> std::io::Result<Option<u64>> {
    drop(question(source, destination));
    Ok(None)
}
