//! Packets with times and comments go in, a pcapng file comes out (draft-ietf-opsawg-pcapng, little-endian, one section).

use super::record::Direction;
use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Nanoseconds: ten to the minus ninth.
const TIME_RESOLUTION: u8 = 9;

const OPTION_COMMENT: u16 = 1;
const OPTION_USER_APPLICATION: u16 = 4;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_INTERFACE_DESCRIPTION: u16 = 3;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_PACKET_FLAGS: u16 = 2;
const OPTION_SYSTEM_DROPPED: u16 = 7;

/// One packet to write.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// What `PcapngWriter::interface` returned.
    pub interface: u32,
    /// Nanoseconds since the epoch; a time before it cannot be written.
    pub time_ns: i64,
    pub direction: Direction,
    pub data: &'a [u8],
    /// Length on the wire.
    pub original_length: u32,
    /// Each becomes an opt_comment; beyond 65,535 bytes it is cut at a character.
    pub comments: &'a [&'a str],
}

/// What is known of an interface when its capture ends.
#[derive(Debug, Clone, Copy)]
pub struct Statistics {
    /// What `PcapngWriter::interface` returned.
    pub interface: u32,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// isb_osdrop: packets that passed the filter and that the capture had no room for.
    pub dropped: u64,
}

/// Writes one section, its interfaces and packets.
pub struct PcapngWriter<W: Write> {
    out: W,
    interfaces: u32,
    block: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header.
    pub fn begin(out: W) -> io::Result<Self> {
        let mut writer = PcapngWriter {
            out,
            interfaces: 0,
            block: Vec::with_capacity(2048),
        };
        writer.block.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        // Version 1.0, length of the section not given.
        writer.block.extend_from_slice(&[1, 0, 0, 0]);
        writer.block.extend_from_slice(&u64::MAX.to_le_bytes());
        writer.option(OPTION_USER_APPLICATION, b"tcpwhy");
        writer.end_of_options();
        writer.write_block(SECTION_HEADER)?;
        Ok(writer)
    }

    /// Declares an interface; its number, for `Packet::interface`. `snap_length` 0 is "no limit".
    pub fn interface(
        &mut self,
        link_type: u16,
        snap_length: u32,
        name: Option<&str>,
        description: Option<&str>,
    ) -> io::Result<u32> {
        self.block.extend_from_slice(&link_type.to_le_bytes());
        self.block.extend_from_slice(&[0, 0]);
        self.block.extend_from_slice(&snap_length.to_le_bytes());
        for (code, text) in [
            (OPTION_INTERFACE_NAME, name),
            (OPTION_INTERFACE_DESCRIPTION, description),
        ] {
            if let Some(text) = text {
                self.option(code, text_bytes(text));
            }
        }
        self.option(OPTION_TIME_RESOLUTION, &[TIME_RESOLUTION]);
        self.end_of_options();
        self.write_block(INTERFACE_DESCRIPTION)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes one packet.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let ticks = u64::try_from(packet.time_ns).map_err(|_| invalid("pcapng holds no time before 1970"))?;
        let captured =
            u32::try_from(packet.data.len()).map_err(|_| invalid("a packet is longer than pcapng can hold"))?;
        if packet.interface >= self.interfaces {
            return Err(invalid("the packet's interface was not declared"));
        }
        for field in [
            packet.interface,
            (ticks >> 32) as u32,
            ticks as u32,
            captured,
            packet.original_length,
        ] {
            self.block.extend_from_slice(&field.to_le_bytes());
        }
        self.block.extend_from_slice(packet.data);
        self.pad();
        if packet.direction != Direction::Unknown {
            self.option(OPTION_PACKET_FLAGS, &(packet.direction as u32).to_le_bytes());
        }
        for comment in packet.comments {
            self.option(OPTION_COMMENT, text_bytes(comment));
        }
        if packet.direction != Direction::Unknown || !packet.comments.is_empty() {
            self.end_of_options();
        }
        self.write_block(ENHANCED_PACKET)
    }

    /// Writes an interface statistics block.
    pub fn statistics(&mut self, statistics: &Statistics) -> io::Result<()> {
        let ticks = u64::try_from(statistics.time_ns).unwrap_or(0);
        for field in [statistics.interface, (ticks >> 32) as u32, ticks as u32] {
            self.block.extend_from_slice(&field.to_le_bytes());
        }
        self.option(OPTION_SYSTEM_DROPPED, &statistics.dropped.to_le_bytes());
        self.end_of_options();
        self.write_block(INTERFACE_STATISTICS)
    }

    /// Hands on what is written so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Flushes and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.block.extend_from_slice(&code.to_le_bytes());
        self.block.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.block.extend_from_slice(value);
        self.pad();
    }

    fn end_of_options(&mut self) {
        self.block.extend_from_slice(&[0; 4]);
    }

    fn write_block(&mut self, kind: u32) -> io::Result<()> {
        let length = u32::try_from(self.block.len() + 12)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a block is longer than pcapng can hold"))?;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.block.clear();
        Ok(())
    }
}

/// What of a text fits in an option, cut at a character.
fn text_bytes(text: &str) -> &[u8] {
    let mut length = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    text.get(..length).unwrap_or_default().as_bytes()
}
