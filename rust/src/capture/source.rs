//! A file or stream, compressed or not, goes in; slices of one buffer of plain bytes come out, with their offsets.

use super::CaptureError;
use super::decompress::{Compression, decompress};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes asked for at once: stays in the second-level cache, so that parsing finds what the kernel just copied.
const READ_SIZE: usize = 128 << 10;
/// The buffer at first; it grows only when it is full of real bytes of one record.
const BUFFER_SIZE: usize = 256 << 10;
/// What is left of a read is moved to the front when it is no longer than this: the same lines of cache are then used again.
const MOVE_MAX: usize = 32 << 10;
/// Longest magic of a compressed format (xz).
const MAGIC_SIZE: usize = 6;

/// Counts what is read of the underlying file.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

enum Input {
    /// A plain file: positions can be sought.
    File(File),
    Stream(Box<dyn Read + Send>),
}

/// The plain bytes of a capture.
pub struct Source {
    input: Input,
    compression: Compression,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `buffer[0]` in the plain stream.
    base: u64,
    ended: bool,
    failure: Option<String>,
    read_size: usize,
    /// Bytes read of the underlying file.
    count: Arc<AtomicU64>,
    /// Where buffers are handed over.
    handing: Option<Handing>,
}

/// Buffers that are not written to again as long as others read in them.
#[derive(Default)]
struct Handing {
    full: Option<Vec<u8>>,
    empty: Vec<Vec<u8>>,
}

impl Source {
    /// Opens a file; what its first bytes say decides on decompression.
    pub fn open(path: &Path) -> Result<Source, CaptureError> {
        let mut file = File::open(path).map_err(|error| CaptureError::new(error.to_string()))?;
        let first = first_bytes(&mut file)?;
        match Compression::of(&first) {
            Compression::None => Ok(Source::new(Input::File(file), Compression::None, first, Arc::default())),
            compression => Source::unpack(compression, first, Box::new(file)),
        }
    }

    /// Takes a stream, as standard input is.
    pub fn from_read(mut input: Box<dyn Read + Send>) -> Result<Source, CaptureError> {
        let first = first_bytes(&mut input)?;
        match Compression::of(&first) {
            Compression::None => Ok(Source::new(
                Input::Stream(input),
                Compression::None,
                first,
                Arc::default(),
            )),
            compression => Source::unpack(compression, first, input),
        }
    }

    fn unpack(compression: Compression, first: Vec<u8>, input: Box<dyn Read + Send>) -> Result<Source, CaptureError> {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: Cursor::new(first).chain(input),
            count: Arc::clone(&count),
        };
        let plain = decompress(compression, Box::new(counted))
            .map_err(|error| CaptureError::new(compression.explain(&error)))?;
        Ok(Source::new(Input::Stream(plain), compression, Vec::new(), count))
    }

    fn new(input: Input, compression: Compression, first: Vec<u8>, count: Arc<AtomicU64>) -> Source {
        let end = first.len();
        let mut buffer = first;
        buffer.resize(BUFFER_SIZE, 0);
        count.fetch_add(end as u64, Ordering::Relaxed);
        Source {
            input,
            compression,
            buffer,
            start: 0,
            end,
            base: 0,
            ended: false,
            failure: None,
            read_size: READ_SIZE,
            count,
            handing: None,
        }
    }

    /// From now on what was consumed of a buffer stays as it is: a new one takes its place, and `handed_over` gives the old one.
    pub fn hand_over(&mut self) {
        self.handing.get_or_insert_default();
    }

    /// The buffer that lay here before, once.
    #[inline]
    pub fn handed_over(&mut self) -> Option<Vec<u8>> {
        self.handing.as_mut()?.full.take()
    }

    /// Takes a buffer that nobody reads in any more.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        if let Some(handing) = &mut self.handing {
            handing.empty.push(buffer);
        }
    }

    /// The whole buffer; `place` is where what lies ahead begins in it.
    #[inline]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Where in `buffer` what lies ahead begins.
    #[inline]
    pub fn place(&self) -> usize {
        self.start
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Bytes read of the underlying file so far.
    pub fn bytes_read(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Offset in the plain stream of the first byte that `fill` gives.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Reads on until `want` bytes lie ahead; fewer at the end of the stream alone. All bytes that lie ahead, which can be more.
    #[inline]
    pub fn fill(&mut self, want: usize) -> &[u8] {
        if self.end - self.start < want {
            self.read_on(want);
        }
        self.ahead()
    }

    /// What lies ahead without reading.
    #[inline]
    pub fn ahead(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Passes over bytes that lie ahead.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
    }

    /// True where no byte can follow those that lie ahead.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Why the stream ended before its true end, told once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Bytes to ask for at once, for readers that jump.
    pub fn set_read_size(&mut self, size: usize) {
        self.read_size = size.clamp(1, READ_SIZE);
    }

    #[cold]
    fn read_on(&mut self, want: usize) {
        while self.end - self.start < want && !self.ended {
            self.make_room();
            let stop = self.buffer.len().min(self.end.saturating_add(self.read_size));
            let Some(room) = self.buffer.get_mut(self.end..stop) else {
                return;
            };
            let read = match &mut self.input {
                Input::File(file) => file.read(room),
                Input::Stream(stream) => stream.read(room),
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.end += count;
                    if self.compression == Compression::None {
                        self.count.fetch_add(count as u64, Ordering::Relaxed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.failure = Some(self.compression.explain(&error));
                }
            }
        }
    }

    /// Room behind what lies ahead: by moving that to the front, else by a larger buffer, which is then full of real bytes.
    fn make_room(&mut self) {
        let length = self.end - self.start;
        if self.start > 0 && (length <= MOVE_MAX || self.end == self.buffer.len()) {
            if self.handing.is_some() {
                self.next_buffer();
            } else {
                self.buffer.copy_within(self.start..self.end, 0);
            }
            self.base += self.start as u64;
            self.start = 0;
            self.end = length;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len().saturating_mul(2), 0);
        }
    }

    /// Another buffer takes this one's place, with what lies ahead at its front.
    fn next_buffer(&mut self) {
        let Some(handing) = &mut self.handing else {
            return;
        };
        let mut next = handing.empty.pop().unwrap_or_default();
        let ahead = self.buffer.get(self.start..self.end).unwrap_or_default();
        if next.len() < BUFFER_SIZE.max(ahead.len()) {
            next.resize(BUFFER_SIZE.max(ahead.len()), 0);
        }
        if let Some(front) = next.get_mut(..ahead.len()) {
            front.copy_from_slice(ahead);
        }
        let full = std::mem::replace(&mut self.buffer, next);
        match &handing.full {
            // No record was handed out since the last one was taken away.
            Some(_) => handing.empty.push(full),
            None => handing.full = Some(full),
        }
    }

    /// Goes to an offset of the plain stream. False where it cannot be reached, as a compressed stream cannot go back.
    pub fn seek(&mut self, offset: u64) -> io::Result<bool> {
        let held = offset
            .checked_sub(self.base)
            .and_then(|position| usize::try_from(position).ok());
        if let Some(position) = held.filter(|position| *position <= self.end) {
            self.start = position;
            return Ok(true);
        }
        if let Input::File(file) = &mut self.input {
            file.seek(SeekFrom::Start(offset))?;
            (self.start, self.end, self.base) = (0, 0, offset);
            self.ended = false;
            self.failure = None;
            return Ok(true);
        }
        if offset < self.base {
            return Ok(false);
        }
        while self.offset() < offset {
            let ahead = self.fill(1).len();
            if ahead == 0 {
                return Ok(false);
            }
            let distance = usize::try_from(offset - self.offset()).unwrap_or(usize::MAX);
            self.consume(ahead.min(distance));
        }
        Ok(true)
    }
}

/// The bytes that tell a compressed format; fewer where the file is shorter.
fn first_bytes(input: &mut dyn Read) -> Result<Vec<u8>, CaptureError> {
    let mut first = Vec::with_capacity(MAGIC_SIZE);
    match input.take(MAGIC_SIZE as u64).read_to_end(&mut first) {
        Err(error) if first.is_empty() => Err(CaptureError::new(error.to_string())),
        Ok(_) if first.is_empty() => Err(CaptureError::new("empty file".to_owned())),
        _ => Ok(first),
    }
}
