//! What the user asked for goes in; whether an address or a connection is meant comes out.

use crate::decode::packet::Address;
use crate::flows::row::Tuple;
use std::net::IpAddr;

/// Whom and what to follow.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Real clients; without a port, any port of the address.
    pub clients: Vec<(Address, Option<u16>)>,
    /// Connections that are followed whoever they belong to.
    pub connections: Vec<Tuple>,
    /// How many proxies before this host are trusted to tell their peers in request headers; None where headers choose nothing.
    pub trusted_hops: Option<usize>,
}

impl Wanted {
    /// True where this is a client that is asked for. A witness without a port does not name a client that is asked for with one.
    pub fn names(&self, address: Address, port: Option<u16>) -> bool {
        self.clients
            .iter()
            .any(|(wanted, wanted_port)| *wanted == address && (wanted_port.is_none() || *wanted_port == port))
    }

    pub fn is_given(&self, tuple: &Tuple) -> bool {
        self.connections.contains(tuple)
    }
}

/// An address as the decoder holds it: IPv4 in the form of IPv6.
pub fn address(ip: IpAddr) -> Address {
    match ip.to_canonical() {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address::v6(v6.octets()),
    }
}

/// `1.2.3.4:80`, `[2001:db8::1]:80`, or the address alone.
pub fn shown(address: Address, port: Option<u16>) -> String {
    match (address.to_ip(), port) {
        (ip, Some(port)) => std::net::SocketAddr::new(ip, port).to_string(),
        (ip, None) => ip.to_string(),
    }
}
