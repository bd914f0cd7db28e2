//! The raw bytes of a TCP option list go in, the addresses that balancers wrote into it come out, whatever the layout and the offset.

use crate::decode::exid::{HOST_ID, IDENTIFIERS};
use crate::decode::packet::Address;

/// Whose address an option carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Who opened the connection before the balancer.
    Client,
    /// The balancer's own address that the client called.
    Vip,
    /// The number of the client's network at the cloud (VPC, VNI): addresses are unique within it only.
    Vpc,
    /// HOST_ID bytes that are no address (RFC 7974 section 3 leaves them opaque).
    HostId,
}

impl What {
    /// The name that tables and reports use.
    pub fn name(self) -> &'static str {
        match self {
            What::Client => "client",
            What::Vip => "vip",
            What::Vpc => "vpc",
            What::HostId => "host-id",
        }
    }
}

/// What one option says; one option may say several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// Option kind and length, which together are the layout.
    pub kind: u8,
    pub length: u8,
    pub what: What,
    /// None where the option carries a number only.
    pub address: Option<Address>,
    pub port: Option<u16>,
    /// The VPC number, or the first four opaque bytes of HOST_ID.
    pub number: Option<u32>,
    /// The bytes may mean something else: a registered experiment identifier stands where the port would (RFC 6994), the version of
    /// kind 28 is not the known one, or no host can have the address.
    pub ambiguous: bool,
}

impl Claim {
    /// Kind and length as facts name a layout: `254/8`.
    pub fn layout(&self) -> String {
        format!("{}/{}", self.kind, self.length)
    }
}

/// One option of a list: where its kind byte stands, counted from the list's begin, its kind, and what follows kind and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOption<'a> {
    pub offset: usize,
    pub kind: u8,
    pub value: &'a [u8],
}

/// Walks an option list (RFC 9293 section 3.1): kind 0 ends it, kind 1 is one byte, a length below 2 or past the end stops the walk.
pub fn walk(options: &[u8]) -> impl Iterator<Item = TcpOption<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while options.get(at) == Some(&1) {
            at += 1;
        }
        let offset = at;
        let kind = *options.get(at).filter(|kind| **kind != 0)?;
        let length = usize::from(*options.get(at + 1)?);
        let value = options.get(at + 2..at.checked_add(length)?)?;
        at += length;
        Some(TcpOption { offset, kind, value })
    })
}

/// Most claims of one option list: forty bytes hold six options of six bytes, or one that says three things in twenty and three more.
pub const CLAIMS_MAX: usize = 6;

/// The claims of one option list, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claims {
    held: [Option<Claim>; CLAIMS_MAX],
    used: usize,
}

impl Claims {
    fn add(&mut self, claim: Claim) {
        if let Some(slot) = self.held.get_mut(self.used) {
            *slot = Some(claim);
            self.used += 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.held.iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }
}

/// Reads every address that the options carry; nothing is allocated. The layouts are those of Alibaba LVS, DPVS, Huawei, Tencent, UCloud,
/// Jupiter, Anolis vtoa, Alibaba CDN, Akamai and HOST_ID.
///
/// Sources: alibaba/LVS kernel/include/net/ip_vs.h; iqiyi/dpvs include/ipvs/proto_tcp.h; Huawei/TCP_option_address src/toa.h;
/// Tencent/TencentOS-kernel net/toa/toa.h; tiglabs/jupiter core/lb_toa.c; Anolis net/vtoa/vtoa.h; aliyun/alibabacloud-cdn-tool-toa;
/// RFC 7974.
pub fn claims(options: &[u8]) -> Claims {
    let mut claims = Claims::default();
    for option in walk(options) {
        read(&option, &mut claims);
    }
    claims
}

fn read(option: &TcpOption<'_>, claims: &mut Claims) {
    let value = option.value;
    let length = (value.len() + 2) as u8;
    let claim = Claim {
        kind: option.kind,
        length,
        what: What::Client,
        address: None,
        port: None,
        number: None,
        ambiguous: false,
    };
    match (option.kind, length) {
        (253, _) if first_16(value) == Some(HOST_ID) => host_id(claim, value, claims),
        // No sender of an IPv4 address under 253 is known, but receivers can be set to any kind: only what is no registered experiment.
        (253, 8) if first_16(value).is_some_and(|identifier| IDENTIFIERS.contains(&identifier)) => {}
        (254 | 253, 8 | 20) => {
            let experiment = first_16(value).is_some_and(|identifier| IDENTIFIERS.contains(&identifier));
            add(claims, claim, first_16(value), value.get(2..), experiment);
        }
        (200, 8) => add(claims, claim, first_16(value), value.get(2..), false),
        (202 | 250, 8) => add(
            claims,
            Claim {
                what: What::Vip,
                ..claim
            },
            first_16(value),
            value.get(2..),
            false,
        ),
        (201, 6) => claims.add(vpc(
            claim,
            value.first_chunk().map(|number| u32::from_be_bytes(*number)),
        )),
        // client port, client, VPC, VIP, VIP port, padding.
        (252, 20) => {
            add(claims, claim, first_16(value), value.get(2..6), false);
            claims.add(vpc(claim, number_at(value, 6)));
            let vip = Claim {
                what: What::Vip,
                ..claim
            };
            add(
                claims,
                vip,
                value.get(14..).and_then(first_16),
                value.get(10..14),
                false,
            );
        }
        // client port, client, VPC in 24 bits and a reserved byte, VIP without a port.
        (249, 40) => {
            add(claims, claim, first_16(value), value.get(2..18), false);
            claims.add(vpc(claim, number_at(value, 18).map(|number| number >> 8)));
            let vip = Claim {
                what: What::Vip,
                ..claim
            };
            add(claims, vip, None, value.get(22..38), false);
        }
        // A version, then the address; version 1 is the only one that sources know.
        (28, 7 | 19) => add(claims, claim, None, value.get(1..), value.first() != Some(&1)),
        // Akamai: a version, the IPv4 address, and bytes of unknown meaning; known from the decoders of receivers alone.
        (28, 8..) => add(claims, claim, None, value.get(1..5), true),
        _ => {}
    }
}

fn first_16(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn number_at(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..)?.first_chunk().map(|number| u32::from_be_bytes(*number))
}

fn vpc(claim: Claim, number: Option<u32>) -> Claim {
    Claim {
        what: What::Vpc,
        number,
        ..claim
    }
}

/// Adds an address of 4 or 16 bytes.
fn add(claims: &mut Claims, claim: Claim, port: Option<u16>, address: Option<&[u8]>, ambiguous: bool) {
    let address = match address {
        Some(&[a, b, c, d]) => Address::v4([a, b, c, d]),
        Some(bytes) => match bytes.try_into() {
            Ok(octets) => Address::v6(octets),
            Err(_) => return,
        },
        None => return,
    };
    claims.add(Claim {
        address: Some(address),
        port,
        ambiguous: ambiguous || !belongs_to_a_host(address),
        ..claim
    });
}

/// False for addresses that no client can call from: unspecified, multicast, limited broadcast (RFC 6890 section 2.2).
fn belongs_to_a_host(address: Address) -> bool {
    let ip = address.to_ip();
    match ip {
        std::net::IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_multicast() && !v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

/// HOST_ID: opaque bytes behind the identifier. Four or sixteen are an address where anything is, and would be the same address if this
/// were a client's port 840 and TOA; the port is then unknown.
fn host_id(claim: Claim, value: &[u8], claims: &mut Claims) {
    match value.get(2..) {
        Some(bytes) if matches!(bytes.len(), 4 | 16) => add(claims, claim, None, Some(bytes), true),
        Some(bytes) => {
            let mut first = [0; 4];
            for (slot, byte) in first.iter_mut().rev().zip(bytes.iter().take(4).rev()) {
                *slot = *byte;
            }
            claims.add(Claim {
                what: What::HostId,
                number: (!bytes.is_empty()).then_some(u32::from_be_bytes(first)),
                ambiguous: true,
                ..claim
            });
        }
        None => {}
    }
}
