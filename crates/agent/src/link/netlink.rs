//! [`Network`] over rtnetlink.
//!
//! The kernel is spoken to directly and not through the `ip` command: the agent is one binary in an image without tools, runs
//! without root with `CAP_NET_ADMIN` only, which a child process would not inherit, and reads errors as numbers and not from
//! texts that differ between versions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use futures::future::BoxFuture;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::{
    AddressHandle, Error, Handle, LinkDummy, LinkUnspec, RouteMessageBuilder, new_connection,
};

use super::{Link, Network, NetworkError, Route, Routes, Step, whole_prefix};

/// What is there already.
const EEXIST: i32 = 17;
/// What is not there.
const ENODEV: i32 = 19;
/// No route to a network, and to a host.
const UNREACHABLE: [i32; 2] = [101, 113];

/// The network of the namespace that the process is in.
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a netlink socket. Must be called within a tokio runtime: a task there reads it.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, _) = new_connection().map_err(|source| NetworkError {
            action: "open a netlink socket".to_owned(),
            source: source.into(),
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    async fn find(
        &self,
        action: String,
        wanted: impl Fn(&LinkMessage) -> bool,
    ) -> Result<Option<LinkMessage>, NetworkError> {
        // All links are read and compared here: asking for one name leaves out links that have it as an alternative name.
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed(&action))? {
            if wanted(&link) {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    async fn addresses(&self, index: u32) -> Result<Vec<(IpAddr, u8)>, NetworkError> {
        let action = format!("read the addresses of link {index}");
        let addresses = AddressHandle::new(self.handle.clone())
            .get()
            .set_link_index_filter(index)
            .execute();
        let addresses: Vec<_> = addresses.try_collect().await.map_err(failed(&action))?;
        Ok(addresses
            .iter()
            .filter_map(|message| {
                let address = message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Address(address) => Some(*address),
                        _ => None,
                    })?;
                Some((address, message.header.prefix_len))
            })
            .collect())
    }
}

impl Network for Netlink {
    fn link<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Link>, NetworkError>> {
        Box::pin(async move {
            let action = format!("look for the link `{name}`");
            let found = self
                .find(action, |link| name_of(link) == Some(name))
                .await?;
            let Some(message) = found else {
                return Ok(None);
            };
            let index = message.header.index;
            let is_dummy = message.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::LinkInfo(info) => info
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Dummy))),
                _ => false,
            });
            Ok(Some(Link {
                index,
                is_dummy,
                up: message.header.flags.contains(LinkFlags::Up),
                addresses: self.addresses(index).await?,
            }))
        })
    }

    fn name_of(&self, index: u32) -> BoxFuture<'_, Result<Option<String>, NetworkError>> {
        Box::pin(async move {
            let action = format!("look for link {index}");
            let found = self.find(action, |link| link.header.index == index).await?;
            Ok(found.as_ref().and_then(name_of).map(str::to_owned))
        })
    }

    fn routes(&self, family_of: IpAddr) -> BoxFuture<'_, Result<Vec<Route>, NetworkError>> {
        Box::pin(async move {
            let family = match family_of {
                IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
                IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
            };
            let mut messages = self.handle.route().get(family).execute();
            let mut routes = Vec::new();
            let failed = failed("read the routes");
            while let Some(message) = messages.try_next().await.map_err(&failed)? {
                if table(&message) == u32::from(RouteHeader::RT_TABLE_MAIN) {
                    routes.push(route(&message, family_of));
                }
            }
            Ok(routes)
        })
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async move {
            let message = LinkDummy::new(name).build();
            let made = self.handle.link().add(message).execute().await;
            let action =
                format!("make the dummy link `{name}`, which the kernel module `dummy` is for");
            unless(made, EEXIST).map_err(failed(&action))
        })
    }

    fn apply(&self, index: u32, step: Step) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            let done = match step {
                Step::AddAddress(address) => {
                    let addresses = AddressHandle::new(self.handle.clone());
                    let prefix = whole_prefix(address);
                    addresses.add(index, address, prefix).execute().await
                }
                Step::SetUp => {
                    let message = LinkUnspec::new_with_index(index).up().build();
                    self.handle.link().change(message).execute().await
                }
                Step::AddRoute(address) => {
                    let message: RouteMessage = match address {
                        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                            .destination_prefix(address, 32)
                            .output_interface(index)
                            .build(),
                        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                            .destination_prefix(address, 128)
                            .output_interface(index)
                            .build(),
                    };
                    self.handle.route().add(message).execute().await
                }
            };
            let action = match step {
                Step::AddAddress(address) => format!("give link {index} the address {address}"),
                Step::SetUp => format!("set link {index} up"),
                Step::AddRoute(address) => format!("route {address} through link {index}"),
            };
            unless(done, EEXIST).map_err(failed(&action))
        })
    }

    fn delete(&self, index: u32) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            let deleted = self.handle.link().del(index).execute().await;
            unless(deleted, ENODEV).map_err(failed(&format!("delete link {index}")))
        })
    }
}

impl Routes for Netlink {
    fn to(&self, address: IpAddr) -> BoxFuture<'_, Result<Option<Route>, NetworkError>> {
        Box::pin(async move {
            let mut message: RouteMessage = match address {
                IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(address, 32)
                    .build(),
                IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(address, 128)
                    .build(),
            };
            // The route itself with its prefix, and not what becomes of it for this address.
            message.header.flags = RouteFlags::FibMatch;
            let mut found = self.handle.route().get(message).execute();
            match found.try_next().await {
                Ok(message) => Ok(message.map(|message| route(&message, address))),
                Err(Error::NetlinkError(error))
                    if UNREACHABLE.contains(&error.raw_code().saturating_neg()) =>
                {
                    Ok(None)
                }
                Err(error) => Err(failed(&format!("look for the route to {address}"))(error)),
            }
        })
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// The table is in the header when its number is small, and in an attribute in any case.
fn table(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or(u32::from(message.header.table))
}

fn route(message: &RouteMessage, family_of: IpAddr) -> Route {
    // A default route has no destination.
    let mut destination = match family_of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut link = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = IpAddr::V4(*address);
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = IpAddr::V6(*address);
            }
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    Route {
        destination,
        prefix: message.header.destination_prefix_length,
        link: link.filter(|_| message.header.kind == RouteType::Unicast),
    }
}

/// Success, also when the error says that it is so already.
fn unless(done: Result<(), Error>, errno: i32) -> Result<(), Error> {
    match done {
        Err(Error::NetlinkError(message)) if message.raw_code() == -errno => Ok(()),
        other => other,
    }
}

fn failed(action: &str) -> impl Fn(Error) -> NetworkError {
    move |error| NetworkError {
        action: action.to_owned(),
        source: match error {
            Error::NetlinkError(message) => message.to_io().into(),
            other => other.into(),
        },
    }
}
