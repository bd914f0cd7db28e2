//! A TCP segment goes in, its header, options and payload come out.

use super::Next;
use super::bytes::Bytes;
use super::exid::{HOST_ID, IDENTIFIERS};
use super::packet::{Inner, Packet, Tcp};

/// TCP (RFC 9293 section 3.1). `bytes` are the payload of the IP packet, its length the one of the IP header.
#[inline]
pub(super) fn tcp<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let header = bytes.data.first_chunk::<20>()?;
    let header_length = u32::from(header[12] >> 4) * 4;
    if header_length < 20 || header_length > bytes.length {
        return None;
    }
    let end = header_length as usize;
    // The snap length may cut the options; what is there is read.
    let options = match bytes.data.get(20..end) {
        Some(whole) => whole,
        None => bytes.data.get(20..)?,
    };
    // Filled in its place: a copy would cost as much as all the reading.
    packet.inner = Inner::Tcp(Tcp::default());
    let Inner::Tcp(tcp) = &mut packet.inner else {
        return None;
    };
    tcp.source_port = u16::from_be_bytes([header[0], header[1]]);
    tcp.destination_port = u16::from_be_bytes([header[2], header[3]]);
    tcp.seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    tcp.ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    tcp.flags = u16::from_be_bytes([header[12], header[13]]) & 0x01ff;
    tcp.window = u16::from_be_bytes([header[14], header[15]]);
    tcp.checksum = u16::from_be_bytes([header[16], header[17]]);
    tcp.payload_length = bytes.length - header_length;
    tcp.payload = bytes.data.get(end..).unwrap_or_default();
    tcp.options = options;
    // Nearly all segments of an established connection carry exactly this: two NOPs and the timestamps (RFC 7323 appendix A).
    if let Some([1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3]) = options.first_chunk::<12>()
        && end == 32
    {
        tcp.timestamps = Some((
            u32::from_be_bytes([*v0, *v1, *v2, *v3]),
            u32::from_be_bytes([*e0, *e1, *e2, *e3]),
        ));
    } else if !options.is_empty() {
        read_options(tcp, options, end - 20);
    }
    None
}

/// Reads the option list (RFC 9293 section 3.1: kind 0 ends it, kind 1 is one byte, all others have a length that counts kind and length).
/// `length` is that of the whole option area in bytes, of which `options` is what was captured: an option that goes beyond the first lies, one
/// that goes beyond the second was cut.
fn read_options(tcp: &mut Tcp<'_>, options: &[u8], length: usize) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            0 => return,
            1 => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let Some(&told) = options.get(at + 1) else {
            tcp.bad_options |= at + 1 >= length;
            return;
        };
        let option_length = usize::from(told);
        if option_length < 2 || at + option_length > length {
            tcp.bad_options = true;
            return;
        }
        let Some(value) = options.get(at + 2..at + option_length) else {
            return;
        };
        read_option(tcp, kind, value);
        at += option_length;
    }
}

/// One option; a known kind with a length that is not its own is a lie about the length, and the list goes on behind it, as Linux does
/// (net/ipv4/tcp_input.c tcp_parse_options).
fn read_option(tcp: &mut Tcp<'_>, kind: u8, value: &[u8]) {
    match (kind, value) {
        // RFC 9293 section 3.7.1
        (2, [high, low]) => tcp.mss = Some(u16::from_be_bytes([*high, *low])),
        // RFC 7323 section 2.2
        (3, [shift]) => tcp.window_scale = Some(*shift),
        // RFC 2018 section 2
        (4, []) => tcp.sack_permitted = true,
        // RFC 2018 section 3
        (5, blocks) if matches!(blocks.len(), 8 | 16 | 24 | 32) => {
            tcp.sack_count = (blocks.len() / 8) as u8;
            for (block, bytes) in tcp.sack.iter_mut().zip(blocks.chunks_exact(8)) {
                if let [l0, l1, l2, l3, r0, r1, r2, r3] = *bytes {
                    *block = (
                        u32::from_be_bytes([l0, l1, l2, l3]),
                        u32::from_be_bytes([r0, r1, r2, r3]),
                    );
                }
            }
        }
        // RFC 7323 section 3.2
        (8, [v0, v1, v2, v3, e0, e1, e2, e3]) => {
            tcp.timestamps = Some((
                u32::from_be_bytes([*v0, *v1, *v2, *v3]),
                u32::from_be_bytes([*e0, *e1, *e2, *e3]),
            ));
        }
        (2 | 3 | 4 | 5 | 8, _) => tcp.bad_options = true,
        _ => tcp.has_toa |= may_carry_address(kind, value),
    }
}

/// Kinds and lengths in which balancers and middleboxes carry an address: TOA of Alibaba LVS, DPVS, Huawei (254, 253), Tencent, UCloud and
/// Jupiter (200 to 202), Anolis vtoa (249, 250, 252), Akamai and Alibaba CDN (28, which is also the user timeout of RFC 5482, length 4), and
/// HOST_ID (253 with identifier 0x0348, RFC 7974 section 3). `value` is what follows kind and length.
fn may_carry_address(kind: u8, value: &[u8]) -> bool {
    match (kind, value.len() + 2) {
        (254 | 253, 20) | (254 | 250 | 202 | 200, 8) | (252, 20) | (249, 40) | (201, 6) => true,
        (28, 7..) => true,
        (253, length) => match value.first_chunk() {
            Some(identifier) => {
                let identifier = u16::from_be_bytes(*identifier);
                identifier == HOST_ID || (length == 8 && !IDENTIFIERS.contains(&identifier))
            }
            None => false,
        },
        _ => false,
    }
}
