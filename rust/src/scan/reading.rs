//! Captures go in; their records come out in the order of time: of files that follow each other one after the other, of others side by side.

use super::beside::{Ahead, beside, here};
use super::tally::Tally;
use super::{FileSummary, Gathered, open};
use crate::capture::Reader;
use crate::capture::record::{Record, Step};
use crate::flows::live::FlowTable;
use crate::flows::table::RowStore;
use crate::flows::watch::Watch;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Progress is told each so many records.
const PROGRESS_RECORDS: u64 = 65_536;

/// One record kept beyond its reader's buffer, while several files are read side by side.
struct Kept {
    step: Step,
    data: Vec<u8>,
}

impl Kept {
    /// A copy of a record, in memory that was used before.
    fn of(record: &Record<'_>, mut data: Vec<u8>) -> Kept {
        data.clear();
        data.extend_from_slice(record.data);
        Kept {
            step: record.step(0),
            data,
        }
    }

    fn record(&self) -> Record<'_> {
        self.step.record(&self.data)
    }
}

struct Input {
    number: u32,
    reader: Reader,
    next: Option<Kept>,
    spare: Vec<u8>,
}

impl Input {
    /// Reads the next record into its own memory.
    fn advance(&mut self) {
        let data = std::mem::take(&mut self.spare);
        self.next = self.reader.next().map(|record| Kept::of(&record, data));
    }

    /// When its next record was captured.
    fn next_ns(&self) -> Option<i64> {
        self.next.as_ref().map(|kept| kept.step.time_ns)
    }
}

/// The reading side: which files are open, and what is known of each.
struct Inputs<'a> {
    paths: &'a [PathBuf],
    files: Vec<FileSummary>,
    records: u64,
    bytes_done: u64,
}

/// Reads the captures of one vantage point side by side, in the order of time, into a flow table, and writes out all its flows. Every pass
/// over captures goes this way, so that each finds the same flows.
pub(crate) fn read<W: Watch + Send>(
    paths: &[PathBuf],
    table: &mut FlowTable<RowStore, W>,
    threads: usize,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Gathered> {
    let mut inputs = Inputs {
        paths,
        files: paths.iter().map(|path| FileSummary::new(path)).collect(),
        records: 0,
        bytes_done: 0,
    };
    let tally = Tally::new(table, paths.len());
    let read = |ahead: &mut Ahead<'_>| inputs.read(ahead, progress);
    let mut counts = if threads > 1 {
        beside(tally, read)?
    } else {
        here(tally, read)?
    };
    let checkpoints = counts.put(&mut inputs.files);
    Ok(Gathered {
        files: inputs.files,
        checkpoints,
        arp: counts.arp,
        live_max: counts.live_max,
    })
}

impl Inputs<'_> {
    fn read(&mut self, ahead: &mut Ahead<'_>, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> io::Result<()> {
        let mut waiting = self.begin();
        waiting.sort_by_key(|(first_ns, number)| std::cmp::Reverse((*first_ns, *number)));
        let mut open_inputs: Vec<Input> = Vec::new();
        loop {
            let earliest = open_inputs.iter().filter_map(Input::next_ns).min();
            while let Some(&(first_ns, number)) = waiting.last() {
                if earliest.is_some_and(|time_ns| time_ns < first_ns) && !open_inputs.is_empty() {
                    break;
                }
                waiting.pop();
                if let Some(mut input) = self.open(number) {
                    input.advance();
                    open_inputs.push(input);
                }
                if earliest.is_none() {
                    break;
                }
            }
            if open_inputs.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            let limit = waiting.last().map_or(i64::MAX, |(first_ns, _)| *first_ns);
            if let [only] = open_inputs.as_mut_slice() {
                self.read_alone(only, limit, ahead, progress)?;
            } else if let Some(input) = open_inputs
                .iter_mut()
                .min_by_key(|input| (input.next_ns().unwrap_or(i64::MAX), input.number))
            {
                if let Some(kept) = input.next.take() {
                    ahead.record(input.number, &kept.record())?;
                    input.spare = kept.data;
                    input.advance();
                }
                self.records += 1;
                if self.records.is_multiple_of(PROGRESS_RECORDS) {
                    let open_bytes: u64 = open_inputs.iter().map(|input| input.reader.bytes_read()).sum();
                    if progress(self.bytes_done + open_bytes).is_break() {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                }
            }
            let (done, going): (Vec<_>, Vec<_>) = open_inputs.into_iter().partition(|input| input.next.is_none());
            open_inputs = going;
            for input in done {
                self.close(&input);
            }
        }
    }

    /// One file alone: records are taken from its buffer as they lie, until another file's time has come.
    fn read_alone(
        &mut self,
        only: &mut Input,
        limit: i64,
        ahead: &mut Ahead<'_>,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if let Some(kept) = only.next.take() {
            ahead.record(only.number, &kept.record())?;
            only.spare = kept.data;
        }
        only.reader.hand_over();
        while let Some(step) = only.reader.step() {
            if step.time_ns >= limit {
                let data = std::mem::take(&mut only.spare);
                only.next = Some(Kept::of(&step.record(only.reader.buffer()), data));
                break;
            }
            ahead.step(only.number, &mut only.reader, step)?;
            self.records += 1;
            if self.records.is_multiple_of(PROGRESS_RECORDS)
                && progress(self.bytes_done + only.reader.bytes_read()).is_break()
            {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        ahead.leave(&mut only.reader)
    }

    /// The time of each file's first record, so that rotated files are read one after the other and parallel ones side by side.
    fn begin(&mut self) -> Vec<(i64, usize)> {
        let mut waiting = Vec::new();
        for (number, (path, file)) in self.paths.iter().zip(&mut self.files).enumerate() {
            if path == Path::new("-") {
                waiting.push((i64::MIN, number));
                continue;
            }
            match open(path) {
                Ok(mut reader) => waiting.push((reader.next().map_or(i64::MAX, |record| record.time_ns), number)),
                Err(error) => file.error = Some(error),
            }
        }
        waiting
    }

    fn open(&mut self, number: usize) -> Option<Input> {
        match open(self.paths.get(number)?) {
            Ok(reader) => Some(Input {
                number: number as u32,
                reader,
                next: None,
                spare: Vec::new(),
            }),
            Err(error) => {
                self.files.get_mut(number)?.error = Some(error);
                None
            }
        }
    }

    fn close(&mut self, input: &Input) {
        if let Some(file) = self.files.get_mut(input.number as usize) {
            file.interfaces = input.reader.interfaces().to_vec();
            file.losses = input.reader.losses().to_vec();
            file.losses_more = input.reader.losses_more();
            file.bytes_read = input.reader.bytes_read();
            file.format = Some(input.reader.format().clone());
            self.bytes_done += file.bytes_read;
        }
    }
}
