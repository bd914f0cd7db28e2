//! What is needed to read each capture file again goes in, the trailer of the frame index comes out, and the other way round.

use crate::capture::FormatInfo;
use crate::capture::record::Interface;
use crate::index::{get_varint, put_varint};
use serde::{Deserialize, Serialize};
use std::io;

/// One capture file of a vantage point.
#[derive(Debug, Clone, PartialEq)]
pub struct FileTrailer {
    /// None where the file could not be read: no frame of it is in the index.
    pub format: Option<FormatInfo>,
    pub interfaces: Vec<Interface>,
    /// Offset of each `CHECKPOINT`-th record, from the first.
    pub checkpoints: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: Option<FormatInfo>,
    interfaces: Vec<Interface>,
    checkpoints: Vec<u8>,
}

/// Appends the trailer of all files; checkpoints are kept as varints of their distances.
pub fn put_trailer(out: &mut Vec<u8>, files: impl Iterator<Item = FileTrailer>) -> io::Result<()> {
    let files: Vec<Kept> = files
        .map(|file| {
            let mut checkpoints = Vec::new();
            let mut before = 0;
            for offset in &file.checkpoints {
                put_varint(&mut checkpoints, offset.wrapping_sub(before));
                before = *offset;
            }
            Kept {
                format: file.format,
                interfaces: file.interfaces,
                checkpoints,
            }
        })
        .collect();
    postcard::to_io(&files, out).map(drop).map_err(io::Error::other)
}

/// Reads back what `put_trailer` wrote; None where it was damaged.
pub fn get_trailer(input: &[u8]) -> Option<Vec<FileTrailer>> {
    let files: Vec<Kept> = postcard::from_bytes(input).ok()?;
    files
        .into_iter()
        .map(|file| {
            let mut bytes = file.checkpoints.as_slice();
            let mut checkpoints = Vec::new();
            let mut before = 0_u64;
            while !bytes.is_empty() {
                before = before.wrapping_add(get_varint(&mut bytes)?);
                checkpoints.push(before);
            }
            Some(FileTrailer {
                format: file.format,
                interfaces: file.interfaces,
                checkpoints,
            })
        })
        .collect()
}
