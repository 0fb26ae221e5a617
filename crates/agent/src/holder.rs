//! Which process holds a port: for the message of an agent that cannot start.

use std::fs;
use std::net::SocketAddr;

/// Name and id of the process that listens on the address, if the system lets us look.
///
/// Linux only; elsewhere, and without the right to see other processes, nothing.
#[must_use]
pub fn holder(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listeners(&table, address))
        .collect();
    let is_held = |link: &str| {
        inodes.iter().any(|inode| {
            link.strip_prefix("socket:[")
                .and_then(|l| l.strip_suffix(']'))
                == Some(inode)
        })
    };
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for file in files.flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            if link.to_str().is_some_and(is_held) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(format!("`{}` (process {id})", name.trim()));
            }
        }
    }
    None
}

/// The inodes of the sockets that listen on the port of `address`, on it or on all addresses.
fn listeners(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTEN: &str = "0A";
    let port = format!("{:04X}", address.port());
    let own = match address {
        SocketAddr::V4(address) => hex(&address.ip().octets()),
        SocketAddr::V6(address) => hex(&address.ip().octets()),
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let (ip, of_port) = local.split_once(':')?;
            let fits = ip == own || ip.bytes().all(|b| b == b'0');
            (of_port == port && *state == LISTEN && fits).then(|| (*inode).to_owned())
        })
        .collect()
}

/// Groups of four bytes, each in the byte order of the machine.
fn hex(octets: &[u8]) -> String {
    octets
        .chunks(4)
        .map(|group| {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(group) {
                *to = *from;
            }
            format!("{:08X}", u32::from_ne_bytes(word))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let name = holder(listener.local_addr().unwrap()).unwrap();
            let id = format!("(process {})", std::process::id());
            assert!(name.ends_with(&id), "{name}");
        }
        assert_eq!(holder("127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    fn lines_of_other_ports_states_and_addresses_are_left_out() {
        let table = "  sl  local_address rem_address st tx rx tr tm retr uid timeout inode\n\
             0: 17AAFEA9:0050 00000000:0000 0A 0:0 0:0 0 0 0 11 1\n\
             1: 00000000:0050 00000000:0000 0A 0:0 0:0 0 0 0 12 1\n\
             2: 0100007F:0050 00000000:0000 0A 0:0 0:0 0 0 0 13 1\n\
             3: 17AAFEA9:0050 00000000:0000 01 0:0 0:0 0 0 0 14 1\n\
             4: 17AAFEA9:0051 00000000:0000 0A 0:0 0:0 0 0 0 15 1\n\
             broken\n";
        if cfg!(target_endian = "little") {
            let address = "169.254.170.23:80".parse().unwrap();
            assert_eq!(listeners(table, address), ["11", "12"]);
        }
    }
}
