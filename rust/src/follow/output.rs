//! Frames of followed connections go in, a pcapng file or stream with an interface for each of theirs comes out.

use super::engine::NameOf;
use super::frame::Frame;
use crate::capture::write::{Packet, PcapngWriter, Statistics};
use hashbrown::HashMap;
use std::io::{self, BufWriter, Write};

/// Writes what is followed.
pub struct Output {
    writer: PcapngWriter<BufWriter<Box<dyn Write + Send>>>,
    /// By the frame's interface and its link type: one interface may carry two, as an endless file may say.
    interfaces: HashMap<(u32, u16), u32>,
    scratch: Vec<u8>,
    pub written: u64,
    finished: bool,
    /// Packets whose time lies before 1970, which pcapng cannot hold.
    pub unwritten: u64,
}

impl Output {
    /// Writes the file's head.
    pub fn begin(out: Box<dyn Write + Send>) -> io::Result<Output> {
        let mut writer = PcapngWriter::begin(BufWriter::with_capacity(1 << 18, out))?;
        writer.flush()?;
        Ok(Output {
            writer,
            interfaces: HashMap::new(),
            scratch: Vec::new(),
            written: 0,
            unwritten: 0,
            finished: false,
        })
    }

    /// Writes one frame; `name` is asked where its interface is new.
    pub fn write(&mut self, frame: &Frame<'_>, comments: &[&str], name: &NameOf) -> io::Result<()> {
        let key = (frame.interface, frame.link_type);
        let interface = match self.interfaces.get(&key) {
            Some(interface) => *interface,
            None => {
                let interface = self
                    .writer
                    .interface(frame.link_type, 0, name(frame.interface).as_deref(), None)?;
                self.interfaces.insert(key, interface);
                interface
            }
        };
        if frame.time_ns < 0 {
            self.unwritten += 1;
            return Ok(());
        }
        let (data, original_length) = frame.on_the_wire(&mut self.scratch);
        self.written += 1;
        self.writer.packet(&Packet {
            interface,
            time_ns: frame.time_ns,
            direction: frame.direction,
            data,
            original_length,
            comments,
        })
    }

    /// What is written so far reaches the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Notes how many packets the capture lost, at its first interface, and flushes. Nothing is noted twice.
    pub fn finish(&mut self, dropped: Option<u64>, now_ns: i64) -> io::Result<()> {
        if let (Some(dropped), false, false) = (dropped, self.finished, self.interfaces.is_empty()) {
            self.finished = true;
            self.writer.statistics(&Statistics {
                interface: 0,
                time_ns: now_ns,
                dropped,
            })?;
        }
        self.writer.flush()
    }
}
