//! What happens on followed connections, as it is told to Python: nothing else of the packets gets there.

use super::followed::Basis;
use crate::decode::packet::Address;

/// One end of a connection.
pub type End = (Address, u16);

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection is followed from here on.
    Chosen {
        connection: u32,
        time_ns: i64,
        source: End,
        destination: End,
        client: Option<(Address, Option<u16>)>,
        basis: Basis,
        /// A clause: what named the client, where.
        because: String,
    },
    /// A request head is whole.
    Request {
        connection: u32,
        /// Of the packet that completed it.
        time_ns: i64,
        source: End,
        destination: End,
        /// Whom this request is from; None where nothing says it.
        client: Option<(Address, Option<u16>)>,
        basis: Basis,
        /// The request line, its line end taken off.
        line: Vec<u8>,
        /// Names and values, in the order of the head.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// A connection is encrypted: no head will come.
    Encrypted {
        connection: u32,
        source: End,
        destination: End,
    },
    /// Connections that were open before are seen; of these nothing names the client. Told once.
    OpenBefore { source: End, destination: End },
    /// A followed connection is over, for another one took its addresses and ports.
    Replaced {
        connection: u32,
        source: End,
        destination: End,
        /// How the other one began was seen.
        seen: bool,
    },
    /// The ring had no room for so many packets since the last time.
    Dropped { packets: u64 },
    /// The interface went down; it may come up again.
    Down,
    /// There are more connections than can be followed: no more are chosen. Told once.
    TooMany { most: usize },
    /// Nothing more comes.
    End(Ending),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// As many packets were followed as were asked for.
    Counted,
    /// The capture file or stream is read.
    Read,
    /// It was asked to stop.
    Stopped,
    /// The interface is no more.
    Gone,
    /// Who reads the written packets has closed the stream.
    Closed,
    /// What was to be read is no capture.
    NoCapture(String),
    /// The written packets cannot be written, or the capture cannot go on: the system's number of the error, and its words.
    Failed(Option<i32>, String),
}
