//! An ICMP or ICMPv6 message goes in; of an error about a TCP segment, what it quotes of that segment comes out.

use super::bytes::Bytes;
use super::ip::{extensions, protocol};
use super::packet::{Address, IcmpError, Inner, Ip, Packet};
use super::{Next, other};

/// Bytes before the quoted packet (RFC 792, RFC 4443 section 3).
const QUOTE: usize = 8;

/// ICMP (RFC 792): destination unreachable 3, source quench 4, redirect 5, time exceeded 11, parameter problem 12. Only these quote a packet,
/// its header and at least 64 bits beyond it: the ports and the sequence number.
pub(super) fn icmp<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let (icmp_type, code) = (bytes.u8(0)?, bytes.u8(1)?);
    if !matches!(icmp_type, 3 | 4 | 5 | 11 | 12) {
        return other(packet);
    }
    // RFC 1191 section 4: the next hop's MTU in the low half of the unused word of "fragmentation needed".
    let mtu = if (icmp_type, code) == (3, 4) {
        u32::from(bytes.u16(6)?)
    } else {
        0
    };
    let quoted = bytes.skip(QUOTE)?;
    let header = quoted.data.first_chunk::<20>()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_length < 20 {
        return None;
    }
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[9] != protocol::TCP || fragment_offset != 0 {
        return other(packet);
    }
    let segment = quoted.skip(header_length)?;
    packet.inner = Inner::IcmpError(IcmpError {
        icmp_type,
        code,
        mtu,
        quoted_source: Address::v4([header[12], header[13], header[14], header[15]]),
        quoted_destination: Address::v4([header[16], header[17], header[18], header[19]]),
        quoted_source_port: segment.u16(0)?,
        quoted_destination_port: segment.u16(2)?,
        quoted_seq: segment.u32(4)?,
        quoted_id: u32::from(u16::from_be_bytes([header[4], header[5]])),
    });
    None
}

/// ICMPv6 errors (RFC 4443 section 3): destination unreachable 1, packet too big 2, time exceeded 3, parameter problem 4.
pub(super) fn icmpv6<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let (icmp_type, code) = (bytes.u8(0)?, bytes.u8(1)?);
    if !matches!(icmp_type, 1..=4) {
        return other(packet);
    }
    // RFC 4443 section 3.2
    let mtu = if icmp_type == 2 { bytes.u32(4)? } else { 0 };
    let quoted = bytes.skip(QUOTE)?;
    let header = quoted.data.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let mut fragment = Ip::default();
    let (upper, segment) = extensions(&mut fragment, header[6], quoted.skip(40)?)?;
    if upper != protocol::TCP || fragment.fragment_offset != 0 {
        return other(packet);
    }
    packet.inner = Inner::IcmpError(IcmpError {
        icmp_type,
        code,
        mtu,
        quoted_source: Address(u128::from_be_bytes(*header[8..].first_chunk()?)),
        quoted_destination: Address(u128::from_be_bytes(*header[24..].first_chunk()?)),
        quoted_source_port: segment.u16(0)?,
        quoted_destination_port: segment.u16(2)?,
        quoted_seq: segment.u32(4)?,
        quoted_id: 0,
    });
    None
}
