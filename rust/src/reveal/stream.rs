//! Segments of one direction go in, in any order; their bytes come out in the order of sequence numbers, and holes where some are missing.

use crate::flows::row::before;
use crate::flows::watch::Origin;
use std::collections::VecDeque;

/// Segments that wait for bytes before them, in one direction of one flow, at most; and their bytes.
const WAITING_MAX: usize = 256;
const WAITING_BYTES: usize = 256 << 10;
/// Memory that a waiting segment takes beside its bytes.
const OVERHEAD: usize = size_of::<Waiting>();
/// Packets of the flow that are let pass when missing bytes were acknowledged already: a capture may record packets out of order.
const PATIENCE: u8 = 3;
/// A segment that lies farther ahead than the largest window (RFC 7323 section 2.3: 2^30 bytes) belongs to another stream.
const FARTHEST: u32 = 1 << 30;
/// A position behind that no retransmission reaches: the largest receive buffer in use is far smaller (net.ipv4.tcp_rmem).
const LONG_BEHIND: u32 = 1 << 28;

/// Bytes that all flows together may hold while they wait.
#[derive(Debug)]
pub struct Budget {
    held: usize,
    limit: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Budget { held: 0, limit }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held
    }

    pub(super) fn is_spent(&self) -> bool {
        self.held >= self.limit
    }

    pub(super) fn replace(&mut self, before: usize, after: usize) {
        self.held = self.held.saturating_sub(before).saturating_add(after);
    }
}

/// Whether the sender had heard the other end since it sent the payload before: what it says then may begin a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    No,
    /// Nothing before it was seen.
    Unknown,
    Yes,
}

/// Bytes of one segment, or of what of it was not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub data: &'a [u8],
    pub seq: u32,
    pub origin: Origin,
    /// The bytes stand at the begin of a segment.
    pub begins: bool,
    pub turn: Turn,
}

#[derive(Debug)]
struct Waiting {
    seq: u32,
    /// Length on the wire; `data` is shorter where the snap length cut it.
    length: u32,
    origin: Origin,
    turn: Turn,
    data: Box<[u8]>,
}

/// One step of the stream.
pub(super) enum Step<'a> {
    Bytes(Piece<'a>),
    /// So many bytes are missing, for good.
    Hole(u32),
}

/// What takes the steps.
pub(super) trait Reader {
    fn step(&mut self, step: Step<'_>);
    /// How many of the next bytes it does not want to see at all.
    fn indifferent(&self) -> u64;
    /// True where it has no place in the stream that a jump would lose.
    fn is_lost(&self) -> bool;
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    next: Option<u32>,
    acknowledged: Option<u32>,
    /// In the order of sequence numbers.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    patience: u8,
}

/// One segment as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub seq: u32,
    pub length: u32,
    pub data: &'a [u8],
    pub origin: Origin,
    pub turn: Turn,
}

impl Stream {
    /// The sequence number of the byte that comes next; None before the first.
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// True where no segment waits for bytes before it.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True once a position is known.
    pub fn has_begun(&self) -> bool {
        self.next.is_some()
    }

    pub fn begin(&mut self, next: u32) {
        self.next = Some(next);
    }

    /// Memory held.
    pub fn memory(&self) -> usize {
        self.waiting_bytes + self.waiting.capacity() * OVERHEAD
    }

    pub fn forget(&mut self) {
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
    }

    /// Takes a segment with payload.
    pub fn segment(&mut self, arrival: Arrival<'_>, budget: &Budget, reader: &mut impl Reader) {
        let next = *self.next.get_or_insert(arrival.seq);
        let ahead = arrival.seq.wrapping_sub(next);
        if !before(arrival.seq, next) && ahead > FARTHEST {
            return;
        }
        if before(arrival.seq, next) && next.wrapping_sub(arrival.seq) > LONG_BEHIND && reader.is_lost() {
            // What was taken for the position was another stream's.
            self.next = Some(arrival.seq);
        } else if ahead > 0 && !before(arrival.seq, next) {
            if u64::from(ahead) > reader.indifferent() {
                self.wait(arrival, next);
                self.go_on(budget, reader);
                return;
            }
            reader.step(Step::Hole(ahead));
            self.next = Some(arrival.seq);
        }
        self.take(&arrival, reader);
        self.go_on(budget, reader);
    }

    /// Takes the other end's acknowledgment number.
    pub fn acknowledged(&mut self, ack: u32, budget: &Budget, reader: &mut impl Reader) {
        if self.acknowledged.is_none_or(|known| before(known, ack)) {
            self.acknowledged = Some(ack);
        }
        if !self.waiting.is_empty() {
            self.go_on(budget, reader);
        }
    }

    /// Hands on all that waits, whatever is missing.
    pub fn finish(&mut self, reader: &mut impl Reader) {
        while let Some(first) = self.waiting.front() {
            if self.is_strange(first.seq) {
                break;
            }
            self.skip(reader);
            self.take_ready(reader);
        }
        self.forget();
        if let (Some(next), Some(ack)) = (self.next, self.acknowledged) {
            let missing = ack.wrapping_sub(next);
            // One byte may be a FIN, which takes a place among the sequence numbers.
            if before(next, ack) && (2..=LONG_BEHIND).contains(&missing) {
                reader.step(Step::Hole(missing));
            }
        }
    }

    /// True for a segment that no window reaches: it must not carry the position away.
    fn is_strange(&self, seq: u32) -> bool {
        self.acknowledged
            .is_some_and(|ack| before(ack, seq) && seq.wrapping_sub(ack) > LONG_BEHIND)
    }

    /// Hands on a segment that begins at or before the next byte.
    fn take(&mut self, arrival: &Arrival<'_>, reader: &mut impl Reader) {
        let next = self.next.unwrap_or(arrival.seq);
        let known = next.wrapping_sub(arrival.seq);
        let end = arrival.seq.wrapping_add(arrival.length);
        if !before(next, end) {
            return;
        }
        let data = arrival.data.get(known as usize..).unwrap_or_default();
        if !data.is_empty() {
            reader.step(Step::Bytes(Piece {
                data,
                seq: next,
                origin: arrival.origin,
                begins: known == 0,
                turn: arrival.turn,
            }));
        }
        let cut = end.wrapping_sub(next) - data.len() as u32;
        if cut > 0 {
            reader.step(Step::Hole(cut));
        }
        self.next = Some(end);
    }

    fn wait(&mut self, arrival: Arrival<'_>, next: u32) {
        let distance = |waiting: &Waiting| waiting.seq.wrapping_sub(next);
        let place = self
            .waiting
            .partition_point(|waiting| distance(waiting) < arrival.seq.wrapping_sub(next));
        if let Some(same) = self.waiting.get_mut(place)
            && same.seq == arrival.seq
        {
            if same.length >= arrival.length && same.data.len() >= arrival.data.len() {
                return;
            }
            self.waiting_bytes -= same.data.len();
            self.waiting.remove(place);
        }
        self.waiting_bytes += arrival.data.len();
        self.waiting.insert(
            place,
            Waiting {
                seq: arrival.seq,
                length: arrival.length,
                origin: arrival.origin,
                turn: arrival.turn,
                data: arrival.data.into(),
            },
        );
    }

    /// Hands on what waits no longer, and gives up what is missing where it will not come.
    fn go_on(&mut self, budget: &Budget, reader: &mut impl Reader) {
        self.take_ready(reader);
        while let Some(first) = self.waiting.front() {
            let full = self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES || budget.is_spent();
            let arrived = self.acknowledged.is_some_and(|ack| !before(ack, first.seq));
            self.patience = if arrived { self.patience.saturating_add(1) } else { 0 };
            if !full && self.patience <= PATIENCE {
                return;
            }
            if self.is_strange(first.seq) {
                if let Some(stranger) = self.waiting.pop_front() {
                    self.waiting_bytes -= stranger.data.len();
                }
                continue;
            }
            self.skip(reader);
            self.take_ready(reader);
        }
        self.patience = 0;
    }

    /// Gives up the bytes before the first segment that waits.
    fn skip(&mut self, reader: &mut impl Reader) {
        let (Some(first), Some(next)) = (self.waiting.front(), self.next) else {
            return;
        };
        if before(next, first.seq) {
            reader.step(Step::Hole(first.seq.wrapping_sub(next)));
            self.next = Some(first.seq);
        }
        self.patience = 0;
    }

    fn take_ready(&mut self, reader: &mut impl Reader) {
        while let (Some(first), Some(next)) = (self.waiting.front(), self.next) {
            let gap = first.seq.wrapping_sub(next);
            if before(next, first.seq) {
                if u64::from(gap) > reader.indifferent() {
                    return;
                }
                reader.step(Step::Hole(gap));
                self.next = Some(first.seq);
            }
            let Some(first) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= first.data.len();
            self.take(
                &Arrival {
                    seq: first.seq,
                    length: first.length,
                    data: &first.data,
                    origin: first.origin,
                    turn: first.turn,
                },
                reader,
            );
            if self.waiting.is_empty() {
                self.forget();
            }
        }
    }
}
