//! Decoded packets of one vantage point go in, in the order of their records; rows of the flow table come out when flows go idle.

use super::flow::{Flow, Slack};
use super::key::{Key, Newest, spread};
use super::row::Tuple;
use super::slab::Slab;
use super::watch::{Origin, RowSink, Watch};
use crate::columns::Time;
use crate::decode::packet::{Address, IcmpError, Inner, Packet, Tcp, flag};
use crate::fold::{Recent, Sought};
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

/// Packets whose flows are asked for side by side: their lines stay in the first-level cache until each packet's turn comes.
pub const TOGETHER: usize = 32;

/// Incarnations of one tuple kept alive behind the newest: late packets of attempts long ago are rare, floods of them are not.
const INCARNATIONS_KEPT: usize = 3;

#[derive(Debug, Default)]
#[repr(C)]
struct Live<N> {
    flow: Flow,
    frames: FrameList,
    /// The incarnation before this one, while it lives: late packets may still belong to it.
    previous: Option<u32>,
    /// What the watch notes of this flow.
    notes: N,
}

/// What is asked of a flow round and round, beside the flows themselves, so that asking touches few lines of cache.
#[derive(Debug, Clone, Copy, Default)]
struct Quiet {
    /// When its last record was seen, copies included.
    last_ns: Time,
    lives: bool,
    closed: bool,
}

/// All flows that are alive at one vantage point.
pub struct FlowTable<S: RowSink, W: Watch = ()> {
    slots: Slab<Live<W::Notes>>,
    /// By slot.
    quiet: Vec<Quiet>,
    current: HashTable<Newest>,
    /// To know copies by.
    recent: Recent,
    fragments: VecDeque<(Address, Address, u32, usize, bool)>,
    /// The slot to be looked at next.
    hand: usize,
    live_max: usize,
    pub sink: S,
    pub log: FrameLog,
    pub watch: W,
}

impl<S: RowSink, W: Watch> FlowTable<S, W> {
    pub fn new(sink: S, log: FrameLog, watch: W) -> Self {
        FlowTable {
            slots: Slab::new(),
            quiet: Vec::new(),
            current: HashTable::new(),
            recent: Recent::default(),
            fragments: VecDeque::new(),
            hand: 0,
            live_max: 0,
            sink,
            log,
            watch,
        }
    }

    /// Most flows that were alive at once.
    pub fn live_max(&self) -> usize {
        self.live_max
    }

    /// Takes packets in, `TOGETHER` at most. What the flows of all of them hold is asked for first: the lines of cache come side by side, and
    /// not one after the other as each packet needs them.
    pub fn packets(&mut self, packets: &[(Packet<'_>, Origin)]) -> io::Result<()> {
        let mut sought = [None; TOGETHER];
        for ((packet, _), place) in packets.iter().zip(&mut sought) {
            if let Inner::Tcp(tcp) = &packet.inner {
                let key = Key::of(
                    (packet.ip.source, tcp.source_port),
                    (packet.ip.destination, tcp.destination_port),
                );
                let tag = key.tag();
                let newest = self.current.find(key.hash, |held| held.tag == tag);
                let slot = newest.map_or(usize::MAX, |newest| newest.slot as usize);
                *place = Some((key, slot, Sought::of(packet, tcp, key.hash ^ u64::from(key.from_b))));
            }
        }
        let mut touched = 0;
        for (key, slot, sought) in sought.iter().flatten() {
            touched ^= self.recent.touch(*sought);
            if let (Some(live), Some(quiet)) = (self.slots.get(*slot), self.quiet.get(*slot)) {
                touched ^= quiet.last_ns.0 as u64 ^ live.flow.touch(key.from_b) ^ live.frames.touch();
            }
        }
        std::hint::black_box(touched);
        for ((packet, origin), place) in packets.iter().zip(&sought) {
            match (&packet.inner, place) {
                (Inner::Tcp(tcp), Some((key, slot, sought))) => {
                    let slot = self.place(key, *slot, tcp)?;
                    self.tcp(packet, tcp, *origin, key.from_b, slot, *sought)?;
                }
                (Inner::TcpFragment(length), _) => self.fragment(packet, *length, *origin)?,
                (Inner::IcmpError(error), _) => self.icmp(packet, error, *origin)?,
                _ => {}
            }
            self.look_for_idle(origin.time_ns)?;
            self.live_max = self.live_max.max(self.slots.used());
        }
        Ok(())
    }

    /// Writes out all that is alive.
    pub fn finish(&mut self) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            self.emit(slot)?;
        }
        // The memory is wanted for the rows.
        self.current = HashTable::new();
        self.slots = Slab::new();
        Ok(())
    }

    #[inline]
    fn tcp(
        &mut self,
        packet: &Packet<'_>,
        tcp: &Tcp<'_>,
        origin: Origin,
        from_b: bool,
        slot: usize,
        sought: Sought,
    ) -> io::Result<()> {
        let (Some(live), Some(quiet)) = (self.slots.get_mut(slot), self.quiet.get_mut(slot)) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        let time = Time(origin.time_ns);
        live.flow.seen(time);
        quiet.last_ns.keep_last(time);
        let copy = self
            .recent
            .is_copy(sought, packet, tcp, origin.interface, origin.direction, origin.time_ns);
        self.watch.segment(&mut live.notes, tcp, from_b, copy, origin)?;
        if copy {
            live.flow.copies += 1;
            return Ok(());
        }
        if packet.ip.more_fragments {
            while self.fragments.len() >= FRAGMENTS_KEPT {
                self.fragments.pop_front();
            }
            self.fragments
                .push_back((packet.ip.source, packet.ip.destination, packet.ip.id, slot, from_b));
        }
        live.flow.observe(packet, tcp, from_b, time);
        if tcp.flags & (flag::FIN | flag::RST) != 0 {
            quiet.closed = live.flow.is_closed();
        }
        Ok(())
    }

    /// Finds the flow that a segment belongs to, or begins one. `likely` is the slot of the tuple's newest incarnation, if nothing changed.
    #[inline]
    fn place(&mut self, key: &Key, likely: usize, tcp: &Tcp<'_>) -> io::Result<usize> {
        let is_newest = |live: &Live<W::Notes>| live.flow.tuple == key.tuple && !live.flow.is_followed;
        let found = if self.slots.get(likely).is_some_and(is_newest) {
            Some(likely)
        } else {
            self.newest(key)
        };
        let Some(newest) = found else {
            let slot = self.begin(key.tuple, None);
            let newest = Newest {
                tag: key.tag(),
                slot: slot as u32,
            };
            self.current.insert_unique(key.hash, newest, |held| spread(held.tag));
            return Ok(slot);
        };
        let opens = tcp.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        // Nearly always.
        if self.fits(newest, key, tcp, opens, Slack::None) {
            return Ok(newest);
        }
        // An incarnation whose numbers hold the segment's exactly comes before one whose numbers are merely near.
        for slack in [Slack::None, Slack::Window] {
            for candidate in self.incarnations(newest) {
                if self.fits(candidate, key, tcp, opens, slack) {
                    return Ok(candidate);
                }
            }
        }
        if !opens {
            return Ok(newest);
        }
        let slot = self.begin(key.tuple, Some(newest as u32));
        if let Some(live) = self.slots.get_mut(newest) {
            live.flow.is_followed = true;
        }
        if let Ok(mut entry) = self.current.find_entry(key.hash, |held| held.slot as usize == newest) {
            entry.get_mut().slot = slot as u32;
        }
        let oldest = self.incarnations(slot).nth(INCARNATIONS_KEPT);
        if let Some(oldest) = oldest {
            self.emit(oldest)?;
        }
        Ok(slot)
    }

    /// Where the newest incarnation of a tuple lives.
    #[inline]
    fn newest(&self, key: &Key) -> Option<usize> {
        let tag = key.tag();
        let same = |held: &Newest| {
            held.tag == tag
                && self
                    .slots
                    .get(held.slot as usize)
                    .is_some_and(|live| live.flow.tuple == key.tuple)
        };
        self.current.find(key.hash, same).map(|newest| newest.slot as usize)
    }

    #[inline]
    fn fits(&self, slot: usize, key: &Key, tcp: &Tcp<'_>, opens: bool, slack: Slack) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|live| live.flow.fits(key.from_b, tcp, opens, slack))
    }

    /// The incarnations of one tuple that are alive, newest first.
    fn incarnations(&self, newest: usize) -> impl Iterator<Item = usize> + use<'_, S, W> {
        std::iter::successors(Some(newest), |slot| {
            self.slots.get(*slot)?.previous.map(|slot| slot as usize)
        })
        .take(INCARNATIONS_KEPT + 1)
    }

    fn begin(&mut self, tuple: Tuple, previous: Option<u32>) -> usize {
        let slot = self.slots.insert(Live {
            flow: Flow::new(tuple),
            previous,
            ..Live::default()
        });
        if self.quiet.len() <= slot {
            self.quiet.resize(slot + 1, Quiet::default());
        }
        if let Some(quiet) = self.quiet.get_mut(slot) {
            *quiet = Quiet {
                lives: true,
                ..Quiet::default()
            };
        }
        slot
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
        let (Some(live), Some(quiet)) = (self.slots.get_mut(slot), self.quiet.get_mut(slot)) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        quiet.last_ns.keep_last(Time(origin.time_ns));
        live.flow.fragment(length, from_b);
        Ok(())
    }

    fn icmp(&mut self, packet: &Packet<'_>, error: &IcmpError, origin: Origin) -> io::Result<()> {
        let key = Key::of(
            (error.quoted_source, error.quoted_source_port),
            (error.quoted_destination, error.quoted_destination_port),
        );
        // A segment that looks like the quoted one finds the incarnation by its numbers.
        let quoted = Tcp {
            seq: error.quoted_seq,
            ..Tcp::default()
        };
        let slot = self.place(&key, usize::MAX, &quoted)?;
        let (Some(live), Some(quiet)) = (self.slots.get_mut(slot), self.quiet.get_mut(slot)) else {
            return Ok(());
        };
        live.frames.push(&mut self.log, origin.file, origin.frame)?;
        let time = Time(origin.time_ns);
        live.flow.icmp(packet, error);
        live.flow.seen(time);
        quiet.last_ns.keep_last(time);
        Ok(())
    }

    /// Writes out flows that have been idle at `now_ns`; the time of one packet, so that a wild one does no lasting harm.
    #[inline]
    fn look_for_idle(&mut self, now_ns: i64) -> io::Result<()> {
        for _ in 0..LOOKED_AT {
            self.hand = if self.hand + 1 < self.quiet.len() {
                self.hand + 1
            } else {
                0
            };
            let Some(quiet) = self.quiet.get_mut(self.hand) else {
                continue;
            };
            if !quiet.lives {
                continue;
            }
            let idle_ns = now_ns.saturating_sub(quiet.last_ns.0);
            let longest_ns = if quiet.closed { IDLE_CLOSED_NS } else { IDLE_NS };
            if idle_ns > longest_ns || self.slots.used() > LIVE_MAX {
                self.emit(self.hand)?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, slot: usize) -> io::Result<()> {
        let Some(mut live) = self.slots.take(slot) else {
            return Ok(());
        };
        let quiet = self.quiet.get_mut(slot).map(std::mem::take).unwrap_or_default();
        if !self.fragments.is_empty() {
            self.fragments.retain(|(.., held, _)| *held != slot);
        }
        let key = Key::new(live.flow.tuple, false);
        if let Ok(entry) = self.current.find_entry(key.hash, |held| held.slot as usize == slot) {
            entry.remove();
            if let Some(previous) = live.previous {
                // What came before is no longer reachable by its tuple: it ends with its successor.
                self.emit(previous as usize)?;
            }
        } else {
            self.unlink(&live, &key, slot)?;
        }
        let mut row = live.flow.row(quiet.last_ns);
        row.chains.extend(live.frames.finish(&mut self.log)?);
        row.notes.extend(self.watch.ended(live.notes)?);
        self.sink.row(row)
    }

    /// Takes an older incarnation out of the chain that its successors form; what came before it ends too.
    fn unlink(&mut self, live: &Live<W::Notes>, key: &Key, slot: usize) -> io::Result<()> {
        if let Some(newest) = self.newest(key) {
            let successor = self.incarnations(newest).find(|candidate| {
                self.slots
                    .get(*candidate)
                    .is_some_and(|other| other.previous == Some(slot as u32))
            });
            if let Some(other) = successor.and_then(|at| self.slots.get_mut(at)) {
                other.previous = None;
            }
        }
        match live.previous {
            Some(previous) => self.emit(previous as usize),
            None => Ok(()),
        }
    }
}
