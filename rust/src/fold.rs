//! TCP segments go in, the ones that are only another copy of the same packet are told: an "any" capture, a bridge and its port, a
//! tunnel's outside and inside show one packet several times.

use crate::decode::packet::{Packet, Tcp, flag};
use crate::hash::{hash_pair, hash_words};

/// A packet in few bytes: what identifies it is hashed.
#[derive(Debug, Clone, Copy)]
struct Met {
    /// Of the flow and its direction, sequence and acknowledgment number, length, flags, IP ID, timestamps and window.
    identity: u64,
    time_ns: i64,
    /// Of where the record was taken: interface, direction, depth of encapsulation.
    place: u32,
    checksum: u16,
    ttl: u8,
    is: u8,
}

/// Bits of `Met::is`: the IP ID is not zero; the place is exact (a cooked header without interface index may stand for any of the
/// host's interfaces); it carries payload or opens, which no host does twice within microseconds, while a SYN-ACK answers a repeated
/// SYN and its own timer.
const HAS_IP_ID: u8 = 1;
const PLACE_IS_EXACT: u8 = 2;
const SELDOM_REPEATED: u8 = 4;

/// Longest time between copies of a packet whose IP ID is not zero: the sender counts the ID up with each packet, so that an equal one
/// is the same packet, however long a queue inside the host held it (facts: retransmissions carry a new IP ID).
const WINDOW_WITH_ID_NS: u64 = 1_000_000_000;
/// The same where the ID is 0 (SYN-ACKs, stateless RSTs, IPv6) but the copies were taken at different interfaces; below the shortest
/// retransmission timeout of Linux, 200 ms (net/tcp.h TCP_RTO_MIN).
const WINDOW_OTHER_PLACE_NS: u64 = 100_000_000;
/// The same at one and the same interface, or where the link layer does not name it (SLL version 1).
const WINDOW_SAME_PLACE_NS: u64 = 2_000_000;

/// `LinkInfo::packet_type` of link layers that have none.
const NO_COOKED_HEADER: u8 = 255;

/// Sets of packets, by identity; each holds the last `WAYS` packets that came to it. All of them hold what a fast link carries in more
/// than the time in which copies follow each other.
const SETS: usize = 1 << 12;
const WAYS: usize = 8;

/// Packets of one set; the identities fill one line of cache.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Set {
    identities: [u64; WAYS],
    /// The time, and all else.
    details: [(i64, u64); WAYS],
}

/// The last packets of a vantage point.
pub struct Recent {
    sets: Vec<Set>,
    /// By set: which of its packets came first.
    oldest: Vec<u8>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            sets: vec![Set::default(); SETS],
            oldest: vec![0; SETS],
        }
    }
}

/// A packet as it is looked for among those met before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought(u64);

impl Sought {
    /// `flow` stands for the flow and its direction.
    #[inline]
    pub fn of(packet: &Packet<'_>, tcp: &Tcp<'_>, flow: u64) -> Sought {
        let (value, echo) = tcp.timestamps.unwrap_or_default();
        let identity = hash_words([
            u64::from(tcp.seq) << 32 | u64::from(tcp.ack),
            u64::from(tcp.payload_length) << 32 | u64::from(tcp.flags) << 16 | u64::from(tcp.window),
            u64::from(value) << 32 | u64::from(echo),
            flow ^ (u64::from(packet.ip.id) << 1 | u64::from(tcp.timestamps.is_some())),
        ]);
        // 0 is where nothing was met.
        Sought(identity.max(1))
    }

    fn set(self) -> usize {
        (self.0 >> 40) as usize % SETS
    }
}

impl Recent {
    /// A word of the line of cache that the search looks at.
    #[inline]
    pub fn touch(&self, sought: Sought) -> u64 {
        self.sets.get(sought.set()).map_or(0, |set| set.identities[0])
    }

    /// True where this packet is a copy of one met shortly before; else it is remembered.
    #[inline]
    pub fn is_copy(
        &mut self,
        sought: Sought,
        packet: &Packet<'_>,
        tcp: &Tcp<'_>,
        interface: u32,
        direction: u8,
        time_ns: i64,
    ) -> bool {
        let link = &packet.link;
        let seldom_repeated = tcp.payload_length > 0 || tcp.flags & (flag::SYN | flag::ACK) == flag::SYN;
        let place_is_exact = link.packet_type == NO_COOKED_HEADER || link.ifindex != 0;
        let met = Met {
            identity: sought.0,
            time_ns,
            place: place(packet, interface, direction),
            checksum: tcp.checksum,
            ttl: packet.ip.ttl,
            is: [
                (packet.ip.id != 0, HAS_IP_ID),
                (place_is_exact, PLACE_IS_EXACT),
                (seldom_repeated, SELDOM_REPEATED),
            ]
            .iter()
            .fold(0, |is, (holds, bit)| if *holds { is | bit } else { is }),
        };
        let number = sought.set();
        let (Some(set), Some(oldest)) = (self.sets.get_mut(number), self.oldest.get_mut(number)) else {
            return false;
        };
        for (identity, details) in set.identities.iter().zip(&set.details) {
            if *identity == met.identity && same_packet(&Met::new(*identity, *details), &met) {
                return true;
            }
        }
        let at = usize::from(*oldest);
        set.identities[at % WAYS] = met.identity;
        set.details[at % WAYS] = met.details();
        *oldest = (*oldest + 1) % WAYS as u8;
        false
    }
}

impl Met {
    fn new(identity: u64, (time_ns, rest): (i64, u64)) -> Met {
        Met {
            identity,
            time_ns,
            place: (rest >> 32) as u32,
            checksum: (rest >> 16) as u16,
            ttl: (rest >> 8) as u8,
            is: rest as u8,
        }
    }

    #[inline]
    fn details(&self) -> (i64, u64) {
        let rest = u64::from(self.place) << 32
            | u64::from(self.checksum) << 16
            | u64::from(self.ttl) << 8
            | u64::from(self.is);
        (self.time_ns, rest)
    }
}

fn place(packet: &Packet<'_>, interface: u32, direction: u8) -> u32 {
    let which = u64::from(interface) << 32 | u64::from(packet.link.ifindex);
    let how = u64::from(direction_of(packet, direction)) << 8 | u64::from(packet.tunnels.depth);
    (hash_pair(which, how) >> 16) as u32
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
    if met.is & HAS_IP_ID != 0 {
        // A host that forwards takes one from the TTL; a copy never has more hops behind it than two taps of one host can put there.
        return gap_ns <= WINDOW_WITH_ID_NS && earlier.ttl.abs_diff(met.ttl) <= 2;
    }
    if earlier.place != met.place {
        return gap_ns <= WINDOW_OTHER_PLACE_NS;
    }
    // A host may answer a burst with equal RSTs, ACKs or SYN-ACKs, all with IP ID 0; at a place that the link layer names they are what they seem.
    (met.is & SELDOM_REPEATED != 0 || met.is & PLACE_IS_EXACT == 0)
        && gap_ns <= WINDOW_SAME_PLACE_NS
        && earlier.checksum == met.checksum
}
