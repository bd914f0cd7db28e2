//! One decoded packet: what the decoder found in a record, down to TCP, through any stack of encapsulations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of either family; IPv4 is kept as ::ffff:a.b.c.d so that one integer comparison orders both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub u128);

impl Address {
    pub fn v4(octets: [u8; 4]) -> Self {
        Address(0xffff_0000_0000 | u128::from(u32::from_be_bytes(octets)))
    }

    pub fn v6(octets: [u8; 16]) -> Self {
        Address(u128::from_be_bytes(octets))
    }

    pub fn to_ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.0);
        match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(v6),
        }
    }

    pub fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    pub fn to_v4(self) -> Option<Ipv4Addr> {
        Ipv6Addr::from(self.0).to_ipv4_mapped()
    }
}

/// TCP flag bits as on the wire (RFC 9293 section 3.1; AE/CWR/ECE included).
pub mod flag {
    pub const FIN: u16 = 0x001;
    pub const SYN: u16 = 0x002;
    pub const RST: u16 = 0x004;
    pub const PSH: u16 = 0x008;
    pub const ACK: u16 = 0x010;
    pub const URG: u16 = 0x020;
    pub const ECE: u16 = 0x040;
    pub const CWR: u16 = 0x080;
    pub const AE: u16 = 0x100;
}

/// The outermost layer, which says where in a host the record was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkInfo {
    /// SLL2's interface index; 0 where the link layer has none.
    pub ifindex: u32,
    /// SLL/SLL2 packet type (0 to us, 1 broadcast, 2 multicast, 3 other host, 4 outgoing); 255 where the link layer has none.
    pub packet_type: u8,
    /// Outer Ethernet addresses; SLL has only the sender's. All zero where absent.
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    /// Outermost and second VLAN id, 0 for none.
    pub vlan: [u16; 2],
}

/// One encapsulation around the innermost IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Tunnel {
    #[default]
    None = 0,
    Ipip = 1,
    SixInFour = 2,
    IpInSix = 3,
    Gre = 4,
    Vxlan = 5,
    Geneve = 6,
    Mpls = 7,
    Pppoe = 8,
}

/// The encapsulations crossed, outermost first. Deeper stacks than `MAX` are decoded but only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelStack {
    pub depth: u8,
    pub kinds: [Tunnel; Self::MAX],
    /// Outer source and destination of the outermost IP-borne tunnel; zero where there is none.
    pub outer_source: Address,
    pub outer_destination: Address,
    /// VXLAN/Geneve VNI, GRE key or MPLS label of the innermost one that has any; 0 for none.
    pub network_id: u32,
}

impl TunnelStack {
    pub const MAX: usize = 4;
}

/// The innermost IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ip {
    pub source: Address,
    pub destination: Address,
    pub ttl: u8,
    pub tos: u8,
    pub protocol: u8,
    /// IPv4 identification, or the IPv6 fragment header's (low 32 bits); 0 without.
    pub id: u32,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In bytes.
    pub fragment_offset: u16,
    /// Total length of the IP packet by its header (0 where a TSO frame says 0: then taken from the record).
    pub total_length: u32,
}

/// A TCP segment. Option fields are as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tcp<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u16,
    pub window: u16,
    pub checksum: u16,
    /// Payload length on the wire, by the IP header: not what the snap length left of it.
    pub payload_length: u32,
    /// The captured part of the payload.
    pub payload: &'a [u8],
    /// The captured option bytes, raw: TOA and unknown kinds are read from here.
    pub options: &'a [u8],
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    /// Number of SACK blocks, and the blocks.
    pub sack_count: u8,
    pub sack: [(u32, u32); 4],
    /// (TSval, TSecr)
    pub timestamps: Option<(u32, u32)>,
    /// An option kind that may carry an address (facts.md 1.1) is present.
    pub has_toa: bool,
    /// The option list ends early or lies about a length.
    pub bad_options: bool,
}

/// An ICMP or ICMPv6 error and the TCP header it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IcmpError {
    pub icmp_type: u8,
    pub code: u8,
    /// Next-hop MTU of a fragmentation-needed or packet-too-big message, else 0.
    pub mtu: u32,
    pub quoted_source: Address,
    pub quoted_destination: Address,
    pub quoted_source_port: u16,
    pub quoted_destination_port: u16,
    pub quoted_seq: u32,
    /// IPv4 identification of the quoted packet.
    pub quoted_id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    pub sender_mac: [u8; 6],
    pub sender_ip: [u8; 4],
    pub target_mac: [u8; 6],
    pub target_ip: [u8; 4],
}

/// What the record holds at its innermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inner<'a> {
    /// Not IP, or IP with a protocol that nothing here reads.
    #[default]
    Other,
    /// Known headers cut short by the snap length or broken.
    Malformed,
    Tcp(Tcp<'a>),
    /// A TCP fragment other than the first: no ports, `Ip` tells which datagram it belongs to; its payload length.
    TcpFragment(u32),
    IcmpError(IcmpError),
    Arp(Arp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet<'a> {
    pub link: LinkInfo,
    pub tunnels: TunnelStack,
    pub ip: Ip,
    pub inner: Inner<'a>,
}
