//! What was found in one flow's packets goes in, one by one; it comes out without repetitions, bounded, as bytes for a spill file.

use super::heads::Tally;
use super::proxy::{Checksum, Header, Transport};
use super::tlv::describe;
use super::toa::{Claim, What};
use crate::flows::watch::Origin;
use serde::{Deserialize, Serialize};

/// Different values kept of one header name and direction, and different claims of one flow; more are counted as lost.
pub const DIFFERENT_MAX: usize = 16;
/// Bytes of a header value kept; a longer one is cut, and said to be.
pub const VALUE_MAX: usize = 512;

/// How often something was seen, and where first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub count: u64,
    pub file: u32,
    pub frame: u64,
    pub time_ns: i64,
}

impl Seen {
    fn at(origin: Origin, count: u64) -> Self {
        Seen {
            count,
            file: origin.file,
            frame: origin.frame,
            time_ns: origin.time_ns,
        }
    }

    fn merge(&mut self, other: &Seen) {
        let count = self.count + other.count;
        if (other.time_ns, other.file, other.frame) < (self.time_ns, self.file, self.frame) {
            *self = *other;
        }
        self.count = count;
    }
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// A TCP option of this kind and length.
    Toa(u8, u8),
    /// A PROXY header of this version.
    Proxy(u8),
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topic {
    Client,
    Vip,
    Vpc,
    HostId,
    /// PROXY: the proxy speaks for itself.
    Local,
    /// PROXY: the proxy does not say.
    Unknown,
    /// PROXY: a socket of the proxy's own host.
    Unix,
}

impl Topic {
    /// The name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Client => What::Client.name(),
            Topic::Vip => What::Vip.name(),
            Topic::Vpc => What::Vpc.name(),
            Topic::HostId => What::HostId.name(),
            Topic::Local => "local",
            Topic::Unknown => "unknown",
            Topic::Unix => "unix",
        }
    }
}

/// One claim about one flow; equal ones are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub from_b: bool,
    pub layout: Layout,
    pub topic: Topic,
    /// As `decode::packet::Address` keeps it.
    pub address: Option<u128>,
    pub port: Option<u16>,
    pub ambiguous: bool,
    pub text: String,
}

/// One value of one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Which of the names that are kept.
    pub name: u16,
    pub bytes: Vec<u8>,
    pub cut: bool,
    pub seen: Seen,
    /// How many of these heads were found again after bytes had been lost.
    pub resynchronised: u64,
}

/// What one end of a flow asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    pub requests: u64,
    pub resynchronised: u64,
    pub heads_lost: u64,
    pub gaps: u64,
    pub is_tls: bool,
    pub is_http2: bool,
    pub values: Vec<Value>,
    /// Values beyond those kept, counted by request.
    pub values_lost: u64,
}

/// All that was found in one flow, or in a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notes {
    pub claims: Vec<(Said, Seen)>,
    /// Claims beyond those kept, counted by packet.
    pub claims_lost: u64,
    /// Of the lower end, and of the other.
    pub asked: [Asked; 2],
}

impl Asked {
    fn of(&mut self, tally: &Tally) {
        self.requests += tally.requests;
        self.resynchronised += tally.resynchronised;
        self.heads_lost += tally.heads_lost;
        self.gaps += tally.gaps;
        self.is_tls |= tally.is_tls;
        self.is_http2 |= tally.is_http2;
    }

    /// Holes alone, in a stream of which nothing else is known, say nothing about requests.
    pub fn is_empty(&self) -> bool {
        self.requests == 0 && self.heads_lost == 0 && !self.is_tls && !self.is_http2 && self.values.is_empty()
    }

    fn value(&mut self, value: Value) -> usize {
        let mut same_name = 0;
        for kept in self.values.iter_mut().filter(|kept| kept.name == value.name) {
            if kept.bytes == value.bytes && kept.cut == value.cut {
                kept.seen.merge(&value.seen);
                kept.resynchronised += value.resynchronised;
                return 0;
            }
            same_name += 1;
        }
        if same_name >= DIFFERENT_MAX {
            self.values_lost += value.seen.count;
            return 0;
        }
        let grown = value.bytes.len() + size_of::<Value>();
        self.values.push(value);
        grown
    }
}

impl Notes {
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.claims_lost == 0 && self.asked.iter().all(Asked::is_empty)
    }

    /// Takes what an option says; `copy` where the packet was met before: only what is new in it counts. How many bytes of memory that
    /// took.
    pub fn toa(&mut self, claim: &Claim, from_b: bool, copy: bool, origin: Origin) -> usize {
        let said = Said {
            from_b,
            layout: Layout::Toa(claim.kind, claim.length),
            topic: match claim.what {
                What::Client => Topic::Client,
                What::Vip => Topic::Vip,
                What::Vpc => Topic::Vpc,
                What::HostId => Topic::HostId,
            },
            address: claim.address.map(|address| address.0),
            port: claim.port,
            ambiguous: claim.ambiguous,
            text: match (claim.what, claim.number) {
                (What::HostId, Some(number)) => format!("{number:#x}"),
                (_, Some(number)) => number.to_string(),
                (_, None) => String::new(),
            },
        };
        if copy && self.claims.iter().any(|(kept, _)| *kept == said) {
            return 0;
        }
        self.claim(said, Seen::at(origin, 1))
    }

    /// Takes a PROXY header: whom it names as the client, and whom that one called. How many bytes of memory that took.
    pub fn proxy(&mut self, header: &Header, from_b: bool, at_start: bool, origin: Origin) -> usize {
        let over_tcp = !matches!(header.transport, Transport::Udp4 | Transport::Udp6);
        let topic = match (header.local, header.transport) {
            (true, _) => Topic::Local,
            (_, Transport::Unknown) => Topic::Unknown,
            (_, Transport::UnixStream | Transport::UnixDatagram) => Topic::Unix,
            _ => Topic::Client,
        };
        let said = Said {
            from_b,
            layout: Layout::Proxy(header.version),
            topic,
            address: header.source.map(|(address, _)| address.0),
            port: header.source.map(|(_, port)| port),
            ambiguous: !at_start || header.checksum == Checksum::Wrong || !over_tcp,
            text: describe(header),
        };
        let seen = Seen::at(origin, 1);
        let vip = header.destination.map(|(address, port)| Said {
            topic: Topic::Vip,
            address: Some(address.0),
            port: Some(port),
            text: String::new(),
            ..said.clone()
        });
        self.claim(said, seen) + vip.map_or(0, |vip| self.claim(vip, seen))
    }

    fn claim(&mut self, said: Said, seen: Seen) -> usize {
        if let Some((_, kept)) = self.claims.iter_mut().find(|(kept, _)| *kept == said) {
            kept.merge(&seen);
            return 0;
        }
        if self.claims.len() >= DIFFERENT_MAX {
            self.claims_lost += seen.count;
            return 0;
        }
        let grown = said.text.len() + size_of::<(Said, Seen)>();
        self.claims.push((said, seen));
        grown
    }

    /// Takes one request's value of a header; its lines are joined already. How many bytes of memory that took.
    pub fn header(&mut self, name: u16, value: &[u8], from_b: bool, resynchronised: bool, origin: Origin) -> usize {
        self.asked_by(from_b).value(Value {
            name,
            bytes: value.get(..VALUE_MAX).unwrap_or(value).to_vec(),
            cut: value.len() > VALUE_MAX,
            seen: Seen::at(origin, 1),
            resynchronised: u64::from(resynchronised),
        })
    }

    pub fn tally(&mut self, tally: &Tally, from_b: bool) {
        self.asked_by(from_b).of(tally);
    }

    fn asked_by(&mut self, from_b: bool) -> &mut Asked {
        let [a, b] = &mut self.asked;
        if from_b { b } else { a }
    }

    /// Joins what was noted of a later part of the flow.
    pub fn merge(&mut self, later: Notes) {
        for (said, seen) in later.claims {
            self.claim(said, seen);
        }
        self.claims_lost += later.claims_lost;
        for (mine, its) in self.asked.iter_mut().zip(later.asked) {
            mine.of(&Tally {
                requests: its.requests,
                resynchronised: its.resynchronised,
                heads_lost: its.heads_lost,
                gaps: its.gaps,
                is_tls: its.is_tls,
                is_http2: its.is_http2,
            });
            for value in its.values {
                mine.value(value);
            }
            mine.values_lost += its.values_lost;
        }
    }
}
