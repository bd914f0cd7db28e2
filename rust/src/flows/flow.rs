//! One living flow's packets go in, in the order of their records; its row comes out.

use super::end::{End, has};
use super::row::{Row, Shared, Sketch, Tuple, before, occupied};
use crate::columns::Time;
use crate::decode::packet::{IcmpError, Packet, Tcp, flag};
use crate::hash::{hash_words, mix};

/// How far from the numbers already seen a segment may lie and still belong to them.
#[derive(Debug, Clone, Copy)]
pub enum Slack {
    /// Inside what was seen, or right behind it.
    None,
    /// As far behind as an old duplicate, as far ahead as a large window.
    Window,
}

impl Slack {
    #[inline]
    fn holds(self, value: u32, end: &End) -> bool {
        let (Some(base), Some(seq_end)) = (end.base(), end.seq_end()) else {
            return true;
        };
        let span = seq_end.wrapping_sub(base);
        let (behind, ahead) = match self {
            Slack::None => (span.min(1 << 30), 0),
            Slack::Window => (span.min(1 << 30) + (1 << 20), 1 << 21),
        };
        let distance = i64::from(value.wrapping_sub(seq_end) as i32);
        -i64::from(behind) <= distance && distance <= ahead
    }
}

/// A gap between packets that is survived once what ended it is acknowledged; none where its length is 0.
#[derive(Debug, Default)]
pub(super) struct Gap {
    pub length_ns: u64,
    pub seq_end: u32,
    pub ended_by_b: bool,
}

/// What most flows never have.
#[derive(Debug, Default)]
struct Seldom {
    fragments: u32,
    icmp_errors: u32,
    icmp_type: u8,
    icmp_code: u8,
    icmp_v6: bool,
}

/// A flow; what its fields mean stands at those of `Row` and `Shared` with the same names.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Flow {
    pub tuple: Tuple,
    first_ns: Time,
    pub(super) silence_survived_ns: u64,
    pub(super) gap: Gap,
    pub copies: u64,
    /// Another incarnation of the tuple came after this one.
    pub is_followed: bool,
    vlan: u16,
    tunnel: u8,
    toa: bool,
    /// The end that sent payload last: the next payload of the other end begins a message.
    spoke_last: Option<bool>,
    pub(super) ends: [End; 2],
    timestamp_anchors: Sketch,
    payload_anchors: Sketch,
    seldom: Option<Box<Seldom>>,
}

impl Flow {
    pub fn new(tuple: Tuple) -> Self {
        Flow {
            tuple,
            ..Flow::default()
        }
    }

    /// A record of the flow was seen, a copy or not.
    #[inline]
    pub fn seen(&mut self, time: Time) {
        self.first_ns.keep_first(time);
    }

    /// A word of each line of cache that a packet looks at.
    #[inline]
    pub fn touch(&self, from_b: bool) -> u64 {
        let [a, b] = &self.ends;
        let (mine, other) = if from_b { (b, a) } else { (a, b) };
        self.silence_survived_ns ^ mine.touch() ^ other.touch_first() ^ self.timestamp_anchors.touch()
    }

    /// True where one end reset it or both closed it.
    pub fn is_closed(&self) -> bool {
        let [a, b] = &self.ends;
        a.resets() + b.resets() > 0 || (a.fins > 0 && b.fins > 0)
    }

    /// True where a segment's numbers belong to this incarnation.
    #[inline]
    pub fn fits(&self, from_b: bool, tcp: &Tcp<'_>, opens: bool, slack: Slack) -> bool {
        let [a, b] = &self.ends;
        let (mine, other) = if from_b { (b, a) } else { (a, b) };
        if opens {
            // The same ISN is a retransmitted SYN. Another one is another attempt, unless only its answer was seen before it.
            return match mine.isn() {
                Some(isn) => isn == tcp.seq,
                None => mine.packets == 0 && (other.packets == 0 || other.ack_end() == Some(tcp.seq.wrapping_add(1))),
            };
        }
        let acknowledges = tcp.flags & flag::ACK == 0 || slack.holds(tcp.ack, other);
        // A stateless RST that answers a segment without ACK carries sequence number 0 (tcp_v4_send_reset()).
        let stateless_zero = tcp.flags & flag::RST != 0 && tcp.seq == 0;
        acknowledges && (stateless_zero || slack.holds(tcp.seq, mine))
    }

    /// A fragment other than the first.
    pub fn fragment(&mut self, length: u32, from_b: bool) {
        self.seldom.get_or_insert_default().fragments += 1;
        let [a, b] = &mut self.ends;
        let end = if from_b { b } else { a };
        end.bytes += u64::from(length);
        if let Some(seq_end) = end.seq_end() {
            end.set_seq_end(seq_end.wrapping_add(length));
        }
    }

    /// An ICMP error that quotes the flow.
    pub fn icmp(&mut self, packet: &Packet<'_>, error: &IcmpError) {
        let seldom = self.seldom.get_or_insert_default();
        if seldom.icmp_errors == 0 {
            seldom.icmp_type = error.icmp_type;
            seldom.icmp_code = error.code;
            seldom.icmp_v6 = !packet.ip.source.is_v4();
        }
        seldom.icmp_errors += 1;
    }

    /// A segment that is no copy.
    #[inline]
    pub fn observe(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, from_b: bool, time: Time) {
        let has_payload = tcp.payload_length > 0;
        let message_begins = has_payload && self.spoke_last != Some(from_b);
        if has_payload {
            self.spoke_last = Some(from_b);
        }
        if self.ends[0].packets + self.ends[1].packets == 0 {
            self.vlan = packet.link.vlan[0];
            self.tunnel = packet.tunnels.kinds.first().map_or(0, |kind| *kind as u8);
        }
        self.toa |= tcp.has_toa;
        if let Some((value, echo)) = tcp.timestamps {
            self.timestamp_anchors
                .add(anchor(1, u64::from(value) << 32 | u64::from(echo)));
        }
        if message_begins && !tcp.payload.is_empty() {
            let hash = anchor(2, head_of(tcp.payload) ^ u64::from(tcp.seq));
            self.payload_anchors.add(hash & !1 | u64::from(from_b));
        }
        let taken = occupied(tcp.flags, tcp.payload_length);
        let end = tcp.seq.wrapping_add(taken);
        let reset = tcp.flags & flag::RST != 0;
        if !reset {
            self.delays(tcp, from_b, time, end);
        }
        let [a, b] = &mut self.ends;
        let (mine, other) = if from_b { (b, a) } else { (a, b) };
        mine.count(packet, tcp, time);
        if tcp.flags & (flag::SYN | flag::FIN | flag::RST) != 0 {
            mine.count_control(tcp, time);
        }
        if reset {
            return;
        }
        if taken > 0 {
            if mine.seq_end().is_some_and(|seen| !before(seen, end)) {
                mine.retransmissions += 1;
            }
            mine.occupied_last_ns.keep_last(time);
        }
        if mine.seq_end().is_none_or(|seen| before(seen, end)) {
            mine.set_seq_end(end);
        }
        if tcp.flags & flag::SYN == 0 && mine.seq_first().is_none_or(|seen| before(tcp.seq, seen)) {
            mine.set_seq_first(tcp.seq);
        }
        if tcp.window == 0 {
            mine.seldom_mut().zero_windows += 1;
        }
        if has_payload {
            mine.payload_first_ns.keep_first(time);
            mine.payload_last_ns.keep_last(time);
            if let Some(kind) = payload_kind(tcp, message_begins) {
                mine.last_payload = kind;
            }
        }
        if tcp.flags & flag::ACK != 0 {
            if mine.ack_end().is_none_or(|seen| before(seen, tcp.ack)) {
                mine.set_ack_end(tcp.ack);
            }
            if let Some(seen) = other.seq_end()
                && before(seen, tcp.ack)
            {
                // The receiver has bytes that this capture does not: it lost them, the network did not.
                other.seldom_mut().unseen_acked_bytes += u64::from(tcp.ack.wrapping_sub(seen));
                other.set_seq_end(tcp.ack);
            }
        }
    }

    /// The row; `last_ns` is when its last record was seen.
    pub fn row(&self, last_ns: Time) -> Row {
        let none = Seldom::default();
        let seldom = self.seldom.as_deref().unwrap_or(&none);
        let [a, b] = &self.ends;
        Row {
            tuple: self.tuple,
            a: a.half(),
            b: b.half(),
            shared: Shared {
                copies: self.copies,
                fragments: seldom.fragments,
                icmp_errors: seldom.icmp_errors,
                icmp_type: seldom.icmp_type,
                icmp_code: seldom.icmp_code,
                icmp_v6: seldom.icmp_v6,
                vlan: self.vlan,
                tunnel: self.tunnel,
                toa: self.toa,
                silence_survived_ns: self.silence_survived_ns,
                first_ns: self.first_ns,
                last_ns,
            },
            timestamp_anchors: self.timestamp_anchors,
            payload_anchors: self.payload_anchors,
            ..Row::default()
        }
    }
}

impl End {
    /// What is counted of every segment.
    #[inline]
    fn count(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, time: Time) {
        self.packets += 1;
        self.data_packets += u64::from(tcp.payload_length > 0);
        self.bytes += u64::from(tcp.payload_length);
        self.first_ns.keep_first(time);
        self.last_ns.keep_last(time);
        let ttl = packet.ip.ttl;
        self.ttl_min = if self.ttl_min == 0 { ttl } else { self.ttl_min.min(ttl) };
        self.ttl_max = self.ttl_max.max(ttl);
        if let Some(mss) = tcp.mss
            && self.has & has::MSS == 0
        {
            self.set_mss(mss);
        }
        if let Some(scale) = tcp.window_scale
            && self.has & has::WINDOW_SCALE == 0
        {
            self.set_window_scale(scale);
        }
        self.payload_max = self.payload_max.max(tcp.payload_length);
    }

    /// What is counted of segments that open, close or reset.
    fn count_control(&mut self, tcp: &Tcp<'_>, time: Time) {
        if tcp.flags & flag::SYN != 0 {
            if tcp.flags & flag::ACK != 0 {
                self.syn_acks += 1
            } else {
                self.syns += 1
            }
            if self.has & has::ISN == 0 {
                self.set_isn(tcp.seq);
            }
            self.syn_ns.keep_first(time);
            self.syn_last_ns.keep_last(time);
        }
        if tcp.flags & flag::FIN != 0 {
            self.fins += 1;
            self.fin_ns.keep_first(time);
        }
        if tcp.flags & flag::RST != 0 {
            let seldom = self.seldom_mut();
            let stateless = tcp.flags & flag::ACK == 0 && tcp.window == 0 && tcp.options.is_empty();
            seldom.reset_stateless = stateless && (seldom.resets == 0 || seldom.reset_stateless);
            seldom.resets += 1;
            seldom.reset_seq = seldom.reset_seq.or(Some(tcp.seq));
            seldom.reset_ns.keep_first(time);
            if tcp.flags & flag::ACK != 0 {
                seldom.reset_ack = seldom.reset_ack.or(Some(tcp.ack));
            }
        }
    }
}

/// A hash of the first 16 bytes of a payload.
fn head_of(payload: &[u8]) -> u64 {
    let mut head = [0_u8; 16];
    let length = payload.len().min(head.len());
    match payload.first_chunk() {
        Some(whole) => head = *whole,
        None => head.iter_mut().zip(payload).for_each(|(to, from)| *to = *from),
    }
    let bytes = u128::from_le_bytes(head);
    hash_words([bytes as u64, (bytes >> 64) as u64, length as u64, 0])
}

/// Bits of an anchor: among the six million of a million flows, two that are equal by chance are not to be expected.
const ANCHOR_BITS: u32 = 48;

fn anchor(kind: u64, value: u64) -> u64 {
    mix(mix(value) ^ kind) >> (u64::BITS - ANCHOR_BITS)
}

/// What a payload looks like by its first bytes; None in the middle of a message, where they tell nothing.
fn payload_kind(tcp: &Tcp<'_>, message_begins: bool) -> Option<u8> {
    const OTHER: u8 = 5;
    let payload = tcp.payload;
    let kind = match *payload {
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'O', b'S', b'T', b' ', ..]
        | [b'P', b'U', b'T', b' ', ..]
        | [b'H', b'E', b'A', b'D', b' ', ..]
        | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..]
        | [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' ', ..]
        | [b'P', b'A', b'T', b'C', b'H', b' ', ..]
        | [b'C', b'O', b'N', b'N', b'E', b'C', b'T', b' ', ..]
        | [b'T', b'R', b'A', b'C', b'E', b' ', ..] => 1,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', ..] => 2,
        // TLS record header: alert, close_notify among them (RFC 8446 section 5.1: type, legacy version 3.x, length).
        [21, 3, 0..=4, ..] => 4,
        // In TLS 1.3 an alert is sent as application data of 19 bytes (RFC 8446 section 5.2).
        [23, 3, 3, 0, 19, ..] if tcp.payload_length == 24 => 4,
        [20..=23, 3, 0..=4, ..] => 3,
        _ => OTHER,
    };
    (kind != OTHER || message_begins).then_some(kind)
}
