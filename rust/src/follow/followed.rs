//! Packets of one chosen connection go in; whether they are its own, and not of another that took the same ports, comes out.

use super::openings::Opening;
use super::requests::Requests;
use crate::decode::packet::{Address, Tcp, flag};
use crate::flows::row::before;

/// A segment farther than this from the numbers seen before belongs to another connection: a quarter of the largest window (RFC 7323 section
/// 2.3 allows 2^30), for between two random first numbers the distance is larger seven times of eight in each direction.
const FARTHEST: u32 = 1 << 28;
/// So many of such segments, one behind the other, and the connection is taken to be over.
const STRANGERS: u8 = 3;

/// Why a connection is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    Toa,
    Proxy,
    Header,
    /// The user named the connection.
    Given,
}

impl Basis {
    /// The word of tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Basis::Toa => "toa",
            Basis::Proxy => "proxy",
            Basis::Header => "header",
            Basis::Given => "given",
        }
    }
}

/// What a packet on a followed connection's addresses and ports is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    /// A packet of the connection.
    Own,
    /// A SYN that may open another connection on the same ports: it is kept until that is known.
    Held,
    /// Another connection has taken the ports: this packet is of that one.
    Renewed,
    /// Its numbers are far off: of neither.
    Stranger,
    /// Strangers only, for some time: another connection has taken the ports, and how it began was not seen.
    Lost,
}

/// A connection that is followed.
#[derive(Debug)]
pub struct Followed {
    pub number: u32,
    pub basis: Basis,
    /// Address and port of the real client; None where only the connection was given.
    pub client: Option<(Address, Option<u16>)>,
    /// The opener's first sequence number, and whether the opener is end `b`, where the handshake was seen.
    pub opener: Option<(u32, bool)>,
    /// By direction: one past the most advanced number sent.
    ends: [Option<u32>; 2],
    finished: [bool; 2],
    reset: bool,
    strangers: u8,
    /// What a SYN with other numbers may have begun.
    pub renewal: Option<Box<Opening>>,
    pub requests: Box<Requests>,
    pub last_ns: i64,
}

impl Followed {
    pub fn new(
        number: u32,
        basis: Basis,
        client: Option<(Address, Option<u16>)>,
        opener: Option<(u32, bool)>,
        requests: Box<Requests>,
    ) -> Followed {
        Followed {
            number,
            basis,
            client,
            opener,
            ends: [None; 2],
            finished: [false; 2],
            reset: false,
            strangers: 0,
            renewal: None,
            requests,
            last_ns: 0,
        }
    }

    /// Both ends said that they are done, or one broke off.
    pub fn is_closed(&self) -> bool {
        self.reset || self.finished == [true; 2]
    }

    /// Judges a packet of one end, `from_b` or the other.
    pub fn belonging(&mut self, tcp: &Tcp<'_>, from_b: bool) -> Belonging {
        let (syn, ack) = (tcp.flags & flag::SYN != 0, tcp.flags & flag::ACK != 0);
        if syn && !ack {
            return match self.opener {
                Some((isn, side)) if (isn, side) == (tcp.seq, from_b) => Belonging::Own,
                _ if self.is_closed() => Belonging::Renewed,
                // The first SYN of a connection whose opening is just being told again.
                None if self.ends == [None; 2] => Belonging::Own,
                _ => Belonging::Held,
            };
        }
        if let Some((isn, side)) = self.renewal.as_ref().and_then(|renewal| renewal.opener) {
            let answered = syn && ack && from_b != side && tcp.ack == isn.wrapping_add(1);
            let went_on = ack && from_b == side && tcp.seq == isn.wrapping_add(1);
            if answered || went_on {
                return Belonging::Renewed;
            }
        }
        if self.is_strange(tcp, from_b) {
            self.strangers = self.strangers.saturating_add(1);
            return if self.strangers >= STRANGERS {
                Belonging::Lost
            } else {
                Belonging::Stranger
            };
        }
        self.strangers = 0;
        Belonging::Own
    }

    fn is_strange(&self, tcp: &Tcp<'_>, from_b: bool) -> bool {
        // A RST may carry any number: that of a host that knows nothing of the connection has 0, or what was acknowledged.
        if tcp.flags & flag::RST != 0 {
            return false;
        }
        let [own, other] = self.ends_from(from_b);
        let far = |number: u32, end: Option<u32>| end.is_some_and(|end| distance(number, end) > FARTHEST);
        let behind_the_end = self.is_closed() && own.is_some_and(|end| before(end, tcp.seq));
        far(tcp.seq, own) || (tcp.flags & flag::ACK != 0 && far(tcp.ack, other)) || behind_the_end
    }

    fn ends_from(&self, from_b: bool) -> [Option<u32>; 2] {
        let [a, b] = self.ends;
        if from_b { [b, a] } else { [a, b] }
    }

    /// Takes the numbers of a packet of its own in.
    pub fn note(&mut self, tcp: &Tcp<'_>, from_b: bool, time_ns: i64) {
        self.last_ns = time_ns;
        let (syn, fin) = (tcp.flags & flag::SYN != 0, tcp.flags & flag::FIN != 0);
        if syn && self.opener.is_none() {
            self.opener = Some(if tcp.flags & flag::ACK == 0 {
                (tcp.seq, from_b)
            } else {
                (tcp.ack.wrapping_sub(1), !from_b)
            });
        }
        if tcp.flags & flag::RST != 0 {
            self.reset = true;
            return;
        }
        let end = tcp
            .seq
            .wrapping_add(tcp.payload_length)
            .wrapping_add(u32::from(syn) + u32::from(fin));
        let [own, other] = &mut self.ends;
        let (own, other) = if from_b { (other, own) } else { (own, other) };
        if own.is_none_or(|known| before(known, end)) {
            *own = Some(end);
        }
        // What is acknowledged was sent, seen or not; a capture of one direction alone learns the other's numbers so.
        if tcp.flags & flag::ACK != 0 && other.is_none_or(|known| before(known, tcp.ack)) {
            *other = Some(tcp.ack);
        }
        let [a, b] = &mut self.finished;
        *(if from_b { b } else { a }) |= fin;
    }

    /// Begins anew on the same addresses and ports, for a connection that the user named; what it was before.
    pub fn begin_anew(&mut self) -> Followed {
        let anew = Followed::new(self.number, self.basis, None, None, Box::default());
        std::mem::replace(self, anew)
    }
}

/// How far two sequence numbers are apart, either way round.
fn distance(x: u32, y: u32) -> u32 {
    (x.wrapping_sub(y) as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u16, seq: u32, ack: u32, payload: u32) -> Tcp<'static> {
        Tcp {
            flags,
            seq,
            ack,
            payload_length: payload,
            ..Tcp::default()
        }
    }

    /// Judges and, where it is its own, notes a packet.
    fn see(followed: &mut Followed, from_b: bool, tcp: &Tcp<'_>) -> Belonging {
        let belonging = followed.belonging(tcp, from_b);
        if belonging == Belonging::Own {
            followed.note(tcp, from_b, 0);
        }
        belonging
    }

    const SYN: u16 = flag::SYN;
    const ACK: u16 = flag::ACK;
    const FIN: u16 = flag::FIN;

    fn established() -> Followed {
        let mut followed = Followed::new(1, Basis::Toa, None, None, Box::default());
        for (from_b, tcp) in [
            (false, segment(SYN, u32::MAX - 1, 0, 0)),
            (true, segment(SYN | ACK, 7000, u32::MAX, 0)),
            (false, segment(ACK, u32::MAX, 7001, 0)),
            (false, segment(SYN, u32::MAX - 1, 0, 0)),
            (false, segment(ACK, u32::MAX, 7001, 1000)),
            (true, segment(ACK, 7001, 999, 5000)),
        ] {
            assert_eq!(see(&mut followed, from_b, &tcp), Belonging::Own);
        }
        followed
    }

    #[test]
    fn keeps_what_continues_it() {
        let mut followed = established();
        for (from_b, tcp) in [
            (true, segment(ACK, 2_000_000, 999, 0)),
            (false, segment(ACK, u32::MAX, 7001, 1000)),
            (false, segment(flag::RST, 0, 0, 0)),
        ] {
            assert_eq!(see(&mut followed, from_b, &tcp), Belonging::Own);
        }
    }

    #[test]
    fn a_syn_with_other_numbers_waits_for_its_answer() {
        let mut followed = established();
        let syn = segment(SYN, 5_000_000, 0, 0);
        assert_eq!(see(&mut followed, false, &syn), Belonging::Held);
        followed.renewal = Some(Box::new(Opening::new(Some((5_000_000, false)))));
        // The challenge ACK is the old connection's (RFC 5961 section 4.2).
        assert_eq!(see(&mut followed, true, &segment(ACK, 12001, 999, 0)), Belonging::Own);
        assert_eq!(
            see(&mut followed, true, &segment(SYN | ACK, 1, 5_000_001, 0)),
            Belonging::Renewed
        );
        assert_eq!(
            see(&mut followed, false, &segment(ACK, 5_000_001, 2, 0)),
            Belonging::Renewed
        );
    }

    #[test]
    fn after_its_end_nothing_new_is_its_own() {
        let mut followed = established();
        assert_eq!(
            see(&mut followed, false, &segment(FIN | ACK, 999, 12001, 0)),
            Belonging::Own
        );
        assert_eq!(
            see(&mut followed, true, &segment(FIN | ACK, 12001, 1000, 0)),
            Belonging::Own
        );
        assert_eq!(see(&mut followed, false, &segment(ACK, 1000, 12002, 0)), Belonging::Own);
        assert!(followed.is_closed());
        assert_eq!(
            see(&mut followed, false, &segment(ACK, 1010, 12002, 5)),
            Belonging::Stranger
        );
        assert_eq!(see(&mut followed, false, &segment(SYN, 99, 0, 0)), Belonging::Renewed);
    }

    #[test]
    fn numbers_far_off_are_another_connection() {
        let mut followed = established();
        let strange = segment(ACK, 2_000_000_000, 7001, 10);
        assert_eq!(see(&mut followed, false, &strange), Belonging::Stranger);
        assert_eq!(see(&mut followed, false, &segment(ACK, 999, 12001, 1)), Belonging::Own);
        assert_eq!(see(&mut followed, false, &strange), Belonging::Stranger);
        assert_eq!(
            see(&mut followed, true, &segment(ACK, 12001, 2_000_000_010, 1)),
            Belonging::Stranger
        );
        assert_eq!(see(&mut followed, false, &strange), Belonging::Lost);
    }
}
