//! A pcapng stream that makes no sense at some place goes in; where the next sound block begins comes out, and what was passed over.

use super::pcapng::{
    ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, PACKET, PcapngReader, SECTION_HEADER, SECTION_MIN,
    SIMPLE_PACKET, byte_order,
};
use super::source::Source;
use super::{Learned, u32_at};

/// Longest block that the search behind damage believes, and bytes looked through at once.
const SEARCH_BLOCK_MAX: u32 = 1 << 20;
const SEARCH_STEP: usize = 256 << 10;

impl PcapngReader {
    /// The stream ends inside a block: cut off there, unless whole blocks follow in what is left, which shows a damaged length.
    #[cold]
    pub(super) fn last(&self, source: &mut Source, learned: &mut Learned, expected: usize) -> Option<()> {
        let window = source.ahead();
        let found = (1..window.len()).find(|at| self.plausible(window, *at).is_some());
        let Some(distance) = found else {
            let left = window.len();
            learned.end(source, left, expected);
            source.consume(left);
            return None;
        };
        let offset = source.offset();
        let what = format!(
            "read a block length of {expected}, expected one inside the file; {distance} bytes passed over, reading resumes at {}",
            offset + distance as u64
        );
        learned.loss(offset, what, false);
        source.consume(distance);
        Some(())
    }

    /// Looks forward for the next block of a known type whose two lengths agree. Bytes missing before it may have broken the alignment
    /// to four bytes, so each offset is tried.
    #[cold]
    pub(super) fn search(&self, source: &mut Source, learned: &mut Learned, what: String) -> Option<()> {
        let from = source.offset();
        let ahead = SEARCH_BLOCK_MAX as usize;
        source.consume(1);
        loop {
            let bytes = source.fill(ahead + SEARCH_STEP).len();
            let ended = source.ended();
            let stop = if ended { bytes } else { bytes.saturating_sub(ahead) };
            let window = source.ahead();
            if let Some(distance) = (0..stop).find(|at| self.plausible(window, *at).is_some()) {
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
                    format!("{what}; no further block in the {passed} bytes that follow"),
                    false,
                );
                learned.end(source, 0, 0);
                return None;
            }
        }
    }

    /// A block of a known type whose lengths agree and suffice for the type.
    fn plausible(&self, window: &[u8], at: usize) -> Option<()> {
        let bytes = window.get(at..)?;
        let (order, least) = if bytes.starts_with(&SECTION_HEADER) {
            (byte_order(u32_at(bytes, 8, true)?)?, SECTION_MIN as u32)
        } else {
            let least = match u32_at(bytes, 0, self.big_endian)? {
                INTERFACE_DESCRIPTION => 20,
                PACKET | ENHANCED_PACKET => 32,
                SIMPLE_PACKET | 4 => 16,
                INTERFACE_STATISTICS => 24,
                // Decryption secrets, systemd journal, custom blocks.
                9 | 10 | 0xbad | 0x4000_0bad => 16,
                _ => return None,
            };
            (self.big_endian, least)
        };
        let stated = u32_at(bytes, 4, order)?;
        let trailing = u32_at(
            bytes,
            (stated.checked_next_multiple_of(4)? as usize).checked_sub(4)?,
            order,
        )?;
        ((least..=SEARCH_BLOCK_MAX).contains(&stated) && trailing == stated).then_some(())
    }
}
