//! Lengths, fragments, options and quoted headers: what a segment is must not depend on how much of it was captured.

use super::build::*;
use super::layers::{segment, whole};
use crate::decode::decode;
use crate::decode::packet::{Address, IcmpError, Inner};

fn options(bytes: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &tcp(bytes, b"")))
}

#[test]
fn padding_is_no_payload() {
    let mut bytes = ethernet(0x0800, &ipv4(6, &tcp(&[], b"")));
    bytes.resize(60, 0);
    let packet = whole(1, &bytes);
    assert_eq!(
        (segment(&packet).payload_length, segment(&packet).payload.len()),
        (0, 0)
    );
    assert_eq!(packet.ip.total_length, 40);
}

#[test]
fn a_snap_length_cuts_bytes_and_not_lengths() {
    let bytes = ethernet(0x0800, &ipv4(6, &tcp(&TIMESTAMPS, &[7; 1448])));
    let packet = decode(1, &bytes[..96], bytes.len() as u32);
    let tcp = segment(&packet);
    assert_eq!(
        (tcp.payload_length, tcp.payload.len(), tcp.timestamps),
        (1448, 30, Some((0x1234, 0x5678)))
    );
    // Inside the options: they give what is there, and nothing is said to be wrong with them.
    for captured in 54..66 {
        let packet = decode(1, &bytes[..captured], bytes.len() as u32);
        let tcp = segment(&packet);
        assert_eq!(
            (tcp.payload_length, tcp.bad_options, tcp.timestamps),
            (1448, false, None),
            "{captured}"
        );
        assert_eq!(tcp.options.len(), captured - 54);
    }
    for captured in 14..54 {
        assert_eq!(
            decode(1, &bytes[..captured], bytes.len() as u32).inner,
            Inner::Malformed,
            "{captured}"
        );
    }
}

#[test]
fn a_total_length_of_zero_is_taken_from_the_record() {
    let mut bytes = ethernet(0x0800, &ipv4(6, &tcp(&TIMESTAMPS, &[7; 100])));
    bytes[16..18].fill(0);
    let packet = decode(1, &bytes, 70_066);
    assert_eq!(
        (segment(&packet).payload_length, packet.ip.total_length),
        (70_000, 70_052)
    );
    let mut bytes = ethernet(0x86dd, &ipv6(6, &tcp(&TIMESTAMPS, &[7; 100])));
    bytes[18..20].fill(0);
    let packet = decode(1, &bytes, 70_086);
    assert_eq!(
        (segment(&packet).payload_length, packet.ip.total_length),
        (70_000, 70_072)
    );
    let hop = join(&[
        &[6, 0, 0xc2, 4],
        &100_040_u32.to_be_bytes(),
        &tcp(&TIMESTAMPS, &[7; 100]),
    ]);
    let mut bytes = ethernet(0x86dd, &ipv6(0, &hop));
    bytes[18..20].fill(0);
    let packet = decode(1, &bytes, 5_000);
    assert_eq!(
        (segment(&packet).payload_length, packet.ip.total_length),
        (100_000, 100_080)
    );
}

#[test]
fn lying_lengths_are_malformed() {
    let good = plain_v4();
    for (at, value) in [(0, 0x44), (0, 0x65), (3, 19), (32, 0x40), (32, 0xf0)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(whole(228, &bytes).inner, Inner::Malformed, "byte {at} {value:#x}");
    }
    assert_eq!(whole(228, &ipv4(6, &tcp(&[], b"")[..14])).inner, Inner::Malformed);
}

#[test]
fn fragments() {
    let packet = ipv4_with(6, 0x2000, &[], &tcp(&TIMESTAMPS, &[7; 100]));
    assert_eq!(segment(&whole(101, &packet)).payload_length, 100);
    assert!(whole(101, &packet).ip.more_fragments);
    let packet = ipv4_with(6, 0x2000 | 185, &[], &[7; 1000]);
    let found = decode(101, &packet[..40], packet.len() as u32);
    assert_eq!(
        (found.inner, found.ip.fragment_offset, found.ip.id),
        (Inner::TcpFragment(1000), 1480, 0xbeef)
    );
    assert!(found.ip.more_fragments && !found.ip.dont_fragment);
    let later = ipv6(44, &join(&[&[6, 0, 0x05, 0xc8, 0, 1, 2, 3], &[7; 64]]));
    let found = whole(101, &later);
    assert_eq!(
        (found.inner, found.ip.fragment_offset, found.ip.id),
        (Inner::TcpFragment(64), 1480, 0x0001_0203)
    );
    let first = ipv6(44, &join(&[&[6, 0, 0, 1, 0, 1, 2, 3], &tcp(&[], &[7; 64])]));
    assert_eq!(segment(&whole(101, &first)).payload_length, 64);
    assert!(whole(101, &first).ip.more_fragments);
}

#[test]
fn ip_options_are_crossed() {
    let packet = ipv4_with(6, 0, &[7, 7, 4, 0, 0, 0, 0, 0], &tcp(&TIMESTAMPS, b"abc"));
    assert_eq!(segment(&whole(228, &packet)).payload, b"abc");
}

#[test]
fn every_option() {
    let bytes = options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7]);
    let packet = whole(1, &bytes);
    let tcp = segment(&packet);
    assert_eq!(
        (tcp.mss, tcp.window_scale, tcp.sack_permitted),
        (Some(1460), Some(7), true)
    );
    assert_eq!(
        (tcp.timestamps, tcp.bad_options, tcp.has_toa),
        (Some((1, 2)), false, false)
    );
    let bytes = options(&[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    let packet = whole(1, &bytes);
    assert_eq!(
        (segment(&packet).sack_count, segment(&packet).sack),
        (2, [(1, 2), (3, 4), (0, 0), (0, 0)])
    );
}

#[test]
fn every_layout_of_toa() {
    for (kind, length) in [
        (254, 8),
        (253, 8),
        (200, 8),
        (254, 20),
        (253, 20),
        (28, 7),
        (28, 19),
        (28, 13),
        (250, 8),
        (252, 20),
        (249, 40),
        (201, 6),
        (202, 8),
    ] {
        let mut list = vec![0x12; length];
        list[..2].copy_from_slice(&[kind, length as u8]);
        list.resize(length.next_multiple_of(4), 1);
        let bytes = options(&list);
        assert!(segment(&whole(1, &bytes)).has_toa, "{kind} {length}");
        // Behind the timestamps as well.
        if length <= 28 {
            let bytes = options(&join(&[&TIMESTAMPS, &list]));
            assert!(
                segment(&whole(1, &bytes)).has_toa && segment(&whole(1, &bytes)).timestamps.is_some(),
                "{kind} {length}"
            );
        }
    }
    for list in [
        &[28, 4, 0, 9][..],
        &[253, 8, 0xf9, 0x89, 1, 2, 3, 4],
        &[34, 8, 1, 2, 3, 4, 5, 6],
        &[254, 4, 1, 2],
    ] {
        let bytes = options(list);
        assert!(!segment(&whole(1, &bytes)).has_toa, "{list:x?}");
    }
    assert!(segment(&whole(1, &options(&[253, 8, 0x03, 0x48, 1, 2, 3, 4]))).has_toa);
}

#[test]
fn lies_in_the_option_list() {
    for (list, bad) in [
        (&[8, 0, 1, 1][..], true),
        (&[8, 1, 1, 1], true),
        (&[8, 10, 0, 0], true),
        (&[1, 1, 1, 8], true),
        (&[2, 3, 1, 1], true),
        (&[5, 4, 1, 1], true),
        (&[0, 8, 0, 0], false),
        (&[1, 1, 1, 0], false),
        (&[77, 4, 1, 1], false),
    ] {
        let bytes = options(list);
        assert_eq!(segment(&whole(1, &bytes)).bad_options, bad, "{list:x?}");
    }
}

fn error(icmp_type: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    ipv4(1, &join(&[&[icmp_type, code, 0, 0, 0, 0, 5, 0x14], quoted]))
}

#[test]
fn errors_quote_a_segment() {
    let quoted = plain_v4();
    for (icmp_type, code, mtu) in [(3, 4, 1300), (3, 1, 0), (11, 0, 0), (12, 0, 0), (4, 0, 0), (5, 1, 0)] {
        let expected = IcmpError {
            icmp_type,
            code,
            mtu,
            quoted_source: Address::v4(CLIENT),
            quoted_destination: Address::v4(SERVER),
            quoted_source_port: 40000,
            quoted_destination_port: 443,
            quoted_seq: 0x0102_0304,
            quoted_id: 0xbeef,
        };
        let bytes = error(icmp_type, code, &quoted[..28]);
        assert_eq!(whole(228, &bytes).inner, Inner::IcmpError(expected), "type {icmp_type}");
        assert_eq!(decode(228, &bytes[..55], 100).inner, Inner::Malformed);
    }
    assert_eq!(whole(228, &error(3, 3, &ipv4(17, &[0; 8]))).inner, Inner::Other);
    assert_eq!(
        whole(228, &error(3, 3, &ipv4_with(6, 185, &[], &[0; 8]))).inner,
        Inner::Other
    );
    assert_eq!(whole(228, &error(8, 0, &quoted)).inner, Inner::Other);
}

#[test]
fn errors_of_ipv6_quote_a_segment() {
    let hop = ipv6(0, &join(&[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(&[], b"")]));
    for (icmp_type, quoted) in [
        (1, &plain_v6()[..48]),
        (2, &plain_v6()[..]),
        (3, &hop[..]),
        (4, &plain_v6()[..]),
    ] {
        let bytes = ipv6(58, &join(&[&[icmp_type, 0, 0, 0, 0, 0, 5, 0], quoted]));
        let Inner::IcmpError(found) = whole(229, &bytes).inner else {
            panic!("type {icmp_type}")
        };
        assert_eq!(
            (
                found.quoted_source_port,
                found.quoted_destination_port,
                found.quoted_seq
            ),
            (40000, 443, 0x0102_0304)
        );
        assert_eq!(
            (found.quoted_source, found.quoted_destination),
            (Address::v6(v6(1)), Address::v6(v6(2)))
        );
        assert_eq!(found.mtu, if icmp_type == 2 { 1280 } else { 0 });
    }
    assert_eq!(whole(229, &ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0])).inner, Inner::Other);
}
