//! Bytes of a stream in order go in, and its holes; request heads and a PROXY header in front of them come out.

use super::chunks::{CHUNK_BEGIN, Chunks};
use super::head::{Begins, Body, Found, Head, begins};
use super::heads::Tally;
use super::held::Held;
use super::partial::{Looked, Partial, Scan};
use super::proxy::{self, Parsed};
use super::stream::{Piece, Reader, Step, Turn};
use crate::flows::watch::Origin;

/// Longest request head that is read; servers refuse far shorter ones (nginx large_client_header_buffers 4 × 8 KiB, HAProxy tune.bufsize
/// 16 KiB).
pub const HEAD_MAX: usize = 64 << 10;
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing was read, and where the stream began is not known.
    #[default]
    Unseen,
    /// The stream's first byte comes next; or what is there so far may become a PROXY header, and where it began.
    Start(Option<Box<(Vec<u8>, Origin)>>),
    /// A request line comes next. `first`: nothing but a PROXY header came before it.
    Boundary {
        first: bool,
    },
    Head(Box<Partial>),
    Body(u64),
    Chunks(Chunks),
    /// No place in the stream is known: a request is looked for where a segment begins.
    Searching,
    /// Not HTTP/1, or the server's side: nothing is looked for.
    Quiet,
}

impl State {
    /// Memory held beside the state itself.
    pub fn memory(&self) -> usize {
        match self {
            State::Start(Some(kept)) => kept.0.capacity() + size_of::<(Vec<u8>, Origin)>(),
            State::Head(partial) => partial.bytes.capacity() + size_of::<Partial>(),
            _ => 0,
        }
    }

    /// True where a request line was read and its head has not ended.
    pub fn is_amid_a_head(&self) -> bool {
        matches!(self, State::Head(partial) if partial.scan.has_first_line)
    }
}

/// The state of one direction while it takes steps.
pub(super) struct Reading<'s, 'f> {
    pub state: &'s mut State,
    pub tally: &'s mut Tally,
    pub held: &'s mut Option<Box<Held>>,
    pub found: &'f mut dyn FnMut(Found<'_>),
    pub is_spent: bool,
}

impl Reader for Reading<'_, '_> {
    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Hole(length) => self.hole(u64::from(length)),
            Step::Bytes(piece) => self.bytes(piece),
        }
    }

    fn indifferent(&self) -> u64 {
        match &*self.state {
            State::Body(left) | State::Chunks(Chunks::Data(left)) => *left,
            State::Quiet => u64::MAX,
            _ => 0,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.state, State::Unseen | State::Searching | State::Quiet)
    }
}

impl Reading<'_, '_> {
    fn hole(&mut self, length: u64) {
        match self.state {
            State::Quiet => return,
            State::Body(left) if *left >= length => {
                *left -= length;
                if *left == 0 {
                    *self.state = State::Boundary { first: false };
                }
                return;
            }
            State::Chunks(Chunks::Data(left)) if *left >= length => {
                *left -= length;
                if *left == 0 {
                    *self.state = State::Chunks(Chunks::DataEnd);
                }
                return;
            }
            State::Head(partial) if partial.resynchronised && !partial.scan.has_first_line => {}
            State::Start(_) | State::Boundary { .. } | State::Head(_) | State::Body(_) => self.tally.heads_lost += 1,
            State::Chunks(_) | State::Unseen | State::Searching => {}
        }
        self.tally.gaps += 1;
        self.drop_held();
        *self.state = State::Searching;
    }

    fn bytes(&mut self, piece: Piece<'_>) {
        let mut rest = piece;
        while !rest.data.is_empty() {
            let taken = match self.state {
                State::Unseen => self.unseen(&rest),
                State::Start(_) => self.start(&rest),
                State::Boundary { first } => {
                    let first = *first;
                    self.boundary(&rest, first)
                }
                State::Head(_) => self.head(&rest),
                State::Body(_) | State::Chunks(_) if self.is_contradicted(&rest) => {
                    self.drop_held();
                    *self.state = State::Searching;
                    0
                }
                State::Body(left) => {
                    let taken = (*left).min(rest.data.len() as u64);
                    *left -= taken;
                    if *left == 0 {
                        *self.state = State::Boundary { first: false };
                    }
                    taken as usize
                }
                State::Chunks(chunks) => match chunks.take(rest.data) {
                    Ok((taken, Some(chunks))) => {
                        *self.state = State::Chunks(chunks);
                        taken
                    }
                    Ok((taken, None)) => {
                        *self.state = State::Boundary { first: false };
                        taken
                    }
                    Err(()) => {
                        self.drop_held();
                        *self.state = State::Searching;
                        0
                    }
                },
                State::Searching => self.search(&rest),
                State::Quiet => return,
            };
            rest.data = rest.data.get(taken..).unwrap_or_default();
            rest.seq = rest.seq.wrapping_add(taken as u32);
            rest.begins &= taken == 0;
        }
    }

    /// The first payload of a capture that began in mid-connection.
    fn unseen(&mut self, piece: &Piece<'_>) -> usize {
        *self.state = State::Searching;
        let Parsed::Header(header) = proxy::parse(piece.data) else {
            return 0;
        };
        let rest = piece.data.get(header.length..).unwrap_or_default();
        let is_request = begins(rest) != Begins::No;
        // Behind a header stands what the client itself says first; anything else is the middle of a body that looks like one.
        if !rest.is_empty() && !is_request && !is_tls_record(rest) {
            return piece.data.len();
        }
        (self.found)(Found::Proxy {
            header: &header,
            origin: piece.origin,
            at_start: false,
        });
        if !is_request {
            if rest.is_empty() {
                *self.state = State::Boundary { first: false };
            }
            return header.length;
        }
        let behind = Piece {
            data: rest,
            seq: piece.seq.wrapping_add(header.length as u32),
            ..*piece
        };
        header.length + self.begin(&behind, false, true)
    }

    /// The stream's first bytes: a PROXY header, or else what the client itself says first.
    fn start(&mut self, piece: &Piece<'_>) -> usize {
        let State::Start(kept) = &mut *self.state else { return 0 };
        let (mut bytes, origin) = kept.take().map_or((Vec::new(), piece.origin), |kept| *kept);
        let had = bytes.len();
        if had > 0 {
            bytes.extend_from_slice(piece.data);
        }
        let joined = if had > 0 { bytes.as_slice() } else { piece.data };
        match proxy::parse(joined) {
            Parsed::More(_) if self.is_spent => {
                self.tally.heads_lost += 1;
                *self.state = State::Searching;
                piece.data.len()
            }
            Parsed::More(_) => {
                if had == 0 {
                    bytes.extend_from_slice(piece.data);
                }
                *self.state = State::Start(Some(Box::new((bytes, origin))));
                piece.data.len()
            }
            Parsed::Header(header) => {
                (self.found)(Found::Proxy {
                    header: &header,
                    origin,
                    at_start: true,
                });
                *self.state = State::Boundary { first: true };
                header.length.saturating_sub(had)
            }
            Parsed::No => {
                *self.state = State::Boundary { first: true };
                if had > 0 {
                    // What looked like the begin of a header was the begin of something else: it is read as that, and then the piece.
                    self.bytes(Piece {
                        data: bytes.get(..had).unwrap_or_default(),
                        seq: piece.seq.wrapping_sub(had as u32),
                        origin,
                        ..*piece
                    });
                }
                0
            }
        }
    }

    /// A request line is due.
    fn boundary(&mut self, piece: &Piece<'_>, first: bool) -> usize {
        // Empty lines before a request line are to be ignored (RFC 9112 section 2.2).
        let empty = piece
            .data
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let Some(rest) = piece.data.get(empty..).filter(|rest| !rest.is_empty()) else {
            return empty;
        };
        if self.held.is_some() && begins(rest.get(..WINDOW).unwrap_or(rest)) == Begins::No {
            self.drop_held();
            *self.state = State::Searching;
            return empty;
        }
        if first && is_tls_record(rest) {
            self.tally.is_tls = true;
            *self.state = State::Quiet;
            return 0;
        }
        let begun = Piece {
            data: rest,
            seq: piece.seq.wrapping_add(empty as u32),
            ..*piece
        };
        empty + self.begin(&begun, first, false)
    }

    /// No place is known: looks whether a message begins with this segment.
    fn search(&mut self, piece: &Piece<'_>) -> usize {
        if piece.begins && piece.turn != Turn::No && begins(piece.data) != Begins::No {
            return self.begin(piece, false, true);
        }
        if piece.begins && self.tally.requests == 0 && is_tls_record(piece.data) {
            self.tally.is_tls = true;
        }
        piece.data.len()
    }

    /// Begins a head with the piece's first byte. Where it ends in the same piece nothing is copied.
    fn begin(&mut self, piece: &Piece<'_>, first: bool, resynchronised: bool) -> usize {
        let mut scan = Scan::default();
        let looked = scan.look(piece.data.get(..HEAD_MAX).unwrap_or(piece.data));
        let mut partial = Partial {
            bytes: Vec::new(),
            scan,
            origin: piece.origin,
            seq: piece.seq,
            first,
            resynchronised,
            after_answer: piece.begins && piece.turn == Turn::Yes,
        };
        match looked {
            Looked::Complete(end) => {
                self.complete(piece.data.get(..end).unwrap_or_default(), &partial);
                end
            }
            Looked::More if piece.data.len() < HEAD_MAX && !self.is_spent => {
                partial.bytes.extend_from_slice(piece.data);
                *self.state = State::Head(Box::new(partial));
                piece.data.len()
            }
            Looked::More => {
                self.tally.heads_lost += 1;
                *self.state = State::Searching;
                piece.data.len()
            }
            Looked::Http2 | Looked::NoRequest => self.no_request(&looked, &partial, piece.data.len()),
        }
    }

    /// Goes on with a head that began in an earlier piece.
    fn head(&mut self, piece: &Piece<'_>) -> usize {
        let State::Head(partial) = std::mem::replace(self.state, State::Searching) else {
            return 0;
        };
        let mut partial = *partial;
        let had = partial.bytes.len();
        let room = HEAD_MAX - had.min(HEAD_MAX);
        partial
            .bytes
            .extend_from_slice(piece.data.get(..room).unwrap_or(piece.data));
        let is_certain = !partial.resynchronised && self.held.is_none();
        let window = partial.bytes.get(..WINDOW).unwrap_or(&partial.bytes);
        if !is_certain && !partial.scan.has_first_line && begins(window) == Begins::No {
            // The begin of a method was the end of something else; this piece may begin a request itself.
            self.drop_held();
            return if piece.begins {
                self.search(piece)
            } else {
                piece.data.len()
            };
        }
        match partial.scan.look(&partial.bytes) {
            Looked::Complete(end) => {
                let bytes = std::mem::take(&mut partial.bytes);
                self.complete(bytes.get(..end).unwrap_or_default(), &partial);
                end.saturating_sub(had)
            }
            Looked::More if partial.bytes.len() < HEAD_MAX && !self.is_spent => {
                *self.state = State::Head(Box::new(partial));
                piece.data.len()
            }
            Looked::More => {
                self.tally.heads_lost += 1;
                piece.data.len()
            }
            looked @ (Looked::Http2 | Looked::NoRequest) => self.no_request(&looked, &partial, piece.data.len()),
        }
    }

    /// What stood where a request was due is none.
    fn no_request(&mut self, looked: &Looked, partial: &Partial, length: usize) -> usize {
        *self.state = State::Searching;
        if self.held.is_some() {
            self.drop_held();
            return length;
        }
        match looked {
            Looked::Http2 => {
                self.tally.is_http2 = true;
                *self.state = State::Quiet;
            }
            // The protocol is another one, from its first byte on.
            _ if partial.first => *self.state = State::Quiet,
            _ if partial.resynchronised => {}
            _ => self.tally.heads_lost += 1,
        }
        length
    }

    fn complete(&mut self, bytes: &[u8], partial: &Partial) {
        let head = Head {
            bytes,
            origin: partial.origin,
            seq: partial.seq,
            resynchronised: partial.resynchronised,
        };
        if partial.resynchronised && !head.is_sound() {
            *self.state = State::Searching;
            return;
        }
        // A held head is one where another stands right behind it, and a message certainly begins with either.
        let certain = match &*self.held {
            Some(held) if held.after_answer || partial.after_answer => {
                self.release();
                !partial.resynchronised
            }
            Some(_) => {
                self.drop_held();
                false
            }
            None => !partial.resynchronised,
        };
        *self.state = match head.body() {
            Body::Length(0) => State::Boundary { first: false },
            Body::Length(length) => State::Body(length),
            Body::Chunked => State::Chunks(CHUNK_BEGIN),
            Body::Unknown => State::Searching,
        };
        if certain {
            self.tell(head);
        } else {
            *self.held = Some(Box::new(Held {
                bytes: bytes.to_vec(),
                origin: partial.origin,
                seq: partial.seq,
                after_answer: partial.after_answer,
            }));
        }
    }
}

/// So much of a head that may be none is looked at, each time that it grows.
const WINDOW: usize = 64;

/// A TLS record's header (RFC 8446 section 5.1): content type, version 3.x, a length of at most 2^14 and 2048 bytes (RFC 5246
/// section 6.2.3).
fn is_tls_record(data: &[u8]) -> bool {
    match data {
        [20..=23, 3, 0..=4, high, low, ..] => u16::from_be_bytes([*high, *low]) <= (1 << 14) + 2048,
        _ => false,
    }
}
