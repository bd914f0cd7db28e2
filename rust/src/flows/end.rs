//! What is known of one end of a living flow is kept here, in few lines of cache; the columns of its row come out.

use super::row::Half;
use crate::columns::Time;

/// Bits of `End::has`.
pub mod has {
    pub const SEQ_END: u8 = 1;
    pub const ACK_END: u8 = 2;
    pub const SEQ_FIRST: u8 = 4;
    pub const ISN: u8 = 8;
    pub const MSS: u8 = 16;
    pub const WINDOW_SCALE: u8 = 32;
    /// Bytes that wait to be acknowledged were sent again.
    pub const SENT_AGAIN: u8 = 64;
}

/// One end; what its fields mean stands at those of `Half` with the same names. What each packet looks at stands together, in order.
#[derive(Debug, Default)]
#[repr(C)]
pub struct End {
    seq_end: u32,
    ack_end: u32,
    seq_first: u32,
    isn: u32,
    pub has: u8,
    pub ttl_min: u8,
    pub ttl_max: u8,
    window_scale: u8,
    mss: u16,
    pub last_payload: u8,
    /// Since when the oldest bytes, or the SYN, wait to be acknowledged; nanoseconds since the epoch, 0 for none.
    pub since_ns: i64,
    /// When it last sent what it had not sent before, in the same way.
    pub new_ns: i64,
    pub last_ns: Time,
    /// Largest window that it announced, scaled.
    pub largest_window: u32,
    pub payload_max: u32,
    pub window_opened_ns: Time,

    pub packets: u64,
    pub data_packets: u64,
    pub bytes: u64,
    pub first_ns: Time,
    pub payload_first_ns: Time,
    pub payload_last_ns: Time,
    pub occupied_last_ns: Time,
    pub retransmissions: u32,
    pub syns: u32,

    pub syn_acks: u32,
    pub fins: u32,
    pub syn_ns: Time,
    pub syn_last_ns: Time,
    pub fin_ns: Time,
    seldom: Option<Box<Seldom>>,
}

/// What most ends never have.
#[derive(Debug, Default)]
pub struct Seldom {
    pub zero_windows: u32,
    pub unseen_acked_bytes: u64,
    pub stalled_ns: u64,
    pub closed_window_ns: u64,
    pub window_closed_ns: Time,
    pub window_closed_last_ns: Time,
    pub resets: u32,
    pub reset_stateless: bool,
    pub reset_seq: Option<u32>,
    pub reset_ack: Option<u32>,
    pub reset_ns: Time,
}

macro_rules! known {
    ($field:ident, $set:ident, $ty:ty, $bit:expr) => {
        #[inline]
        pub fn $field(&self) -> Option<$ty> {
            (self.has & $bit != 0).then_some(self.$field)
        }

        #[inline]
        pub fn $set(&mut self, value: $ty) {
            self.$field = value;
            self.has |= $bit;
        }
    };
}

impl End {
    known!(seq_end, set_seq_end, u32, has::SEQ_END);
    known!(ack_end, set_ack_end, u32, has::ACK_END);
    known!(seq_first, set_seq_first, u32, has::SEQ_FIRST);
    known!(isn, set_isn, u32, has::ISN);
    known!(mss, set_mss, u16, has::MSS);
    known!(window_scale, set_window_scale, u8, has::WINDOW_SCALE);

    /// The serial number from which a packet of this end is recognised as near: the ISN or the first sequence number seen.
    #[inline]
    pub fn base(&self) -> Option<u32> {
        self.isn().or(self.seq_first())
    }

    pub fn seldom(&self) -> Option<&Seldom> {
        self.seldom.as_deref()
    }

    pub fn seldom_if_any(&mut self) -> Option<&mut Seldom> {
        self.seldom.as_deref_mut()
    }

    pub fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    pub fn resets(&self) -> u32 {
        self.seldom().map_or(0, |seldom| seldom.resets)
    }

    /// A word of each line of cache that a packet of this end changes.
    #[inline]
    pub fn touch(&self) -> u64 {
        u64::from(self.seq_end) ^ self.packets ^ u64::from(self.retransmissions)
    }

    /// A word of the line that a packet of the other end looks at.
    #[inline]
    pub fn touch_first(&self) -> u64 {
        u64::from(self.seq_end)
    }

    /// The columns.
    pub fn half(&self) -> Half {
        let none = Seldom::default();
        let seldom = self.seldom().unwrap_or(&none);
        Half {
            packets: self.packets,
            data_packets: self.data_packets,
            bytes: self.bytes,
            syns: self.syns,
            syn_acks: self.syn_acks,
            fins: self.fins,
            resets: seldom.resets,
            retransmissions: self.retransmissions,
            unseen_acked_bytes: seldom.unseen_acked_bytes,
            zero_windows: seldom.zero_windows,
            stalled_ns: seldom.stalled_ns,
            sent_again_later: false,
            closed_window_ns: seldom.closed_window_ns,
            window_closed_ns: seldom.window_closed_ns,
            window_closed_last_ns: seldom.window_closed_last_ns,
            window_opened_ns: self.window_opened_ns,
            payload_max: self.payload_max,
            isn: self.isn(),
            seq_first: self.seq_first(),
            seq_end: self.seq_end(),
            ack_end: self.ack_end(),
            mss: self.mss(),
            window_scale: self.window_scale(),
            ttl_min: self.ttl_min,
            ttl_max: self.ttl_max,
            last_payload: self.last_payload,
            reset_stateless: seldom.reset_stateless,
            reset_seq: seldom.reset_seq,
            reset_ack: seldom.reset_ack,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            syn_ns: self.syn_ns,
            syn_last_ns: self.syn_last_ns,
            payload_first_ns: self.payload_first_ns,
            payload_last_ns: self.payload_last_ns,
            occupied_last_ns: self.occupied_last_ns,
            fin_ns: self.fin_ns,
            reset_ns: seldom.reset_ns,
        }
    }
}
