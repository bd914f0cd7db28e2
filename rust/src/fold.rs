//! TCP segments of one flow go in, the ones that are only another copy of the same packet are told: an "any" capture, a bridge
//! and its port, a tunnel's outside and inside show one packet several times.

use crate::decode::packet::{Packet, Tcp, flag};
use crate::flows::row::mix;

/// A packet met before, in few bytes: what identifies it is hashed.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    time_ns: i64,
    /// Of sequence and acknowledgment number, length, flags, IP ID, timestamps and window.
    identity: u64,
    /// Of where the record was taken: interface, direction, depth of encapsulation.
    place: u64,
    checksum: u16,
    ttl: u8,
    has_ip_id: bool,
    /// False where a cooked header without interface index may stand for any of the host's interfaces.
    place_is_exact: bool,
    /// Carries payload or opens, which no host does twice within microseconds; a SYN-ACK answers a repeated SYN and its own timer.
    seldom_repeated: bool,
}

/// Longest time between copies of a packet whose IP ID is not zero: the sender counts the ID up with each packet, so that an equal one
/// is the same packet, however long a queue inside the host held it (facts: retransmissions carry a new IP ID).
const WINDOW_WITH_ID_NS: u64 = 1_000_000_000;
/// The same where the ID is 0 (SYN-ACKs, stateless RSTs, IPv6) but the copies were taken at different interfaces; below the shortest
/// retransmission timeout of Linux, 200 ms (net/tcp.h TCP_RTO_MIN).
const WINDOW_OTHER_PLACE_NS: u64 = 100_000_000;
/// The same at one and the same interface, or where the link layer does not name it (SLL version 1).
const WINDOW_SAME_PLACE_NS: u64 = 2_000_000;

/// Packets remembered of one direction: a host hands its packets on in batches (net.core.gro_normal_batch is 8), so that copies of
/// several packets may lie between a packet and its own.
const KEPT: usize = 16;

/// `LinkInfo::packet_type` of link layers that have none.
const NO_COOKED_HEADER: u8 = 255;

/// The last packets of one direction of one flow.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    met: Vec<Met>,
    next: u8,
}

impl Recent {
    /// True where this packet is a copy of one met shortly before; else it is remembered.
    pub fn is_copy(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, interface: u32, direction: u8, time_ns: i64) -> bool {
        let met = Met {
            time_ns,
            identity: identity(packet, tcp),
            place: mix(mix(u64::from(interface) << 32 | u64::from(packet.link.ifindex))
                ^ (u64::from(direction_of(packet, direction)) << 8 | u64::from(packet.tunnels.depth))),
            checksum: tcp.checksum,
            ttl: packet.ip.ttl,
            has_ip_id: packet.ip.id != 0,
            place_is_exact: packet.link.packet_type == NO_COOKED_HEADER || packet.link.ifindex != 0,
            seldom_repeated: tcp.payload_length > 0 || tcp.flags & (flag::SYN | flag::ACK) == flag::SYN,
        };
        if self.met.iter().any(|earlier| same_packet(earlier, &met)) {
            return true;
        }
        if self.met.len() < KEPT {
            self.met.push(met);
        } else if let Some(slot) = self.met.get_mut(usize::from(self.next) % KEPT) {
            *slot = met;
            self.next = (self.next + 1) % KEPT as u8;
        }
        false
    }
}

fn identity(packet: &Packet<'_>, tcp: &Tcp<'_>) -> u64 {
    let (value, echo) = tcp.timestamps.unwrap_or_default();
    let mut state = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
    for word in [
        u64::from(tcp.payload_length) << 32 | u64::from(tcp.flags) << 16 | u64::from(tcp.window),
        u64::from(value) << 32 | u64::from(echo),
        u64::from(packet.ip.id) << 1 | u64::from(tcp.timestamps.is_some()),
    ] {
        state = mix(state) ^ word;
    }
    mix(state)
}

/// In or out: from the record where it says so, else from the cooked header (4 is outgoing, libpcap's sll.h).
fn direction_of(packet: &Packet<'_>, direction: u8) -> u8 {
    match (direction, packet.link.packet_type) {
        (0, 4) => 2,
        (0, 0..=3) => 1,
        (known, _) => known,
    }
}

fn same_packet(earlier: &Met, met: &Met) -> bool {
    if earlier.identity != met.identity {
        return false;
    }
    let gap_ns = met.time_ns.abs_diff(earlier.time_ns);
    if met.has_ip_id {
        // A host that forwards takes one from the TTL; a copy never has more hops behind it than two taps of one host can put there.
        return gap_ns <= WINDOW_WITH_ID_NS && earlier.ttl.abs_diff(met.ttl) <= 2;
    }
    if earlier.place != met.place {
        return gap_ns <= WINDOW_OTHER_PLACE_NS;
    }
    // A host may answer a burst with equal RSTs, ACKs or SYN-ACKs, all with IP ID 0; at a place that the link layer names they are what they seem.
    (met.seldom_repeated || !met.place_is_exact) && gap_ns <= WINDOW_SAME_PLACE_NS && earlier.checksum == met.checksum
}
