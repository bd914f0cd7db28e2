//! A classic pcap stream of any known variant goes in, its records come out; damage is passed over and stated.

use super::record::{Direction, Interface};
use super::source::Source;
use super::{CaptureError, Found, Learned, PACKET_MAX, RECORD_MAX, u16_at, u32_at};
use crate::capture::Format;
use serde::{Deserialize, Serialize};

/// Consecutive record headers that must make sense before reading resumes behind damage.
const CHAIN: usize = 3;
/// Times of records behind damage lie this near to the file's first one: 400 days.
const NEAR_SECONDS: u32 = 400 * 86_400;
/// Bytes looked through at once for records behind damage.
const SEARCH_STEP: usize = 256 << 10;

/// One classic pcap layout; the variants are those of libpcap's sf-pcap.c and of Wireshark's wiretap/libpcap.c.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcapLayout {
    pub big_endian: bool,
    /// Nanoseconds instead of microseconds in the record header.
    pub nanoseconds: bool,
    /// Bytes of the file header: 24; 28 where IXIA adds the size of all records.
    pub file_header: u8,
    /// Bytes of a record header: 16; 24 or 28 in the modified formats; 20 by Nokia.
    pub record_header: u8,
    /// A packet type stands at byte 22 of the record header (the modified formats).
    pub packet_type: bool,
    /// The two lengths stand in the other order: always (version 543.0) or where the captured one would be larger (version 2.3 and
    /// older), libpcap sf-pcap.c `lengths_swapped`.
    pub swapped_lengths: Swapped,
    pub link_type: u16,
    pub snap_length: u32,
}

/// Whether captured and original length are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swapped {
    Never,
    Maybe,
    Always,
}

impl PcapLayout {
    /// For people.
    pub fn describe(&self) -> String {
        let order = if self.big_endian { "big" } else { "little" };
        let unit = if self.nanoseconds {
            "nanoseconds"
        } else {
            "microseconds"
        };
        let variant = match (self.file_header, self.record_header) {
            (28, _) => ", IXIA",
            (_, 20) => ", Nokia",
            (_, 24 | 28) => ", modified",
            _ => "",
        };
        format!("pcap, {order}-endian, {unit}{variant}")
    }

    fn subseconds(&self) -> u32 {
        if self.nanoseconds { 1_000_000_000 } else { 1_000_000 }
    }

    /// Longest captured length that can be true.
    fn length_max(&self) -> u32 {
        self.snap_length.clamp(PACKET_MAX, RECORD_MAX)
    }

    fn header_length(&self) -> usize {
        usize::from(self.record_header)
    }

    #[inline]
    fn header(&self, bytes: &[u8]) -> Option<Header> {
        // All fields in one checked slice; the compiler drops the checks behind it.
        let bytes = bytes.get(..self.header_length())?;
        let order = self.big_endian;
        let (mut captured, mut original) = (u32_at(bytes, 8, order)?, u32_at(bytes, 12, order)?);
        match self.swapped_lengths {
            Swapped::Never => {}
            Swapped::Maybe if captured <= original => {}
            Swapped::Maybe | Swapped::Always => (captured, original) = (original, captured),
        }
        Some(Header {
            seconds: u32_at(bytes, 0, order)?,
            subseconds: u32_at(bytes, 4, order)?,
            captured,
            original,
        })
    }

    /// Whether a header found by searching can be one: stricter than what is read in sequence.
    fn plausible(&self, header: &Header) -> bool {
        header.captured > 0
            && header.captured <= self.length_max()
            && header.captured <= header.original
            && header.original <= RECORD_MAX
            && header.subseconds < self.subseconds()
    }
}

/// A record header (the fields that all variants have).
struct Header {
    seconds: u32,
    subseconds: u32,
    captured: u32,
    original: u32,
}

/// Reads the records of a pcap stream.
pub struct PcapReader {
    layout: PcapLayout,
}

impl PcapReader {
    /// Reads the file header; `magic` lies ahead and was looked at.
    pub(crate) fn begin(
        source: &mut Source,
        learned: &mut Learned,
        magic: [u8; 4],
    ) -> Result<PcapReader, CaptureError> {
        let number = u32::from_be_bytes(magic);
        let known = |magic: u32| match magic {
            0xa1b2_c3d4 => Some((false, 24, 16)),
            0xa1b2_3c4d => Some((true, 24, 16)),
            0xa1b2_cd34 => Some((false, 24, 24)),
            0x1c00_01ac => Some((true, 28, 16)),
            0x1c00_01ab => Some((false, 28, 16)),
            _ => None,
        };
        let (big_endian, (nanoseconds, file_header, record_header)) = match (known(number), known(number.swap_bytes()))
        {
            (Some(found), _) => (true, found),
            (None, Some(found)) => (false, found),
            (None, None) => return Err(CaptureError::new(unknown_magic(number))),
        };
        let bytes = source.fill(usize::from(file_header));
        if bytes.len() < usize::from(file_header) {
            let short = format!(
                "the file ends inside its header: read {} bytes, expected {file_header} (pcap)",
                bytes.len()
            );
            return Err(CaptureError::new(source.take_failure().unwrap_or(short)));
        }
        let short = || CaptureError::new("the file ends inside its header".to_owned());
        let major = u16_at(bytes, 4, big_endian).ok_or_else(short)?;
        let minor = u16_at(bytes, 6, big_endian).ok_or_else(short)?;
        let snap_length = u32_at(bytes, 16, big_endian).ok_or_else(short)?;
        // The upper bits hold the length of the frame check sequence (libpcap sf-pcap.c LT_LINKTYPE_EXT).
        let link_type = (u32_at(bytes, 20, big_endian).ok_or_else(short)? & 0xffff) as u16;
        source.consume(usize::from(file_header));
        let swapped_lengths = match (major, minor) {
            (543, _) => Swapped::Always,
            (2, 0..=3) => Swapped::Maybe,
            _ => Swapped::Never,
        };
        if major != 2 && major != 543 {
            learned.loss(
                4,
                format!("read version {major}.{minor}, expected 2.4; the rest is read as version 2.4"),
                false,
            );
        }
        let mut layout = PcapLayout {
            big_endian,
            nanoseconds,
            file_header,
            record_header,
            packet_type: record_header == 24,
            swapped_lengths,
            link_type,
            snap_length,
        };
        choose_variant(source, &mut layout);
        learned.interfaces.push(Interface {
            link_type,
            snap_length,
            ticks_per_second: u64::from(layout.subseconds()),
            ..Interface::default()
        });
        learned.format.format = Format::Pcap(layout.clone());
        Ok(PcapReader { layout })
    }

    #[inline]
    pub(crate) fn next(&mut self, source: &mut Source, learned: &mut Learned) -> Option<Found> {
        let header_length = self.layout.header_length();
        loop {
            let bytes = source.fill(header_length);
            let Some(header) = self.layout.header(bytes) else {
                let left = bytes.len();
                learned.end(source, left, header_length);
                return None;
            };
            if header.seconds | header.subseconds | header.captured | header.original == 0 {
                // A file that was allocated but not written to its end, as after a power failure.
                self.resume(
                    source,
                    learned,
                    "read a record header of zeros, expected a time and a length".to_owned(),
                )?;
                continue;
            }
            if header.captured > self.layout.length_max() {
                let what = format!(
                    "read a record length of {}, expected at most {}",
                    header.captured,
                    self.layout.length_max()
                );
                self.resume(source, learned, what)?;
                continue;
            }
            let record_length = header_length + header.captured as usize;
            let bytes = source.fill(record_length);
            if bytes.len() < record_length {
                let left = bytes.len();
                self.last(source, learned, left, record_length)?;
                continue;
            }
            let direction = if self.layout.packet_type {
                packet_direction(bytes)
            } else {
                Direction::Unknown
            };
            if header.subseconds >= self.layout.subseconds()
                && !self.odd_time(source, learned, &header, record_length)?
            {
                continue;
            }
            if learned.format.first_seconds.is_none() {
                learned.format.first_seconds = Some(header.seconds);
            }
            let unit = if self.layout.nanoseconds { 1 } else { 1_000 };
            return Some(Found {
                offset: source.offset(),
                time_ns: i64::from(header.seconds) * 1_000_000_000 + i64::from(header.subseconds) * unit,
                interface: 0,
                link_type: self.layout.link_type,
                direction,
                start: header_length,
                length: header.captured as usize,
                record_length,
                original_length: header.original,
            });
        }
    }

    /// The fraction of a second is too large. Where a record follows at the stated length the time alone is odd, and the record counts,
    /// as it does in Wireshark; else the header is damaged. True: take the record.
    #[cold]
    fn odd_time(
        &self,
        source: &mut Source,
        learned: &mut Learned,
        header: &Header,
        record_length: usize,
    ) -> Option<bool> {
        let bytes = source.fill(record_length + self.layout.header_length());
        let follows = match bytes.get(record_length..) {
            None | Some([]) => true,
            Some(next) => self
                .layout
                .header(next)
                .is_some_and(|next| next.captured <= self.layout.length_max() && next.captured > 0),
        };
        let what = format!(
            "read {} as a fraction of a second, expected less than {}",
            header.subseconds,
            self.layout.subseconds()
        );
        if follows {
            learned.loss(
                source.offset(),
                format!("{what}; the record's time is not to be trusted"),
                false,
            );
            return Some(true);
        }
        self.resume(source, learned, what)?;
        Some(false)
    }

    /// The stream ends inside a record: cut off there, unless whole records can be found in what is left, which shows a damaged length.
    #[cold]
    fn last(&self, source: &mut Source, learned: &mut Learned, left: usize, expected: usize) -> Option<()> {
        let window = source.ahead();
        let reference = learned.format.first_seconds;
        let found = (1..window.len()).find(|at| self.chain(window, *at, false, reference));
        let Some(distance) = found else {
            learned.end(source, left, expected);
            source.consume(left);
            return None;
        };
        let offset = source.offset();
        let length = expected - self.layout.header_length();
        let what = format!(
            "read a record length of {length}, expected one inside the file; {distance} bytes passed over, reading resumes at {}",
            offset + distance as u64
        );
        learned.loss(offset, what, false);
        source.consume(distance);
        Some(())
    }

    /// Looks forward for the next records that make sense; None where there are none. States what was passed over.
    #[cold]
    fn resume(&self, source: &mut Source, learned: &mut Learned, what: String) -> Option<()> {
        let from = source.offset();
        let ahead = CHAIN * (self.layout.header_length() + PACKET_MAX as usize);
        source.consume(1);
        loop {
            let bytes = source.fill(ahead + SEARCH_STEP).len();
            let ended = source.ended();
            let stop = if ended { bytes } else { bytes.saturating_sub(ahead) };
            let window = source.ahead();
            let reference = learned.format.first_seconds;
            if let Some(distance) = (0..stop).find(|at| self.chain(window, *at, ended, reference)) {
                source.consume(distance);
                let resumed = source.offset();
                learned.loss(
                    from,
                    format!(
                        "{what}; {} bytes passed over, reading resumes at {resumed}",
                        resumed - from
                    ),
                    false,
                );
                return Some(());
            }
            source.consume(stop);
            if ended {
                let passed = source.offset() - from;
                learned.loss(
                    from,
                    format!("{what}; no further record in the {passed} bytes that follow"),
                    false,
                );
                learned.end(source, 0, 0);
                return None;
            }
        }
    }

    /// Whether consecutive records that make sense begin at `at`; at the end of the stream fewer suffice when the last ends there.
    fn chain(&self, window: &[u8], at: usize, ended: bool, reference: Option<u32>) -> bool {
        let mut position = at;
        let mut begun = None;
        for count in 0..CHAIN {
            let Some(header) = window.get(position..).and_then(|bytes| self.layout.header(bytes)) else {
                let near = begun.is_some_and(|seconds| reference.is_none_or(|first| near(first, seconds)));
                return ended && near && (position == window.len() || (count >= 2 && position < window.len()));
            };
            let first = *begun.get_or_insert(header.seconds);
            if !self.layout.plausible(&header) || !near(first, header.seconds) {
                return false;
            }
            position = position.saturating_add(self.layout.header_length() + header.captured as usize);
        }
        true
    }
}

fn near(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= NEAR_SECONDS
}

/// The modified header's packet type is that of packet(7): 4 is outgoing, below is incoming.
fn packet_direction(header: &[u8]) -> Direction {
    match header.get(22) {
        Some(0..=3) => Direction::In,
        Some(4) => Direction::Out,
        _ => Direction::Unknown,
    }
}

/// Some patched writers kept a magic although their record headers are longer (Nokia; the patches named ss990417 and ss990915, see
/// wiretap/libpcap.c): the first records tell which length makes sense.
fn choose_variant(source: &mut Source, layout: &mut PcapLayout) {
    let others: &[u8] = match (layout.nanoseconds, layout.file_header, layout.record_header) {
        (false, 24, 16) => &[20, 24],
        (false, 24, 24) => &[28],
        _ => return,
    };
    let mut best = layout.record_header;
    let mut best_score = score(source, layout);
    for other in others {
        if best_score >= CHAIN * 2 {
            break;
        }
        let candidate = PcapLayout {
            record_header: *other,
            ..layout.clone()
        };
        let other_score = score(source, &candidate);
        if other_score > best_score {
            (best, best_score) = (*other, other_score);
        }
    }
    layout.record_header = best;
    layout.packet_type = best >= 24;
}

/// Twice the number of records that make sense, of the first three at most; three times two where the file ends behind fewer.
fn score(source: &mut Source, layout: &PcapLayout) -> usize {
    let mut position = 0_usize;
    let mut first_seconds = None;
    for count in 0..CHAIN {
        let want = position + layout.header_length();
        let rest = source.fill(want).get(position..).unwrap_or_default();
        let seconds = u32_at(rest, 0, layout.big_endian);
        let fits = seconds.is_none_or(|seconds| first_seconds.is_none_or(|first| near(first, seconds)));
        if rest.len() < layout.header_length() && fits {
            // The end, or a header cut off; the four bytes more of a single Nokia record would hardly be a time near the first one.
            return CHAIN * 2;
        }
        first_seconds = first_seconds.or(seconds);
        match layout.header(rest) {
            Some(header)
                if layout.plausible(&header) || header.captured == 0 && header.subseconds < layout.subseconds() =>
            {
                position = want + header.captured as usize;
            }
            _ => return count * 2,
        }
        // Cut off inside a record: it began well.
        if source.fill(position).len() < position {
            return count * 2 + 1;
        }
    }
    CHAIN * 2
}

fn unknown_magic(number: u32) -> String {
    match number {
        0xa12b_3c4d | 0x4d3c_2ba1 => {
            "read `0xa12b3c4d` (Navtel), expected a pcap variant whose layout is known".to_owned()
        }
        0xa1b2_34cd | 0xcd34_b2a1 => {
            "read `0xa1b234cd` (reserved for F. Mesquita), expected a pcap variant whose layout is known".to_owned()
        }
        _ => format!(
            "read `0x{number:08x}`, expected `0xa1b2c3d4` (pcap) or `0x0a0d0d0a` (pcapng), plain or gzip, zstd, lz4, xz"
        ),
    }
}
