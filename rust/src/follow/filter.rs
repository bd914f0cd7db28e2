//! Nothing goes in, the classic-BPF program comes out that keeps all but TCP away from the ring.
//!
//! It is wide on purpose: which connections are followed is decided behind it, by what their packets carried earlier, and a classic filter
//! remembers nothing. It reads from the network header on (SKF_NET_OFF), so that it holds for links of every type.

use libc::{SKF_AD_HATYPE, SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL, SKF_NET_OFF, sock_filter};

/// What the program keeps, as it is told at the start.
pub const DESCRIPTION: &str = "tcp and icmp errors, inside VLAN, IP-in-IP, GRE, VXLAN and Geneve too";

/// Bytes kept of a packet: all. As tcpdump's own limit (libpcap pcap-int.h MAXIMUM_SNAPLEN); larger than any GSO frame but BIG TCP's.
const WHOLE: u32 = super::super::capture::PACKET_MAX;

/// linux/if_packet.h
const PACKET_OUTGOING: u32 = 4;
/// linux/if_arp.h
const ARPHRD_LOOPBACK: u32 = 772;

/// EtherTypes whose content the filter does not look into: VLAN tags that nobody took off, MPLS, PPPoE sessions.
const PASSED_TYPES: [u32; 6] = [0x8100, 0x88a8, 0x9100, 0x8847, 0x8848, 0x8864];
/// IP protocols that are kept: TCP, ICMP, IP-in-IP, IPv6-in-IPv4, GRE, authentication headers, MPLS-in-IP.
const PASSED_V4: [u32; 7] = [6, 1, 4, 41, 47, 51, 137];
/// The same behind an IPv6 header, where extension headers may stand before TCP: hop-by-hop, routing, fragment, destination, mobility, HIP,
/// Shim6 (iana.org/assignments/ipv6-parameters), and ICMPv6 (58).
const PASSED_V6: [u32; 14] = [6, 58, 4, 41, 47, 51, 137, 0, 43, 44, 60, 135, 139, 140];
/// UDP ports of VXLAN (RFC 7348 section 8; Linux's own before it, drivers/net/vxlan) and Geneve (RFC 8926 section 3.3).
const TUNNEL_PORTS: [u32; 3] = [4789, 8472, 6081];
const UDP: u32 = 17;

/// Classes and modes of linux/bpf_common.h.
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_HALF_INDEXED: u16 = 0x48;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const TO_INDEX: u16 = 0x07;
const RETURN: u16 = 0x06;

/// Where a jump goes: the two ends of the program, or a label.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    Next,
    Keep,
    Drop,
    V4,
    V6,
    UdpInV4,
    UdpInV6,
    Protocol,
}

struct Line {
    label: Option<Goal>,
    code: u16,
    value: u32,
    then: Goal,
    otherwise: Goal,
}

fn line(code: u16, value: u32) -> Line {
    jump(code, value, Goal::Next, Goal::Next)
}

fn jump(code: u16, value: u32, then: Goal, otherwise: Goal) -> Line {
    Line {
        label: None,
        code,
        value,
        then,
        otherwise,
    }
}

fn at(label: Goal, line: Line) -> Line {
    Line {
        label: Some(label),
        ..line
    }
}

fn extension(offset: i32) -> u32 {
    (SKF_AD_OFF + offset) as u32
}

fn network(offset: i32) -> u32 {
    (SKF_NET_OFF + offset) as u32
}

fn any_of(values: &[u32], goal: Goal) -> impl Iterator<Item = Line> {
    values
        .iter()
        .map(move |value| jump(JUMP_EQUAL, *value, goal, Goal::Next))
}

/// The program that keeps TCP.
pub fn tcp() -> Vec<sock_filter> {
    let mut lines = vec![
        // Loopback hands every packet over twice, going out and coming in: the second is kept, as libpcap does.
        line(LD_WORD, extension(SKF_AD_PKTTYPE)),
        jump(JUMP_EQUAL, PACKET_OUTGOING, Goal::Next, Goal::Protocol),
        line(LD_WORD, extension(SKF_AD_HATYPE)),
        jump(JUMP_EQUAL, ARPHRD_LOOPBACK, Goal::Drop, Goal::Next),
        at(Goal::Protocol, line(LD_WORD, extension(SKF_AD_PROTOCOL))),
        jump(JUMP_EQUAL, 0x0800, Goal::V4, Goal::Next),
        jump(JUMP_EQUAL, 0x86dd, Goal::V6, Goal::Next),
    ];
    lines.extend(any_of(&PASSED_TYPES, Goal::Keep));
    lines.push(line(RETURN, 0));
    lines.push(at(Goal::V4, line(LD_BYTE, network(9))));
    lines.extend(any_of(&PASSED_V4, Goal::Keep));
    lines.push(jump(JUMP_EQUAL, UDP, Goal::UdpInV4, Goal::Drop));
    // Of a later fragment nothing is read as ports (RFC 791 section 3.1).
    lines.push(at(Goal::UdpInV4, line(LD_HALF, network(6))));
    lines.push(jump(JUMP_SET, 0x1fff, Goal::Drop, Goal::Next));
    lines.push(line(LD_BYTE, network(0)));
    lines.push(line(AND, 0x0f));
    lines.push(line(SHIFT_LEFT, 2));
    lines.push(line(TO_INDEX, 0));
    lines.push(line(LD_HALF_INDEXED, network(2)));
    lines.extend(any_of(&TUNNEL_PORTS, Goal::Keep));
    lines.push(line(RETURN, 0));
    lines.push(at(Goal::V6, line(LD_BYTE, network(6))));
    lines.extend(any_of(&PASSED_V6, Goal::Keep));
    lines.push(jump(JUMP_EQUAL, UDP, Goal::UdpInV6, Goal::Drop));
    lines.push(at(Goal::UdpInV6, line(LD_HALF, network(42))));
    lines.extend(any_of(&TUNNEL_PORTS, Goal::Keep));
    lines.push(at(Goal::Drop, line(RETURN, 0)));
    lines.push(at(Goal::Keep, line(RETURN, WHOLE)));
    assemble(&lines)
}

/// The program that keeps nothing: attached when the end has come, so that what is in the ring is all there is.
pub fn nothing() -> Vec<sock_filter> {
    assemble(&[line(RETURN, 0)])
}

fn assemble(lines: &[Line]) -> Vec<sock_filter> {
    let distance = |from: usize, goal: Goal| -> u8 {
        if goal == Goal::Next {
            return 0;
        }
        // The program is shorter than 256 lines and jumps forward only: a test holds both.
        let to = lines
            .iter()
            .position(|line| line.label == Some(goal))
            .unwrap_or(from + 1);
        u8::try_from(to.saturating_sub(from + 1)).unwrap_or(u8::MAX)
    };
    lines
        .iter()
        .enumerate()
        .map(|(number, line)| sock_filter {
            code: line.code,
            jt: distance(number, line.then),
            jf: distance(number, line.otherwise),
            k: line.value,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the packet and its surroundings are, for a reading of the program that knows no kernel.
    struct Seen<'a> {
        outgoing: bool,
        loopback: bool,
        ether_type: u32,
        network: &'a [u8],
    }

    fn run(program: &[sock_filter], seen: &Seen<'_>) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        let load = |offset: u32, size: usize| -> Option<u32> {
            let offset = i64::from(offset as i32);
            let start = usize::try_from(offset - i64::from(SKF_NET_OFF)).ok()?;
            let bytes = seen.network.get(start..start + size)?;
            Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        };
        loop {
            let one = &program[at];
            at += 1;
            let loaded = match one.code {
                LD_WORD if one.k == extension(SKF_AD_PKTTYPE) => Some(if seen.outgoing { 4 } else { 0 }),
                LD_WORD if one.k == extension(SKF_AD_HATYPE) => Some(if seen.loopback { 772 } else { 1 }),
                LD_WORD if one.k == extension(SKF_AD_PROTOCOL) => Some(seen.ether_type),
                LD_HALF => load(one.k, 2),
                LD_BYTE => load(one.k, 1),
                LD_HALF_INDEXED => load(one.k.wrapping_add(x), 2),
                AND => Some(a & one.k),
                SHIFT_LEFT => Some(a << one.k),
                TO_INDEX => {
                    x = a;
                    Some(a)
                }
                JUMP_EQUAL | JUMP_SET => {
                    let holds = if one.code == JUMP_EQUAL {
                        a == one.k
                    } else {
                        a & one.k != 0
                    };
                    at += usize::from(if holds { one.jt } else { one.jf });
                    Some(a)
                }
                RETURN => return one.k,
                other => panic!("no such instruction: {other:#x}"),
            };
            // A load beyond the packet ends the program with 0 (net/core/filter.c).
            let Some(value) = loaded else { return 0 };
            a = value;
        }
    }

    fn v4(protocol: u8, options: usize, fragment: u16, port: u16) -> Vec<u8> {
        let mut packet = vec![0_u8; 20 + options + 8];
        packet[0] = 0x40 | ((20 + options) / 4) as u8;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[20 + options + 2..20 + options + 4].copy_from_slice(&port.to_be_bytes());
        packet
    }

    fn kept(ether_type: u32, network: &[u8]) -> bool {
        let seen = Seen {
            outgoing: false,
            loopback: false,
            ether_type,
            network,
        };
        run(&tcp(), &seen) != 0
    }

    #[test]
    fn keeps_tcp_and_what_may_hold_it() {
        for protocol in 0..=255_u8 {
            let wanted = PASSED_V4.contains(&u32::from(protocol));
            assert_eq!(kept(0x0800, &v4(protocol, 0, 0, 53)), wanted, "protocol {protocol}");
            let mut six = vec![0_u8; 60];
            six[6] = protocol;
            let wanted = PASSED_V6.contains(&u32::from(protocol));
            assert_eq!(kept(0x86dd, &six), wanted, "next header {protocol}");
        }
        for port in [4789, 8472, 6081] {
            assert!(kept(0x0800, &v4(17, 0, 0, port)));
            assert!(kept(0x0800, &v4(17, 12, 0x4000, port)));
            assert!(!kept(0x0800, &v4(17, 0, 0x00b9, port)));
            let mut six = vec![0_u8; 60];
            six[6] = 17;
            six[42..44].copy_from_slice(&port.to_be_bytes());
            assert!(kept(0x86dd, &six));
        }
        // A TCP fragment other than the first may belong to a followed connection.
        assert!(kept(0x0800, &v4(6, 0, 0x00b9, 0)));
        assert!(kept(0x8100, &[]) && kept(0x8864, &[]));
        assert!(!kept(0x0806, &[0; 28]) && !kept(0x88cc, &[0; 28]));
        assert!(!kept(0x0800, &[0x45]));
    }

    #[test]
    fn takes_loopback_once() {
        let packet = v4(6, 0, 0, 80);
        let through = |outgoing, loopback| {
            run(
                &tcp(),
                &Seen {
                    outgoing,
                    loopback,
                    ether_type: 0x0800,
                    network: &packet,
                },
            )
        };
        assert_eq!(through(true, true), 0);
        assert_eq!(
            [through(false, true), through(true, false), through(false, false)],
            [WHOLE; 3]
        );
    }

    #[test]
    fn every_jump_lands_inside() {
        for program in [tcp(), nothing()] {
            for (at, one) in program.iter().enumerate() {
                if one.code == JUMP_EQUAL || one.code == JUMP_SET {
                    assert!(at + 1 + usize::from(one.jt.max(one.jf)) < program.len());
                    assert!(one.jt != one.jf);
                }
            }
        }
    }
}
