//! One flow's packets go in, in the order of their records; how long sent bytes waited and windows were closed goes into its row.

use super::end::{End, Seldom, has};
use super::flow::{Flow, Gap};
use super::row::{Half, Row, Shared, before};
use crate::columns::Time;
use crate::decode::packet::{Tcp, flag};

fn span(from_ns: i64, to_ns: i64) -> u64 {
    u64::try_from(to_ns.saturating_sub(from_ns)).unwrap_or_default()
}

impl Flow {
    /// A packet that is no copy and no RST, before it is counted; `end` is one past the last sequence number that it takes.
    #[inline]
    pub(super) fn delays(&mut self, tcp: &Tcp<'_>, from_b: bool, time: Time, end: u32) {
        let now_ns = time.0;
        self.silence(tcp, from_b, now_ns, end);
        let [a, b] = &mut self.ends;
        let (mine, other) = if from_b { (b, a) } else { (a, b) };
        if tcp.payload_length > 0 || tcp.flags & flag::SYN != 0 {
            mine.send(tcp, now_ns, end);
        }
        if tcp.flags & flag::ACK != 0 {
            if mine.ack_end().is_none_or(|seen| before(seen, tcp.ack)) {
                other.acknowledged(tcp.ack, now_ns);
            }
            if tcp.flags & flag::SYN == 0 {
                mine.window(other, tcp, time);
            }
        }
    }

    /// The longest silence that the flow survived: the packet that ended it was acknowledged.
    #[inline]
    fn silence(&mut self, tcp: &Tcp<'_>, from_b: bool, now_ns: i64, end: u32) {
        let gap = &mut self.gap;
        if gap.length_ns != 0 && gap.ended_by_b != from_b && tcp.flags & flag::ACK != 0 && !before(tcp.ack, gap.seq_end)
        {
            self.silence_survived_ns = self.silence_survived_ns.max(gap.length_ns);
            gap.length_ns = 0;
        }
        let [a, b] = &self.ends;
        let last_ns = a.last_ns.0.max(b.last_ns.0);
        let length_ns = if last_ns == 0 { 0 } else { span(last_ns, now_ns) };
        if length_ns > self.silence_survived_ns && gap.length_ns < length_ns {
            *gap = Gap {
                length_ns,
                seq_end: end,
                ended_by_b: from_b,
            };
        }
    }
}

impl End {
    /// This end sends bytes or a SYN.
    #[inline]
    fn send(&mut self, tcp: &Tcp<'_>, now_ns: i64, end: u32) {
        if self.seq_end().is_none_or(|seen| before(seen, end)) {
            if self.since_ns == 0 {
                self.since_ns = now_ns;
            }
            self.new_ns = now_ns;
        } else if tcp.payload_length != 1 || self.seq_end() != Some(end) {
            // All else was sent before, and a keep-alive with a byte of garbage (RFC 9293 section 3.8.4) asks for nothing.
            let from_ns = if self.since_ns != 0 { self.since_ns } else { self.new_ns };
            if self.since_ns != 0 {
                self.has |= has::SENT_AGAIN;
            } else {
                self.has &= !has::SENT_AGAIN;
            }
            if from_ns != 0 {
                self.seldom_mut().keep_stalled(span(from_ns, now_ns));
            }
        }
    }

    /// The other end acknowledged more than before.
    #[inline]
    fn acknowledged(&mut self, ack: u32, now_ns: i64) {
        if self.since_ns != 0 && self.has & has::SENT_AGAIN != 0 {
            let stalled_ns = span(self.since_ns, now_ns);
            self.seldom_mut().keep_stalled(stalled_ns);
        }
        self.has &= !has::SENT_AGAIN;
        let all = self.seq_end().is_none_or(|seen| !before(ack, seen));
        self.since_ns = if all || self.since_ns == 0 { 0 } else { now_ns };
    }

    /// This end says how much room it has.
    #[inline]
    fn window(&mut self, other: &End, tcp: &Tcp<'_>, time: Time) {
        // Both SYNs must have offered scaling (RFC 7323 section 2.2); where one was not seen, only 0 is sure.
        let known = self.has & other.has & has::ISN != 0;
        let scale = match (self.window_scale(), other.window_scale()) {
            (Some(own), Some(_)) => own.min(14),
            _ => 0,
        };
        let room = u32::from(tcp.window) << scale;
        self.largest_window = self.largest_window.max(room);
        // A sender uses room for a whole segment, or half the largest window (RFC 9293 section 3.8.6.2.1).
        let usable = u32::from(self.mss().unwrap_or(536)).min(self.largest_window / 2);
        if room == 0 || (known && room < usable) {
            let seldom = self.seldom_mut();
            if !seldom.window_closed_ns.is_set() {
                seldom.window_closed_ns = time;
            }
            seldom.window_closed_last_ns.keep_last(time);
            seldom.keep_closed(span(seldom.window_closed_ns.0, time.0));
        } else {
            if let Some(seldom) = self.seldom_if_any()
                && seldom.window_closed_ns.is_set()
            {
                seldom.keep_closed(span(seldom.window_closed_ns.0, time.0));
                seldom.window_closed_ns = Time::default();
            }
            self.window_opened_ns.keep_first(time);
        }
    }
}

impl Seldom {
    fn keep_stalled(&mut self, length_ns: u64) {
        self.stalled_ns = self.stalled_ns.max(length_ns);
    }

    fn keep_closed(&mut self, length_ns: u64) {
        self.closed_window_ns = self.closed_window_ns.max(length_ns);
    }
}

impl Half {
    fn keep_closed(&mut self, length_ns: u64) {
        self.closed_window_ns = self.closed_window_ns.max(length_ns);
    }

    /// Joins what the part after this one says of waiting and of windows: a window stays closed until a later part opens it.
    pub fn merge_delays(&mut self, later: &Half) {
        self.stalled_ns = self.stalled_ns.max(later.stalled_ns);
        self.sent_again_later |= later.sent_again_later;
        if let (Some(end), Some(first)) = (self.seq_end, later.seq_first) {
            self.sent_again_later |= before(first, end);
        }
        self.keep_closed(later.closed_window_ns);
        if self.window_closed_ns.is_set() {
            let end_ns = if later.window_opened_ns.is_set() {
                later.window_opened_ns.0
            } else {
                later.window_closed_last_ns.0
            };
            if end_ns != 0 {
                self.keep_closed(span(self.window_closed_ns.0, end_ns));
            }
        }
        if later.window_opened_ns.is_set() || !self.window_closed_ns.is_set() {
            self.window_closed_ns = later.window_closed_ns;
        }
        self.window_closed_last_ns.keep_last(later.window_closed_last_ns);
        self.window_opened_ns.keep_first(later.window_opened_ns);
    }

    fn has_spoken(&self) -> bool {
        self.packets > u64::from(self.resets)
    }
}

impl Shared {
    fn survived(&mut self, length_ns: u64) {
        self.silence_survived_ns = self.silence_survived_ns.max(length_ns);
    }
}

impl Row {
    /// The silence between this part and the one after it: survived where both ends speak afterwards. Before the parts are joined.
    pub fn merge_silence(&mut self, later: &Row) {
        self.shared.survived(later.shared.silence_survived_ns);
        if later.a.has_spoken() && later.b.has_spoken() {
            let last_ns = self.a.last_ns.0.max(self.b.last_ns.0);
            let first_ns = match (later.a.first_ns.0, later.b.first_ns.0) {
                (0, first) | (first, 0) => first,
                (x, y) => x.min(y),
            };
            if last_ns != 0 {
                self.shared.survived(span(last_ns, first_ns));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::packet::Packet;

    const S: i64 = 1_000_000_000;

    fn segment(flags: u16, seq: u32, ack: u32, length: u32, window: u16) -> Tcp<'static> {
        Tcp {
            flags,
            seq,
            ack,
            payload_length: length,
            window,
            ..Tcp::default()
        }
    }

    /// What a flow's row says of these segments.
    fn row_of(story: &[(i64, bool, Tcp<'static>)]) -> Row {
        let mut flow = Flow::default();
        for (at_ns, from_b, tcp) in story {
            flow.observe(&Packet::default(), tcp, *from_b, Time(S + at_ns));
        }
        flow.row(Time::default())
    }

    fn data(at_ns: i64, seq: u32) -> (i64, bool, Tcp<'static>) {
        (at_ns, false, segment(flag::ACK, seq, 900, 100, 500))
    }

    fn ack(at_ns: i64, ack: u32, window: u16) -> (i64, bool, Tcp<'static>) {
        (at_ns, true, segment(flag::ACK, 900, ack, 0, window))
    }

    #[test]
    fn bytes_that_are_sent_again_wait_until_they_are_acknowledged() {
        let story = [
            data(0, 100),
            data(S, 100),
            data(3 * S, 100),
            ack(4 * S, 200, 500),
            data(9 * S, 200),
            ack(99 * S, 300, 500),
        ];
        let row = row_of(&story);
        assert_eq!(row.a.stalled_ns, 4 * S as u64);
        assert_eq!(row.b.stalled_ns, 0);
    }

    #[test]
    fn what_is_sent_again_although_an_ack_was_seen_waits_too() {
        let row = row_of(&[data(0, 100), ack(1, 200, 500), data(S, 100), data(3 * S, 100)]);
        assert_eq!(row.a.stalled_ns, 3 * S as u64);
    }

    #[test]
    fn a_keep_alive_with_a_byte_of_garbage_waits_for_nothing() {
        let probe = (80 * S, false, segment(flag::ACK, 199, 900, 1, 500));
        let row = row_of(&[data(0, 100), ack(1, 200, 500), probe]);
        assert_eq!(row.a.stalled_ns, 0);
    }

    #[test]
    fn a_window_is_closed_until_it_opens_in_whichever_part_that_is_told() {
        let story = [
            data(0, 100),
            ack(S, 200, 0),
            ack(3 * S, 200, 0),
            ack(7 * S, 200, 0),
            ack(8 * S, 200, 500),
            ack(9 * S, 200, 0),
        ];
        let whole = row_of(&story);
        assert_eq!(whole.b.closed_window_ns, 7 * S as u64);
        assert_eq!(whole.b.window_closed_ns, Time(10 * S));
        for first in 1..story.len() - 1 {
            for second in first + 1..story.len() {
                let parts = [
                    row_of(&story[..first]),
                    row_of(&story[first..second]),
                    row_of(&story[second..]),
                ];
                let mut left = parts[0].clone();
                left.merge(&parts[1]);
                left.merge(&parts[2]);
                let mut tail = parts[1].clone();
                tail.merge(&parts[2]);
                let mut right = parts[0].clone();
                right.merge(&tail);
                assert_eq!(left, right, "cut at {first} and {second}");
                assert_eq!(left.b.closed_window_ns, whole.b.closed_window_ns);
                assert_eq!(left.b.window_closed_ns, whole.b.window_closed_ns);
            }
        }
    }

    #[test]
    fn little_room_is_none_once_the_scale_is_known() {
        let mut syn = segment(flag::SYN, 99, 0, 0, 65_000);
        let mut answer = segment(flag::SYN | flag::ACK, 899, 100, 0, 65_000);
        syn.mss = Some(1460);
        answer.mss = Some(1460);
        let story = [
            (0, false, syn),
            (1, true, answer),
            data(2, 100),
            ack(S, 200, 65_000),
            ack(2 * S, 200, 900),
            ack(6 * S, 200, 900),
        ];
        assert_eq!(row_of(&story).b.closed_window_ns, 4 * S as u64);
        assert_eq!(row_of(&story[2..]).b.closed_window_ns, 0, "the SYNs were not seen");
    }

    #[test]
    fn a_silence_is_survived_where_what_ended_it_is_acknowledged() {
        let story = [
            data(0, 100),
            ack(1, 200, 500),
            data(60 * S, 200),
            ack(60 * S + 5, 300, 500),
            data(200 * S, 300),
        ];
        assert_eq!(row_of(&story).shared.silence_survived_ns, 60 * S as u64 - 1);
        let mut first = row_of(&story[..2]);
        first.merge(&row_of(&story[2..4]));
        assert_eq!(first.shared.silence_survived_ns, 60 * S as u64 - 1);
    }

    #[test]
    fn bytes_of_an_earlier_part_that_are_sent_again_are_told() {
        let mut first = row_of(&[data(0, 100), data(1, 200)]);
        let mut other = first.clone();
        first.merge(&row_of(&[data(140 * S, 200)]));
        assert!(first.a.sent_again_later);
        other.merge(&row_of(&[data(140 * S, 300)]));
        assert!(!other.a.sent_again_later);
    }
}
