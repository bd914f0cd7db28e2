//! Frame numbers of flows go in, a compact file comes out that says which frames of which capture belong to which flow.
//!
//! Layout: a header; chunks, each the frames of one flow with a link to the chunk before it; a trailer with, for each capture file,
//! what is needed to read a record again (format, interfaces, the offset of each `CHECKPOINT`-th frame); a footer that locates it.
//! A frame is a varint of its distance to the one before, shifted by one; an odd value switches to another file and is followed by
//! the absolute frame number. That takes about two bytes a packet, against eight for an offset.

use std::io::{self, Write};

pub const MAGIC: &[u8; 8] = b"tcpwhyFX";
pub const VERSION: u32 = 1;
/// Frames between two offsets kept: a read walks at most so many record headers.
pub const CHECKPOINT: u64 = 64;
/// Bytes of a chunk's frames held in memory for a flow that is alive.
const HELD: usize = 46;
/// prev (8), length (2).
const CHUNK_HEADER: usize = 10;
/// The longest entry: switch and frame number, ten bytes each.
const ENTRY_MAX: usize = 20;

/// Where chunks are written, one behind the other.
pub struct FrameLog {
    out: Box<dyn Write + Send>,
    position: u64,
}

impl FrameLog {
    pub fn begin(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(FrameLog {
            out,
            position: (MAGIC.len() + 4) as u64,
        })
    }

    fn chunk(&mut self, previous: u64, bytes: &[u8]) -> io::Result<u64> {
        let at = self.position;
        self.out.write_all(&previous.to_le_bytes())?;
        self.out.write_all(&(bytes.len() as u16).to_le_bytes())?;
        self.out.write_all(bytes)?;
        self.position += (CHUNK_HEADER + bytes.len()) as u64;
        Ok(at)
    }

    /// Writes the trailer and the footer that locates it.
    pub fn end(&mut self, trailer: &[u8]) -> io::Result<()> {
        let at = self.position;
        self.out.write_all(trailer)?;
        self.out.write_all(&at.to_le_bytes())?;
        self.out.write_all(MAGIC)?;
        self.out.flush()
    }
}

/// The frames of one flow since its last chunk.
#[derive(Debug)]
pub struct FrameList {
    held: [u8; HELD],
    used: u8,
    file: u32,
    frame: u64,
    previous: u64,
}

impl Default for FrameList {
    fn default() -> Self {
        FrameList {
            held: [0; HELD],
            used: 0,
            file: 0,
            frame: 0,
            previous: 0,
        }
    }
}

impl FrameList {
    /// A word of each line of cache.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.frame ^ self.previous
    }

    /// Remembers one frame; writes a chunk first where there is no room left.
    pub fn push(&mut self, log: &mut FrameLog, file: u32, frame: u64) -> io::Result<()> {
        if usize::from(self.used) + ENTRY_MAX > HELD {
            self.flush(log)?;
        }
        if self.used == 0 || self.file != file || frame < self.frame {
            self.varint(u64::from(file) << 1 | 1);
            self.varint(frame);
        } else {
            self.varint((frame - self.frame) << 1);
        }
        self.file = file;
        self.frame = frame;
        Ok(())
    }

    /// Writes what is left; where the last chunk stands, if there is any.
    pub fn finish(&mut self, log: &mut FrameLog) -> io::Result<Option<u64>> {
        self.flush(log)?;
        Ok((self.previous != 0).then_some(self.previous))
    }

    fn flush(&mut self, log: &mut FrameLog) -> io::Result<()> {
        if self.used > 0 {
            let bytes = self.held.get(..usize::from(self.used)).unwrap_or_default();
            self.previous = log.chunk(self.previous, bytes)?;
            self.used = 0;
        }
        Ok(())
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if let Some(slot) = self.held.get_mut(usize::from(self.used)) {
                *slot = if value == 0 { low } else { low | 0x80 };
                self.used += 1;
            }
            if value == 0 {
                return;
            }
        }
    }
}

/// Appends a varint (seven bits a byte, low ones first).
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint; None where the bytes end early or the value is too long.
pub fn get_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn unsound(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("frame index: {what}"))
}

/// Reads a frame index from its bytes at random positions.
pub struct FrameIndex {
    file: std::fs::File,
    end: u64,
}

impl FrameIndex {
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut footer = [0_u8; 16];
        let footer_at = length
            .checked_sub(16)
            .ok_or_else(|| unsound("shorter than its footer"))?;
        file.read_exact_at(&mut footer, footer_at)?;
        let (at, magic) = footer.split_at(8);
        if magic != MAGIC {
            return Err(unsound("its footer is missing"));
        }
        let mut head = [0_u8; 12];
        file.read_exact_at(&mut head, 0)?;
        let (magic, version) = head.split_at(8);
        if magic != MAGIC || version != VERSION.to_le_bytes() {
            return Err(unsound("of another version"));
        }
        let end = u64::from_le_bytes(at.try_into().unwrap_or_default());
        if end > footer_at {
            return Err(unsound("its trailer lies behind its end"));
        }
        Ok(FrameIndex { file, end })
    }

    /// The trailer as it was given to `FrameLog::end`.
    pub fn trailer(&self) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let length = self.file.metadata()?.len();
        let size = length.saturating_sub(16).saturating_sub(self.end);
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, self.end)?;
        Ok(bytes)
    }

    /// All (file, frame) pairs of a chain of chunks, in the order in which they were pushed.
    pub fn frames(&self, last_chunk: u64) -> io::Result<Vec<(u32, u64)>> {
        use std::os::unix::fs::FileExt;
        let mut chunks = Vec::new();
        let mut at = last_chunk;
        while at != 0 {
            let mut header = [0_u8; CHUNK_HEADER];
            if at + CHUNK_HEADER as u64 > self.end {
                return Err(unsound("a chunk lies behind the end"));
            }
            self.file.read_exact_at(&mut header, at)?;
            let (previous, length) = header.split_at(8);
            let previous = u64::from_le_bytes(previous.try_into().unwrap_or_default());
            let length = usize::from(u16::from_le_bytes(length.try_into().unwrap_or_default()));
            if length > HELD || previous >= at {
                return Err(unsound("a chunk is broken"));
            }
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, at + CHUNK_HEADER as u64)?;
            chunks.push(bytes);
            at = previous;
        }
        let mut frames = Vec::new();
        for chunk in chunks.iter().rev() {
            let mut input = chunk.as_slice();
            let (mut file, mut frame) = (0, 0_u64);
            while !input.is_empty() {
                let value = get_varint(&mut input).ok_or_else(|| unsound("a chunk ends early"))?;
                if value & 1 == 1 {
                    file = (value >> 1) as u32;
                    frame = get_varint(&mut input).ok_or_else(|| unsound("a chunk ends early"))?;
                } else {
                    frame = frame.wrapping_add(value >> 1);
                }
                frames.push((file, frame));
            }
        }
        Ok(frames)
    }
}
