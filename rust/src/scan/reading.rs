//! Captures go in; their records come out in the order of time: of files that follow each other one after the other, of others side by side.

use super::beside::{Ahead, beside, here};
use super::tally::Tally;
use super::{FileSummary, Gathered, open};
use crate::capture::Reader;
use crate::capture::record::{Direction, Record};
use crate::flows::live::FlowTable;
use crate::flows::table::RowStore;
use crate::flows::watch::Watch;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Progress is told each so many records.
const PROGRESS_RECORDS: u64 = 65_536;

/// One record kept beyond its reader's buffer, while several files are read side by side.
pub(super) struct Kept {
    frame: u64,
    offset: u64,
    time_ns: i64,
    interface: u32,
    link_type: u16,
    direction: Direction,
    original_length: u32,
    data: Vec<u8>,
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
        let mut data = std::mem::take(&mut self.spare);
        data.clear();
        self.next = self.reader.next().map(|record| {
            data.extend_from_slice(record.data);
            keep(&record, data)
        });
    }
}

fn keep(record: &Record<'_>, data: Vec<u8>) -> Kept {
    Kept {
        frame: record.frame,
        offset: record.offset,
        time_ns: record.time_ns,
        interface: record.interface,
        link_type: record.link_type,
        direction: record.direction,
        original_length: record.original_length,
        data,
    }
}

impl Kept {
    fn record(&self) -> Record<'_> {
        Record {
            frame: self.frame,
            offset: self.offset,
            time_ns: self.time_ns,
            interface: self.interface,
            link_type: self.link_type,
            direction: self.direction,
            data: &self.data,
            original_length: self.original_length,
        }
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
            let earliest = open_inputs
                .iter()
                .filter_map(|input| input.next.as_ref())
                .map(|kept| kept.time_ns)
                .min();
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
                .min_by_key(|input| (input.next.as_ref().map_or(i64::MAX, |kept| kept.time_ns), input.number))
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
                let record = step.record(only.reader.buffer());
                let mut data = std::mem::take(&mut only.spare);
                data.clear();
                data.extend_from_slice(record.data);
                only.next = Some(keep(&record, data));
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
