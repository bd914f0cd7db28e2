//! Decoded packets of one vantage point go in, in the order of their records; rows of the flow table come out when flows go idle.

use super::delays::Delays;
use super::row::{Half, Row, Tuple, before, mix, occupied};
use crate::columns::Time;
use crate::decode::packet::{Address, IcmpError, Inner, Packet, Tcp, flag};
use crate::fold::Recent;
use crate::index::{FrameList, FrameLog};
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::io;

/// A flow that said nothing for so long is written out; what comes later is merged with it (silence is evidence, not an end).
const IDLE_NS: i64 = 130_000_000_000;
/// The same for flows that both ends closed or one reset: TIME_WAIT is over (60 s, net/tcp.h TCP_TIMEWAIT_LEN), late packets are merged.
const IDLE_CLOSED_NS: i64 = 10_000_000_000;
/// Flows looked at with each packet, round and round, whether they went idle: more than one packet can begin, so that none is left.
const LOOKED_AT: usize = 2;
/// Flows alive at once, at most: in a flood the ones next in turn are written out early, and merged at the end.
const LIVE_MAX: usize = 200_000;
/// First fragments remembered, so that later ones find their flow.
const FRAGMENTS_KEPT: usize = 1024;

/// Where a record came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Which file of the vantage point, and the record's number in it.
    pub file: u32,
    pub frame: u64,
    /// Unique over the files of a vantage point: two files may be two interfaces.
    pub interface: u32,
    pub direction: u8,
    pub time_ns: i64,
}

/// Incarnations of one tuple kept alive behind the newest: late packets of attempts long ago are rare, floods of them are not.
const INCARNATIONS_KEPT: usize = 3;

/// How far from the numbers already seen a segment may lie and still belong to them.
#[derive(Debug, Clone, Copy)]
enum Slack {
    /// Inside what was seen, or right behind it.
    None,
    /// As far behind as an old duplicate, as far ahead as a large window.
    Window,
}

impl Slack {
    fn holds(self, value: u32, half: &Half) -> bool {
        let (Some(base), Some(end)) = (half.base(), half.seq_end) else {
            return true;
        };
        let span = end.wrapping_sub(base);
        let (behind, ahead) = match self {
            Slack::None => (span.min(1 << 30), 0),
            Slack::Window => (span.min(1 << 30) + (1 << 20), 1 << 21),
        };
        let distance = i64::from(value.wrapping_sub(end) as i32);
        -i64::from(behind) <= distance && distance <= ahead
    }
}

#[derive(Debug, Default)]
struct Live<N> {
    row: Row,
    /// What the watch notes of this flow.
    notes: N,
    frames: FrameList,
    recent: [Recent; 2],
    delays: Delays,
    /// The end that sent payload last: the next payload of the other end begins a message.
    spoke_last: Option<bool>,
    /// The incarnation before this one, while it lives: late packets may still belong to it.
    previous: Option<usize>,
}

/// What becomes of rows that are done.
pub trait RowSink {
    fn row(&mut self, row: Row) -> io::Result<()>;
}

/// What looks at each flow's segments beside the table itself, and keeps notes of its own.
pub trait Watch {
    /// What is noted of one flow while it lives.
    type Notes: Default + Send;
    /// A segment; `copy` where the packet was counted already.
    fn segment(
        &mut self,
        notes: &mut Self::Notes,
        tcp: &Tcp<'_>,
        from_b: bool,
        copy: bool,
        origin: Origin,
    ) -> io::Result<()>;
    /// The flow is written out; where its notes were put, if there are any.
    fn ended(&mut self, notes: Self::Notes) -> io::Result<Option<u64>>;
}

/// The plain scan notes nothing.
impl Watch for () {
    type Notes = ();

    #[inline]
    fn segment(&mut self, (): &mut (), _: &Tcp<'_>, _: bool, _: bool, _: Origin) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    fn ended(&mut self, (): ()) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

/// All flows that are alive at one vantage point.
pub struct FlowTable<S: RowSink, W: Watch = ()> {
    slots: Vec<Option<Live<W::Notes>>>,
    free: Vec<usize>,
    current: HashTable<usize>,
    fragments: VecDeque<(Address, Address, u32, usize, bool)>,
    /// The slot to be looked at next.
    hand: usize,
    pub sink: S,
    pub log: FrameLog,
    pub watch: W,
}

impl<S: RowSink, W: Watch> FlowTable<S, W> {
    pub fn new(sink: S, log: FrameLog, watch: W) -> Self {
        FlowTable {
            slots: Vec::new(),
            free: Vec::new(),
            current: HashTable::new(),
            fragments: VecDeque::new(),
            hand: 0,
            sink,
            log,
            watch,
        }
    }

    pub fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes one packet in.
    pub fn packet(&mut self, packet: &Packet<'_>, origin: Origin) -> io::Result<()> {
        match &packet.inner {
            Inner::Tcp(tcp) => self.tcp(packet, tcp, origin)?,
            Inner::TcpFragment(length) => self.fragment(packet, *length, origin)?,
            Inner::IcmpError(error) => self.icmp(packet, error, origin)?,
            Inner::Other | Inner::Malformed | Inner::Arp(_) => {}
        }
        self.look_for_idle(origin.time_ns)
    }

    /// Writes out all that is alive.
    pub fn finish(&mut self) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            self.emit(slot)?;
        }
        self.current.clear();
        Ok(())
    }

    fn tcp(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, origin: Origin) -> io::Result<()> {
        let (tuple, from_b) = Tuple::of(
            (packet.ip.source, tcp.source_port),
            (packet.ip.destination, tcp.destination_port),
        );
        let slot = self.place(tuple, from_b, tcp)?;
        let Some(live) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        let time = Time(origin.time_ns);
        live.row.shared.first_ns.keep_first(time);
        live.row.shared.last_ns.keep_last(time);
        let recent = &mut live.recent[usize::from(from_b)];
        let copy = recent.is_copy(packet, tcp, origin.interface, origin.direction, origin.time_ns);
        self.watch.segment(&mut live.notes, tcp, from_b, copy, origin)?;
        if copy {
            live.row.shared.copies += 1;
            return Ok(());
        }
        if packet.ip.more_fragments {
            if self.fragments.len() >= FRAGMENTS_KEPT {
                self.fragments.pop_front();
            }
            self.fragments
                .push_back((packet.ip.source, packet.ip.destination, packet.ip.id, slot, from_b));
        }
        live.observe(packet, tcp, from_b, time);
        Ok(())
    }

    /// Finds the flow that a segment belongs to, or begins one.
    fn place(&mut self, tuple: Tuple, from_b: bool, tcp: &Tcp<'_>) -> io::Result<usize> {
        let hash = tuple.hash64();
        let slots = &self.slots;
        let same = |slot: &usize| {
            slots
                .get(*slot)
                .and_then(Option::as_ref)
                .is_some_and(|live| live.row.tuple == tuple)
        };
        let Some(&newest) = self.current.find(hash, same) else {
            let slot = self.begin(tuple, None);
            let slots = &self.slots;
            self.current.insert_unique(hash, slot, |slot| {
                slots
                    .get(*slot)
                    .and_then(Option::as_ref)
                    .map_or(0, |live| live.row.tuple.hash64())
            });
            return Ok(slot);
        };
        let opens = tcp.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        // An incarnation whose numbers hold the segment's exactly comes before one whose numbers are merely near.
        for slack in [Slack::None, Slack::Window] {
            for candidate in self.incarnations(newest) {
                let live = self.slots.get(candidate).and_then(Option::as_ref);
                if live.is_some_and(|live| live.fits(from_b, tcp, opens, slack)) {
                    return Ok(candidate);
                }
            }
        }
        if !opens {
            return Ok(newest);
        }
        let slot = self.begin(tuple, Some(newest));
        let slots = &self.slots;
        if let Ok(mut entry) = self.current.find_entry(hash, |held| {
            slots
                .get(*held)
                .and_then(Option::as_ref)
                .is_some_and(|live| live.row.tuple == tuple)
        }) {
            *entry.get_mut() = slot;
        }
        let oldest = self.incarnations(slot).nth(INCARNATIONS_KEPT);
        if let Some(oldest) = oldest {
            self.emit(oldest)?;
        }
        Ok(slot)
    }

    /// The incarnations of one tuple that are alive, newest first.
    fn incarnations(&self, newest: usize) -> impl Iterator<Item = usize> + use<'_, S, W> {
        std::iter::successors(Some(newest), |slot| {
            self.slots.get(*slot).and_then(Option::as_ref)?.previous
        })
        .take(INCARNATIONS_KEPT + 1)
    }

    fn begin(&mut self, tuple: Tuple, previous: Option<usize>) -> usize {
        let live = Live {
            row: Row {
                tuple,
                ..Row::default()
            },
            previous,
            ..Live::default()
        };
        match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = Some(live);
                }
                slot
            }
            None => {
                self.slots.push(Some(live));
                self.slots.len() - 1
            }
        }
    }

    fn fragment(&mut self, packet: &Packet<'_>, length: u32, origin: Origin) -> io::Result<()> {
        let key = (packet.ip.source, packet.ip.destination, packet.ip.id);
        let Some(&(.., slot, from_b)) = self
            .fragments
            .iter()
            .rev()
            .find(|(source, destination, id, ..)| (*source, *destination, *id) == key)
        else {
            return Ok(());
        };
        let Some(live) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        live.row.shared.fragments += 1;
        live.row.shared.last_ns.keep_last(Time(origin.time_ns));
        let half = live.half(from_b);
        half.bytes += u64::from(length);
        half.seq_end = half.seq_end.map(|end| end.wrapping_add(length));
        Ok(())
    }

    fn icmp(&mut self, packet: &Packet<'_>, error: &IcmpError, origin: Origin) -> io::Result<()> {
        let (tuple, from_b) = Tuple::of(
            (error.quoted_source, error.quoted_source_port),
            (error.quoted_destination, error.quoted_destination_port),
        );
        // A segment that looks like the quoted one finds the incarnation by its numbers.
        let quoted = Tcp {
            seq: error.quoted_seq,
            ..Tcp::default()
        };
        let slot = self.place(tuple, from_b, &quoted)?;
        let Some(live) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        let shared = &mut live.row.shared;
        if shared.icmp_errors == 0 {
            shared.icmp_type = error.icmp_type;
            shared.icmp_code = error.code;
            shared.icmp_v6 = !packet.ip.source.is_v4();
        }
        shared.icmp_errors += 1;
        shared.first_ns.keep_first(Time(origin.time_ns));
        shared.last_ns.keep_last(Time(origin.time_ns));
        Ok(())
    }

    /// Writes out flows that have been idle at `now_ns`; the time of one packet, so that a wild one does no lasting harm.
    fn look_for_idle(&mut self, now_ns: i64) -> io::Result<()> {
        for _ in 0..LOOKED_AT {
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let Some(Some(live)) = self.slots.get(self.hand) else {
                continue;
            };
            let idle_ns = now_ns.saturating_sub(live.row.shared.last_ns.0);
            let closed = live.row.a.resets + live.row.b.resets > 0 || (live.row.a.fins > 0 && live.row.b.fins > 0);
            if idle_ns > IDLE_NS || (closed && idle_ns > IDLE_CLOSED_NS) || self.live() > LIVE_MAX {
                self.emit(self.hand)?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, slot: usize) -> io::Result<()> {
        let Some(mut live) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Ok(());
        };
        self.free.push(slot);
        self.fragments.retain(|(.., held, _)| *held != slot);
        let hash = live.row.tuple.hash64();
        if let Ok(entry) = self.current.find_entry(hash, |held| *held == slot) {
            entry.remove();
            if let Some(previous) = live.previous {
                // What came before is no longer reachable by its tuple: it ends with its successor.
                self.emit(previous)?;
            }
        } else {
            self.unlink(&live, slot)?;
        }
        live.row.chains.extend(live.frames.finish(&mut self.log)?);
        live.row
            .notes
            .extend(self.watch.ended(std::mem::take(&mut live.notes))?);
        self.sink.row(live.row)
    }
}

impl<S: RowSink, W: Watch> FlowTable<S, W> {
    /// Takes an older incarnation out of the chain that its successors form; what came before it ends too.
    fn unlink(&mut self, live: &Live<W::Notes>, slot: usize) -> io::Result<()> {
        let tuple = live.row.tuple;
        let slots = &self.slots;
        let newest = self.current.find(tuple.hash64(), |held| {
            slots
                .get(*held)
                .and_then(Option::as_ref)
                .is_some_and(|other| other.row.tuple == tuple)
        });
        if let Some(&newest) = newest {
            let successor = self.incarnations(newest).find(|candidate| {
                self.slots
                    .get(*candidate)
                    .and_then(Option::as_ref)
                    .is_some_and(|other| other.previous == Some(slot))
            });
            if let Some(other) = successor.and_then(|at| self.slots.get_mut(at)).and_then(Option::as_mut) {
                other.previous = None;
            }
        }
        match live.previous {
            Some(previous) => self.emit(previous),
            None => Ok(()),
        }
    }
}

impl<N> Live<N> {
    fn half(&mut self, from_b: bool) -> &mut Half {
        if from_b { &mut self.row.b } else { &mut self.row.a }
    }

    fn halves(&self, from_b: bool) -> (&Half, &Half) {
        if from_b {
            (&self.row.b, &self.row.a)
        } else {
            (&self.row.a, &self.row.b)
        }
    }

    /// True where a segment's numbers belong to this incarnation.
    fn fits(&self, from_b: bool, tcp: &Tcp<'_>, opens: bool, slack: Slack) -> bool {
        let (mine, other) = self.halves(from_b);
        if opens {
            // The same ISN is a retransmitted SYN. Another one is another attempt, unless only its answer was seen before it.
            return match mine.isn {
                Some(isn) => isn == tcp.seq,
                None => mine.packets == 0 && (other.packets == 0 || other.ack_end == Some(tcp.seq.wrapping_add(1))),
            };
        }
        let acknowledges = tcp.flags & flag::ACK == 0 || slack.holds(tcp.ack, other);
        // A stateless RST that answers a segment without ACK carries sequence number 0 (tcp_v4_send_reset()).
        let stateless_zero = tcp.flags & flag::RST != 0 && tcp.seq == 0;
        acknowledges && (stateless_zero || slack.holds(tcp.seq, mine))
    }

    fn observe(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, from_b: bool, time: Time) {
        let message_begins = tcp.payload_length > 0 && self.spoke_last != Some(from_b);
        if tcp.payload_length > 0 {
            self.spoke_last = Some(from_b);
        }
        let shared = &mut self.row.shared;
        if self.row.a.packets + self.row.b.packets == 0 {
            shared.vlan = packet.link.vlan[0];
            shared.tunnel = packet.tunnels.kinds.first().map_or(0, |kind| *kind as u8);
        }
        shared.toa |= tcp.has_toa;
        if let Some((value, echo)) = tcp.timestamps {
            self.row
                .timestamp_anchors
                .add(anchor(1, u64::from(value) << 32 | u64::from(echo)));
        }
        if message_begins && !tcp.payload.is_empty() {
            let mut head = 0_u64;
            for byte in tcp.payload.iter().take(16) {
                head = mix(head ^ u64::from(*byte));
            }
            let hash = anchor(2, head ^ u64::from(tcp.seq));
            self.row.payload_anchors.add(hash & !1 | u64::from(from_b));
        }
        let taken = occupied(tcp.flags, tcp.payload_length);
        let end = tcp.seq.wrapping_add(taken);
        if tcp.flags & flag::RST == 0 {
            self.delays.observe(&mut self.row, tcp, from_b, time, end);
        }
        let half = self.half(from_b);
        half.packets += 1;
        half.data_packets += u64::from(tcp.payload_length > 0);
        half.bytes += u64::from(tcp.payload_length);
        half.first_ns.keep_first(time);
        half.last_ns.keep_last(time);
        half.ttl_min = if half.ttl_min == 0 {
            packet.ip.ttl
        } else {
            half.ttl_min.min(packet.ip.ttl)
        };
        half.ttl_max = half.ttl_max.max(packet.ip.ttl);
        half.mss = half.mss.or(tcp.mss);
        half.window_scale = half.window_scale.or(tcp.window_scale);
        half.payload_max = half.payload_max.max(tcp.payload_length);
        let reset = tcp.flags & flag::RST != 0;
        if tcp.flags & flag::SYN != 0 {
            if tcp.flags & flag::ACK != 0 {
                half.syn_acks += 1
            } else {
                half.syns += 1
            }
            half.isn = half.isn.or(Some(tcp.seq));
            half.syn_ns.keep_first(time);
            half.syn_last_ns.keep_last(time);
        }
        if tcp.flags & flag::FIN != 0 {
            half.fins += 1;
            half.fin_ns.keep_first(time);
        }
        if reset {
            let stateless = tcp.flags & flag::ACK == 0 && tcp.window == 0 && tcp.options.is_empty();
            half.reset_stateless = stateless && (half.resets == 0 || half.reset_stateless);
            half.resets += 1;
            half.reset_seq = half.reset_seq.or(Some(tcp.seq));
            half.reset_ns.keep_first(time);
            if tcp.flags & flag::ACK != 0 {
                half.reset_ack = half.reset_ack.or(Some(tcp.ack));
            }
        } else {
            if taken > 0 {
                if half.seq_end.is_some_and(|seen| !before(seen, end)) {
                    half.retransmissions += 1;
                }
                half.occupied_last_ns.keep_last(time);
            }
            if half.seq_end.is_none_or(|seen| before(seen, end)) {
                half.seq_end = Some(end);
            }
            if tcp.flags & flag::SYN == 0 && half.seq_first.is_none_or(|seen| before(tcp.seq, seen)) {
                half.seq_first = Some(tcp.seq);
            }
            if tcp.window == 0 {
                half.zero_windows += 1;
            }
        }
        if tcp.payload_length > 0 && !reset {
            half.payload_first_ns.keep_first(time);
            half.payload_last_ns.keep_last(time);
            if let Some(kind) = payload_kind(tcp, message_begins) {
                half.last_payload = kind;
            }
        }
        if tcp.flags & flag::ACK != 0 && !reset {
            if half.ack_end.is_none_or(|seen| before(seen, tcp.ack)) {
                half.ack_end = Some(tcp.ack);
            }
            let ack = tcp.ack;
            let other = self.half(!from_b);
            if let Some(seen) = other.seq_end
                && before(seen, ack)
            {
                // The receiver has bytes that this capture does not: it lost them, the network did not.
                other.unseen_acked_bytes += u64::from(ack.wrapping_sub(seen));
                other.seq_end = Some(ack);
            }
        }
    }
}

fn anchor(kind: u64, value: u64) -> u64 {
    mix(mix(value) ^ kind)
}

/// What a payload looks like by its first bytes; None in the middle of a message, where they tell nothing.
fn payload_kind(tcp: &Tcp<'_>, message_begins: bool) -> Option<u8> {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
    ];
    let payload = tcp.payload;
    if METHODS.iter().any(|method| payload.starts_with(method)) {
        return Some(1);
    }
    if payload.starts_with(b"HTTP/1.") {
        return Some(2);
    }
    match payload {
        // TLS record header: alert, close_notify among them (RFC 8446 section 5.1: type, legacy version 3.x, length).
        [21, 3, 0..=4, ..] => Some(4),
        // In TLS 1.3 an alert is sent as application data of 19 bytes (RFC 8446 section 5.2).
        [23, 3, 3, 0, 19, ..] if tcp.payload_length == 24 => Some(4),
        [20..=23, 3, 0..=4, ..] => Some(3),
        _ if message_begins => Some(5),
        _ => None,
    }
}
