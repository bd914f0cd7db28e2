//! A head that is not certain to be one goes in; what follows it shows whether it was, and then it comes out.

use super::head::{Begins, Found, Head, begins};
use super::reading::Reading;
use super::stream::{Piece, Turn};
use crate::flows::watch::Origin;

/// A head that was found where no place in the stream was known: it waits until what follows shows that it was one.
#[derive(Debug)]
pub(super) struct Held {
    pub bytes: Vec<u8>,
    pub origin: Origin,
    pub seq: u32,
    pub after_answer: bool,
}

impl Held {
    /// The sequence number behind it.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.bytes.len() as u32)
    }
}

impl Reading<'_, '_> {
    /// What was taken for a head was none, or cannot be shown to have been one.
    pub fn drop_held(&mut self) {
        self.tally.heads_lost += u64::from(self.held.take().is_some());
    }

    /// Hands on the head that was held.
    pub fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.tell(Head {
                bytes: &held.bytes,
                origin: held.origin,
                seq: held.seq,
                resynchronised: true,
            });
        }
    }

    pub fn tell(&mut self, head: Head<'_>) {
        self.tally.requests += 1;
        self.tally.resynchronised += u64::from(head.resynchronised);
        (self.found)(Found::Head(head));
    }

    /// True where a body ends early: its head is not certain, and a request begins behind an answer.
    pub fn is_contradicted(&self, piece: &Piece<'_>) -> bool {
        self.held.is_some() && piece.begins && piece.turn == Turn::Yes && begins(piece.data) == Begins::Surely
    }
}
