//! Chosen frames of several vantage points go in, one pcapng with an interface for each of their interfaces and comments comes out.

use crate::capture::record::Direction;
use crate::capture::write::{Packet, PcapngWriter};
use crate::packets::Frames;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

/// One frame to write.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which of the vantage points.
    pub source: usize,
    pub file: u32,
    pub frame: u64,
    pub comment: Option<String>,
}

struct Found {
    interface: u32,
    link_type: u16,
    time_ns: i64,
    original_length: u32,
    direction: Direction,
    data: Vec<u8>,
}

/// Writes the wanted frames in the order given. `names` names the vantage points.
pub fn write(path: &Path, sources: &[Frames], names: &[String], wanted: &[Wanted]) -> io::Result<()> {
    let mut found: HashMap<(usize, u32, u64), Found> = HashMap::new();
    for (number, source) in sources.iter().enumerate() {
        let frames: Vec<(u32, u64)> = wanted
            .iter()
            .filter(|frame| frame.source == number)
            .map(|frame| (frame.file, frame.frame))
            .collect();
        source.read(&frames, &mut |at, record| {
            if let Some(&(file, frame)) = frames.get(at) {
                found.insert(
                    (number, file, frame),
                    Found {
                        interface: record.interface,
                        link_type: record.link_type,
                        time_ns: record.time_ns,
                        original_length: record.original_length,
                        direction: record.direction,
                        data: record.data.to_vec(),
                    },
                );
            }
            Ok(())
        })?;
    }
    let mut writer = PcapngWriter::begin(BufWriter::new(File::create(path)?))?;
    let mut interfaces: HashMap<(usize, u32, u32), u32> = HashMap::new();
    for frame in wanted {
        let Some(record) = found.get(&(frame.source, frame.file, frame.frame)) else {
            continue;
        };
        let key = (frame.source, frame.file, record.interface);
        let interface = match interfaces.get(&key) {
            Some(interface) => *interface,
            None => {
                let vantage = names.get(frame.source).map_or("", String::as_str);
                let device = sources
                    .get(frame.source)
                    .and_then(|source| source.interface_name(frame.file, record.interface));
                let name = match device {
                    Some(device) => format!("{vantage}:{device}"),
                    None => vantage.to_owned(),
                };
                let interface = writer.interface(record.link_type, 0, Some(&name), None)?;
                interfaces.insert(key, interface);
                interface
            }
        };
        let comments: Vec<&str> = frame.comment.as_deref().into_iter().collect();
        writer.packet(&Packet {
            interface,
            time_ns: record.time_ns,
            original_length: record.original_length,
            data: &record.data,
            direction: record.direction,
            comments: &comments,
        })?;
    }
    writer.finish().map(drop)
}
