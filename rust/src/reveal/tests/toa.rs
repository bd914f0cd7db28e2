//! Option lists go in, byte by byte as facts have them; the claims are held against what was written.

use crate::decode::decode;
use crate::decode::packet::{Address, Inner};
use crate::reveal::toa::{Claim, What, claims, walk};

fn v4(a: u8, b: u8, c: u8, d: u8) -> Option<Address> {
    Some(Address::v4([a, b, c, d]))
}

const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn option(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    [&[kind, value.len() as u8 + 2], value.as_slice()].concat()
}

fn all(options: &[u8]) -> Vec<Claim> {
    claims(options).iter().copied().collect()
}

fn one(options: &[u8]) -> Claim {
    let [claim] = all(options)[..] else {
        panic!("{options:?} holds {:?}", all(options));
    };
    claim
}

#[test]
fn a_client_in_every_layout_that_has_port_and_address() {
    for kind in [254, 253, 200] {
        let claim = one(&option(kind, &[&[0x12, 0x34], &[1, 2, 3, 4]]));
        assert_eq!(
            (claim.what, claim.address, claim.port),
            (What::Client, v4(1, 2, 3, 4), Some(4660))
        );
        assert!(!claim.ambiguous);
        assert_eq!(claim.layout(), format!("{kind}/8"));
    }
    for kind in [254, 253] {
        let claim = one(&option(kind, &[&[0x12, 0x34], &V6]));
        assert_eq!((claim.address, claim.port), (Some(Address::v6(V6)), Some(4660)));
        assert_eq!(claim.layout(), format!("{kind}/20"));
    }
}

#[test]
fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(one(&option(254, &[&[0, 80], &mapped])).address, v4(1, 2, 3, 4));
}

#[test]
fn virtual_addresses_and_networks_are_named_as_such() {
    let options = [
        option(200, &[&[0x12, 0x34], &[1, 2, 3, 4]]),
        vec![1, 1],
        option(201, &[&[0, 0, 0x30, 0x39]]),
        option(202, &[&[0, 80], &[5, 6, 7, 8]]),
    ]
    .concat();
    let found = all(&options);
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].what, found[0].port), (What::Client, Some(4660)));
    assert_eq!(
        (found[1].what, found[1].address, found[1].number),
        (What::Vpc, None, Some(12_345))
    );
    assert_eq!(
        (found[2].what, found[2].address, found[2].port),
        (What::Vip, v4(5, 6, 7, 8), Some(80))
    );
    assert_eq!(one(&option(250, &[&[0, 80], &[5, 6, 7, 8]])).what, What::Vip);
}

#[test]
fn long_options_say_three_things() {
    let v4_form = option(
        252,
        &[
            &[0x12, 0x34],
            &[1, 2, 3, 4],
            &[0, 0, 0, 9],
            &[5, 6, 7, 8],
            &[0, 80],
            &[0, 0],
        ],
    );
    let found = all(&v4_form);
    assert_eq!(
        found
            .iter()
            .map(|claim| (claim.what, claim.address, claim.port, claim.number))
            .collect::<Vec<_>>(),
        [
            (What::Client, v4(1, 2, 3, 4), Some(4660), None),
            (What::Vpc, None, None, Some(9)),
            (What::Vip, v4(5, 6, 7, 8), Some(80), None),
        ]
    );
    let mut vip = V6;
    vip[15] = 80;
    let v6_form = option(249, &[&[0x12, 0x34], &V6, &[0, 0, 9, 0xff], &vip]);
    assert_eq!(v6_form.len(), 40);
    let found = all(&v6_form);
    assert_eq!(
        found
            .iter()
            .map(|claim| (claim.what, claim.address, claim.port, claim.number))
            .collect::<Vec<_>>(),
        [
            (What::Client, Some(Address::v6(V6)), Some(4660), None),
            (What::Vpc, None, None, Some(9)),
            (What::Vip, Some(Address::v6(vip)), None, None),
        ]
    );
}

#[test]
fn kind_28_carries_no_port_and_is_a_timeout_where_it_is_short() {
    let claim = one(&option(28, &[&[1], &[1, 2, 3, 4]]));
    assert_eq!(
        (claim.address, claim.port, claim.ambiguous),
        (v4(1, 2, 3, 4), None, false)
    );
    assert!(one(&option(28, &[&[2], &[1, 2, 3, 4]])).ambiguous);
    let claim = one(&option(28, &[&[1], &V6]));
    assert_eq!((claim.address, claim.ambiguous), (Some(Address::v6(V6)), false));
    let akamai = one(&option(28, &[&[1], &[1, 2, 3, 4], &[9, 9, 9, 9, 9, 9]]));
    assert_eq!(
        (akamai.address, akamai.port, akamai.ambiguous),
        (v4(1, 2, 3, 4), None, true)
    );
    assert!(all(&option(28, &[&[0x80, 0x10]])).is_empty());
}

#[test]
fn a_port_that_is_an_experiment_is_ambiguous() {
    let claim = one(&option(254, &[&[0xf9, 0x89], &[1, 2, 3, 4]]));
    assert_eq!((claim.port, claim.ambiguous), (Some(63_881), true));
    assert!(all(&option(253, &[&[0xf9, 0x89], &[1, 2, 3, 4]])).is_empty());
    let host_id = one(&option(253, &[&[0x03, 0x48], &[1, 2, 3, 4]]));
    assert_eq!(
        (host_id.address, host_id.port, host_id.ambiguous),
        (v4(1, 2, 3, 4), None, true)
    );
    let opaque = one(&option(253, &[&[0x03, 0x48], &[0x12, 0x34]]));
    assert_eq!(
        (opaque.what, opaque.number, opaque.address),
        (What::HostId, Some(0x1234), None)
    );
    // A TOA of port 840 under 254 is a TOA: HOST_ID has kind 253.
    assert_eq!(one(&option(254, &[&[0x03, 0x48], &[1, 2, 3, 4]])).port, Some(840));
}

#[test]
fn addresses_that_no_host_has_are_ambiguous() {
    for address in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(one(&option(254, &[&[0, 80], &address])).ambiguous);
    }
}

#[test]
fn at_every_offset_and_not_inside_another_option() {
    let toa = option(254, &[&[0x12, 0x34], &[1, 2, 3, 4]]);
    for before in 0..=32 {
        let options = [vec![1; before], toa.clone()].concat();
        assert_eq!(one(&options).address, v4(1, 2, 3, 4));
        assert_eq!(walk(&options).next().map(|option| option.offset), Some(before));
    }
    let timestamps = option(8, &[&toa]);
    assert!(all(&timestamps).is_empty());
    assert!(
        all(&[vec![0], toa.clone()].concat()).is_empty(),
        "behind the end of the list"
    );
    assert!(
        all(&[vec![8, 1], toa.clone()].concat()).is_empty(),
        "behind a length below two"
    );
    assert!(all(&toa[..7]).is_empty(), "cut short");
}

#[test]
fn the_decoder_flags_exactly_the_packets_that_hold_a_claim() {
    let mut value = [0_u8; 38];
    for kind in 2..=255_u8 {
        for length in 2..=40_u8 {
            for identifier in [0x1234_u16, 0x0348, 0xf989, 0x0148] {
                value[..2].copy_from_slice(&identifier.to_be_bytes());
                let mut options = option(kind, &[&value[..usize::from(length) - 2]]);
                let claimed = !claims(&options).is_empty();
                options.resize(options.len().next_multiple_of(4), 0);
                let mut packet = vec![
                    0x45,
                    0,
                    0,
                    40 + options.len() as u8,
                    0,
                    0,
                    0,
                    0,
                    64,
                    6,
                    0,
                    0,
                    10,
                    0,
                    0,
                    1,
                    10,
                    0,
                    0,
                    2,
                ];
                packet.extend([
                    0,
                    1,
                    0,
                    2,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    (5 + options.len() as u8 / 4) << 4,
                    16,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                ]);
                packet.extend(options);
                let Inner::Tcp(tcp) = decode(101, &packet, packet.len() as u32).inner else {
                    panic!("kind {kind} length {length} is no segment");
                };
                assert_eq!(
                    tcp.has_toa, claimed,
                    "kind {kind} length {length} identifier {identifier:#x}"
                );
            }
        }
    }
}
