//! Connections that nobody asked for go in; how each began is remembered, as long as a later packet may still choose it.

use super::frame::Frame;
use super::requests::Requests;
use crate::capture::record::Direction;
use crate::flows::row::Tuple;
use crate::reveal::proxy;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Connections remembered at once; the oldest are forgotten first.
const OPENINGS_MAX: usize = 65_536;
/// Early packets kept of one connection: enough for a handshake and a request that follow it at once.
const EARLY_MAX: usize = 12;
/// Bytes kept of all connections, early packets and first bytes of streams together; beyond it nothing more is kept.
const KEPT_BYTES: usize = 32 << 20;
/// A stream's first bytes kept while they may become a PROXY header: a longer one is as long as it is to wear the reader out.
const START_MAX: usize = 8192;

/// A packet that was kept because its connection may turn out to be one that is asked for.
#[derive(Debug)]
pub struct Early {
    time_ns: i64,
    interface: u32,
    link_type: u16,
    direction: Direction,
    data: Box<[u8]>,
    original_length: u32,
    vlan: Option<(u16, u16)>,
}

impl Early {
    fn of(frame: &Frame<'_>) -> Early {
        Early {
            time_ns: frame.time_ns,
            interface: frame.interface,
            link_type: frame.link_type,
            direction: frame.direction,
            data: frame.data.into(),
            original_length: frame.original_length,
            vlan: frame.vlan,
        }
    }

    pub fn frame(&self) -> Frame<'_> {
        Frame {
            time_ns: self.time_ns,
            interface: self.interface,
            link_type: self.link_type,
            direction: self.direction,
            data: &self.data,
            original_length: self.original_length,
            vlan: self.vlan,
        }
    }
}

/// The first bytes of the opener's stream, while they may become a PROXY header.
#[derive(Debug)]
enum Start {
    Open(Vec<u8>),
    Over,
}

/// What is known of a connection that is not followed.
#[derive(Debug)]
pub struct Opening {
    /// The opener's first sequence number, and whether the opener is end `b`; None where the handshake was not seen.
    pub opener: Option<(u32, bool)>,
    start: Start,
    early: Vec<Early>,
    /// Of early packets and of `start`.
    kept_bytes: usize,
    /// Nothing more is kept: the other end has answered with data, or there was too much.
    settled: bool,
    /// The reader of its request heads, where heads may choose.
    pub requests: Option<Box<Requests>>,
    generation: u64,
}

impl Opening {
    pub fn new(opener: Option<(u32, bool)>) -> Opening {
        Opening {
            opener,
            start: if opener.is_some() {
                Start::Open(Vec::new())
            } else {
                Start::Over
            },
            early: Vec::new(),
            kept_bytes: 0,
            settled: opener.is_none(),
            requests: None,
            generation: 0,
        }
    }

    /// Keeps a packet.
    pub fn keep(&mut self, frame: &Frame<'_>) {
        if !self.settled && self.early.len() < EARLY_MAX {
            self.early.push(Early::of(frame));
            self.kept_bytes += frame.data.len();
        }
    }

    /// Forgets what was kept: no later packet will choose the connection by how it began.
    fn settle(&mut self) {
        self.settled = true;
        self.start = Start::Over;
        self.early = Vec::new();
        self.kept_bytes = 0;
    }

    /// The packets that were kept, in their order.
    pub fn into_early(self) -> Vec<Early> {
        self.early
    }

    /// Takes payload in whose first byte has number `seq`; the header, once the stream's first bytes are one.
    fn proxy_header(&mut self, from_b: bool, seq: u32, payload: &[u8]) -> Option<Box<proxy::Header>> {
        let (Start::Open(start), Some((isn, opener_is_b))) = (&mut self.start, self.opener) else {
            return None;
        };
        if from_b != opener_is_b || payload.is_empty() {
            return None;
        }
        let next = isn.wrapping_add(1).wrapping_add(start.len() as u32);
        // What was seen already is passed over; what stands behind a gap waits for its retransmission, as at the receiver.
        let known = next.wrapping_sub(seq);
        let fresh = usize::try_from(known).ok().and_then(|known| payload.get(known..))?;
        let room = START_MAX.saturating_sub(start.len());
        let before = start.len();
        start.extend_from_slice(fresh.get(..room).unwrap_or(fresh));
        self.kept_bytes += start.len() - before;
        let parsed = proxy::parse(start);
        if matches!(parsed, proxy::Parsed::More(_)) && start.len() < START_MAX {
            return None;
        }
        self.kept_bytes -= start.len();
        self.start = Start::Over;
        match parsed {
            proxy::Parsed::Header(header) => Some(header),
            _ => None,
        }
    }
}

/// All connections that are remembered.
#[derive(Debug, Default)]
pub struct Openings {
    held: HashMap<Tuple, Opening>,
    /// In the order in which they were met; what was forgotten since has another generation.
    order: VecDeque<(Tuple, u64)>,
    generation: u64,
    kept_bytes: usize,
    /// Readers of connections that were forgotten: what they hold is to be given back.
    pub left: Vec<Requests>,
    /// Some were forgotten: that one is not known no longer says that it was open before.
    pub overflowed: bool,
}

impl Openings {
    pub fn get_mut(&mut self, tuple: &Tuple) -> Option<&mut Opening> {
        self.held.get_mut(tuple)
    }

    pub fn insert(&mut self, tuple: Tuple, mut opening: Opening) {
        self.generation += 1;
        opening.generation = self.generation;
        self.kept_bytes += opening.kept_bytes;
        if let Some(old) = self.held.insert(tuple, opening) {
            self.kept_bytes -= old.kept_bytes;
            self.left.extend(old.requests.map(|requests| *requests));
        }
        self.order.push_back((tuple, self.generation));
        while self.order.len() > OPENINGS_MAX
            && let Some((oldest, generation)) = self.order.pop_front()
        {
            // One that was removed or begun anew since is not the one that this entry stands for.
            if self.held.get(&oldest).is_some_and(|held| held.generation == generation) {
                let old = self.remove(&oldest);
                self.left
                    .extend(old.and_then(|old| old.requests).map(|requests| *requests));
                self.overflowed = true;
            }
        }
    }

    pub fn remove(&mut self, tuple: &Tuple) -> Option<Opening> {
        let opening = self.held.remove(tuple)?;
        self.kept_bytes -= opening.kept_bytes;
        Some(opening)
    }

    /// Keeps an early packet of a connection, where there is room for it.
    pub fn keep(&mut self, tuple: &Tuple, frame: &Frame<'_>) {
        if self.kept_bytes + frame.data.len() <= KEPT_BYTES {
            self.changed(tuple, |opening| opening.keep(frame));
        }
    }

    /// Forgets how a connection began, not that it did.
    pub fn settle(&mut self, tuple: &Tuple) {
        self.changed(tuple, Opening::settle);
    }

    /// The PROXY header of a connection's opener, once a payload completes it.
    pub fn proxy_header(
        &mut self,
        tuple: &Tuple,
        from_b: bool,
        seq: u32,
        payload: &[u8],
    ) -> Option<Box<proxy::Header>> {
        if self.kept_bytes + START_MAX > KEPT_BYTES {
            self.settle(tuple);
        }
        self.changed(tuple, |opening| opening.proxy_header(from_b, seq, payload))?
    }

    fn changed<T>(&mut self, tuple: &Tuple, change: impl FnOnce(&mut Opening) -> T) -> Option<T> {
        let opening = self.held.get_mut(tuple)?;
        let before = opening.kept_bytes;
        let answer = change(opening);
        self.kept_bytes = self.kept_bytes - before + opening.kept_bytes;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::packet::Address;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5555 80\r\nGET / HTTP/1.1\r\n";

    fn opened() -> Opening {
        Opening::new(Some((u32::MAX - 5, false)))
    }

    #[test]
    fn reads_a_header_from_pieces_that_overlap_and_come_late() {
        for piece in 1..20 {
            let mut opening = opened();
            let first = u32::MAX - 4;
            let mut found = None;
            // A gap, the other direction, then all pieces, each with three bytes of the one before.
            assert!(opening.proxy_header(false, first.wrapping_add(9), b"late").is_none());
            assert!(opening.proxy_header(true, first, HEADER).is_none());
            for at in (0..HEADER.len()).step_by(piece) {
                let begin = at.saturating_sub(3);
                let bytes = &HEADER[begin..HEADER.len().min(at + piece)];
                found = found.or(opening.proxy_header(false, first.wrapping_add(begin as u32), bytes));
            }
            assert_eq!(
                found.expect("the header is whole").source,
                Some((Address::v4([192, 0, 2, 1]), 5555))
            );
        }
    }

    #[test]
    fn a_header_further_on_in_a_stream_is_payload() {
        let mut opening = opened();
        let first = u32::MAX - 4;
        assert!(opening.proxy_header(false, first, b"POST / HTTP/1.1\r\n").is_none());
        assert!(opening.proxy_header(false, first.wrapping_add(17), HEADER).is_none());
        assert!(Opening::new(None).proxy_header(false, first, HEADER).is_none());
    }

    #[test]
    fn forgets_the_oldest_and_keeps_count_of_bytes() {
        let mut openings = Openings::default();
        let tuple = |number: u32| Tuple::of((Address(u128::from(number)), 1), (Address(u128::MAX), 2)).0;
        let data = [0_u8; 100];
        let frame = Frame {
            time_ns: 0,
            interface: 1,
            link_type: 1,
            direction: Direction::In,
            data: &data,
            original_length: 100,
            vlan: None,
        };
        for number in 0..OPENINGS_MAX as u32 + 10 {
            openings.insert(tuple(number), opened());
            openings.keep(&tuple(number), &frame);
        }
        assert!(openings.overflowed);
        assert!(openings.get_mut(&tuple(9)).is_none() && openings.get_mut(&tuple(10)).is_some());
        assert_eq!(openings.held.len(), OPENINGS_MAX);
        assert_eq!(openings.kept_bytes, OPENINGS_MAX * 100);
        openings.settle(&tuple(10));
        openings.remove(&tuple(11));
        openings.insert(tuple(12), opened());
        assert_eq!(openings.kept_bytes, (OPENINGS_MAX - 3) * 100);
        for number in 0..200 {
            openings.keep(&tuple(12), &frame);
            let kept = (number + 1).min(EARLY_MAX);
            assert_eq!(openings.kept_bytes, (OPENINGS_MAX - 3 + kept) * 100);
        }
    }
}
