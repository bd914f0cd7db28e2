//! Headers as the specification and real balancers write them go in; every field is held against what was written.

use crate::decode::packet::Address;
use crate::reveal::proxy::{Checksum, Header, Parsed, Transport, parse};
use crate::reveal::tlv::describe;

const V2: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

fn header(bytes: &[u8]) -> Header {
    match parse(bytes) {
        Parsed::Header(header) => *header,
        other => panic!("{other:?} of {bytes:?}"),
    }
}

fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [
        &V2[..],
        &[version_and_command, family],
        &(rest.len() as u16).to_be_bytes(),
        rest,
    ]
    .concat()
}

/// Every true prefix asks for more, and for no more than the whole.
fn asks_for_the_rest(bytes: &[u8]) {
    for end in 0..bytes.len() {
        match parse(&bytes[..end]) {
            Parsed::More(wanted) => assert!(wanted > end && wanted <= bytes.len(), "{end}: {wanted}"),
            other => panic!("{other:?} of {end} bytes"),
        }
    }
}

#[test]
fn version_1() {
    let bytes = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    asks_for_the_rest(bytes);
    let read = header(&[bytes, b"GET / HTTP/1.1\r\n".as_slice()].concat());
    assert_eq!(read.source, Some((Address::v4([192, 168, 0, 1]), 56_324)));
    assert_eq!(read.destination, Some((Address::v4([192, 168, 0, 11]), 443)));
    assert_eq!(
        (read.version, read.length, read.transport),
        (1, bytes.len(), Transport::Tcp4)
    );
    let longest =
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(header(longest).source.map(|(_, port)| port), Some(65_535));
    assert_eq!(header(b"PROXY UNKNOWN\r\n").transport, Transport::Unknown);
    let long = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    assert_eq!((header(long).source, header(long).length), (None, long.len()));
}

#[test]
fn what_is_no_version_1() {
    for bytes in [
        b"POST / HTTP/1.1\r\n".as_slice(),
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 +5632 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 56324 443\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 56324 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100], b"\r\n"].concat(),
    ] {
        assert_eq!(parse(bytes), Parsed::No, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn version_2_as_google_writes_it() {
    // As published by Google for Private Service Connect: TCP4 with one TLV of type 0xe0.
    let rest = [
        0x0a, 0x00, 0x3c, 0x02, 0x0a, 0x00, 0x3c, 0x64, 0x81, 0x38, 0x00, 0x50, 0xe0, 0x00, 0x08, 0x00, 0x00, 0x4d,
        0xde, 0x29, 0x0a, 0x00, 0x3c,
    ];
    let bytes = v2(0x21, 0x11, &rest);
    asks_for_the_rest(&bytes);
    let read = header(&bytes);
    assert_eq!(read.source, Some((Address::v4([10, 0, 60, 2]), 0x8138)));
    assert_eq!(read.destination, Some((Address::v4([10, 0, 60, 100]), 80)));
    assert_eq!(read.length, bytes.len());
    assert_eq!(
        describe(&read),
        format!("gcp-psc-connection-id={}", 0x0000_4dde_290a_003c_u64)
    );
}

#[test]
fn version_2_over_ipv6_with_its_checksum() {
    let mut rest = [[0x20; 16], [0x21; 16]].concat();
    rest.extend([0x12, 0x34, 0, 80]);
    rest.extend([0x03, 0, 4, 0, 0, 0, 0]);
    rest.extend([0x02, 0, 3, b'a', b' ', b'b']);
    let mut bytes = v2(0x21, 0x21, &rest);
    // Bit by bit, unlike the code under test.
    let mut value = u32::MAX;
    for byte in &bytes {
        value ^= u32::from(*byte);
        for _ in 0..8 {
            value = value >> 1 ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    bytes[16 + 36 + 3..][..4].copy_from_slice(&(!value).to_be_bytes());
    let read = header(&bytes);
    assert_eq!(read.checksum, Checksum::Right);
    assert_eq!(read.source, Some((Address::v6([0x20; 16]), 0x1234)));
    assert_eq!(describe(&read), "authority=a\\x20b crc32c=right");
    bytes[20] ^= 1;
    assert_eq!(header(&bytes).checksum, Checksum::Wrong);
    assert!(describe(&header(&bytes)).contains("crc32c=wrong"));
}

#[test]
fn local_unknown_and_unix() {
    let local = header(&v2(0x20, 0x00, &[]));
    assert!(local.local && local.source.is_none() && local.length == 16);
    let with_tlv = header(&v2(0x20, 0x00, &[0x02, 0, 1, b'x']));
    assert_eq!(with_tlv.tlvs.len(), 1);
    let unspecified = header(&v2(0x21, 0x00, &[0x01, 0, 2, b'h', b'2']));
    assert_eq!((unspecified.transport, unspecified.source), (Transport::Unknown, None));
    assert_eq!(describe(&unspecified), "alpn=h2");
    let mut paths = [0; 216];
    paths[..5].copy_from_slice(b"/a b\0");
    paths[108..112].copy_from_slice(b"\0abs");
    let unix = header(&v2(0x21, 0x31, &paths));
    assert_eq!(unix.unix, Some((b"/a b".to_vec(), b"\0abs".to_vec())));
    assert_eq!(describe(&unix), "source=/a\\x20b destination=\\x00abs");
}

#[test]
fn tlvs_of_tls_and_of_vendors() {
    let mut rest = vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 80];
    rest.extend([0x20, 0, 0]);
    let begin = rest.len();
    rest.extend([0x07, 0, 0, 0, 0]);
    rest.extend([0x21, 0, 7]);
    rest.extend(b"TLSv1.3");
    rest.extend([0x22, 0, 4]);
    rest.extend(b"team");
    let length = rest.len() - begin;
    rest[begin - 1] = length as u8;
    rest.extend([0xea, 0, 5, 1, b'v', b'p', b'c', b'e']);
    rest.extend([0xee, 0, 5, 1, 0x04, 0x03, 0x02, 0x01]);
    rest.extend([0xe7, 0, 1, 0xab]);
    rest.extend([0x04, 0, 2, 0, 0]);
    assert_eq!(
        describe(&header(&v2(0x21, 0x11, &rest))),
        "ssl-client=0x7 ssl-verify=0 ssl-version=TLSv1.3 ssl-cn=team aws-vpc-endpoint-id=vpce azure-private-link-id=16909060 tlv-0xe7=ab"
    );
    rest.extend([0x05, 0, 9]);
    let broken = header(&v2(0x21, 0x11, &rest));
    assert!(broken.broken_tlvs && broken.source.is_some());
}

#[test]
fn what_is_no_version_2() {
    for bytes in [
        v2(0x11, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x13, &[0; 12]),
        v2(0x21, 0x41, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        b"\r\n\r\nGET / HTTP/1.1".to_vec(),
    ] {
        assert_eq!(parse(&bytes), Parsed::No, "{bytes:?}");
    }
}
