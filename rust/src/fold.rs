//! TCP segments of one flow go in, the ones that are only another copy of the same packet are told: an "any" capture, a bridge
//! and its port, a tunnel's outside and inside show one packet several times.

use crate::decode::packet::{Packet, Tcp, flag};

/// What identifies a packet when it is met again, and where it was met.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    time_ns: i64,
    seq: u32,
    ack: u32,
    length: u32,
    flags: u16,
    ip_id: u32,
    timestamps: Option<(u32, u32)>,
    checksum: u16,
    window: u16,
    /// Where the record was taken: interface, direction, depth of encapsulation.
    place: (u32, u32, u8, u8),
    /// False where a cooked header without interface index may stand for any of the host's interfaces.
    place_is_exact: bool,
    ttl: u8,
    used: bool,
}

/// Longest time between copies of a packet whose IP ID is not zero: the sender counts the ID up with each packet, so that an equal one
/// is the same packet, however long a queue inside the host held it (facts: retransmissions carry a new IP ID).
const WINDOW_WITH_ID_NS: i64 = 1_000_000_000;
/// The same where the ID is 0 (SYN-ACKs, stateless RSTs, IPv6) but the copies were taken at different interfaces; below the shortest
/// retransmission timeout of Linux, 200 ms (net/tcp.h TCP_RTO_MIN).
const WINDOW_OTHER_PLACE_NS: i64 = 100_000_000;
/// The same at one and the same interface, or where the link layer does not name it (SLL version 1).
const WINDOW_SAME_PLACE_NS: i64 = 2_000_000;

const KEPT: usize = 6;

/// `LinkInfo::packet_type` of link layers that have none.
const NO_COOKED_HEADER: u8 = 255;

/// The last packets of one direction of one flow.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    met: [Met; KEPT],
    next: u8,
}

impl Recent {
    /// True where this packet is a copy of one met shortly before; else it is remembered.
    pub fn is_copy(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, interface: u32, direction: u8, time_ns: i64) -> bool {
        let met = Met {
            time_ns,
            seq: tcp.seq,
            ack: tcp.ack,
            length: tcp.payload_length,
            flags: tcp.flags,
            ip_id: packet.ip.id,
            timestamps: tcp.timestamps,
            checksum: tcp.checksum,
            window: tcp.window,
            place: (
                interface,
                packet.link.ifindex,
                direction_of(packet, direction),
                packet.tunnels.depth,
            ),
            place_is_exact: packet.link.packet_type == NO_COOKED_HEADER || packet.link.ifindex != 0,
            ttl: packet.ip.ttl,
            used: true,
        };
        if self.met.iter().any(|earlier| same_packet(earlier, &met)) {
            return true;
        }
        let slot = usize::from(self.next) % KEPT;
        if let Some(place) = self.met.get_mut(slot) {
            *place = met;
        }
        self.next = self.next.wrapping_add(1) % KEPT as u8;
        false
    }
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
    if !earlier.used
        || earlier.seq != met.seq
        || earlier.ack != met.ack
        || earlier.length != met.length
        || earlier.flags != met.flags
        || earlier.ip_id != met.ip_id
        || earlier.timestamps != met.timestamps
        || earlier.window != met.window
    {
        return false;
    }
    let gap_ns = (met.time_ns - earlier.time_ns).abs();
    let elsewhere = earlier.place != met.place;
    if met.ip_id != 0 {
        // A host that forwards takes one from the TTL; a copy never has more hops behind it than two taps of one host can put there.
        return gap_ns <= WINDOW_WITH_ID_NS && earlier.ttl.abs_diff(met.ttl) <= 2;
    }
    if elsewhere {
        return gap_ns <= WINDOW_OTHER_PLACE_NS;
    }
    // A host may answer a burst with equal RSTs or ACKs, all with IP ID 0; at a place that the link layer names they are what they seem.
    let seldom_repeated = met.length > 0 || met.flags & flag::SYN != 0 || !met.place_is_exact;
    seldom_repeated && gap_ns <= WINDOW_SAME_PLACE_NS && earlier.checksum == met.checksum
}
