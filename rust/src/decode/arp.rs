//! An ARP message goes in, an IPv4 over Ethernet request or reply comes out.

use super::bytes::Bytes;
use super::packet::{Arp, Inner, Packet};
use super::{Next, other};

/// RFC 826, packet format: hardware space, protocol space, their address lengths, opcode, then sender and target.
pub(super) fn arp<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let head = bytes.data.first_chunk::<8>()?;
    let operation = u16::from_be_bytes([head[6], head[7]]);
    if !head.starts_with(&[0, 1, 0x08, 0x00, 6, 4]) || !matches!(operation, 1 | 2) {
        return other(packet);
    }
    packet.inner = Inner::Arp(Arp {
        operation,
        sender_mac: bytes.mac(8)?,
        sender_ip: bytes.u32(14)?.to_be_bytes(),
        target_mac: bytes.mac(18)?,
        target_ip: bytes.u32(24)?.to_be_bytes(),
    });
    None
}
