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
    let whole = bytes.data.first_chunk::<28>()?;
    let [_, _, _, _, _, _, _, _, s0, s1, s2, s3, s4, s5, i0, i1, i2, i3, t0, t1, t2, t3, t4, t5, j0, j1, j2, j3] = *whole;
    packet.inner = Inner::Arp(Arp {
        operation,
        sender_mac: [s0, s1, s2, s3, s4, s5],
        sender_ip: [i0, i1, i2, i3],
        target_mac: [t0, t1, t2, t3, t4, t5],
        target_ip: [j0, j1, j2, j3],
    });
    None
}
