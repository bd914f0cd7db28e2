//! Records go in on the one thread; on another one they are counted and come to the flow table, in the same order.
//!
//! What is handed over are the reader's own buffers with the places of the records in them: nothing is copied, except where several files
//! are read side by side.

use super::reading::Sink;
use super::tally::{Counts, Tally};
use crate::capture::Reader;
use crate::capture::record::{Record, Step};
use crate::flows::live::Watch;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Batches that wait for the other thread: with those in work few enough to stay in the cache.
const WAITING: usize = 4;
/// Bytes of records that are copied before they are handed on.
const COPIED: usize = 128 << 10;

/// Records and the buffer in which they lie.
struct Batch {
    bytes: Vec<u8>,
    records: Vec<(u32, Step)>,
    /// The buffer is a reader's, and goes back to it.
    is_readers: bool,
}

/// The reading side's end: makes batches.
pub(super) struct Ahead {
    out: SyncSender<Batch>,
    back: Receiver<Batch>,
    /// Records that lie in the buffer of the reader that is read alone.
    records: Vec<(u32, Step)>,
    /// Records of other readers, which lie in `copied`. Only one of both lists has any.
    copied_records: Vec<(u32, Step)>,
    copied: Vec<u8>,
    spare: Vec<Vec<(u32, Step)>>,
}

/// Has `read` give records to a tally that runs on a thread of its own; what was counted.
pub(super) fn beside<W: Watch + Send>(
    tally: Tally<'_, W>,
    read: impl FnOnce(&mut Ahead) -> io::Result<()>,
) -> io::Result<Counts> {
    let (out, batches) = sync_channel(WAITING);
    let (returned, back) = channel();
    std::thread::scope(|scope| {
        let counting = scope.spawn(move || count(tally, &batches, &returned));
        let mut ahead = Ahead {
            out,
            back,
            records: Vec::new(),
            copied_records: Vec::new(),
            copied: Vec::new(),
            spare: Vec::new(),
        };
        let result = read(&mut ahead).and_then(|()| ahead.send_copied());
        drop(ahead);
        let counted = counting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (result, counted) {
            // The reader notices that the other side has ended; why is known there.
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(counts)) => Ok(counts),
        }
    })
}

fn count<W: Watch>(mut tally: Tally<'_, W>, batches: &Receiver<Batch>, returned: &Sender<Batch>) -> io::Result<Counts> {
    for mut batch in batches {
        for (number, step) in batch.records.drain(..) {
            tally.take(number, &step.record(&batch.bytes))?;
        }
        // The reading side may have ended already.
        drop(returned.send(batch));
    }
    tally.finish()
}

impl Ahead {
    fn send(&mut self, bytes: Vec<u8>, records: Vec<(u32, Step)>, is_readers: bool) -> io::Result<()> {
        let batch = Batch {
            bytes,
            records,
            is_readers,
        };
        self.out.send(batch).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// The records before the last step, and their buffer, which the reader has left.
    fn send_read(&mut self, buffer: Vec<u8>) -> io::Result<()> {
        let spare = self.spare.pop().unwrap_or_default();
        let records = std::mem::replace(&mut self.records, spare);
        self.send(buffer, records, true)
    }

    fn send_copied(&mut self) -> io::Result<()> {
        if self.copied_records.is_empty() {
            return Ok(());
        }
        let spare = self.spare.pop().unwrap_or_default();
        let records = std::mem::replace(&mut self.copied_records, spare);
        let bytes = std::mem::take(&mut self.copied);
        self.send(bytes, records, false)
    }

    /// Takes back what the other thread is done with; buffers of readers go to this one.
    fn take_back(&mut self, reader: Option<&mut Reader>) {
        let mut reader = reader;
        while let Ok(mut batch) = self.back.try_recv() {
            if batch.is_readers {
                if let Some(reader) = &mut reader {
                    reader.give_back(std::mem::take(&mut batch.bytes));
                }
            } else if self.copied.capacity() == 0 {
                self.copied = std::mem::take(&mut batch.bytes);
                self.copied.clear();
            }
            if self.spare.len() < WAITING {
                self.spare.push(batch.records);
            }
        }
    }
}

impl Sink for Ahead {
    #[inline]
    fn step(&mut self, number: u32, reader: &mut Reader, step: Step) -> io::Result<()> {
        if !self.copied_records.is_empty() {
            self.send_copied()?;
        }
        if let Some(buffer) = reader.handed_over() {
            self.take_back(Some(reader));
            self.send_read(buffer)?;
        }
        self.records.push((number, step));
        Ok(())
    }

    fn leave(&mut self, reader: &mut Reader) -> io::Result<()> {
        if let Some(buffer) = reader.handed_over() {
            return self.send_read(buffer);
        }
        // The buffer is still in use: its records are few, and copied.
        let mut records = std::mem::take(&mut self.records);
        for (number, step) in records.drain(..) {
            self.record(number, &step.record(reader.buffer()))?;
        }
        self.records = records;
        Ok(())
    }

    fn record(&mut self, number: u32, record: &Record<'_>) -> io::Result<()> {
        let start = self.copied.len();
        self.copied.extend_from_slice(record.data);
        let step = Step {
            frame: record.frame,
            offset: record.offset,
            time_ns: record.time_ns,
            start,
            length: record.data.len(),
            interface: record.interface,
            original_length: record.original_length,
            link_type: record.link_type,
            direction: record.direction,
        };
        self.copied_records.push((number, step));
        if self.copied.len() >= COPIED {
            self.take_back(None);
            self.send_copied()?;
        }
        Ok(())
    }
}
