//! An encapsulation's header goes in, it is noted, and what it carries comes out.

use super::bytes::Bytes;
use super::link::ether;
use super::packet::{Packet, Tunnel};
use super::{DEEPEST, Layer, Next, other};

/// Labels crossed in one MPLS stack at most.
const MOST_LABELS: usize = 16;

/// Notes the addresses around the outermost tunnel that IP carries.
pub(super) fn note_outer(packet: &mut Packet<'_>) {
    if packet.tunnels.outer_source.0 == 0 && packet.tunnels.outer_destination.0 == 0 {
        packet.tunnels.outer_source = packet.ip.source;
        packet.tunnels.outer_destination = packet.ip.destination;
    }
}

/// Notes one more encapsulation; past the deepest the walk ends.
fn push<'a>(packet: &mut Packet<'a>, kind: Tunnel, layer: Layer, body: Bytes<'a>) -> Next<'a> {
    let depth = packet.tunnels.depth;
    if depth >= DEEPEST {
        return other(packet);
    }
    if let Some(slot) = packet.tunnels.kinds.get_mut(usize::from(depth)) {
        *slot = kind;
    }
    packet.tunnels.depth = depth + 1;
    Some((layer, body))
}

/// Enters a tunnel that the IP packet just read carries.
pub(super) fn enter<'a>(packet: &mut Packet<'a>, kind: Tunnel, layer: Layer, body: Bytes<'a>) -> Next<'a> {
    note_outer(packet);
    push(packet, kind, layer, body)
}

/// GRE version 0 (RFC 2784 section 2, key and sequence number: RFC 2890 section 2) and 1 (RFC 2637 section 4.1).
pub(super) fn gre<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let (flags, carried) = (bytes.u16(0)?, bytes.u16(2)?);
    let (with_checksum, with_key, with_sequence) = (flags & 0x8000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    if flags & 0x0007 == 1 {
        // PPTP: always a key (payload length, call), payload only with a sequence number, an acknowledgement by flag 0x0080.
        if carried != 0x880b || !with_key || with_checksum {
            return other(packet);
        }
        if !with_sequence {
            return other(packet);
        }
        let call = bytes.u32(4)?;
        let body = bytes
            .skip(if flags & 0x0080 != 0 { 16 } else { 12 })?
            .at_most(call >> 16);
        packet.tunnels.network_id = call & 0xffff;
        return enter(packet, Tunnel::Gre, Layer::Ppp, body);
    }
    // RFC 2784 section 2.2 and 2.3: routing and the other reserved bits 1 to 5 are refused, so is another version.
    if flags & 0x4c07 != 0 {
        return other(packet);
    }
    let mut length = 4;
    if with_checksum {
        length += 4;
    }
    if with_key {
        let key = bytes.u32(length)?;
        length += 4;
        packet.tunnels.network_id = key;
    }
    if with_sequence {
        length += 4;
    }
    let body = bytes.skip(length)?;
    match carried {
        // ERSPAN (draft-foschiano-erspan-03 section 4): type I has no header and no sequence number, type II 8 bytes and version 1.
        0x88be if !with_sequence => enter(packet, Tunnel::Gre, Layer::Ethernet, body),
        0x88be => {
            if body.u8(0)? >> 4 != 1 {
                return other(packet);
            }
            enter(packet, Tunnel::Gre, Layer::Ethernet, body.skip(8)?)
        }
        // Type III: 12 bytes and version 2, and 8 more by the last bit. Frame type (bits 3 to 7 of byte 10) 0 is Ethernet.
        0x22eb => {
            let last = body.u16(10)?;
            if body.u8(0)? >> 4 != 2 || last & 0x7c00 != 0 {
                return other(packet);
            }
            enter(
                packet,
                Tunnel::Gre,
                Layer::Ethernet,
                body.skip(if last & 1 != 0 { 20 } else { 12 })?,
            )
        }
        ether::FIRST.. => enter(packet, Tunnel::Gre, Layer::EtherType(carried), body),
        _ => other(packet),
    }
}

/// UDP (RFC 768), for the tunnels that are known by their destination port.
pub(super) fn udp<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let port = bytes.u16(2)?;
    match port {
        // RFC 7348 section 5; 8472 is what Linux took before, and still takes by default (drivers/net/vxlan).
        4789 | 8472 => {}
        // RFC 8926 section 3.3.
        6081 => {}
        _ => return other(packet),
    }
    let length = bytes.u16(4)?;
    // A length of 0 is that of a datagram larger than 65535 bytes.
    let body = if length == 0 {
        bytes
    } else {
        bytes.at_most(u32::from(length))
    };
    let body = body.skip(8)?;
    // Whether it is the tunnel is only known by its header.
    let Some(header) = body.data.first_chunk::<8>() else {
        return other(packet);
    };
    if port == 6081 {
        geneve(packet, header, body)
    } else {
        vxlan(packet, header, body)
    }
}

/// VXLAN (RFC 7348 section 5): flag I is set, reserved flags are ignored on receipt; then the network in bytes 4 to 6.
fn vxlan<'a>(packet: &mut Packet<'a>, header: &[u8; 8], body: Bytes<'a>) -> Next<'a> {
    if header[0] & 0x08 == 0 || body.length < 8 + 14 {
        return other(packet);
    }
    packet.tunnels.network_id = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    enter(packet, Tunnel::Vxlan, Layer::Ethernet, body.skip(8)?)
}

/// Geneve (RFC 8926 section 3.4): version 0, length of the options in words of four bytes, flags O (control) and C, protocol, network.
fn geneve<'a>(packet: &mut Packet<'a>, header: &[u8; 8], body: Bytes<'a>) -> Next<'a> {
    let length = 8 + usize::from(header[0] & 0x3f) * 4;
    let carried = u16::from_be_bytes([header[2], header[3]]);
    let whole = body.length as usize >= length;
    // A control message (O) carries no packet of the network.
    if header[0] >> 6 != 0
        || header[1] & 0x80 != 0
        || !whole
        || !matches!(carried, ether::BRIDGED | ether::IPV4 | ether::IPV6)
    {
        return other(packet);
    }
    packet.tunnels.network_id = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    enter(packet, Tunnel::Geneve, Layer::EtherType(carried), body.skip(length)?)
}

/// PPPoE session (RFC 2516 section 4): version and type 1, code 0; discovery has other codes.
pub(super) fn pppoe<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let (version, code) = (bytes.u8(0)?, bytes.u8(1)?);
    if version != 0x11 || code != 0 {
        return other(packet);
    }
    let length = bytes.u16(4)?;
    let body = bytes.skip(6)?.at_most(u32::from(length));
    push(packet, Tunnel::Pppoe, Layer::Ppp, body)
}

/// An MPLS label stack (RFC 3032 section 2.1: label 20 bits, class 3, bottom of stack 1, TTL 8) and what lies below it, which no field tells:
/// IP by its version, or an Ethernet pseudowire with a control word (RFC 4385 section 3, RFC 4448 section 4.6) or without.
pub(super) fn mpls<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let mut body = bytes;
    let mut bottom = None;
    for _ in 0..MOST_LABELS {
        let entry = body.u32(0)?;
        body = body.skip(4)?;
        if entry & 0x100 != 0 {
            bottom = Some(entry >> 12);
            break;
        }
    }
    let Some(label) = bottom else { return other(packet) };
    let layer_and_body = match body.u8(0)? >> 4 {
        4 if !plausible_ipv4(body) && plausible_ethernet(body) => (Layer::Ethernet, body),
        4 => (Layer::Ipv4, body),
        6 if !plausible_ipv6(body) && plausible_ethernet(body) => (Layer::Ethernet, body),
        6 => (Layer::Ipv6, body),
        0 if body.skip(4).is_some_and(plausible_ethernet) => (Layer::Ethernet, body.skip(4)?),
        _ if plausible_ethernet(body) => (Layer::Ethernet, body),
        _ => return other(packet),
    };
    packet.tunnels.network_id = label;
    push(packet, Tunnel::Mpls, layer_and_body.0, layer_and_body.1)
}

fn plausible_ipv4(bytes: Bytes<'_>) -> bool {
    let (Some(first), Some(total)) = (bytes.u8(0), bytes.u16(2)) else {
        return false;
    };
    first >> 4 == 4 && first & 0x0f >= 5 && (total == 0 || (20..=bytes.length).contains(&u32::from(total)))
}

fn plausible_ipv6(bytes: Bytes<'_>) -> bool {
    let (Some(first), Some(length)) = (bytes.u8(0), bytes.u16(4)) else {
        return false;
    };
    first >> 4 == 6 && u32::from(length) + 40 <= bytes.length
}

/// An Ethernet header with IP, ARP or a VLAN tag behind it.
fn plausible_ethernet(bytes: Bytes<'_>) -> bool {
    let (Some(found), Some(body)) = (bytes.u16(12), bytes.skip(14)) else {
        return false;
    };
    match found {
        ether::IPV4 => plausible_ipv4(body),
        ether::IPV6 => plausible_ipv6(body),
        ether::ARP => body.data.starts_with(&[0, 1, 0x08, 0x00, 6, 4]),
        ether::VLAN | ether::SERVICE_VLAN => {
            matches!(
                body.u16(2),
                Some(ether::IPV4 | ether::IPV6 | ether::ARP | ether::VLAN | ether::MPLS)
            )
        }
        _ => false,
    }
}
