//! The link that makes the agent's addresses local to the node (agent spec, section 3).
//!
//! ```text
//!   Network (netlink, or a fake) ── state ──▶ plan ── steps ──▶ Network
//! ```
//!
//! What is to be done is decided by [`plan`] from what is there, so doing it twice is doing it once. The link and the rules
//! are those of AWS's agent: each can take over from the other.

#[cfg(target_os = "linux")]
mod netlink;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::future::BoxFuture;

#[cfg(target_os = "linux")]
pub use netlink::Netlink;

/// The name of the link.
pub const LINK: &str = "pod-id-link0";
/// The IPv4 address of the endpoint.
pub const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23));
/// The IPv6 address of the endpoint.
pub const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23));

/// A link as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Whether it is a dummy link.
    pub is_dummy: bool,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The number of the link that it leads to; nothing for routes that lead nowhere or to several.
    pub link: Option<u32>,
}

/// Something to do to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Add the address with a prefix of its whole length.
    AddAddress(IpAddr),
    /// Set the link up.
    SetUp,
    /// Route the address through the link.
    AddRoute(IpAddr),
}

/// The network configuration of the node, as far as the link needs it. Every change succeeds when what it wants is so already.
pub trait Network: Send + Sync + 'static {
    /// The link of this name.
    fn link<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Link>, NetworkError>>;
    /// The name of the link with this number.
    fn name_of(&self, index: u32) -> BoxFuture<'_, Result<Option<String>, NetworkError>>;
    /// The routes of the main table of the address' family.
    fn routes(&self, family_of: IpAddr) -> BoxFuture<'_, Result<Vec<Route>, NetworkError>>;
    /// Makes a dummy link.
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// Does one step to the link with this number.
    fn apply(&self, index: u32, step: Step) -> BoxFuture<'_, Result<(), NetworkError>>;
    /// Deletes the link with this number; its addresses and routes go with it.
    fn delete(&self, index: u32) -> BoxFuture<'_, Result<(), NetworkError>>;
}

/// Where the node sends what is for an address.
pub trait Routes: Send + Sync + 'static {
    /// The route that counts for the address, by all tables and rules; none when there is none.
    fn to(&self, address: IpAddr) -> BoxFuture<'_, Result<Option<Route>, NetworkError>>;
}

/// Whether a route is one for exactly this address, through one link: the host side of the veth of the pod that has it (imds
/// spec, section 5.2). Networks that route a whole range to a bridge have none, and there anybody on the bridge can take any of
/// its addresses.
#[must_use]
pub fn is_for_exactly(route: &Route, address: IpAddr) -> bool {
    route.destination == address && route.prefix == whole_prefix(address) && route.link.is_some()
}

/// The system refused.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}")]
pub struct NetworkError {
    /// What was tried.
    pub action: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the link cannot be set up or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The system refused; without `CAP_NET_ADMIN` it refuses everything.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A link of our name is something else.
    #[error(
        "`{0}` is no dummy link; somebody else uses the name, so remove that link or find out what made it"
    )]
    NotDummy(String),
    /// The link was made and is not there.
    #[error("`{0}` was made and is gone again; another network daemon may remove unknown links")]
    Vanished(String),
    /// The address is routed elsewhere.
    #[error(
        "{address} is routed through `{link}`; remove that route: ip route del {address} dev {link}"
    )]
    RoutedElsewhere {
        /// The address.
        address: IpAddr,
        /// The other link.
        link: String,
    },
}

/// A route for exactly the address that does not lead to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// The link that it leads to.
    pub link: Option<u32>,
}

/// What is missing for an address.
///
/// An address of the link whose prefix covers the wanted one counts as that address, and a route for exactly the address
/// through the link as the route.
///
/// # Errors
/// When exactly this address is routed through another link.
pub fn plan(link: &Link, routes: &[Route], address: IpAddr) -> Result<Vec<Step>, Elsewhere> {
    let whole = whole_prefix(address);
    let exact = |route: &&Route| route.destination == address && route.prefix == whole;
    let exact: Vec<&Route> = routes.iter().filter(exact).collect();
    if let Some(other) = exact.iter().find(|route| route.link != Some(link.index)) {
        return Err(Elsewhere { link: other.link });
    }
    let mut steps = Vec::new();
    let covered = |(own, prefix): &(IpAddr, u8)| covers(*own, *prefix, address);
    if !link.addresses.iter().any(covered) {
        steps.push(Step::AddAddress(address));
    }
    if !link.up {
        steps.push(Step::SetUp);
    }
    if exact.is_empty() {
        steps.push(Step::AddRoute(address));
    }
    Ok(steps)
}

/// Whether the network of `address` and `prefix` has `other` in it.
#[must_use]
pub fn covers(address: IpAddr, prefix: u8, other: IpAddr) -> bool {
    let (a, b, width) = match (address, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let free = u32::from(width - prefix.min(width));
    a.checked_shr(free).unwrap_or(0) == b.checked_shr(free).unwrap_or(0)
}

/// The prefix length of a single address.
#[must_use]
pub const fn whole_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Makes the link if it is not there, gives it the address and the route. Returns what had to be done.
///
/// # Errors
/// When the name is taken, the address is routed elsewhere, or the system refuses.
pub async fn set_up(
    network: &dyn Network,
    name: &str,
    address: IpAddr,
) -> Result<Vec<Step>, LinkError> {
    let mut link = network.link(name).await?;
    if link.is_none() {
        network.create(name).await?;
        link = network.link(name).await?;
    }
    let link = link.ok_or_else(|| LinkError::Vanished(name.to_owned()))?;
    if !link.is_dummy {
        return Err(LinkError::NotDummy(name.to_owned()));
    }
    let mut done = Vec::new();
    for step in planned(network, &link, address).await? {
        if !matches!(step, Step::AddRoute(_)) {
            network.apply(link.index, step).await?;
            done.push(step);
        }
    }
    // The kernel makes the route by itself for an IPv6 address on a link that is up.
    let link = network
        .link(name)
        .await?
        .ok_or_else(|| LinkError::Vanished(name.to_owned()))?;
    for step in planned(network, &link, address).await? {
        network.apply(link.index, step).await?;
        done.push(step);
    }
    Ok(done)
}

async fn planned(
    network: &dyn Network,
    link: &Link,
    address: IpAddr,
) -> Result<Vec<Step>, LinkError> {
    let Elsewhere { link } = match plan(link, &network.routes(address).await?, address) {
        Ok(steps) => return Ok(steps),
        Err(elsewhere) => elsewhere,
    };
    let other = match link {
        Some(index) => network.name_of(index).await?,
        None => None,
    };
    Err(LinkError::RoutedElsewhere {
        address,
        link: other.unwrap_or_else(|| "another link".to_owned()),
    })
}

/// Whether link, address and route are all there.
///
/// # Errors
/// When the system does not tell, or something else is in the way.
pub async fn is_set_up(
    network: &dyn Network,
    name: &str,
    address: IpAddr,
) -> Result<bool, LinkError> {
    let Some(link) = network.link(name).await? else {
        return Ok(false);
    };
    let routes = network.routes(address).await?;
    Ok(link.is_dummy && plan(&link, &routes, address).is_ok_and(|steps| steps.is_empty()))
}

/// Deletes the link with its addresses and routes. Returns whether it was there.
///
/// # Errors
/// When the name is that of another kind of link, which is left alone, or the system refuses.
pub async fn remove(network: &dyn Network, name: &str) -> Result<bool, LinkError> {
    let Some(link) = network.link(name).await? else {
        return Ok(false);
    };
    if !link.is_dummy {
        return Err(LinkError::NotDummy(name.to_owned()));
    }
    network.delete(link.index).await?;
    Ok(true)
}
