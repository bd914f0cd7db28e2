//! Capture files and streams of every kind go in, packet records come out.

pub mod decompress;
pub mod pcap;
pub mod pcapng;
mod pcapng_damage;
pub mod random;
pub mod record;
pub mod source;
pub mod write;

#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_formats;

pub use decompress::Compression;
pub use pcap::PcapLayout;
pub use random::RandomReader;
use record::{Direction, Interface, Loss, Record, Step};
use serde::{Deserialize, Serialize};
use source::Source;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Losses kept one by one; more are counted.
const LOSSES_KEPT: usize = 100;
/// Longest record that is read whole, whatever a file says: pcapng blocks and packets beyond it are damage (Wireshark has the same limit for
/// a block, wiretap/pcapng.c MAX_BLOCK_SIZE).
pub const RECORD_MAX: u32 = 16 << 20;
/// Longest packet that needs no larger snap length in the file's header: libpcap's MAXIMUM_SNAPLEN, Wireshark's
/// WTAP_MAX_PACKET_SIZE_STANDARD.
pub const PACKET_MAX: u32 = 262_144;

/// Why a file is no capture that can be read: what was read and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureError {
    pub what: String,
}

impl CaptureError {
    pub fn new(what: String) -> Self {
        CaptureError { what }
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for CaptureError {}

/// The container of the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Pcap(PcapLayout),
    Pcapng,
}

/// A section of a pcapng file: byte order and numbering of interfaces begin anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Offset of its section header block.
    pub offset: u64,
    pub big_endian: bool,
    /// Index in `Reader::interfaces` of the section's interface 0.
    pub interface_base: u32,
}

/// What must be known, beside the interfaces, to read a record again by its offset. Complete once the file was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatInfo {
    pub compression: Compression,
    pub format: Format,
    /// pcapng: all sections in the order of the file.
    pub sections: Vec<Section>,
    /// pcapng: offset of each interface description block, as long as `Reader::interfaces`.
    pub interface_offsets: Vec<u64>,
    /// pcapng: simple packet blocks occur, which take the time of the record before them.
    pub simple_packets: bool,
    /// pcap: seconds of the first record, against which times are held when the reader looks for records behind damage.
    pub first_seconds: Option<u32>,
}

impl FormatInfo {
    /// For people: "pcap, little-endian, microseconds, gzip".
    pub fn describe(&self) -> String {
        let container = match &self.format {
            Format::Pcap(layout) => layout.describe(),
            Format::Pcapng => match self.sections.first() {
                Some(section) if section.big_endian => "pcapng, big-endian".to_owned(),
                _ => "pcapng, little-endian".to_owned(),
            },
        };
        match self.compression {
            Compression::None => container,
            packed => format!("{container}, {}", packed.name()),
        }
    }
}

/// One record that was found, as positions in the source's buffer.
pub(crate) struct Found {
    offset: u64,
    time_ns: i64,
    interface: u32,
    link_type: u16,
    direction: Direction,
    /// Where the packet's bytes lie in what is ahead in the source.
    start: usize,
    length: usize,
    /// Bytes to pass over before the next record is read.
    record_length: usize,
    original_length: u32,
}

/// What the readers of both containers learn while they read.
pub(crate) struct Learned {
    format: FormatInfo,
    interfaces: Vec<Interface>,
    losses: Vec<Loss>,
    losses_more: u64,
    comments: u64,
    /// Reading again: format and interfaces are complete already and stay as they are.
    again: bool,
}

impl Learned {
    pub(crate) fn loss(&mut self, offset: u64, what: String, cut_off: bool) {
        if self.losses.len() < LOSSES_KEPT {
            self.losses.push(Loss { offset, what, cut_off });
        } else {
            self.losses_more += 1;
        }
    }

    /// The stream ends at `offset` with `left` bytes of a record that is not whole.
    pub(crate) fn end(&mut self, source: &mut Source, left: usize, expected: usize) {
        let offset = source.offset();
        if let Some(failure) = source.take_failure() {
            self.loss(offset + left as u64, failure, false);
        } else if left > 0 {
            self.loss(
                offset,
                format!("the file ends inside its last record: read {left} bytes, expected {expected}"),
                true,
            );
        }
    }
}

enum Container {
    Pcap(pcap::PcapReader),
    Pcapng(pcapng::PcapngReader),
}

/// Reads the records of one capture, one after the other.
pub struct Reader {
    source: Source,
    container: Container,
    learned: Learned,
    frame: u64,
    /// Length of the record that was handed out last and is still ahead in the source.
    pending: usize,
}

impl fmt::Debug for Reader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reader")
            .field("format", &self.learned.format)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a capture file of any container and compression.
    pub fn open(path: &Path) -> Result<Reader, CaptureError> {
        Reader::new(Source::open(path)?)
    }

    /// Reads a capture from a stream, as from standard input.
    pub fn from_read(input: Box<dyn Read + Send>) -> Result<Reader, CaptureError> {
        Reader::new(Source::from_read(input)?)
    }

    fn new(mut source: Source) -> Result<Reader, CaptureError> {
        let compression = source.compression();
        let magic = source
            .fill(4)
            .get(..4)
            .map(|magic| [magic[0], magic[1], magic[2], magic[3]]);
        let Some(magic) = magic else {
            if let Some(failure) = source.take_failure() {
                return Err(CaptureError::new(failure));
            }
            return Err(CaptureError::new(match source.ahead().len() {
                0 => format!("empty file ({} of nothing)", compression.name()),
                count => format!("read {count} bytes, expected a capture's file header"),
            }));
        };
        let mut learned = Learned {
            format: FormatInfo {
                compression,
                format: Format::Pcapng,
                sections: Vec::new(),
                interface_offsets: Vec::new(),
                simple_packets: false,
                first_seconds: None,
            },
            interfaces: Vec::new(),
            losses: Vec::new(),
            losses_more: 0,
            comments: 0,
            again: false,
        };
        let container = if magic == pcapng::SECTION_HEADER {
            Container::Pcapng(pcapng::PcapngReader::begin(&mut source)?)
        } else {
            Container::Pcap(pcap::PcapReader::begin(&mut source, &mut learned, magic)?)
        };
        Ok(Reader {
            source,
            container,
            learned,
            frame: 0,
            pending: 0,
        })
    }

    /// The next record, valid until the next call; None at the end. What could not be read is in `losses`.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an Iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Option<Record<'_>> {
        let step = self.step()?;
        Some(step.record(self.source.buffer()))
    }

    /// The same by its place in `Reader::buffer`, which is valid until the next call, or until `handed_over` gives that buffer away.
    #[inline]
    pub fn step(&mut self) -> Option<Step> {
        self.source.consume(self.pending);
        self.pending = 0;
        let found = match &mut self.container {
            Container::Pcap(pcap) => pcap.next(&mut self.source, &mut self.learned),
            Container::Pcapng(pcapng) => pcapng.next(&mut self.source, &mut self.learned),
        }?;
        self.frame += 1;
        self.pending = found.record_length;
        Some(Step {
            frame: self.frame,
            offset: found.offset,
            time_ns: found.time_ns,
            interface: found.interface,
            link_type: found.link_type,
            direction: found.direction,
            start: self.source.place() + found.start,
            length: found.length,
            original_length: found.original_length,
        })
    }

    /// The bytes in which the last step lies.
    pub fn buffer(&self) -> &[u8] {
        self.source.buffer()
    }

    /// From now on a buffer is not written to again once records of it were handed out: `handed_over` gives it.
    pub fn hand_over(&mut self) {
        self.source.hand_over();
    }

    /// The buffer of all steps before the last one, if the last one begins another; to be asked for after each step, and at the end.
    pub fn handed_over(&mut self) -> Option<Vec<u8>> {
        self.source.handed_over()
    }

    /// Takes a buffer back, to be filled anew.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        self.source.give_back(buffer);
    }

    /// The interfaces met so far; of a pcap file always one.
    pub fn interfaces(&self) -> &[Interface] {
        &self.learned.interfaces
    }

    /// What could not be read, the first hundred.
    pub fn losses(&self) -> &[Loss] {
        &self.learned.losses
    }

    /// How many losses there were beyond those that `losses` names.
    pub fn losses_more(&self) -> u64 {
        self.learned.losses_more
    }

    pub fn format(&self) -> &FormatInfo {
        &self.learned.format
    }

    /// pcapng comments (opt_comment) met so far, of packets, interfaces and sections.
    pub fn comments(&self) -> u64 {
        self.learned.comments
    }

    /// Bytes read so far of the file itself, compressed as it is.
    pub fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}

/// Two or four bytes as a number, in the byte order of the file.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u16> {
    let field: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(if big_endian {
        u16::from_be_bytes(field)
    } else {
        u16::from_le_bytes(field)
    })
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(if big_endian {
        u32::from_be_bytes(field)
    } else {
        u32::from_le_bytes(field)
    })
}
