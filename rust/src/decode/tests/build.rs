//! Fields go in, the bytes of packets come out, layer by layer from the inside.

pub const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub const SERVER: [u8; 4] = [192, 0, 2, 80];
pub const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0x12, 0x34, 0, 0, 0x56, 0x78];

pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A segment 40000 → 443, seq 0x01020304, ack 0x05060708, PSH and ACK.
pub fn tcp(options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let offset = ((20 + options.len()) / 4) as u8;
    let header = [
        0x9c,
        0x40,
        0x01,
        0xbb,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        offset << 4,
        0x18,
        0x10,
        0x00,
        0xab,
        0xcd,
        0,
        0,
    ];
    join(&[&header, options, payload])
}

pub fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, 0x4000, &[], body)
}

/// `fragment` is the whole flags and offset field.
pub fn ipv4_with(protocol: u8, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let total = ((20 + options.len() + body.len()) as u16).to_be_bytes();
    let place = fragment.to_be_bytes();
    let first = 0x45 + (options.len() / 4) as u8;
    let header = [
        first, 0x2e, total[0], total[1], 0xbe, 0xef, place[0], place[1], 63, protocol, 0, 0,
    ];
    join(&[&header, &CLIENT, &SERVER, options, body])
}

pub fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    join(&[
        &[0x62, 0xe0, 0, 0, length[0], length[1], next, 62],
        &v6(1),
        &v6(2),
        body,
    ])
}

pub fn v6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

pub fn ethernet(ether_type: u16, body: &[u8]) -> Vec<u8> {
    join(&[
        &[2, 0, 0, 0, 0, 2],
        &[2, 0, 0, 0, 0, 1],
        &ether_type.to_be_bytes(),
        body,
    ])
}

pub fn tag(id: u16, ether_type: u16, body: &[u8]) -> Vec<u8> {
    join(&[&(0xe000 | id).to_be_bytes(), &ether_type.to_be_bytes(), body])
}

pub fn udp(port: u16, body: &[u8]) -> Vec<u8> {
    join(&[
        &[0xc0, 0x01],
        &port.to_be_bytes(),
        &((body.len() + 8) as u16).to_be_bytes(),
        &[0, 0],
        body,
    ])
}

pub fn vxlan(network: u32, body: &[u8]) -> Vec<u8> {
    udp(4789, &join(&[&[8, 0, 0, 0], &(network << 8).to_be_bytes(), body]))
}

pub fn geneve(network: u32, options: &[u8], carried: u16, body: &[u8]) -> Vec<u8> {
    let head = [(options.len() / 4) as u8, 0];
    udp(
        6081,
        &join(&[
            &head,
            &carried.to_be_bytes(),
            &(network << 8).to_be_bytes(),
            options,
            body,
        ]),
    )
}

pub fn gre(flags: u16, carried: u16, fields: &[u8], body: &[u8]) -> Vec<u8> {
    join(&[&flags.to_be_bytes(), &carried.to_be_bytes(), fields, body])
}

/// One MPLS entry.
pub fn label(label: u32, bottom: bool, body: &[u8]) -> Vec<u8> {
    join(&[&(label << 12 | u32::from(bottom) << 8 | 64).to_be_bytes(), body])
}

pub fn pppoe(body: &[u8]) -> Vec<u8> {
    join(&[
        &[0x11, 0, 0, 9],
        &((body.len() + 2) as u16).to_be_bytes(),
        &[0, 0x21],
        body,
    ])
}

pub fn snap(ether_type: u16, body: &[u8]) -> Vec<u8> {
    join(&[&[0xaa, 0xaa, 3, 0, 0, 0], &ether_type.to_be_bytes(), body])
}

/// A segment with timestamps and five bytes of payload, in IPv4 and in IPv6.
pub fn plain_v4() -> Vec<u8> {
    ipv4(6, &tcp(&TIMESTAMPS, b"hello"))
}

pub fn plain_v6() -> Vec<u8> {
    ipv6(6, &tcp(&TIMESTAMPS, b"hello"))
}

/// Every stack that is read: name, link type, bytes, tunnels crossed. All hold `plain_v4` or `plain_v6`.
pub fn stacks() -> Vec<(&'static str, u16, Vec<u8>, u8)> {
    let (v4, v6) = (plain_v4(), plain_v6());
    let inner = ethernet(0x0800, &v4);
    let inner_v6 = ethernet(0x86dd, &v6);
    let sll = |protocol: u16, body: &[u8]| {
        join(&[
            &[0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0],
            &protocol.to_be_bytes(),
            body,
        ])
    };
    let sll2 = |protocol: u16, body: &[u8]| {
        join(&[
            &protocol.to_be_bytes(),
            &[0, 0, 0, 0, 1, 7, 0, 1, 4, 6, 2, 0, 0, 0, 0, 1, 0, 0],
            body,
        ])
    };
    let in_ethernet = |body: &[u8]| ethernet(0x0800, body);
    let wireless = join(&[
        &[0x88, 0x01, 0, 0],
        &[1; 6],
        &[2; 6],
        &[3; 6],
        &[0, 0, 0, 0],
        &snap(0x0800, &v4),
    ]);
    let four = join(&[
        &[0x08, 0x03, 0, 0],
        &[1; 6],
        &[2; 6],
        &[3; 6],
        &[0, 0],
        &[4; 6],
        &snap(0x86dd, &v6),
    ]);
    let many_tags = (0..6).fold(tag(9, 0x0800, &v4), |body, _| tag(1, 0x9100, &body));
    vec![
        ("ethernet", 1, inner.clone(), 0),
        ("ethernet v6", 1, inner_v6.clone(), 0),
        ("vlan", 1, ethernet(0x8100, &tag(42, 0x0800, &v4)), 0),
        (
            "two tags",
            1,
            ethernet(0x88a8, &tag(100, 0x8100, &tag(42, 0x86dd, &v6))),
            0,
        ),
        ("seven tags", 1, ethernet(0x88a8, &many_tags), 0),
        ("802.3 snap", 1, ethernet(8 + v4.len() as u16, &snap(0x0800, &v4)), 0),
        (
            "802.3 ip sap",
            1,
            ethernet(3 + v4.len() as u16, &join(&[&[6, 6, 3], &v4])),
            0,
        ),
        ("null little", 0, join(&[&[2, 0, 0, 0], &v4]), 0),
        ("null big", 0, join(&[&[0, 0, 0, 30], &v6]), 0),
        ("loop", 108, join(&[&[0, 0, 0, 24], &v6]), 0),
        ("raw", 101, v4.clone(), 0),
        ("raw 12", 12, v6.clone(), 0),
        ("raw 14", 14, v4.clone(), 0),
        ("ipv4", 228, v4.clone(), 0),
        ("ipv6", 229, v6.clone(), 0),
        ("sll", 113, sll(0x0800, &v4), 0),
        ("sll vlan", 113, sll(0x8100, &tag(5, 0x0800, &v4)), 0),
        ("sll2", 276, sll2(0x86dd, &v6), 0),
        ("ppp", 9, join(&[&[0xff, 3, 0, 0x21], &v4]), 0),
        ("ppp bare", 9, join(&[&[0, 0x57], &v6]), 0),
        ("ppp one byte", 9, join(&[&[0xff, 3, 0x21], &v4]), 0),
        ("ppp hdlc", 50, join(&[&[0xff, 3, 0, 0x21], &v4]), 0),
        ("ppp hdlc cisco", 50, join(&[&[0x0f, 0, 0x08, 0], &v4]), 0),
        ("chdlc", 104, join(&[&[0x8f, 0, 0x86, 0xdd], &v6]), 0),
        ("pppoe link", 51, pppoe(&v4), 1),
        ("pppoe", 1, ethernet(0x8864, &pppoe(&v4)), 1),
        ("wireless", 105, wireless.clone(), 0),
        ("radiotap", 127, join(&[&[0, 0, 8, 0, 0, 0, 0, 0], &four]), 0),
        ("mpls", 1, ethernet(0x8847, &label(16, false, &label(77, true, &v4))), 1),
        ("mpls v6", 1, ethernet(0x8848, &label(77, true, &v6)), 1),
        ("pseudowire", 1, ethernet(0x8847, &label(77, true, &inner)), 1),
        (
            "pseudowire word",
            1,
            ethernet(0x8847, &label(77, true, &join(&[&[0, 0, 0, 1], &inner_v6]))),
            1,
        ),
        ("ipip", 1, in_ethernet(&ipv4(4, &v4)), 1),
        ("6in4", 1, in_ethernet(&ipv4(41, &v6)), 1),
        ("4in6", 1, ethernet(0x86dd, &ipv6(4, &v4)), 1),
        (
            "6in6",
            1,
            ethernet(0x86dd, &ipv6(60, &join(&[&[41, 0, 4, 1, 4, 1, 1, 0], &v6]))),
            1,
        ),
        ("gre", 1, in_ethernet(&ipv4(47, &gre(0, 0x0800, &[], &v4))), 1),
        (
            "gre all fields",
            1,
            in_ethernet(&ipv4(
                47,
                &gre(0xb000, 0x86dd, &[0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 1], &v6),
            )),
            1,
        ),
        (
            "gre bridge",
            1,
            in_ethernet(&ipv4(47, &gre(0x2000, 0x6558, &[0, 0, 0, 77], &inner))),
            1,
        ),
        (
            "gre mpls",
            1,
            in_ethernet(&ipv4(47, &gre(0, 0x8847, &[], &label(77, true, &v4)))),
            2,
        ),
        ("erspan 1", 1, in_ethernet(&ipv4(47, &gre(0, 0x88be, &[], &inner))), 1),
        (
            "erspan 2",
            1,
            in_ethernet(&ipv4(
                47,
                &gre(0x1000, 0x88be, &[0, 0, 0, 1, 0x10, 1, 0, 0, 0, 0, 0, 0], &inner),
            )),
            1,
        ),
        (
            "erspan 3",
            1,
            in_ethernet(&ipv4(
                47,
                &gre(
                    0x1000,
                    0x22eb,
                    &[0, 0, 0, 1, 0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    &inner,
                ),
            )),
            1,
        ),
        (
            "pptp",
            1,
            in_ethernet(&ipv4(
                47,
                &gre(
                    0x3081,
                    0x880b,
                    &[0, v4.len() as u8 + 4, 0, 77, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 3, 0, 0x21],
                    &v4,
                ),
            )),
            1,
        ),
        ("vxlan", 1, in_ethernet(&ipv4(17, &vxlan(77, &inner))), 1),
        ("vxlan v6", 1, ethernet(0x86dd, &ipv6(17, &vxlan(77, &inner_v6))), 1),
        (
            "vxlan vlan",
            1,
            ethernet(
                0x8100,
                &tag(
                    3,
                    0x0800,
                    &ipv4(17, &vxlan(77, &ethernet(0x8100, &tag(8, 0x0800, &v4)))),
                ),
            ),
            1,
        ),
        (
            "geneve",
            1,
            in_ethernet(&ipv4(17, &geneve(77, &[1, 2, 3, 1, 9, 9, 9, 9], 0x6558, &inner))),
            1,
        ),
        ("geneve ip", 1, in_ethernet(&ipv4(17, &geneve(77, &[], 0x0800, &v4))), 1),
        ("mpls in ip", 1, in_ethernet(&ipv4(137, &label(77, true, &v4))), 1),
        (
            "ipip in vxlan in gre on sll2",
            276,
            sll2(
                0x0800,
                &ipv4(
                    47,
                    &gre(0, 0x0800, &[], &ipv4(17, &vxlan(77, &in_ethernet(&ipv4(4, &v4))))),
                ),
            ),
            3,
        ),
        (
            "authenticated",
            1,
            in_ethernet(&ipv4(
                51,
                &join(&[&[6, 4, 0, 0], &[0; 20], &tcp(&TIMESTAMPS, b"hello")]),
            )),
            0,
        ),
        (
            "extension headers",
            1,
            ethernet(
                0x86dd,
                &ipv6(
                    0,
                    &join(&[
                        &[43, 0, 1, 4, 0, 0, 0, 0],
                        &[60, 0, 0, 0, 0, 0, 0, 0],
                        &[51, 0, 1, 4, 0, 0, 0, 0],
                        &[44, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        &[6, 0, 0, 0, 0, 0, 0xbe, 0xef],
                        &tcp(&TIMESTAMPS, b"hello"),
                    ]),
                ),
            ),
            0,
        ),
    ]
}
