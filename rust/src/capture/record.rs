//! What every capture format is reduced to: packet records, the interfaces they came from, and what could not be read.

use serde::{Deserialize, Serialize};

/// Which way a packet went at the interface, where the capture says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Direction {
    #[default]
    Unknown = 0,
    In = 1,
    Out = 2,
}

/// One packet record, borrowed from the reader's buffer until the next one is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The number that Wireshark shows for it: 1 for the first packet of the file.
    pub frame: u64,
    /// Where the record (pcap record header, pcapng block) begins in the uncompressed stream.
    pub offset: u64,
    /// Nanoseconds since the epoch. A simple packet block has no time: it gets the time of the record before it.
    pub time_ns: i64,
    /// Index into `Reader::interfaces`; pcapng sections continue the numbering, so an index is unique in the file.
    pub interface: u32,
    /// LINKTYPE_ value of the interface (FCS bits and the like stripped).
    pub link_type: u16,
    /// pcapng epb_flags bits 0-1, or the modified pcap header's packet type; else Unknown.
    pub direction: Direction,
    /// What was captured of the packet.
    pub data: &'a [u8],
    /// Length on the wire, as the file says; never believed beyond what statistics need.
    pub original_length: u32,
}

impl Record<'_> {
    /// The same by its place in a buffer in which its bytes begin at `start`.
    pub fn step(&self, start: usize) -> Step {
        Step {
            frame: self.frame,
            offset: self.offset,
            time_ns: self.time_ns,
            start,
            length: self.data.len(),
            interface: self.interface,
            original_length: self.original_length,
            link_type: self.link_type,
            direction: self.direction,
        }
    }
}

/// One packet record by its place in a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub frame: u64,
    pub offset: u64,
    pub time_ns: i64,
    /// Where the packet's bytes begin in the buffer.
    pub start: usize,
    pub length: usize,
    pub interface: u32,
    pub original_length: u32,
    pub link_type: u16,
    pub direction: Direction,
}

impl Step {
    /// The record, whose bytes lie in `buffer`.
    #[inline]
    pub fn record<'a>(&self, buffer: &'a [u8]) -> Record<'a> {
        Record {
            frame: self.frame,
            offset: self.offset,
            time_ns: self.time_ns,
            interface: self.interface,
            link_type: self.link_type,
            direction: self.direction,
            data: buffer.get(self.start..self.start + self.length).unwrap_or_default(),
            original_length: self.original_length,
        }
    }
}

/// What the file says of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub link_type: u16,
    pub snap_length: u32,
    /// pcapng if_name.
    pub name: Option<String>,
    pub description: Option<String>,
    /// if_tsresol and if_tsoffset turned into plain numbers, so that records can be read again by offset.
    pub ticks_per_second: u64,
    pub offset_seconds: i64,
    /// Interface statistics block: isb_ifrecv, isb_ifdrop plus isb_osdrop, isb_starttime and isb_endtime, where present.
    pub received: Option<u64>,
    pub dropped: Option<u64>,
    pub start_ns: Option<i64>,
    pub end_ns: Option<i64>,
}

/// A part of the file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Offset in the uncompressed stream at which reading stopped or resumed.
    pub offset: u64,
    /// A clause in plain words: what was read, what was expected.
    pub what: String,
    /// The file merely ends inside its last record, as a stopped capture leaves it: a note, not damage.
    pub cut_off: bool,
}
