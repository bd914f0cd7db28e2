//! The packets of one connection go in, as a capture shows them; complete HTTP/1 request heads and PROXY headers come out, in order.

use super::head::Found;
use super::held::Held;
pub use super::reading::HEAD_MAX;
use super::reading::{Reading, State};
pub use super::stream::Budget;
use super::stream::{Arrival, Stream, Turn};
use crate::decode::packet::{Tcp, flag};
use crate::flows::row::before;
use crate::flows::watch::Origin;

/// What was found in one direction, and what was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Complete request heads.
    pub requests: u64,
    /// Of those, the ones found again at the begin of a segment, after bytes had been lost.
    pub resynchronised: u64,
    /// Places where a head was due or had begun and could not be read.
    pub heads_lost: u64,
    /// Holes in the stream of which it is not known what they held: bodies whose length was known are not among them.
    pub gaps: u64,
    /// The stream is TLS, or HTTP/2 without TLS: nothing more is read of it.
    pub is_tls: bool,
    pub is_http2: bool,
}

/// One direction of a connection, read as HTTP/1 requests. Bounded in memory; a stream that is none costs a look at each segment's begin.
#[derive(Debug, Default)]
pub struct Heads {
    stream: Stream,
    state: State,
    /// A head that is not certain to be one.
    held: Option<Box<Held>>,
    /// The acknowledgment number of the last segment with new payload, and whether the other end has sent payload since.
    heard: Option<u32>,
    answered: bool,
    pub tally: Tally,
    /// What the budget was told of this direction's memory.
    accounted: usize,
}

impl Heads {
    /// The stream's first byte comes next, with this sequence number: its SYN was seen, or what acknowledged the SYN.
    pub fn opened(&mut self, first: u32) {
        if matches!(self.state, State::Unseen) && !self.stream.has_begun() {
            self.stream.begin(first);
            self.state = State::Start(None);
        }
    }

    /// Nothing is to be looked for in this direction any more: it is the server's.
    pub fn silence(&mut self, budget: &mut Budget) {
        self.state = State::Quiet;
        self.held = None;
        self.stream.forget();
        self.account(budget);
    }

    /// Takes a segment of this direction.
    pub fn segment(&mut self, tcp: &Tcp<'_>, origin: Origin, budget: &mut Budget, found: &mut dyn FnMut(Found<'_>)) {
        if tcp.payload_length == 0 || tcp.flags & flag::RST != 0 || matches!(self.state, State::Quiet) {
            return;
        }
        let seq = tcp.seq.wrapping_add(u32::from(tcp.flags & flag::SYN != 0));
        let turn = match self.heard {
            _ if self.answered => Turn::Yes,
            None => Turn::Unknown,
            Some(heard) if before(heard, tcp.ack) => Turn::Yes,
            Some(_) => Turn::No,
        };
        // A repetition tells what was heard since, not what was heard when it was said first.
        let end = seq.wrapping_add(tcp.payload_length);
        if self.stream.next().is_none_or(|next| before(next, end)) {
            self.answered = false;
            self.heard = Some(match self.heard {
                Some(heard) if !before(heard, tcp.ack) => heard,
                _ => tcp.ack,
            });
        }
        let arrival = Arrival {
            seq,
            length: tcp.payload_length,
            data: tcp.payload,
            origin,
            turn,
        };
        self.read(budget, found, |stream, budget, reading| {
            stream.segment(arrival, budget, reading)
        });
    }

    /// Takes an acknowledgment number that the other direction sent.
    pub fn acknowledged(&mut self, ack: u32, budget: &mut Budget, found: &mut dyn FnMut(Found<'_>)) {
        self.read(budget, found, |stream, budget, reading| {
            stream.acknowledged(ack, budget, reading)
        });
    }

    /// The other end sends payload: all that was asked for up to here was a message, if it ends here.
    pub fn answer(&mut self, budget: &mut Budget, found: &mut dyn FnMut(Found<'_>)) {
        self.answered = true;
        if self.stream.is_complete() && self.ends_a_message() {
            self.read(budget, found, |_, _, reading| reading.release());
        }
    }

    /// True where a head is held whose message ends with the last byte seen.
    fn ends_a_message(&self) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| matches!(self.state, State::Boundary { .. }) || self.stream.next() == Some(held.end()))
    }

    /// No more packets come: what waits is read as far as it goes, and all memory is given back.
    pub fn finish(&mut self, budget: &mut Budget, found: &mut dyn FnMut(Found<'_>)) {
        self.read(budget, found, |stream, _, reading| stream.finish(reading));
        if self.ends_a_message() {
            self.read(budget, found, |_, _, reading| reading.release());
        }
        self.tally.heads_lost += u64::from(self.held.take().is_some());
        self.tally.heads_lost += u64::from(self.state.is_amid_a_head());
        self.state = State::Quiet;
        self.account(budget);
    }

    fn read(
        &mut self,
        budget: &mut Budget,
        found: &mut dyn FnMut(Found<'_>),
        act: impl FnOnce(&mut Stream, &Budget, &mut Reading<'_, '_>),
    ) {
        let mut reading = Reading {
            state: &mut self.state,
            tally: &mut self.tally,
            held: &mut self.held,
            found,
            is_spent: budget.is_spent(),
        };
        act(&mut self.stream, budget, &mut reading);
        if matches!(self.state, State::Quiet) {
            self.stream.forget();
        }
        self.account(budget);
    }

    fn account(&mut self, budget: &mut Budget) {
        let held = self
            .held
            .as_ref()
            .map_or(0, |held| held.bytes.len() + size_of::<Held>());
        let now = self.stream.memory() + self.state.memory() + held;
        if now != self.accounted {
            budget.replace(self.accounted, now);
            self.accounted = now;
        }
    }
}

/// Both directions of one connection. Which end asks is not known before it has asked, so both are read.
#[derive(Debug, Default)]
pub struct Conversation {
    /// What the lower end of the tuple sent, and the other.
    pub directions: [Heads; 2],
}

impl Conversation {
    /// Takes a packet; `from_b` says which end sent it, and is told with what is found.
    pub fn packet(
        &mut self,
        tcp: &Tcp<'_>,
        from_b: bool,
        origin: Origin,
        budget: &mut Budget,
        found: &mut dyn FnMut(bool, Found<'_>),
    ) {
        let [a, b] = &mut self.directions;
        let (mine, other) = if from_b { (b, a) } else { (a, b) };
        if tcp.flags & (flag::SYN | flag::RST) == flag::SYN {
            if tcp.flags & flag::ACK == 0 {
                mine.opened(tcp.seq.wrapping_add(1));
            } else {
                other.opened(tcp.ack);
                // An end that sent a SYN of its own opens too (RFC 9293 section 3.5, simultaneous open).
                if matches!(mine.state, State::Unseen) {
                    mine.silence(budget);
                }
            }
        }
        mine.segment(tcp, origin, budget, &mut |one| found(from_b, one));
        if tcp.flags & (flag::ACK | flag::RST) == flag::ACK {
            other.acknowledged(tcp.ack, budget, &mut |one| found(!from_b, one));
            if tcp.payload_length > 0 {
                other.answer(budget, &mut |one| found(!from_b, one));
            }
        }
    }

    /// No more packets come.
    pub fn finish(&mut self, budget: &mut Budget, found: &mut dyn FnMut(bool, Found<'_>)) {
        for (from_b, heads) in [false, true].into_iter().zip(&mut self.directions) {
            heads.finish(budget, &mut |one| found(from_b, one));
        }
    }
}
