//! An IPv4 or IPv6 packet goes in, its header is noted, and what it carries comes out.

use super::bytes::Bytes;
use super::packet::{Address, Inner, Ip, Packet, Tunnel};
use super::{Layer, Next, icmp, other, tcp, tunnel};

/// Protocol numbers (iana.org/assignments/protocol-numbers).
pub(super) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    /// RFC 4023 section 3.
    pub const MPLS: u8 = 137;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// Extension headers crossed in one packet at most (RFC 8200 section 4.1 knows seven places).
const MOST_EXTENSIONS: usize = 16;

/// IPv4 or IPv6 by the version in the first four bits.
pub(super) fn by_version<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    match bytes.u8(0)? >> 4 {
        4 => ipv4(packet, bytes),
        6 => ipv6(packet, bytes),
        _ => None,
    }
}

/// IPv4 (RFC 791 section 3.1). The payload ends where the total length says: what follows is padding of the link layer. A total length of 0
/// is a segment larger than 65535 bytes that the network card or the kernel (BIG TCP) still has to cut, or has joined: the record's length counts.
#[inline]
pub(super) fn ipv4<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let header = bytes.data.first_chunk::<20>()?;
    let header_length = u32::from(header[0] & 0x0f) * 4;
    let total_length = match u16::from_be_bytes([header[2], header[3]]) {
        0 => bytes.length,
        told => u32::from(told),
    };
    if header[0] >> 4 != 4 || header_length < 20 || total_length < header_length {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let protocol = header[9];
    packet.ip = Ip {
        source: Address::v4([header[12], header[13], header[14], header[15]]),
        destination: Address::v4([header[16], header[17], header[18], header[19]]),
        ttl: header[8],
        tos: header[1],
        protocol,
        id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        dont_fragment: fragment & 0x4000 != 0,
        more_fragments: fragment & 0x2000 != 0,
        fragment_offset: (fragment & 0x1fff) << 3,
        total_length,
    };
    let body = bytes.with_length(total_length).skip(header_length as usize)?;
    if protocol == protocol::TCP && fragment & 0x1fff == 0 {
        return tcp::tcp(packet, body);
    }
    if protocol == protocol::AUTHENTICATION && fragment & 0x1fff == 0 {
        let (protocol, body) = extensions(&mut packet.ip, protocol, body)?;
        return carried(packet, protocol, false, body);
    }
    carried(packet, protocol, false, body)
}

/// IPv6 (RFC 8200 section 3). A payload length of 0 with something inside is a jumbogram (RFC 2675 section 2) or a segment larger than
/// 65535 bytes, as for IPv4.
pub(super) fn ipv6<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let header = bytes.data.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let body = bytes.skip(40)?;
    let next_header = header[6];
    let payload_length = match u16::from_be_bytes([header[4], header[5]]) {
        0 if next_header == protocol::HOP_BY_HOP => jumbo_length(body).unwrap_or(body.length),
        0 => body.length,
        told => u32::from(told),
    };
    packet.ip = Ip {
        source: Address(u128::from_be_bytes(*header[8..].first_chunk()?)),
        destination: Address(u128::from_be_bytes(*header[24..].first_chunk()?)),
        ttl: header[7],
        tos: header[0] << 4 | header[1] >> 4,
        protocol: next_header,
        total_length: payload_length.saturating_add(40),
        ..Ip::default()
    };
    let body = body.with_length(payload_length);
    if next_header == protocol::TCP {
        return tcp::tcp(packet, body);
    }
    let (protocol, body) = extensions(&mut packet.ip, next_header, body)?;
    carried(packet, protocol, true, body)
}

/// The jumbo payload option (RFC 2675 section 2: type 0xc2, length 4) of a hop-by-hop header (RFC 8200 section 4.2 and 4.3).
fn jumbo_length(hop_by_hop: Bytes<'_>) -> Option<u32> {
    let end = (usize::from(hop_by_hop.u8(1)?) + 1) * 8;
    let mut at = 2;
    while at < end {
        match hop_by_hop.u8(at)? {
            0 => at += 1,
            0xc2 if hop_by_hop.u8(at + 1)? == 4 => return hop_by_hop.u32(at + 2),
            _ => at += 2 + usize::from(hop_by_hop.u8(at + 1)?),
        }
    }
    None
}

/// Crosses extension headers (RFC 8200 section 4; authentication: RFC 4302 section 2, length in words of four bytes less two), and gives
/// the upper protocol and its bytes. A fragment header ends the walk where the fragment is not the first: nothing after it is a header.
pub(super) fn extensions<'a>(ip: &mut Ip, first: u8, bytes: Bytes<'a>) -> Option<(u8, Bytes<'a>)> {
    let (mut found, mut bytes) = (first, bytes);
    for _ in 0..MOST_EXTENSIONS {
        let length = match found {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => (u32::from(bytes.u8(1)?) + 1) * 8,
            protocol::AUTHENTICATION => (u32::from(bytes.u8(1)?) + 2) * 4,
            protocol::FRAGMENT => {
                let place = bytes.u16(2)?;
                ip.id = bytes.u32(4)?;
                ip.fragment_offset = place & 0xfff8;
                ip.more_fragments = place & 1 != 0;
                8
            }
            _ => break,
        };
        found = bytes.u8(0)?;
        ip.protocol = found;
        if length > bytes.length {
            return None;
        }
        bytes = bytes.skip(length as usize)?;
        if ip.fragment_offset != 0 {
            break;
        }
    }
    Some((found, bytes))
}

/// What an IP packet carries. A fragment other than the first holds no header, and is told of TCP only.
fn carried<'a>(packet: &mut Packet<'a>, protocol: u8, in_ipv6: bool, body: Bytes<'a>) -> Next<'a> {
    if packet.ip.fragment_offset != 0 {
        packet.inner = if protocol == protocol::TCP {
            Inner::TcpFragment(body.length)
        } else {
            Inner::Other
        };
        return None;
    }
    match protocol {
        protocol::TCP => tcp::tcp(packet, body),
        protocol::UDP => tunnel::udp(packet, body),
        protocol::ICMP if !in_ipv6 => icmp::icmp(packet, body),
        protocol::ICMPV6 if in_ipv6 => icmp::icmpv6(packet, body),
        // RFC 2003, RFC 4213 section 3, RFC 2473.
        protocol::IPV4 => tunnel::enter(
            packet,
            if in_ipv6 { Tunnel::IpInSix } else { Tunnel::Ipip },
            Layer::Ipv4,
            body,
        ),
        protocol::IPV6 => tunnel::enter(
            packet,
            if in_ipv6 { Tunnel::IpInSix } else { Tunnel::SixInFour },
            Layer::Ipv6,
            body,
        ),
        protocol::GRE => tunnel::gre(packet, body),
        protocol::MPLS => {
            tunnel::note_outer(packet);
            Some((Layer::Mpls, body))
        }
        _ => other(packet),
    }
}
