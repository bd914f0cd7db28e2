//! A packet record goes in, its innermost TCP segment, ICMP error or ARP message comes out.

pub(crate) mod exid;
pub mod packet;

mod arp;
mod bytes;
mod icmp;
mod ip;
mod link;
mod tcp;
#[cfg(test)]
mod tests;
mod tunnel;
mod wireless;

use bytes::Bytes;
use packet::{Inner, Ip, LinkInfo, Packet, TunnelStack};

/// Encapsulations crossed at most. Real stacks have two or three; a record that repeats one header without end is hostile.
const DEEPEST: u8 = 16;

/// Steps from layer to layer at most: an encapsulation takes up to three (its own header, a link layer, an EtherType).
const STEPS: usize = 4 * DEEPEST as usize;

/// What the bytes that follow are said to be.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Ethernet,
    EtherType(u16),
    Llc,
    Ppp,
    Pppoe,
    Mpls,
    /// IPv4 or IPv6 by the version nibble.
    Ip,
    Ipv4,
    Ipv6,
}

/// The next layer and its bytes. `None` ends the walk: `Packet::inner` then says how, and is `Malformed` unless it was set, so that a
/// header that is cut short ends as `Malformed` by `?` alone.
type Next<'a> = Option<(Layer, Bytes<'a>)>;

/// Ends the walk at something that is whole but not read here.
fn other<'a>(packet: &mut Packet<'a>) -> Next<'a> {
    packet.inner = Inner::Other;
    None
}

/// Decodes one record down to its innermost TCP segment.
///
/// `link_type` is the LINKTYPE_ value of the capture file (tcpdump.org/linktypes.html), `data` the captured bytes, `original_length` the
/// frame's length in bytes on the wire, which a snap length may have cut. Never fails: what cannot be read is `Inner::Other` (unknown) or
/// `Inner::Malformed` (known, but cut short or broken), and then the fields of the layers before it are filled.
pub fn decode<'a>(link_type: u16, data: &'a [u8], original_length: u32) -> Packet<'a> {
    let mut packet = Packet::default();
    decode_into(&mut packet, link_type, data, original_length);
    packet
}

/// The same into a packet that was used before: nothing of it stays.
#[inline]
pub fn decode_into<'a>(packet: &mut Packet<'a>, link_type: u16, data: &'a [u8], original_length: u32) {
    packet.link = LinkInfo {
        packet_type: link::NO_PACKET_TYPE,
        ..LinkInfo::default()
    };
    packet.tunnels = TunnelStack::default();
    packet.ip = Ip::default();
    packet.inner = Inner::Malformed;
    let next = link::outermost(packet, link_type, Bytes::of_record(data, original_length));
    if next.is_some() {
        deeper(packet, next);
    }
}

/// The layers below the outermost ones.
fn deeper<'a>(packet: &mut Packet<'a>, mut next: Next<'a>) {
    for _ in 0..STEPS {
        let Some((layer, bytes)) = next else { return };
        next = match layer {
            Layer::Ipv4 => ip::ipv4(packet, bytes),
            Layer::Ipv6 => ip::ipv6(packet, bytes),
            Layer::EtherType(ether_type) => link::ether_type(packet, ether_type, bytes),
            Layer::Ethernet => link::ethernet(packet, bytes),
            Layer::Llc => link::llc(packet, bytes),
            Layer::Ppp => link::ppp(packet, bytes),
            Layer::Pppoe => tunnel::pppoe(packet, bytes),
            Layer::Mpls => tunnel::mpls(packet, bytes),
            Layer::Ip => ip::by_version(packet, bytes),
        };
    }
    if next.is_some() {
        packet.inner = Inner::Other;
    }
}
