//! Network namespaces for tests, and a stand-in for dummy links where the kernel has none.

use std::net::IpAddr;
use std::process::Command;

use countersign_agent::link::{Link, Netlink, Network, NetworkError, Route, Step};
use futures::future::BoxFuture;

/// Set in the child that runs inside the namespace.
const INSIDE: &str = "COUNTERSIGN_TEST_INSIDE_NAMESPACE";

/// Runs `ip` and returns what it prints.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the test of this name once more in a new network namespace and returns false; there it returns true. Says loudly when
/// there can be no namespace.
pub fn inside(test: &str) -> bool {
    inside_of(test, &["-n"])
}

/// The same with these new namespaces, as `unshare` names them.
pub fn inside_of(test: &str, namespaces: &[&str]) -> bool {
    if let Some(mark) = std::env::var_os(INSIDE) {
        std::fs::write(mark, "here").unwrap();
        return true;
    }
    let mut can = Command::new("unshare");
    let can = can.args(namespaces).args(["ip", "link"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: it needs root, `unshare` and `ip` to make a network namespace");
        return false;
    }
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("ran");
    let status = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, &mark)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    assert!(mark.exists(), "there is no test `{test}`");
    false
}

/// The network of this namespace: as it is, or with tun links in the place of dummy links.
pub fn network() -> Box<dyn Network> {
    let netlink = Netlink::connect().unwrap();
    let made = Command::new("ip")
        .args(["link", "add", "probe", "type", "dummy"])
        .output()
        .unwrap();
    if made.status.success() {
        ip("link del probe");
        Box::new(netlink)
    } else {
        eprintln!(
            "NOTE: this kernel has no dummy links; a tun link stands in, and making a dummy link itself is SKIPPED"
        );
        Box::new(TunInstead(netlink))
    }
}

/// Makes tun links, which like dummy links have no neighbours to ask, and takes them for dummy links; all else is netlink.
struct TunInstead(Netlink);

impl Network for TunInstead {
    fn link<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Link>, NetworkError>> {
        Box::pin(async move {
            let link = self.0.link(name).await?;
            Ok(link.map(|link| Link {
                is_dummy: ip(&format!("-d link show dev {name}")).contains(" tun "),
                ..link
            }))
        })
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        ip(&format!("tuntap add dev {name} mode tun"));
        Box::pin(std::future::ready(Ok(())))
    }

    fn name_of(&self, index: u32) -> BoxFuture<'_, Result<Option<String>, NetworkError>> {
        self.0.name_of(index)
    }

    fn routes(&self, family_of: IpAddr) -> BoxFuture<'_, Result<Vec<Route>, NetworkError>> {
        self.0.routes(family_of)
    }

    fn apply(&self, index: u32, step: Step) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.0.apply(index, step)
    }

    fn delete(&self, index: u32) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.0.delete(index)
    }
}
