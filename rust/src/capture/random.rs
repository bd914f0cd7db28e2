//! Positions that an earlier reading kept go in, the records that stand there come out again.

use super::record::{Interface, Record};
use super::{CaptureError, Container, FormatInfo, Reader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes read at once after a jump: the records between two checkpoints of usual packets.
const READ_SIZE: usize = 48 << 10;

/// Reads records of one capture by position. Compressed captures are unpacked from their start: there, ask in rising order.
pub struct RandomReader {
    path: PathBuf,
    reader: Reader,
    format: FormatInfo,
    interfaces: Vec<Interface>,
}

impl RandomReader {
    /// Opens a capture that was read to its end before, with what `Reader::format` and `Reader::interfaces` said then. An error where the
    /// file is of another format now.
    pub fn open(path: &Path, format: &FormatInfo, interfaces: Vec<Interface>) -> Result<RandomReader, CaptureError> {
        let reader = open_again(path, format, &interfaces)?;
        Ok(RandomReader {
            path: path.to_owned(),
            reader,
            format: format.clone(),
            interfaces,
        })
    }

    /// The interfaces as they were given.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The record at an offset, whose frame number is known.
    pub fn read_at(&mut self, offset: u64, frame: u64) -> Result<Record<'_>, CaptureError> {
        self.go(offset, frame)?;
        self.expect_frame(frame)
            .and_then(|record| match record.offset == offset {
                true => Ok(record),
                false => Err(CaptureError::new(format!(
                    "read a record at {}, expected frame {frame} at {offset}",
                    record.offset
                ))),
            })
    }

    /// The wanted frame, from a checkpoint at or before it. Nothing is read twice when the frame lies a little ahead of the one before.
    pub fn read_frame(
        &mut self,
        checkpoint_offset: u64,
        checkpoint_frame: u64,
        wanted_frame: u64,
    ) -> Result<Record<'_>, CaptureError> {
        if wanted_frame < checkpoint_frame || checkpoint_frame == 0 {
            return Err(CaptureError::new(format!(
                "frame {wanted_frame} lies before its checkpoint, frame {checkpoint_frame}"
            )));
        }
        let ahead = self.reader.frame + 1;
        if !(checkpoint_frame..=wanted_frame).contains(&ahead) {
            self.go(checkpoint_offset, checkpoint_frame)?;
        }
        self.expect_frame(wanted_frame)
    }

    /// Calls `take` with each record from a checkpoint on until it breaks or the file ends.
    pub fn walk_from(
        &mut self,
        offset: u64,
        frame: u64,
        take: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), CaptureError> {
        self.go(offset, frame)?;
        while self.reader.frame + 1 < frame {
            if self.reader.next().is_none() {
                return Err(missing(frame, self.reader.frame));
            }
        }
        while let Some(record) = self.reader.next() {
            if take(&record).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads on to a frame.
    fn expect_frame(&mut self, frame: u64) -> Result<Record<'_>, CaptureError> {
        while self.reader.frame + 1 < frame {
            if self.reader.next().is_none() {
                return Err(missing(frame, self.reader.frame));
            }
        }
        let last = self.reader.frame;
        self.reader.next().ok_or_else(|| missing(frame, last))
    }

    /// Makes the record at `offset`, or one before it, the next one to be read.
    fn go(&mut self, offset: u64, frame: u64) -> Result<(), CaptureError> {
        if self.format.simple_packets {
            // The time of a simple packet is that of the record before it, which may lie anywhere before: read from the start.
            if self.reader.frame >= frame {
                self.reader = open_again(&self.path, &self.format, &self.interfaces)?;
            }
            return Ok(());
        }
        let io_error = |error: std::io::Error| CaptureError::new(error.to_string());
        if !self.reader.source.seek(offset).map_err(io_error)? {
            self.reader = open_again(&self.path, &self.format, &self.interfaces)?;
            if !self.reader.source.seek(offset).map_err(io_error)? {
                return Err(CaptureError::new(format!(
                    "the file ends before offset {offset}, expected frame {frame} there"
                )));
            }
        }
        self.reader.pending = 0;
        self.reader.frame = frame.saturating_sub(1);
        if let Container::Pcapng(pcapng) = &mut self.reader.container {
            pcapng.resume_at(&self.reader.learned, offset);
        }
        Ok(())
    }
}

fn missing(frame: u64, last: u64) -> CaptureError {
    CaptureError::new(format!(
        "read frames up to {last}, expected frame {frame}; the file was changed since it was read first"
    ))
}

fn open_again(path: &Path, format: &FormatInfo, interfaces: &[Interface]) -> Result<Reader, CaptureError> {
    let mut reader = Reader::open(path)?;
    let now = reader.format();
    if now.format != format.format || now.compression != format.compression {
        let what = format!(
            "read {}, expected {}; the file was changed since it was read first",
            now.describe(),
            format.describe()
        );
        return Err(CaptureError::new(what));
    }
    reader.source.set_read_size(READ_SIZE);
    reader.learned.format = format.clone();
    reader.learned.interfaces = interfaces.to_vec();
    reader.learned.again = true;
    Ok(reader)
}
