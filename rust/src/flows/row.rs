//! One flow's observations go in, one row of the flow table comes out: the columns are declared here, once.

use crate::columns::{Time, columns};
use crate::decode::packet::{Address, flag};
use crate::hash::hash_words;
use std::cmp::Ordering;

/// True where serial number `a` lies behind `b` (RFC 9293 section 3.4, modulo 2^32).
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn keep_most_advanced(kept: &mut Option<u32>, value: Option<u32>) {
    if let Some(value) = value {
        match *kept {
            Some(old) if !before(old, value) => {}
            _ => *kept = Some(value),
        }
    }
}

fn keep_least_advanced(kept: &mut Option<u32>, value: Option<u32>) {
    if let Some(value) = value {
        match *kept {
            Some(old) if !before(value, old) => {}
            _ => *kept = Some(value),
        }
    }
}

columns! {
    /// What one end sent, as seen at one vantage point. Copies are counted once.
    pub struct Half {
        /// Packets, copies folded.
        pub packets: u64,
        /// Packets with payload.
        pub data_packets: u64,
        /// Payload bytes on the wire, retransmitted ones included.
        pub bytes: u64,
        /// SYNs without ACK.
        pub syns: u32,
        /// SYNs with ACK.
        pub syn_acks: u32,
        pub fins: u32,
        pub resets: u32,
        /// Segments with payload, SYN or FIN whose sequence space had all been seen before.
        pub retransmissions: u32,
        /// Bytes that the other end acknowledged and that this capture never saw.
        pub unseen_acked_bytes: u64,
        pub zero_windows: u32,
        /// Longest time in which bytes or a SYN that this end sent, and sent again, waited to be acknowledged.
        pub stalled_ns: u64,
        /// Bytes of one part of the flow were sent again in a later part: what they waited is not known.
        pub sent_again_later: bool,
        /// Longest time in which this end announced no window, or too little for a sender to use.
        pub closed_window_ns: u64,
        /// Since when it is closed at the end, when it was last said to be, and when it was first said to be open.
        pub window_closed_ns: Time,
        pub window_closed_last_ns: Time,
        pub window_opened_ns: Time,
        /// Largest payload of one record; above the MSS where offload merged segments.
        pub payload_max: u32,
        /// Sequence number of the first SYN.
        pub isn: Option<u32>,
        /// Lowest sequence number seen, SYN left out.
        pub seq_first: Option<u32>,
        /// One past the most advanced sequence number sent, SYN and FIN counted.
        pub seq_end: Option<u32>,
        /// Most advanced acknowledgment number sent.
        pub ack_end: Option<u32>,
        pub mss: Option<u16>,
        pub window_scale: Option<u8>,
        pub ttl_min: u8,
        pub ttl_max: u8,
        /// Kind of the last payload: 0 none, 1 HTTP/1 request head, 2 HTTP/1 response head, 3 TLS, 4 TLS alert, 5 other.
        pub last_payload: u8,
        /// Every RST this end sent had no ACK flag, no options and window 0: from no live socket (tcp_v4_send_reset()).
        pub reset_stateless: bool,
        pub reset_seq: Option<u32>,
        pub reset_ack: Option<u32>,
        pub first_ns: Time,
        pub last_ns: Time,
        pub syn_ns: Time,
        pub syn_last_ns: Time,
        pub payload_first_ns: Time,
        pub payload_last_ns: Time,
        /// Last packet that carried payload, SYN or FIN: what wants an answer.
        pub occupied_last_ns: Time,
        pub fin_ns: Time,
        pub reset_ns: Time,
    }
}

impl Half {
    /// Joins what was seen later in. Associative; sums are sums, the rest does not mind seeing a packet twice.
    pub fn merge(&mut self, later: &Half) {
        self.merge_delays(later);
        self.packets += later.packets;
        self.data_packets += later.data_packets;
        self.bytes += later.bytes;
        self.syns += later.syns;
        self.syn_acks += later.syn_acks;
        self.fins += later.fins;
        self.retransmissions += later.retransmissions;
        self.unseen_acked_bytes += later.unseen_acked_bytes;
        self.zero_windows += later.zero_windows;
        self.payload_max = self.payload_max.max(later.payload_max);
        self.isn = self.isn.or(later.isn);
        keep_least_advanced(&mut self.seq_first, later.seq_first);
        keep_most_advanced(&mut self.seq_end, later.seq_end);
        keep_most_advanced(&mut self.ack_end, later.ack_end);
        self.mss = self.mss.or(later.mss);
        self.window_scale = self.window_scale.or(later.window_scale);
        self.ttl_min = match (self.ttl_min, later.ttl_min) {
            (0, other) | (other, 0) => other,
            (a, b) => a.min(b),
        };
        self.ttl_max = self.ttl_max.max(later.ttl_max);
        if later.last_payload != 0 {
            self.last_payload = later.last_payload;
        }
        if later.resets > 0 {
            self.reset_stateless = later.reset_stateless && (self.resets == 0 || self.reset_stateless);
        }
        self.reset_seq = self.reset_seq.or(later.reset_seq);
        self.reset_ack = self.reset_ack.or(later.reset_ack);
        self.resets += later.resets;
        self.first_ns.keep_first(later.first_ns);
        self.last_ns.keep_last(later.last_ns);
        self.syn_ns.keep_first(later.syn_ns);
        self.syn_last_ns.keep_last(later.syn_last_ns);
        self.payload_first_ns.keep_first(later.payload_first_ns);
        self.payload_last_ns.keep_last(later.payload_last_ns);
        self.occupied_last_ns.keep_last(later.occupied_last_ns);
        self.fin_ns.keep_first(later.fin_ns);
        self.reset_ns.keep_first(later.reset_ns);
    }
}

columns! {
    /// What belongs to neither end alone.
    pub struct Shared {
        /// Records that were another copy of a packet already counted.
        pub copies: u64,
        /// Fragments other than the first.
        pub fragments: u32,
        /// ICMP errors that quote this flow, and the first one's type and code.
        pub icmp_errors: u32,
        pub icmp_type: u8,
        pub icmp_code: u8,
        pub icmp_v6: bool,
        /// Outermost VLAN id of the first record, 0 for none.
        pub vlan: u16,
        /// Kind of the outermost tunnel of the first record (decode::packet::Tunnel), 0 for none.
        pub tunnel: u8,
        /// An option that may carry the real client's address was seen (facts 1.1).
        pub toa: bool,
        /// Longest time without a packet after which what ended it was acknowledged.
        pub silence_survived_ns: u64,
        pub first_ns: Time,
        pub last_ns: Time,
    }
}

impl Shared {
    pub fn merge(&mut self, later: &Shared) {
        self.copies += later.copies;
        self.fragments += later.fragments;
        if self.icmp_errors == 0 {
            self.icmp_type = later.icmp_type;
            self.icmp_code = later.icmp_code;
            self.icmp_v6 = later.icmp_v6;
        }
        self.icmp_errors += later.icmp_errors;
        self.toa |= later.toa;
        self.first_ns.keep_first(later.first_ns);
        self.last_ns.keep_last(later.last_ns);
    }
}

/// A 5-tuple without direction: `a` is the lower end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tuple {
    ips: [Address; 2],
    ports: [u16; 2],
}

impl Tuple {
    /// The tuple, and whether the source is its end `b`.
    #[inline]
    pub fn of(source: (Address, u16), destination: (Address, u16)) -> (Tuple, bool) {
        let from_b = source.0 > destination.0 || (source.0 == destination.0 && source.1 > destination.1);
        let (a, b) = if from_b {
            (destination, source)
        } else {
            (source, destination)
        };
        let tuple = Tuple {
            ips: [a.0, b.0],
            ports: [a.1, b.1],
        };
        (tuple, from_b)
    }

    /// The lower end.
    pub fn a(&self) -> (Address, u16) {
        (self.ips[0], self.ports[0])
    }

    /// The higher end.
    pub fn b(&self) -> (Address, u16) {
        (self.ips[1], self.ports[1])
    }

    /// A hash that is the same in every run: results must not depend on it being random.
    #[inline]
    pub fn hash64(&self) -> u64 {
        let [a, b] = self.ips;
        hash_words([
            a.0 as u64,
            b.0 as u64,
            (a.0 >> 64) as u64 ^ (b.0 >> 64) as u64,
            u64::from(self.ports[0]) << 16 | u64::from(self.ports[1]),
        ])
    }
}

impl Ord for Tuple {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.a(), self.b()).cmp(&(other.a(), other.b()))
    }
}

impl PartialOrd for Tuple {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How many of the smallest hashes a sketch keeps; a flow shorter than that keeps all its own.
pub const SKETCH: usize = 6;

/// The k smallest hashes of what a flow's packets carry: two places that saw the same packets keep the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch {
    /// In their order; what is not taken yet is larger than any hash.
    hashes: [u64; SKETCH],
    count: u8,
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch {
            hashes: [u64::MAX; SKETCH],
            count: 0,
        }
    }
}

impl Sketch {
    #[inline]
    pub fn add(&mut self, hash: u64) {
        if hash < self.hashes[SKETCH - 1] {
            self.insert(hash);
        }
    }

    fn insert(&mut self, hash: u64) {
        if self.hashes.contains(&hash) {
            return;
        }
        // Each place keeps the smaller one and hands the larger one on: no branch that could be guessed wrong.
        let mut larger = hash;
        for kept in &mut self.hashes {
            (*kept, larger) = ((*kept).min(larger), (*kept).max(larger));
        }
        self.count = (self.count + 1).min(SKETCH as u8);
    }

    /// A word of the line of cache that `add` looks at.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.hashes[SKETCH - 1]
    }

    pub fn values(&self) -> &[u64] {
        self.hashes
            .get(..usize::from(self.count).min(SKETCH))
            .unwrap_or_default()
    }

    pub fn merge(&mut self, other: &Sketch) {
        for hash in other.values() {
            self.add(*hash);
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.count);
        for hash in self.values() {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }

    fn get(input: &mut &[u8]) -> Option<Sketch> {
        let (count, rest) = input.split_first()?;
        *input = rest;
        let mut sketch = Sketch {
            count: *count,
            ..Sketch::default()
        };
        for slot in sketch.hashes.get_mut(..usize::from(*count))? {
            let (bytes, rest) = input.split_first_chunk::<8>()?;
            *slot = u64::from_le_bytes(*bytes);
            *input = rest;
        }
        Some(sketch)
    }
}

/// One row: one incarnation of a 5-tuple at one vantage point, or a part of it in time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    pub tuple: Tuple,
    pub a: Half,
    pub b: Half,
    pub shared: Shared,
    /// Hashes of (TSval, TSecr) pairs and of (sequence number, first payload bytes) of segments that begin a message;
    /// the lowest bit of the latter tells the sender: 0 for end `a`, 1 for `b`.
    pub timestamp_anchors: Sketch,
    pub payload_anchors: Sketch,
    /// Where the frame index keeps the last chunk of this row's frames; several where parts were merged.
    pub chains: Vec<u64>,
    /// Where a watch put its notes of this row's parts, in the order of time; empty where none was on.
    pub notes: Vec<u64>,
}

impl Row {
    pub fn merge(&mut self, later: &Row) {
        self.merge_silence(later);
        self.a.merge(&later.a);
        self.b.merge(&later.b);
        self.shared.merge(&later.shared);
        self.timestamp_anchors.merge(&later.timestamp_anchors);
        self.payload_anchors.merge(&later.payload_anchors);
        self.chains.extend_from_slice(&later.chains);
        self.notes.extend_from_slice(&later.notes);
    }

    /// True where `later`, the next row of the same tuple in time, is the same incarnation: it has no SYN of its own, or the same one,
    /// and its numbers are near those already seen.
    pub fn continues_in(&self, later: &Row) -> bool {
        let same = |mine: &Half, its: &Half| match (mine.isn, its.isn) {
            (Some(x), Some(y)) => x == y,
            (None, Some(_)) => mine.packets == 0,
            _ => true,
        };
        let near = |mine: &Half, its: &Half| match (mine.seq_end, its.seq_first) {
            // One gibibyte of bytes may pass unseen while a flow is idle here; a new ISN is farther away almost always.
            (Some(end), Some(first)) => (first.wrapping_sub(end) as i32).unsigned_abs() < 1 << 30,
            _ => true,
        };
        same(&self.a, &later.a) && same(&self.b, &later.b) && near(&self.a, &later.a) && near(&self.b, &later.b)
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        for (address, port) in [self.tuple.a(), self.tuple.b()] {
            out.extend_from_slice(&address.0.to_le_bytes());
            out.extend_from_slice(&port.to_le_bytes());
        }
        self.a.put(out);
        self.b.put(out);
        self.shared.put(out);
        self.timestamp_anchors.put(out);
        self.payload_anchors.put(out);
        for places in [&self.chains, &self.notes] {
            out.extend_from_slice(&(places.len() as u32).to_le_bytes());
            for place in places {
                out.extend_from_slice(&place.to_le_bytes());
            }
        }
    }

    pub fn get(input: &mut &[u8]) -> Option<Row> {
        fn chunk<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
            let (bytes, rest) = input.split_first_chunk::<N>()?;
            *input = rest;
            Some(*bytes)
        }
        let mut row = Row::default();
        for (ip, port) in row.tuple.ips.iter_mut().zip(&mut row.tuple.ports) {
            *ip = Address(u128::from_le_bytes(chunk(input)?));
            *port = u16::from_le_bytes(chunk(input)?);
        }
        row.a = Half::get(input)?;
        row.b = Half::get(input)?;
        row.shared = Shared::get(input)?;
        row.timestamp_anchors = Sketch::get(input)?;
        row.payload_anchors = Sketch::get(input)?;
        for places in [&mut row.chains, &mut row.notes] {
            for _ in 0..u32::from_le_bytes(chunk(input)?) {
                places.push(u64::from_le_bytes(chunk(input)?));
            }
        }
        Some(row)
    }

    /// Order of rows in the table: by time, then by tuple, so that the same input gives the same bytes.
    pub fn order(&self) -> (i64, Tuple) {
        (self.shared.first_ns.0, self.tuple)
    }
}

/// Bits of the flags that take a place in the sequence space.
pub fn occupied(flags: u16, payload_length: u32) -> u32 {
    let syn = u32::from(flags & flag::SYN != 0);
    let fin = u32::from(flags & flag::FIN != 0);
    payload_length.wrapping_add(syn).wrapping_add(fin)
}
