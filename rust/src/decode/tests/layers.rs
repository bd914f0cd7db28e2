//! Every link layer and every stack of encapsulations must give the same segment.

use super::build::*;
use crate::decode::decode;
use crate::decode::packet::{Address, Arp, Inner, Packet, Tcp, Tunnel};

pub fn whole<'a>(link_type: u16, bytes: &'a [u8]) -> Packet<'a> {
    decode(link_type, bytes, bytes.len() as u32)
}

pub fn segment<'a>(packet: &Packet<'a>) -> Tcp<'a> {
    match packet.inner {
        Inner::Tcp(tcp) => tcp,
        inner => panic!("not a segment: {inner:?}"),
    }
}

#[test]
fn every_stack_gives_its_segment() {
    for (name, link_type, bytes, depth) in stacks() {
        let packet = whole(link_type, &bytes);
        let Inner::Tcp(tcp) = packet.inner else {
            panic!("{name}: {:?}", packet.inner)
        };
        assert_eq!((tcp.source_port, tcp.destination_port), (40000, 443), "{name}");
        assert_eq!((tcp.seq, tcp.ack), (0x0102_0304, 0x0506_0708), "{name}");
        assert_eq!((tcp.flags, tcp.window, tcp.checksum), (0x18, 0x1000, 0xabcd), "{name}");
        assert_eq!((tcp.payload_length, tcp.payload), (5, &b"hello"[..]), "{name}");
        assert_eq!(tcp.timestamps, Some((0x1234, 0x5678)), "{name}");
        assert_eq!(packet.tunnels.depth, depth, "{name}");
        assert_eq!((packet.ip.protocol, packet.ip.tos), (6, 0x2e), "{name}");
        if packet.ip.source.is_v4() {
            assert_eq!(
                (packet.ip.source, packet.ip.destination),
                (Address::v4(CLIENT), Address::v4(SERVER)),
                "{name}"
            );
            assert_eq!(
                (packet.ip.id, packet.ip.ttl, packet.ip.dont_fragment),
                (0xbeef, 63, true),
                "{name}"
            );
        } else {
            assert_eq!(
                (packet.ip.source, packet.ip.destination),
                (Address::v6(v6(1)), Address::v6(v6(2))),
                "{name}"
            );
            assert_eq!(packet.ip.ttl, 62, "{name}");
        }
        let networked = [
            "gre all", "gre b", "gre m", "pptp", "vxlan", "geneve", "mpls", "pseudo", "ipip in",
        ];
        let expected = if networked.iter().any(|start| name.starts_with(start)) {
            77
        } else {
            0
        };
        assert_eq!(packet.tunnels.network_id, expected, "{name}");
    }
}

#[test]
fn link_layers_say_where_the_record_was_taken() {
    let stacks = stacks();
    let link = |wanted: &str| {
        let (_, link_type, bytes, _) = stacks.iter().find(|stack| stack.0 == wanted).unwrap();
        whole(*link_type, bytes).link
    };
    assert_eq!(link("ethernet").source_mac, [2, 0, 0, 0, 0, 1]);
    assert_eq!(link("ethernet").destination_mac, [2, 0, 0, 0, 0, 2]);
    assert_eq!(link("ethernet").packet_type, 255);
    assert_eq!(link("two tags").vlan, [100, 42]);
    assert_eq!(link("vxlan vlan").vlan, [3, 0]);
    assert_eq!((link("sll").packet_type, link("sll").ifindex), (4, 0));
    assert_eq!((link("sll2").packet_type, link("sll2").ifindex), (4, 263));
    assert_eq!(link("sll2").source_mac, [2, 0, 0, 0, 0, 1]);
    assert_eq!(
        (link("wireless").source_mac, link("wireless").destination_mac),
        ([2; 6], [3; 6])
    );
}

#[test]
fn the_outermost_ip_tunnel_names_its_ends() {
    let outer = ipv6(47, &gre(0, 0x0800, &[], &ipv4(4, &plain_v4())));
    let packet = whole(1, &ethernet(0x86dd, &outer)).tunnels;
    assert_eq!(packet.kinds, [Tunnel::Gre, Tunnel::Ipip, Tunnel::None, Tunnel::None]);
    assert_eq!(
        (packet.outer_source, packet.outer_destination),
        (Address::v6(v6(1)), Address::v6(v6(2)))
    );
    assert_eq!(
        whole(1, &ethernet(0x8864, &pppoe(&plain_v4()))).tunnels.outer_source,
        Address::default()
    );
}

#[test]
fn a_tunnel_port_alone_is_no_tunnel() {
    let inner = ethernet(0x0800, &plain_v4());
    // Reserved flags are ignored (RFC 7348 section 5); without flag I it is no VXLAN.
    for flags in [0x08, 0x0c, 0x48, 0xff] {
        let body = udp(4789, &join(&[&[flags, 0, 0, 0, 0, 0, 77, 0], &inner]));
        let bytes = ipv4(17, &body);
        assert_eq!(whole(101, &bytes).tunnels.depth, 1, "flags {flags:#x}");
    }
    for flags in [0x00, 0x44, 0xf7] {
        let body = udp(4789, &join(&[&[flags, 0, 0, 0, 0, 0, 77, 0], &inner]));
        let bytes = ipv4(17, &body);
        let packet = whole(101, &bytes);
        assert_eq!(
            (packet.inner, packet.tunnels.depth),
            (Inner::Other, 0),
            "flags {flags:#x}"
        );
    }
    for head in [
        [0x40, 0, 0x65, 0x58],
        [0, 0x80, 0x65, 0x58],
        [0, 0, 0x12, 0x34],
        [0x3f, 0, 0x65, 0x58],
    ] {
        let body = udp(6081, &join(&[&head, &[0, 0, 77, 0], &inner]));
        assert_eq!(whole(101, &ipv4(17, &body)).inner, Inner::Other, "{head:x?}");
    }
    assert_eq!(whole(101, &ipv4(17, &udp(4789, b"hi"))).inner, Inner::Other);
    assert_eq!(whole(101, &ipv4(17, &udp(53, &vxlan(1, &inner)))).inner, Inner::Other);
}

#[test]
fn a_later_fragment_is_no_tunnel() {
    for (protocol, body) in [
        (4, plain_v4()),
        (17, vxlan(77, &ethernet(0x0800, &plain_v4()))),
        (47, gre(0, 0x0800, &[], &plain_v4())),
    ] {
        let packet = ipv4_with(protocol, 0x2001, &[], &body);
        assert_eq!(
            (whole(101, &packet).inner, whole(101, &packet).tunnels.depth),
            (Inner::Other, 0)
        );
    }
}

#[test]
fn a_stack_without_end_is_given_up() {
    let deep = |count: usize| (0..count).fold(plain_v4(), |body, _| ipv4(4, &body));
    assert_eq!(whole(101, &deep(16)).tunnels.depth, 16);
    assert!(matches!(whole(101, &deep(16)).inner, Inner::Tcp(_)));
    assert_eq!(whole(101, &deep(17)).inner, Inner::Other);
    assert_eq!(whole(101, &deep(1000)).inner, Inner::Other);
    let labels = (0..500).fold(label(1, true, &plain_v4()), |body, _| label(1, false, &body));
    assert_eq!(whole(1, &ethernet(0x8847, &labels)).inner, Inner::Other);
    let tags = (0..500).fold(tag(1, 0x0800, &plain_v4()), |body, _| tag(1, 0x8100, &body));
    assert_eq!(whole(1, &ethernet(0x8100, &tags)).inner, Inner::Other);
    let bridges = (0..500).fold(ethernet(0x0800, &plain_v4()), |body, _| ethernet(0x6558, &body));
    assert_eq!(whole(1, &bridges).inner, Inner::Other);
}

#[test]
fn arp_requests_and_replies() {
    let message = |operation: u8| join(&[&[0, 1, 8, 0, 6, 4, 0, operation], &[2; 6], &CLIENT, &[0; 6], &SERVER]);
    for operation in [1, 2] {
        let expected = Arp {
            operation: u16::from(operation),
            sender_mac: [2; 6],
            sender_ip: CLIENT,
            target_mac: [0; 6],
            target_ip: SERVER,
        };
        let bytes = ethernet(0x0806, &join(&[&message(operation), &[0; 18]]));
        assert_eq!(whole(1, &bytes).inner, Inner::Arp(expected));
        assert_eq!(decode(1, &bytes[..41], 60).inner, Inner::Malformed);
    }
    assert_eq!(whole(1, &ethernet(0x0806, &message(3))).inner, Inner::Other);
}

#[test]
fn what_nothing_reads_is_other() {
    for (link_type, bytes) in [
        (1, ethernet(0x88cc, &[0; 46])),
        (1, ethernet(0x0026, &[0x42, 0x42, 3, 0, 0, 0])),
        (1, ethernet(0x8863, &[0x11, 9, 0, 0, 0, 0])),
        (9, vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4]),
        (104, vec![0x8f, 0, 0x80, 0x35, 0, 0]),
        (105, vec![0x80, 0, 0, 0]),
        (105, vec![0x08, 0x41, 0, 0]),
        (147, vec![1, 2, 3]),
        (101, ipv4(1, &[8, 0, 0, 0, 0, 0, 0, 0])),
        (101, ipv4(50, &[8, 0, 0, 0, 0, 0, 0, 0])),
        (101, ipv6(59, &[])),
    ] {
        assert_eq!(whole(link_type, &bytes).inner, Inner::Other, "{link_type} {bytes:x?}");
    }
}
