//! The captures of one vantage point go in, merged by time; its flow table, frame index and what is to be said of each file come out.

use crate::capture::record::{Direction, Interface, Loss, Record};
use crate::capture::{FormatInfo, Reader};
use crate::decode::decode;
use crate::decode::packet::{Arp, Inner};
use crate::flows::live::{FlowTable, Origin, Watch};
use crate::flows::table::RowStore;
use crate::index::{CHECKPOINT, FrameLog};
use crate::trailer::{FileTrailer, put_trailer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Progress is told each so many records.
const PROGRESS_RECORDS: u64 = 65_536;
/// Different ARP answers kept; more than that is an attack or a scan, and is counted only.
const ARP_KEPT: usize = 10_000;
/// Payload that no unsegmented packet of an Ethernet can carry: offload made the frame (MTU 1500 and jumbo frames of 9000 apart).
const JUMBO: u32 = 9_216;

/// What is known of one capture file after the scan.
#[derive(Debug, Clone)]
pub struct FileSummary {
    pub path: PathBuf,
    pub error: Option<String>,
    pub packets: u64,
    pub tcp_packets: u64,
    pub malformed: u64,
    /// Records of which less was captured than was on the wire.
    pub cut_by_snap_length: u64,
    /// IP packets longer than any MTU: merged by offload.
    pub longer_than_mtu: u64,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
    pub interfaces: Vec<Interface>,
    pub losses: Vec<Loss>,
    pub losses_more: u64,
    pub format: Option<FormatInfo>,
    pub bytes_read: u64,
}

/// An address and the hardware address that claimed it in ARP.
#[derive(Debug, Clone, Copy)]
pub struct ArpClaim {
    pub count: u64,
    pub file: u32,
    pub frame: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

pub type ArpClaims = BTreeMap<([u8; 4], [u8; 6], u16), ArpClaim>;

#[derive(Debug)]
pub struct Summary {
    pub files: Vec<FileSummary>,
    pub flows: u64,
    pub live_max: usize,
    pub arp: ArpClaims,
}

/// One record kept beyond its reader's buffer, while several files are read side by side.
struct Kept {
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

/// What the scan gathers besides flows.
pub(crate) struct Gathered {
    pub files: Vec<FileSummary>,
    checkpoints: Vec<Vec<u64>>,
    arp: ArpClaims,
    live_max: usize,
    records: u64,
    bytes_done: u64,
}

/// Opens a capture; `-` is standard input.
pub fn open(path: &Path) -> Result<Reader, String> {
    if path == Path::new("-") {
        Reader::from_read(Box::new(io::stdin())).map_err(|error| error.to_string())
    } else {
        Reader::open(path).map_err(|error| error.to_string())
    }
}

/// Scans the captures of one vantage point into `folder`/flows.parquet and `folder`/frames.idx. `progress` is told the bytes read
/// so far and can stop the scan (the error is then of kind Interrupted).
pub fn scan(paths: &[PathBuf], folder: &Path, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> io::Result<Summary> {
    let log = FrameLog::begin(Box::new(BufWriter::with_capacity(
        1 << 17,
        File::create(folder.join("frames.idx"))?,
    )))?;
    let mut table = FlowTable::new(RowStore::new(folder), log, ());
    let gathered = read(paths, &mut table, progress)?;
    let mut trailer = Vec::new();
    put_trailer(
        &mut trailer,
        gathered
            .files
            .iter()
            .zip(&gathered.checkpoints)
            .map(|(file, checkpoints)| FileTrailer {
                format: file.format.clone(),
                interfaces: file.interfaces.clone(),
                checkpoints: checkpoints.clone(),
            }),
    )?;
    table.log.end(&trailer)?;
    let flows = table.sink.write(&folder.join("flows.parquet"))?;
    Ok(Summary {
        files: gathered.files,
        flows,
        live_max: gathered.live_max,
        arp: gathered.arp,
    })
}

/// Reads the captures of one vantage point side by side, in the order of time, into a flow table, and writes out all its flows. Every pass
/// over captures goes this way, so that each finds the same flows.
pub(crate) fn read<W: Watch>(
    paths: &[PathBuf],
    table: &mut FlowTable<RowStore, W>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Gathered> {
    let mut gathered = Gathered {
        files: paths.iter().map(|path| FileSummary::new(path)).collect(),
        checkpoints: vec![Vec::new(); paths.len()],
        arp: ArpClaims::new(),
        live_max: 0,
        records: 0,
        bytes_done: 0,
    };
    let mut waiting = gathered.begin(paths);
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
            if let Some(mut input) = gathered.open(paths, number) {
                input.advance();
                open_inputs.push(input);
            }
            if earliest.is_none() {
                break;
            }
        }
        if open_inputs.is_empty() && waiting.is_empty() {
            break;
        }
        let limit = waiting.last().map_or(i64::MAX, |(first_ns, _)| *first_ns);
        if let [only] = open_inputs.as_mut_slice() {
            // One file alone: records are taken from its buffer as they lie, until another file's time has come.
            if let Some(kept) = only.next.take() {
                gathered.take(table, only.number, &kept.record())?;
                only.spare = kept.data;
            }
            while let Some(record) = only.reader.next() {
                if record.time_ns >= limit {
                    let mut data = std::mem::take(&mut only.spare);
                    data.clear();
                    data.extend_from_slice(record.data);
                    only.next = Some(keep(&record, data));
                    break;
                }
                gathered.take(table, only.number, &record)?;
                if gathered.records.is_multiple_of(PROGRESS_RECORDS)
                    && progress(gathered.bytes_done + only.reader.bytes_read()).is_break()
                {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        } else if let Some(input) = open_inputs
            .iter_mut()
            .min_by_key(|input| (input.next.as_ref().map_or(i64::MAX, |kept| kept.time_ns), input.number))
        {
            if let Some(kept) = input.next.take() {
                gathered.take(table, input.number, &kept.record())?;
                input.spare = kept.data;
                input.advance();
            }
            if gathered.records.is_multiple_of(PROGRESS_RECORDS) {
                let open_bytes: u64 = open_inputs.iter().map(|input| input.reader.bytes_read()).sum();
                if progress(gathered.bytes_done + open_bytes).is_break() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        let (done, going): (Vec<_>, Vec<_>) = open_inputs.into_iter().partition(|input| input.next.is_none());
        open_inputs = going;
        for input in done {
            gathered.close(input);
        }
    }
    table.finish()?;
    Ok(gathered)
}

impl FileSummary {
    fn new(path: &Path) -> Self {
        FileSummary {
            path: path.to_owned(),
            error: None,
            packets: 0,
            tcp_packets: 0,
            malformed: 0,
            cut_by_snap_length: 0,
            longer_than_mtu: 0,
            first_ns: None,
            last_ns: None,
            interfaces: Vec::new(),
            losses: Vec::new(),
            losses_more: 0,
            format: None,
            bytes_read: 0,
        }
    }
}

impl Gathered {
    /// The time of each file's first record, so that rotated files are read one after the other and parallel ones side by side.
    fn begin(&mut self, paths: &[PathBuf]) -> Vec<(i64, usize)> {
        let mut waiting = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            if path == Path::new("-") {
                waiting.push((i64::MIN, number));
                continue;
            }
            match open(path) {
                Ok(mut reader) => waiting.push((reader.next().map_or(i64::MAX, |record| record.time_ns), number)),
                Err(error) => {
                    if let Some(file) = self.files.get_mut(number) {
                        file.error = Some(error);
                    }
                }
            }
        }
        waiting
    }

    fn open(&mut self, paths: &[PathBuf], number: usize) -> Option<Input> {
        match open(paths.get(number)?) {
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

    fn close(&mut self, input: Input) {
        if let Some(file) = self.files.get_mut(input.number as usize) {
            file.interfaces = input.reader.interfaces().to_vec();
            file.losses = input.reader.losses().to_vec();
            file.losses_more = input.reader.losses_more();
            file.bytes_read = input.reader.bytes_read();
            file.format = Some(input.reader.format().clone());
            self.bytes_done += file.bytes_read;
        }
    }

    fn take<W: Watch>(
        &mut self,
        table: &mut FlowTable<RowStore, W>,
        number: u32,
        record: &Record<'_>,
    ) -> io::Result<()> {
        self.records += 1;
        let Some(file) = self.files.get_mut(number as usize) else {
            return Ok(());
        };
        if (record.frame - 1).is_multiple_of(CHECKPOINT)
            && let Some(checkpoints) = self.checkpoints.get_mut(number as usize)
        {
            checkpoints.push(record.offset);
        }
        file.packets += 1;
        file.first_ns = Some(file.first_ns.map_or(record.time_ns, |first| first.min(record.time_ns)));
        file.last_ns = Some(file.last_ns.map_or(record.time_ns, |last| last.max(record.time_ns)));
        file.cut_by_snap_length += u64::from((record.data.len() as u64) < u64::from(record.original_length));
        let packet = decode(record.link_type, record.data, record.original_length);
        match &packet.inner {
            Inner::Tcp(_) | Inner::TcpFragment(_) => {
                file.tcp_packets += 1;
                file.longer_than_mtu += u64::from(packet.ip.total_length > JUMBO);
            }
            Inner::Malformed => file.malformed += 1,
            Inner::Arp(arp) => self.arp(arp, number, record),
            Inner::IcmpError(_) | Inner::Other => {}
        }
        let origin = Origin {
            file: number,
            frame: record.frame,
            interface: number << 16 | (record.interface & 0xffff),
            direction: record.direction as u8,
            time_ns: record.time_ns,
        };
        table.packet(&packet, origin)?;
        self.live_max = self.live_max.max(table.live());
        Ok(())
    }

    fn arp(&mut self, arp: &Arp, number: u32, record: &Record<'_>) {
        let key = (arp.sender_ip, arp.sender_mac, arp.operation);
        if self.arp.len() >= ARP_KEPT && !self.arp.contains_key(&key) {
            return;
        }
        let claim = self.arp.entry(key).or_insert(ArpClaim {
            count: 0,
            file: number,
            frame: record.frame,
            first_ns: record.time_ns,
            last_ns: record.time_ns,
        });
        claim.count += 1;
        claim.last_ns = claim.last_ns.max(record.time_ns);
    }
}
