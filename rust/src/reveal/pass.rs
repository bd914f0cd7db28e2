//! The captures of one vantage point go in, merged by time; tables of what they say of the real clients come out, by flow number.
//!
//! The flows, and so their numbers, are those of the scan: the same reading, the same flow table, the same merging of parts.

use super::head::Found;
use super::heads::{Budget, Conversation};
use super::note_file::NoteFile;
use super::notes::Notes;
use super::tables::Tables;
use super::toa::claims;
use crate::decode::packet::Tcp;
use crate::flows::live::FlowTable;
use crate::flows::table::RowStore;
use crate::flows::watch::{Origin, Watch};
use crate::index::FrameLog;
use crate::scan::{FileSummary, read};
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Headers that are always kept: who a proxy says the client is (facts 2.3).
pub const ALWAYS: [&str; 7] = [
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
];
/// Header names kept at most.
pub const NAMES_MAX: usize = 1000;
/// Bytes of all flows' streams that wait for what is missing.
const WAITING_MAX: usize = 32 << 20;
/// Bytes of all live flows' notes held in memory: beyond that they go to disk part by part.
const NOTES_MAX: usize = 32 << 20;

/// What a pass found.
#[derive(Debug)]
pub struct Revealed {
    pub files: Vec<FileSummary>,
    /// Flows at the vantage point, with something to tell or not: as many as the scan found, if the captures are the same.
    pub flows: u64,
}

/// Notes of one flow while it lives.
#[derive(Debug, Default)]
pub struct Watched {
    conversation: Conversation,
    notes: Option<Box<Notes>>,
    /// What the notes take in memory.
    bytes: usize,
    /// Where the part before went, if the notes grew too large together.
    previous: u64,
}

struct Watcher {
    names: Vec<Box<[u8]>>,
    budget: Budget,
    file: NoteFile,
    bytes: usize,
    /// One request's values, by name; kept between requests for its memory.
    values: Vec<(u16, Vec<u8>)>,
}

impl Watcher {
    fn spill(&mut self, watched: &mut Watched) -> io::Result<()> {
        if let Some(notes) = watched.notes.take() {
            self.bytes -= watched.bytes;
            watched.bytes = 0;
            watched.previous = self.file.put(&notes, watched.previous)?;
        }
        Ok(())
    }
}

/// Notes what the stream held; how many bytes of memory that took.
fn note(
    notes: &mut Option<Box<Notes>>,
    names: &[Box<[u8]>],
    values: &mut Vec<(u16, Vec<u8>)>,
    from_b: bool,
    found: &Found<'_>,
) -> usize {
    match found {
        Found::Proxy {
            header,
            origin,
            at_start,
        } => notes.get_or_insert_default().proxy(header, from_b, *at_start, *origin),
        Found::Head(head) => {
            values.clear();
            for field in head.fields() {
                let place = names.iter().position(|name| name.eq_ignore_ascii_case(field.name));
                let Some(name) = place.map(|place| place as u16) else {
                    continue;
                };
                match values.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, value)) => {
                        value.extend_from_slice(b", ");
                        value.extend_from_slice(&field.value);
                    }
                    None => values.push((name, field.value.into_owned())),
                }
            }
            let mut grown = 0;
            for (name, value) in values.iter() {
                grown += notes
                    .get_or_insert_default()
                    .header(*name, value, from_b, head.resynchronised, head.origin);
            }
            grown
        }
    }
}

impl Watch for Watcher {
    type Notes = Watched;

    fn segment(
        &mut self,
        watched: &mut Watched,
        tcp: &Tcp<'_>,
        from_b: bool,
        copy: bool,
        origin: Origin,
    ) -> io::Result<()> {
        let mut grown = 0;
        if tcp.has_toa {
            for claim in claims(tcp.options).iter() {
                grown += watched.notes.get_or_insert_default().toa(claim, from_b, copy, origin);
            }
        }
        if !copy {
            let Watched {
                conversation, notes, ..
            } = watched;
            conversation.packet(tcp, from_b, origin, &mut self.budget, &mut |from_b, found| {
                grown += note(notes, &self.names, &mut self.values, from_b, &found);
            });
        }
        if grown > 0 {
            watched.bytes += grown;
            self.bytes += grown;
            if self.bytes > NOTES_MAX {
                self.spill(watched)?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, mut watched: Watched) -> io::Result<Option<u64>> {
        let mut grown = 0;
        let Watched {
            conversation, notes, ..
        } = &mut watched;
        conversation.finish(&mut self.budget, &mut |from_b, found| {
            grown += note(notes, &self.names, &mut self.values, from_b, &found);
        });
        watched.bytes += grown;
        self.bytes += grown;
        for (from_b, heads) in [false, true].into_iter().zip(&watched.conversation.directions) {
            let tally = heads.tally;
            if tally.requests > 0 || tally.heads_lost > 0 || tally.is_tls || tally.is_http2 {
                watched.notes.get_or_insert_default().tally(&tally, from_b);
            }
        }
        self.spill(&mut watched)?;
        Ok((watched.previous != 0).then_some(watched.previous))
    }
}

/// Writes `folder`/claim.parquet, request.parquet and header.parquet. `names` are headers to keep beside `ALWAYS`, of any case. The
/// tables hold what packets carried, unlike the index. `progress` is told the bytes read so far and can stop the pass (the error is then
/// of kind Interrupted).
pub fn reveal(
    paths: &[PathBuf],
    folder: &Path,
    names: &[String],
    threads: usize,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Revealed> {
    let mut known = BTreeSet::new();
    let names: Vec<String> = ALWAYS
        .iter()
        .map(|name| (*name).to_owned())
        .chain(names.iter().map(|name| name.trim().to_ascii_lowercase()))
        .filter(|name| known.insert(name.clone()))
        .collect();
    if names.len() > NAMES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} header names were asked for, expected at most {NAMES_MAX}",
                names.len()
            ),
        ));
    }
    let watcher = Watcher {
        names: names.iter().map(|name| name.as_bytes().into()).collect(),
        budget: Budget::new(WAITING_MAX),
        file: NoteFile::begin(&folder.join("notes.spill"))?,
        bytes: 0,
        values: Vec::new(),
    };
    // The frame index is not kept, but where its chunks would stand takes part in the order of rows.
    let log = FrameLog::begin(Box::new(io::sink()))?;
    let mut table = FlowTable::new(RowStore::new(folder), log, watcher);
    let gathered = read(paths, &mut table, threads, progress)?;
    let FlowTable { sink, watch, .. } = table;
    let mut file = watch.file;
    file.flush()?;
    let mut tables = Tables::begin(folder, names)?;
    let flows = sink.drain(&mut |first, rows| {
        for (number, row) in rows.iter().enumerate() {
            if !row.notes.is_empty() {
                tables.add((first + number as u64) as u32, &row.tuple, &file.read(&row.notes)?)?;
            }
        }
        Ok(())
    })?;
    tables.finish()?;
    Ok(Revealed {
        files: gathered.files,
        flows,
    })
}
