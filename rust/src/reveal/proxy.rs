//! The first bytes of a stream go in, a PROXY protocol header of version 1 or 2 with its TLVs comes out, or how many bytes it still needs.
//!
//! Reference: haproxy doc/proxy-protocol.txt, sections 2.1 (version 1) and 2.2 (version 2); nothing is accepted that it forbids.

use super::crc::crc32c;
use crate::decode::packet::Address;

/// Longest header of version 1, its CRLF counted (section 2.1).
const V1_MAX: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/// Bytes of version 2 before the addresses.
const V2_FIXED: usize = 16;
/// Longest header of all: version 2 with the longest length that its field holds.
pub const LONGEST: usize = V2_FIXED + u16::MAX as usize;

/// What the bytes read so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// No header, whatever follows.
    No,
    /// May become one: read on until at least so many bytes of the stream are there.
    More(usize),
    Header(Box<Header>),
}

/// Over what the proxied connection runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// `UNKNOWN` of version 1, UNSPEC of version 2: addresses, if any, are to be ignored.
    Unknown,
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    UnixStream,
    UnixDatagram,
}

/// Whether the header's own checksum (TLV CRC32C) holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    Absent,
    Right,
    Wrong,
}

/// One TLV, its bytes as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlv {
    pub kind: u8,
    pub value: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// The command LOCAL: the proxy speaks for itself (a health check), the connection's own addresses are the real ones.
    pub local: bool,
    pub transport: Transport,
    /// The real client; None with LOCAL, UNKNOWN and UNIX.
    pub source: Option<(Address, u16)>,
    /// Whom the real client called.
    pub destination: Option<(Address, u16)>,
    /// Paths of the two sockets, without the zeros that pad them.
    pub unix: Option<(Vec<u8>, Vec<u8>)>,
    pub tlvs: Vec<Tlv>,
    /// The TLVs end in the middle of one.
    pub broken_tlvs: bool,
    pub checksum: Checksum,
    /// Bytes of the whole header: the application's first byte stands right behind it.
    pub length: usize,
}

/// Reads a header from a stream's first bytes.
pub fn parse(bytes: &[u8]) -> Parsed {
    match bytes.first() {
        None => Parsed::More(1),
        Some(b'P') => parse_v1(bytes),
        Some(0x0d) => parse_v2(bytes),
        Some(_) => Parsed::No,
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    const WORD: &[u8] = b"PROXY ";
    let compared = bytes.len().min(WORD.len());
    if bytes.get(..compared) != WORD.get(..compared) {
        return Parsed::No;
    }
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < V1_MAX {
            Parsed::More(bytes.len() + 1)
        } else {
            Parsed::No
        };
    };
    let line = window
        .get(WORD.len()..end)
        .and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(|line| v1_line(line, end + 2)) {
        Some(header) => Parsed::Header(Box::new(header)),
        None => Parsed::No,
    }
}

/// What stands between `PROXY ` and CRLF: exactly five words, or UNKNOWN and anything behind it.
fn v1_line(line: &str, length: usize) -> Option<Header> {
    let mut header = Header {
        version: 1,
        local: false,
        transport: Transport::Unknown,
        source: None,
        destination: None,
        unix: None,
        tlvs: Vec::new(),
        broken_tlvs: false,
        checksum: Checksum::Absent,
        length,
    };
    let mut words = line.split(' ');
    header.transport = match words.next()? {
        "TCP4" => Transport::Tcp4,
        "TCP6" => Transport::Tcp6,
        "UNKNOWN" => return Some(header),
        _ => return None,
    };
    let v6 = header.transport == Transport::Tcp6;
    let (source, destination) = (v1_address(words.next()?, v6)?, v1_address(words.next()?, v6)?);
    header.source = Some((source, v1_port(words.next()?)?));
    header.destination = Some((destination, v1_port(words.next()?)?));
    words.next().is_none().then_some(header)
}

fn v1_address(word: &str, v6: bool) -> Option<Address> {
    // Both parsers of the standard library are strict: no leading zeros, no zone, no spaces.
    if v6 {
        let address: std::net::Ipv6Addr = word.parse().ok()?;
        Some(Address::v6(address.octets()))
    } else {
        let address: std::net::Ipv4Addr = word.parse().ok()?;
        Some(Address::v4(address.octets()))
    }
}

fn v1_port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok())?
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes.get(..compared) != SIGNATURE.get(..compared) {
        return Parsed::No;
    }
    let Some(&[.., version_and_command, family_and_protocol, high, low]) = bytes.first_chunk::<V2_FIXED>() else {
        return Parsed::More(V2_FIXED);
    };
    let (Some(local), Some((transport, address_bytes))) =
        (v2_command(version_and_command), v2_transport(family_and_protocol))
    else {
        return Parsed::No;
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if !local && length < V2_FIXED + address_bytes {
        return Parsed::No;
    }
    let Some(whole) = bytes.get(..length) else {
        return Parsed::More(length);
    };
    let rest = whole.get(V2_FIXED..).unwrap_or_default();
    // With LOCAL the addresses may be there or not; without room for them, what follows are TLVs.
    let address_bytes = if rest.len() < address_bytes { 0 } else { address_bytes };
    let (addresses, tlv_bytes) = rest.split_at(address_bytes);
    let (tlvs, broken_tlvs) = read_tlvs(tlv_bytes);
    let mut header = Header {
        version: 2,
        local,
        transport,
        source: None,
        destination: None,
        unix: None,
        broken_tlvs,
        checksum: checksum(whole, V2_FIXED + address_bytes),
        tlvs,
        length,
    };
    if !local {
        v2_addresses(&mut header, addresses);
    }
    Parsed::Header(Box::new(header))
}

/// True for LOCAL, false for PROXY; None for another version or a command that is unassigned.
fn v2_command(byte: u8) -> Option<bool> {
    match byte {
        0x20 => Some(true),
        0x21 => Some(false),
        _ => None,
    }
}

/// The transport, and how many bytes its addresses take.
fn v2_transport(byte: u8) -> Option<(Transport, usize)> {
    match byte {
        // UNSPEC in either half: accepted, addresses ignored (section 2.2, "the receiver should ignore address information").
        0x00..=0x02 | 0x10 | 0x20 | 0x30 => Some((Transport::Unknown, v2_unspecified(byte))),
        0x11 => Some((Transport::Tcp4, 12)),
        0x12 => Some((Transport::Udp4, 12)),
        0x21 => Some((Transport::Tcp6, 36)),
        0x22 => Some((Transport::Udp6, 36)),
        0x31 => Some((Transport::UnixStream, 216)),
        0x32 => Some((Transport::UnixDatagram, 216)),
        _ => None,
    }
}

/// A family without a protocol still brings its addresses.
fn v2_unspecified(byte: u8) -> usize {
    match byte >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}

fn v2_addresses(header: &mut Header, bytes: &[u8]) {
    match header.transport {
        Transport::Tcp4 | Transport::Udp4 => {
            if let Ok([s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1]) = <[u8; 12]>::try_from(bytes) {
                header.source = Some((Address::v4([s0, s1, s2, s3]), u16::from_be_bytes([sp0, sp1])));
                header.destination = Some((Address::v4([d0, d1, d2, d3]), u16::from_be_bytes([dp0, dp1])));
            }
        }
        Transport::Tcp6 | Transport::Udp6 => {
            let (ips, ports) = bytes.split_at_checked(32).unwrap_or_default();
            if let (Some(source), Some(destination), &[sp0, sp1, dp0, dp1]) =
                (ips.first_chunk::<16>(), ips.last_chunk::<16>(), ports)
            {
                header.source = Some((Address::v6(*source), u16::from_be_bytes([sp0, sp1])));
                header.destination = Some((Address::v6(*destination), u16::from_be_bytes([dp0, dp1])));
            }
        }
        Transport::UnixStream | Transport::UnixDatagram => {
            let (source, destination) = bytes.split_at_checked(108).unwrap_or_default();
            header.unix = Some((unpadded(source), unpadded(destination)));
        }
        Transport::Unknown => {}
    }
}

/// A socket's path ends at the first zero, unless it begins with one (abstract, unix(7)): then only the padding behind it goes.
fn unpadded(path: &[u8]) -> Vec<u8> {
    let end = match path.first() {
        Some(0) => path.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
        _ => path.iter().position(|byte| *byte == 0).unwrap_or(path.len()),
    };
    path.get(..end).unwrap_or_default().to_vec()
}

/// All TLVs, and whether the last one ends early.
fn read_tlvs(bytes: &[u8]) -> (Vec<Tlv>, bool) {
    let mut tlvs = Vec::new();
    let mut rest = bytes;
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
        let Some((value, next)) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else {
            return (tlvs, true);
        };
        tlvs.push(Tlv {
            kind,
            value: value.to_vec(),
        });
        rest = next;
    }
    (tlvs, !rest.is_empty())
}

/// Section 2.2.3: CRC32C over the whole header with the checksum's own four bytes taken for zero.
fn checksum(whole: &[u8], first_tlv: usize) -> Checksum {
    let mut at = first_tlv;
    while let Some(&[kind, high, low]) = whole.get(at..).and_then(<[u8]>::first_chunk::<3>) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == 0x03 && length == 4 {
            let Some(told) = whole.get(at + 3..).and_then(<[u8]>::first_chunk::<4>) else {
                return Checksum::Absent;
            };
            let parts = [
                whole.get(..at + 3).unwrap_or_default(),
                &[0; 4],
                whole.get(at + 7..).unwrap_or_default(),
            ];
            return if crc32c(&parts) == u32::from_be_bytes(*told) {
                Checksum::Right
            } else {
                Checksum::Wrong
            };
        }
        at += 3 + length;
    }
    Checksum::Absent
}
