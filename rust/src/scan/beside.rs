//! Records go in, in the order of time; batches of them come to the flow table, in the same order, here or on another thread.
//!
//! What is handed on are the reader's own buffers with the places of the records in them: nothing is copied, except where several files
//! are read side by side.

use super::tally::{Counts, Tally};
use crate::capture::Reader;
use crate::capture::record::{Record, Step};
use crate::flows::watch::Watch;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Batches that wait for the other thread: with those in work few enough to stay in the cache.
const WAITING: usize = 4;
/// Bytes of records that are copied before they are handed on.
const COPIED: usize = 128 << 10;

/// Records and the buffer in which they lie.
pub(super) struct Batch {
    bytes: Vec<u8>,
    records: Vec<(u32, Step)>,
    /// The buffer is a reader's, and goes back to it.
    is_readers: bool,
}

/// Where batches go, and whence they come back to be used again.
pub(super) trait Outlet {
    fn put(&mut self, batch: Batch) -> io::Result<()>;
    fn back(&mut self) -> Option<Batch>;
}

/// The tally is on this thread.
struct Here<'t, 'a, W: Watch> {
    tally: &'t mut Tally<'a, W>,
    done: Vec<Batch>,
}

impl<W: Watch> Outlet for Here<'_, '_, W> {
    fn put(&mut self, mut batch: Batch) -> io::Result<()> {
        self.tally.take(&batch.bytes, &batch.records)?;
        batch.records.clear();
        self.done.push(batch);
        Ok(())
    }

    fn back(&mut self) -> Option<Batch> {
        self.done.pop()
    }
}

/// The tally is on another thread.
struct There {
    out: SyncSender<Batch>,
    back: Receiver<Batch>,
}

impl Outlet for There {
    fn put(&mut self, batch: Batch) -> io::Result<()> {
        self.out.send(batch).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn back(&mut self) -> Option<Batch> {
        self.back.try_recv().ok()
    }
}

/// The reading side's end: makes batches.
pub(super) struct Ahead<'o> {
    outlet: &'o mut dyn Outlet,
    /// Records that lie in the buffer of the reader that is read alone.
    records: Vec<(u32, Step)>,
    /// Records of other readers, which lie in `copied`. Only one of both lists has any.
    copied_records: Vec<(u32, Step)>,
    copied: Vec<u8>,
    spare: Vec<Vec<(u32, Step)>>,
}

/// Has `read` give records to a tally on the same thread; what was counted.
pub(super) fn here<W: Watch>(
    mut tally: Tally<'_, W>,
    read: impl FnOnce(&mut Ahead<'_>) -> io::Result<()>,
) -> io::Result<Counts> {
    let mut here = Here {
        tally: &mut tally,
        done: Vec::new(),
    };
    let mut ahead = Ahead::new(&mut here);
    read(&mut ahead)?;
    ahead.send_copied()?;
    tally.finish()
}

/// Has `read` give records to a tally that runs on a thread of its own; what was counted.
pub(super) fn beside<W: Watch + Send>(
    tally: Tally<'_, W>,
    read: impl FnOnce(&mut Ahead<'_>) -> io::Result<()>,
) -> io::Result<Counts> {
    let (out, batches) = sync_channel(WAITING);
    let (returned, back) = channel();
    std::thread::scope(|scope| {
        let counting = scope.spawn(move || count(tally, &batches, &returned));
        let mut there = There { out, back };
        let mut ahead = Ahead::new(&mut there);
        let result = read(&mut ahead).and_then(|()| ahead.send_copied());
        drop(there);
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
        tally.take(&batch.bytes, &batch.records)?;
        batch.records.clear();
        // The reading side may have ended already.
        drop(returned.send(batch));
    }
    tally.finish()
}

impl<'o> Ahead<'o> {
    fn new(outlet: &'o mut dyn Outlet) -> Self {
        Ahead {
            outlet,
            records: Vec::new(),
            copied_records: Vec::new(),
            copied: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn send(&mut self, bytes: Vec<u8>, records: Vec<(u32, Step)>, is_readers: bool) -> io::Result<()> {
        self.outlet.put(Batch {
            bytes,
            records,
            is_readers,
        })
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
        while let Some(mut batch) = self.outlet.back() {
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

impl Ahead<'_> {
    /// A record in the buffer of a reader, the one that it came to last.
    #[inline]
    pub fn step(&mut self, number: u32, reader: &mut Reader, step: Step) -> io::Result<()> {
        if !self.copied_records.is_empty() {
            self.send_copied()?;
        }
        if let Some(buffer) = reader.handed_over() {
            self.send_read(buffer)?;
            self.take_back(Some(reader));
        }
        self.records.push((number, step));
        Ok(())
    }

    /// The reader is left for others, or has come to its end.
    pub fn leave(&mut self, reader: &mut Reader) -> io::Result<()> {
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

    /// A record that lies elsewhere.
    pub fn record(&mut self, number: u32, record: &Record<'_>) -> io::Result<()> {
        let start = self.copied.len();
        self.copied.extend_from_slice(record.data);
        self.copied_records.push((number, record.step(start)));
        if self.copied.len() >= COPIED {
            self.send_copied()?;
            self.take_back(None);
        }
        Ok(())
    }
}
