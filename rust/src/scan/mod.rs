//! The captures of one vantage point go in, merged by time; its flow table, frame index and what is to be said of each file come out.

mod beside;
mod reading;
mod tally;

use crate::capture::FormatInfo;
use crate::capture::Reader;
use crate::capture::record::{Interface, Loss};
use crate::flows::live::FlowTable;
use crate::flows::table::RowStore;
use crate::index::FrameLog;
use crate::trailer::{FileTrailer, put_trailer};
pub(crate) use reading::read;
use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
pub use tally::{ArpClaim, ArpClaims};

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

#[derive(Debug)]
pub struct Summary {
    pub files: Vec<FileSummary>,
    pub flows: u64,
    pub live_max: usize,
    pub arp: ArpClaims,
}

/// What reading and counting gathered besides flows.
pub(crate) struct Gathered {
    pub files: Vec<FileSummary>,
    checkpoints: Vec<Vec<u64>>,
    arp: ArpClaims,
    live_max: usize,
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
/// so far and can stop the scan (the error is then of kind Interrupted). With two threads or more one reads ahead of the other; the
/// result is the same.
pub fn scan(
    paths: &[PathBuf],
    folder: &Path,
    threads: usize,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Summary> {
    let log = FrameLog::begin(Box::new(BufWriter::with_capacity(
        1 << 17,
        File::create(folder.join("frames.idx"))?,
    )))?;
    let mut table = FlowTable::new(RowStore::new(folder), log, ());
    let gathered = read(paths, &mut table, threads, progress)?;
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
