//! A record's link layer goes in, what it carries comes out. Numbers and layouts: tcpdump.org/linktypes.html.

use super::bytes::Bytes;
use super::packet::Packet;
use super::{Layer, Next, arp, other, wireless};

/// `LinkInfo::packet_type` where the link layer has none.
pub(super) const NO_PACKET_TYPE: u8 = 255;

/// EtherTypes (IEEE 802 numbers, iana.org/assignments/ieee-802-numbers).
pub(super) mod ether {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// Transparent Ethernet bridging (RFC 7637 section 3.2, RFC 8926 section 3.4).
    pub const BRIDGED: u16 = 0x6558;
    /// IEEE 802.1Q, 802.1ad, and the tag that came before 802.1ad was written.
    pub const VLAN: u16 = 0x8100;
    pub const SERVICE_VLAN: u16 = 0x88a8;
    pub const OLD_SERVICE_VLAN: u16 = 0x9100;
    pub const IPV6: u16 = 0x86dd;
    /// RFC 5332 section 3.
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_UPSTREAM: u16 = 0x8848;
    /// RFC 2516 section 4.
    pub const PPPOE_SESSION: u16 = 0x8864;
    /// Values from here on are types; up to 1500 they are an IEEE 802.3 length (IEEE 802.3 clause 3.2.6).
    pub const FIRST: u16 = 0x0600;
    pub const LONGEST: u16 = 1500;
}

/// VLAN tags crossed in one frame at most.
const MOST_TAGS: usize = 16;

/// The outermost layer of a record.
#[inline]
pub(super) fn outermost<'a>(packet: &mut Packet<'a>, link_type: u16, bytes: Bytes<'a>) -> Next<'a> {
    match link_type {
        1 => {
            let header = bytes.data.first_chunk::<14>()?;
            packet.link.destination_mac = *header[..6].first_chunk()?;
            packet.link.source_mac = *header[6..].first_chunk()?;
            let ether_type = u16::from_be_bytes([header[12], header[13]]);
            let body = bytes.skip(14)?;
            if ether_type == ether::IPV4 {
                return super::ip::ipv4(packet, body);
            }
            self::ether_type(packet, ether_type, body)
        }
        0 | 108 => null(packet, bytes),
        9 => ppp(packet, bytes),
        50 | 104 => hdlc(packet, bytes),
        51 => Some((Layer::Pppoe, bytes)),
        12 | 14 | 101 => Some((Layer::Ip, bytes)),
        105 => wireless::ieee80211(packet, bytes),
        127 => wireless::radiotap(packet, bytes),
        113 => cooked(packet, bytes),
        228 => Some((Layer::Ipv4, bytes)),
        229 => Some((Layer::Ipv6, bytes)),
        276 => cooked_v2(packet, bytes),
        _ => other(packet),
    }
}

/// An Ethernet frame inside a tunnel.
pub(super) fn ethernet<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let found = bytes.u16(12)?;
    ether_type(packet, found, bytes.skip(14)?)
}

/// What an EtherType says, through any number of VLAN tags (IEEE 802.1Q clause 9.6: identifier in the low 12 bits).
pub(super) fn ether_type<'a>(packet: &mut Packet<'a>, first: u16, bytes: Bytes<'a>) -> Next<'a> {
    let (mut found, mut bytes) = (first, bytes);
    for _ in 0..=MOST_TAGS {
        match found {
            ether::IPV4 => return Some((Layer::Ipv4, bytes)),
            ether::IPV6 => return Some((Layer::Ipv6, bytes)),
            ether::VLAN | ether::SERVICE_VLAN | ether::OLD_SERVICE_VLAN => {
                let tag = bytes.u16(0)?;
                found = bytes.u16(2)?;
                bytes = bytes.skip(4)?;
                // Tags inside a tunnel belong to another network than the one where the record was taken.
                if packet.tunnels.depth == 0
                    && let Some(slot) = packet.link.vlan.iter_mut().find(|slot| **slot == 0)
                {
                    *slot = tag & 0x0fff;
                }
            }
            ether::ARP => return arp::arp(packet, bytes),
            ether::MPLS | ether::MPLS_UPSTREAM => return Some((Layer::Mpls, bytes)),
            ether::PPPOE_SESSION => return Some((Layer::Pppoe, bytes)),
            ether::BRIDGED => return Some((Layer::Ethernet, bytes)),
            0..=ether::LONGEST => return Some((Layer::Llc, bytes.at_most(u32::from(found)))),
            _ => return other(packet),
        }
    }
    other(packet)
}

/// IEEE 802.2 LLC: SNAP (RFC 1042) and the old SAP of IP (RFC 948).
pub(super) fn llc<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let Some([destination, source, control]) = bytes.data.first_chunk::<3>().copied() else {
        // A frame without an LLC header (a length of 0 to 2) is whole, and nothing that is known here.
        return if bytes.length < 3 { other(packet) } else { None };
    };
    match (destination & 0xfe, source & 0xfe, control) {
        (0xaa, 0xaa, 0x03) => {
            // RFC 1042: organisation 0; 00-00-f8 bridges what 802.1H would mistake (IEEE 802.1H table 1).
            let organisation = bytes.u32(2)? & 0x00ff_ffff;
            let found = bytes.u16(6)?;
            match organisation {
                0x0000_0000 | 0x0000_00f8 if found >= ether::FIRST => Some((Layer::EtherType(found), bytes.skip(8)?)),
                _ => other(packet),
            }
        }
        (0x06, 0x06, 0x03) => Some((Layer::Ipv4, bytes.skip(3)?)),
        _ => other(packet),
    }
}

/// BSD loopback: an address family in the byte order of the host that captured (NULL), or in network order (LOOP).
fn null<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let word = bytes.u32(0)?;
    let family = if word >> 16 == 0 { word } else { word.swap_bytes() };
    let body = bytes.skip(4)?;
    match family {
        2 => Some((Layer::Ipv4, body)),
        // AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 23 | 24 | 28 | 30 => Some((Layer::Ipv6, body)),
        _ => other(packet),
    }
}

/// Linux cooked capture, version 1 (libpcap pcap/sll.h): packet type, hardware type, address length, address, protocol.
fn cooked<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let kind = bytes.u16(0)?;
    packet.link.packet_type = u8::try_from(kind).unwrap_or(NO_PACKET_TYPE);
    if bytes.u16(4)? == 6 {
        packet.link.source_mac = bytes.mac(6)?;
    }
    cooked_protocol(packet, bytes.u16(2)?, bytes.u16(14)?, bytes.skip(16)?)
}

/// Linux cooked capture, version 2 (libpcap pcap/sll.h): protocol, reserved, interface index, hardware type, packet type, address length,
/// address.
fn cooked_v2<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    packet.link.ifindex = bytes.u32(4)?;
    packet.link.packet_type = bytes.u8(10)?;
    if bytes.u8(11)? == 6 {
        packet.link.source_mac = bytes.mac(12)?;
    }
    cooked_protocol(packet, bytes.u16(8)?, bytes.u16(0)?, bytes.skip(20)?)
}

/// The protocol of a cooked header is an EtherType, or a number of Linux's own below 0x0600 (linux/if_ether.h), except on netlink
/// (ARPHRD_NETLINK, 824), where it is a netlink family.
fn cooked_protocol<'a>(packet: &mut Packet<'a>, hardware: u16, protocol: u16, body: Bytes<'a>) -> Next<'a> {
    match protocol {
        _ if hardware == 824 => other(packet),
        // ETH_P_802_2
        0x0004 => Some((Layer::Llc, body)),
        ether::FIRST.. => ether_type(packet, protocol, body),
        _ => other(packet),
    }
}

/// PPP (RFC 1661 section 2), with or without address and control (RFC 1662 section 3.1), the protocol in one byte or two.
pub(super) fn ppp<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let bytes = if bytes.data.starts_with(&[0xff, 0x03]) {
        bytes.skip(2)?
    } else {
        bytes
    };
    let first = bytes.u8(0)?;
    let (protocol, body) = if first & 1 == 1 {
        (u16::from(first), bytes.skip(1)?)
    } else {
        (bytes.u16(0)?, bytes.skip(2)?)
    };
    match protocol {
        // RFC 1332, RFC 5072, RFC 3032 section 4.3
        0x0021 => Some((Layer::Ipv4, body)),
        0x0057 => Some((Layer::Ipv6, body)),
        0x0281 | 0x0283 => Some((Layer::Mpls, body)),
        _ => other(packet),
    }
}

/// PPP in HDLC-like framing, or Cisco HDLC, told by the first byte: 0x0f unicast and 0x8f multicast are Cisco's (RFC 1547 section 4.3.1).
fn hdlc<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    match bytes.u8(0)? {
        0x0f | 0x8f => {
            let found = bytes.u16(2)?;
            let body = bytes.skip(4)?;
            if found < ether::FIRST {
                other(packet)
            } else {
                ether_type(packet, found, body)
            }
        }
        _ => ppp(packet, bytes),
    }
}
