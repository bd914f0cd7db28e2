//! The TLVs of a PROXY protocol header go in, their names and values in words come out.
//!
//! Reference: haproxy doc/proxy-protocol.txt section 2.2.1 and following; vendors' types as pires/go-proxyproto `tlvparse` reads them.

use super::proxy::{Checksum, Header, Tlv};

/// Bytes of a description at most: what a hostile header says beyond that is cut, and the description says so.
const DESCRIPTION_MAX: usize = 512;

/// The name of a TLV type.
pub fn name(kind: u8) -> &'static str {
    match kind {
        0x01 => "alpn",
        0x02 => "authority",
        0x03 => "crc32c",
        0x04 => "noop",
        0x05 => "unique-id",
        0x20 => "ssl",
        0x21 => "ssl-version",
        0x22 => "ssl-cn",
        0x23 => "ssl-cipher",
        0x24 => "ssl-sig-alg",
        0x25 => "ssl-key-alg",
        0x26 => "ssl-group",
        0x27 => "ssl-sig-scheme",
        0x28 => "ssl-client-cert",
        0x30 => "netns",
        0xe0 => "gcp-psc-connection-id",
        0xea => "aws-vpc-endpoint-id",
        0xee => "azure-private-link-id",
        0xe1..=0xef => "custom",
        0xf0..=0xf7 => "experiment",
        0xf8..=0xff => "future",
        _ => "unknown",
    }
}

/// What the header says beside the addresses: `authority=www.example ssl-cn=client`, with a word where its checksum is wrong. What is not
/// printable ASCII is written `\xNN`; empty where there is nothing to say.
pub fn describe(header: &Header) -> String {
    let mut words = Vec::new();
    if let Some((source, destination)) = &header.unix {
        words.push(format!("source={} destination={}", plain(source), plain(destination)));
    }
    for tlv in &header.tlvs {
        describe_one(tlv, &mut words);
    }
    match header.checksum {
        Checksum::Wrong => words.push("crc32c=wrong".to_owned()),
        Checksum::Right => words.push("crc32c=right".to_owned()),
        Checksum::Absent => {}
    }
    if header.broken_tlvs {
        words.push("tlvs=broken".to_owned());
    }
    let mut text = words.join(" ");
    if text.len() > DESCRIPTION_MAX {
        // All of it is ASCII, so any place is a boundary.
        text.truncate(DESCRIPTION_MAX - "…".len());
        text.push('…');
    }
    text
}

fn describe_one(tlv: &Tlv, words: &mut Vec<String>) {
    let value = tlv.value.as_slice();
    match (tlv.kind, value) {
        // The checksum is said once it was checked; padding says nothing.
        (0x03 | 0x04, _) => {}
        (0x20, [client, v0, v1, v2, v3, rest @ ..]) => {
            words.push(format!(
                "ssl-client={client:#x} ssl-verify={}",
                u32::from_be_bytes([*v0, *v1, *v2, *v3])
            ));
            let mut rest = rest;
            while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some((value, next)) = behind.split_at_checked(length) else {
                    return;
                };
                // A certificate is no text; that it was there is all that fits here.
                let value = if kind == 0x28 {
                    format!("{length} bytes")
                } else {
                    plain(value)
                };
                words.push(format!("{}={value}", name(kind)));
                rest = next;
            }
        }
        (0xea, [1, endpoint @ ..]) => words.push(format!("{}={}", name(0xea), plain(endpoint))),
        (0xee, [1, a, b, c, d]) => words.push(format!("{}={}", name(0xee), u32::from_le_bytes([*a, *b, *c, *d]))),
        (0xe0, _) if value.len() == 8 => {
            let number = value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            words.push(format!("{}={number}", name(0xe0)));
        }
        // A type that only one vendor uses in one form is no more than its number in any other.
        (kind @ 0xe0..=0xff, _) => words.push(format!("tlv-{kind:#04x}={}", hex(value))),
        (0x05, _) => words.push(format!("{}={}", name(0x05), hex(value))),
        (kind, _) if name(kind) == "unknown" => words.push(format!("tlv-{kind:#04x}={}", hex(value))),
        (kind, _) => words.push(format!("{}={}", name(kind), plain(value))),
    }
}

fn plain(bytes: &[u8]) -> String {
    // Beyond the length of a description nothing is shown, so nothing need be written.
    bytes
        .iter()
        .take(DESCRIPTION_MAX)
        .map(|byte| match byte {
            b'!'..=b'[' | b']'..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(DESCRIPTION_MAX)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
