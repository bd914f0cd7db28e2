//! A pcapng stream (draft-ietf-opsawg-pcapng) of any sections goes in, its records come out; damage is passed over and stated.

use super::record::{Direction, Interface};
use super::source::Source;
use super::{CaptureError, Found, Learned, RECORD_MAX, Section, u16_at, u32_at};

/// Block type of a section header, the same in both byte orders.
pub const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
pub(super) const SECTION_HEADER_TYPE: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete packet block.
pub(super) const PACKET: u32 = 2;
pub(super) const SIMPLE_PACKET: u32 = 3;
pub(super) const INTERFACE_STATISTICS: u32 = 5;
pub(super) const ENHANCED_PACKET: u32 = 6;

/// Block type, length, length again.
const BLOCK_MIN: u32 = 12;
/// Section header without options.
pub(super) const SECTION_MIN: usize = 28;
/// Interfaces and sections kept of one file: an interface's index has 16 bits in the frame index.
const INTERFACES_MAX: usize = 65_536;
/// Bytes kept of an interface's name or description.
const NAME_MAX: usize = 256;
/// Reads the records of a pcapng stream.
pub struct PcapngReader {
    pub(super) big_endian: bool,
    /// Index of the section's interface 0, and how many the section has declared so far.
    interface_base: u32,
    interface_count: u32,
    last_time_ns: i64,
}

/// Any block, found whole.
struct Block {
    kind: u32,
    /// With padding: where the next block begins.
    length: usize,
}

enum Next {
    Block(Block),
    /// The stream ends within a block of this length.
    CutOff(usize),
    Damage(String),
}

impl PcapngReader {
    /// Looks at the section header that lies ahead.
    pub(crate) fn begin(source: &mut Source) -> Result<PcapngReader, CaptureError> {
        let bytes = source.fill(SECTION_MIN);
        let Some(magic) = u32_at(bytes, 8, true) else {
            let short = format!(
                "the file ends inside its header: read {} bytes, expected {SECTION_MIN} (pcapng)",
                bytes.len()
            );
            return Err(CaptureError::new(source.take_failure().unwrap_or(short)));
        };
        let big_endian = byte_order(magic).ok_or_else(|| {
            CaptureError::new(format!(
                "read `0x{magic:08x}`, expected `0x1a2b3c4d` (pcapng byte-order magic)"
            ))
        })?;
        Ok(PcapngReader {
            big_endian,
            interface_base: 0,
            interface_count: 0,
            last_time_ns: 0,
        })
    }

    /// Takes up reading at a block in the middle of the file, whose sections and interfaces are all known.
    pub(crate) fn resume_at(&mut self, learned: &Learned, offset: u64) {
        let sections = &learned.format.sections;
        let number = sections
            .partition_point(|section| section.offset <= offset)
            .checked_sub(1);
        let (start, big_endian, base) = number
            .and_then(|number| sections.get(number))
            .map_or((0, self.big_endian, 0), |section| {
                (section.offset, section.big_endian, section.interface_base)
            });
        let offsets = &learned.format.interface_offsets;
        let declared = offsets.partition_point(|at| *at < offset) - offsets.partition_point(|at| *at < start);
        self.big_endian = big_endian;
        self.interface_base = base;
        self.interface_count = declared as u32;
        self.last_time_ns = 0;
    }

    #[inline]
    pub(crate) fn next(&mut self, source: &mut Source, learned: &mut Learned) -> Option<Found> {
        loop {
            let block = match self.block(source, learned) {
                Next::Block(block) => block,
                Next::CutOff(expected) => {
                    self.last(source, learned, expected)?;
                    continue;
                }
                Next::Damage(what) => {
                    self.search(source, learned, what)?;
                    continue;
                }
            };
            let body = source.ahead().get(..block.length - 4).unwrap_or_default();
            let offset = source.offset();
            let found = match block.kind {
                ENHANCED_PACKET => self.enhanced_packet(body, learned),
                PACKET => self.packet(body, learned),
                SIMPLE_PACKET => self.simple_packet(body, learned),
                INTERFACE_DESCRIPTION => self.interface(body, offset, learned),
                INTERFACE_STATISTICS => self.statistics(body, learned),
                SECTION_HEADER_TYPE => {
                    self.options(body, 24, learned, |_, _| {});
                    Ok(None)
                }
                _ => Ok(None),
            };
            match found {
                Ok(Some(mut found)) => {
                    found.offset = offset;
                    found.record_length = block.length;
                    self.last_time_ns = found.time_ns;
                    return Some(found);
                }
                Ok(None) => {}
                Err(what) => learned.loss(offset, format!("{what}; the block is passed over"), false),
            }
            source.consume(block.length);
        }
    }

    /// The block that lies ahead, whole and with both lengths equal; enters a section as soon as its byte order is known.
    #[inline]
    fn block(&mut self, source: &mut Source, learned: &mut Learned) -> Next {
        let bytes = source.fill(BLOCK_MIN as usize);
        if bytes.len() < BLOCK_MIN as usize {
            return Next::CutOff(BLOCK_MIN as usize);
        }
        if bytes.get(..4) == Some(SECTION_HEADER.as_slice()) {
            let magic = u32_at(bytes, 8, true).unwrap_or(0);
            let Some(big_endian) = byte_order(magic) else {
                return Next::Damage(format!(
                    "read `0x{magic:08x}`, expected `0x1a2b3c4d` (pcapng byte-order magic)"
                ));
            };
            let offset = source.offset();
            let bytes = source.fill(SECTION_MIN);
            if bytes.len() < SECTION_MIN {
                return Next::CutOff(SECTION_MIN);
            }
            self.enter_section(learned, offset, big_endian, u16_at(bytes, 12, big_endian));
        }
        let bytes = source.ahead();
        let kind = u32_at(bytes, 0, self.big_endian).unwrap_or(0);
        let stated = u32_at(bytes, 4, self.big_endian).unwrap_or(0);
        if !(BLOCK_MIN..=RECORD_MAX).contains(&stated) {
            return Next::Damage(format!(
                "read a block length of {stated}, expected {BLOCK_MIN} to {RECORD_MAX}"
            ));
        }
        // Some writers give a length without its padding; blocks are aligned all the same.
        let length = stated.next_multiple_of(4) as usize;
        let bytes = source.fill(length);
        if bytes.len() < length {
            return Next::CutOff(length);
        }
        let trailing = u32_at(bytes, length - 4, self.big_endian).unwrap_or(0);
        if trailing != stated {
            return Next::Damage(format!(
                "read a block length of {stated} and at the block's end {trailing}, expected the same"
            ));
        }
        Next::Block(Block { kind, length })
    }

    fn enter_section(&mut self, learned: &mut Learned, offset: u64, big_endian: bool, major: Option<u16>) {
        self.big_endian = big_endian;
        self.interface_count = 0;
        if learned.again {
            self.resume_at_section(learned, offset);
            return;
        }
        self.interface_base = learned.interfaces.len() as u32;
        if learned
            .format
            .sections
            .last()
            .is_some_and(|section| section.offset == offset)
        {
            return;
        }
        if major != Some(1) {
            let read = major.unwrap_or(0);
            learned.loss(
                offset,
                format!("read pcapng version {read}, expected 1; the section is read as version 1"),
                false,
            );
        }
        if learned.format.sections.len() < INTERFACES_MAX {
            learned.format.sections.push(Section {
                offset,
                big_endian,
                interface_base: self.interface_base,
            });
        } else {
            learned.loss(
                offset,
                format!("read more than {INTERFACES_MAX} sections; this one cannot be read again by position"),
                false,
            );
        }
    }

    fn resume_at_section(&mut self, learned: &Learned, offset: u64) {
        let sections = &learned.format.sections;
        if let Some(section) = sections
            .partition_point(|section| section.offset <= offset)
            .checked_sub(1)
            .and_then(|at| sections.get(at))
        {
            self.interface_base = section.interface_base;
        }
    }

    /// Where in the list an interface of this section stands; only declared ones count.
    #[inline]
    fn known<'a>(&self, learned: &'a Learned, number: u32) -> Result<(u32, &'a Interface), String> {
        let index = self.interface_base.saturating_add(number);
        match learned.interfaces.get(index as usize) {
            Some(interface) if number < self.interface_count => Ok((index, interface)),
            _ => Err(format!(
                "read a packet of interface {number}, expected one of the {} declared before it",
                self.interface_count
            )),
        }
    }

    #[inline]
    fn enhanced_packet(&self, body: &[u8], learned: &mut Learned) -> Result<Option<Found>, String> {
        let number = self.number(body, 8)?;
        self.timed_packet(body, number, 2, learned)
    }

    fn packet(&self, body: &[u8], learned: &mut Learned) -> Result<Option<Found>, String> {
        let number = u16_at(body, 8, self.big_endian).ok_or_else(too_short)?;
        self.timed_packet(body, u32::from(number), 2, learned)
    }

    /// The fields that enhanced and obsolete packet blocks share from byte 12 on; `flags` is the option with the direction.
    #[inline]
    fn timed_packet(
        &self,
        body: &[u8],
        number: u32,
        flags: u16,
        learned: &mut Learned,
    ) -> Result<Option<Found>, String> {
        const START: usize = 28;
        let ticks = u64::from(self.number(body, 12)?) << 32 | u64::from(self.number(body, 16)?);
        let captured = self.number(body, 20)? as usize;
        let original_length = self.number(body, 24)?;
        let (interface, known) = self.known(learned, number)?;
        if captured > body.len() - START {
            return Err(format!(
                "read a packet length of {captured}, expected at most {}",
                body.len() - START
            ));
        }
        let time_ns = time_ns(ticks, known.ticks_per_second, known.offset_seconds);
        let link_type = known.link_type;
        let mut direction = Direction::Unknown;
        let options_at = START + captured.next_multiple_of(4);
        if options_at < body.len() {
            let big_endian = self.big_endian;
            self.options(body, options_at, learned, |code, value| {
                if code == flags
                    && let Some(bits) = u32_at(value, 0, big_endian)
                {
                    direction = match bits & 3 {
                        1 => Direction::In,
                        2 => Direction::Out,
                        _ => Direction::Unknown,
                    };
                }
            });
        }
        Ok(Some(Found {
            offset: 0,
            time_ns,
            interface,
            link_type,
            direction,
            start: START,
            length: captured,
            record_length: 0,
            original_length,
        }))
    }

    fn simple_packet(&self, body: &[u8], learned: &mut Learned) -> Result<Option<Found>, String> {
        const START: usize = 12;
        let original_length = self.number(body, 8)?;
        let (interface, known) = self.known(learned, 0)?;
        let snap_length = if known.snap_length == 0 {
            u32::MAX
        } else {
            known.snap_length
        };
        let link_type = known.link_type;
        learned.format.simple_packets = true;
        Ok(Some(Found {
            offset: 0,
            time_ns: self.last_time_ns,
            interface,
            link_type,
            direction: Direction::Unknown,
            start: START,
            length: (body.len() - START).min(original_length.min(snap_length) as usize),
            record_length: 0,
            original_length,
        }))
    }

    fn interface(&mut self, body: &[u8], offset: u64, learned: &mut Learned) -> Result<Option<Found>, String> {
        if learned.again {
            // Counted where it was counted when the file was read first.
            self.interface_count += u32::from(learned.format.interface_offsets.binary_search(&offset).is_ok());
            return Ok(None);
        }
        let big_endian = self.big_endian;
        let mut interface = Interface {
            link_type: u16_at(body, 8, big_endian).ok_or_else(too_short)?,
            snap_length: self.number(body, 12)?,
            ticks_per_second: 1_000_000,
            ..Interface::default()
        };
        if learned.interfaces.len() >= INTERFACES_MAX {
            return Err(format!("read more interfaces than expected, at most {INTERFACES_MAX}"));
        }
        let mut too_fine = false;
        self.options(body, 16, learned, |code, value| match code {
            2 => interface.name = Some(text(value)),
            3 => interface.description = Some(text(value)),
            9 => {
                let resolution = value.first().copied().unwrap_or(6);
                let ticks = ticks_per_second(resolution);
                too_fine = ticks.is_none();
                interface.ticks_per_second = ticks.unwrap_or(u64::MAX);
            }
            14 => {
                if let (Some(first), Some(second)) = (u32_at(value, 0, big_endian), u32_at(value, 4, big_endian)) {
                    let (high, low) = if big_endian { (first, second) } else { (second, first) };
                    interface.offset_seconds = (u64::from(high) << 32 | u64::from(low)) as i64;
                }
            }
            _ => {}
        });
        if too_fine {
            let what = "read an if_tsresol finer than 64 bits can count; times of this interface are not to be trusted";
            learned.loss(offset, what.to_owned(), false);
        }
        learned.interfaces.push(interface);
        learned.format.interface_offsets.push(offset);
        self.interface_count += 1;
        Ok(None)
    }

    fn statistics(&self, body: &[u8], learned: &mut Learned) -> Result<Option<Found>, String> {
        let (index, interface) = self.known(learned, self.number(body, 8)?)?;
        if learned.again {
            return Ok(None);
        }
        let (ticks, offset_seconds) = (interface.ticks_per_second, interface.offset_seconds);
        let big_endian = self.big_endian;
        let (mut received, mut start, mut end) = (None, None, None);
        let mut dropped: Option<u64> = None;
        self.options(body, 20, learned, |code, value| {
            let (Some(first), Some(second)) = (u32_at(value, 0, big_endian), u32_at(value, 4, big_endian)) else {
                return;
            };
            // Times are two halves, the high one first; counters are one number in the section's byte order.
            let moment = time_ns(u64::from(first) << 32 | u64::from(second), ticks, offset_seconds);
            let (high, low) = if big_endian { (first, second) } else { (second, first) };
            let counter = u64::from(high) << 32 | u64::from(low);
            match code {
                2 => start = Some(moment),
                3 => end = Some(moment),
                4 => received = Some(counter),
                5 | 7 => dropped = Some(dropped.unwrap_or(0).saturating_add(counter)),
                _ => {}
            }
        });
        if let Some(interface) = learned.interfaces.get_mut(index as usize) {
            interface.received = received.or(interface.received);
            interface.dropped = dropped.or(interface.dropped);
            interface.start_ns = start.or(interface.start_ns);
            interface.end_ns = end.or(interface.end_ns);
        }
        Ok(None)
    }

    /// Calls `take` with each option's code and value; counts comments.
    fn options(&self, body: &[u8], from: usize, learned: &mut Learned, mut take: impl FnMut(u16, &[u8])) {
        let mut at = from;
        while let (Some(code), Some(length)) =
            (u16_at(body, at, self.big_endian), u16_at(body, at + 2, self.big_endian))
        {
            let Some(value) = body.get(at + 4..at + 4 + usize::from(length)) else {
                return;
            };
            match code {
                0 => return,
                1 => learned.comments += 1,
                _ => take(code, value),
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
    }

    #[inline]
    fn number(&self, body: &[u8], at: usize) -> Result<u32, String> {
        u32_at(body, at, self.big_endian).ok_or_else(too_short)
    }
}

fn too_short() -> String {
    "read a block shorter than expected for its type".to_owned()
}

/// Whether the section is big-endian, from its byte-order magic read as big-endian.
pub(super) fn byte_order(magic: u32) -> Option<bool> {
    match magic {
        BYTE_ORDER_MAGIC => Some(true),
        _ if magic.swap_bytes() == BYTE_ORDER_MAGIC => Some(false),
        _ => None,
    }
}

/// if_tsresol: a negative power of ten, with the upper bit set of two. None where a second has more ticks than 64 bits count.
pub fn ticks_per_second(resolution: u8) -> Option<u64> {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 == 0 {
        10_u64.checked_pow(exponent)
    } else {
        2_u64.checked_pow(exponent)
    }
}

/// The latest time that is told: where the 32 bits of seconds of a pcap end, in 2106.
pub const LATEST_NS: i64 = (1 << 32) * 1_000_000_000;
/// The earliest: a clock that was never set begins at 1970, less its zone and some offset. With both limits a time and a difference of two
/// others still add up within 64 bits, so that damaged captures are compared like others.
pub const EARLIEST_NS: i64 = -(1 << 26) * 1_000_000_000;

/// Ticks as nanoseconds since the epoch, held within `EARLIEST_NS` and `LATEST_NS`.
#[inline]
pub fn time_ns(ticks: u64, ticks_per_second: u64, offset_seconds: i64) -> i64 {
    let whole = match ticks_per_second {
        1_000_000_000 => i128::from(ticks),
        1_000_000 => i128::from(ticks) * 1_000,
        0 => 0,
        other => {
            let fraction = u128::from(ticks % other) * 1_000_000_000 / u128::from(other);
            i128::from(ticks / other) * 1_000_000_000 + fraction as i128
        }
    };
    let shifted = whole + i128::from(offset_seconds) * 1_000_000_000;
    shifted.clamp(i128::from(EARLIEST_NS), i128::from(LATEST_NS)) as i64
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..NAME_MAX).unwrap_or(value))
        .trim_end_matches('\0')
        .to_owned()
}
