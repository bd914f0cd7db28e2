//! Notes of flows go in as they end, a file that keeps them comes out; the parts of one flow are read back as one.

use super::notes::Notes;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Place of the part before (8), length (4).
const PART_HEADER: usize = 12;
/// Read at once: most parts are shorter.
const READ: usize = 512;

/// Parts are written one behind the other; each knows the place of the part before it of the same flow. Place 0 is none.
pub struct NoteFile {
    path: PathBuf,
    out: BufWriter<File>,
    position: u64,
}

impl NoteFile {
    pub fn begin(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(&[0; PART_HEADER])?;
        Ok(NoteFile {
            path: path.to_owned(),
            out,
            position: PART_HEADER as u64,
        })
    }

    /// Writes one part; its place.
    pub fn put(&mut self, notes: &Notes, previous: u64) -> io::Result<u64> {
        let bytes = postcard::to_stdvec(notes).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let place = self.position;
        self.out.write_all(&previous.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.position += (PART_HEADER + bytes.len()) as u64;
        Ok(place)
    }

    /// Makes all that was written ready to be read.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// All parts that end at these places, in the order of time, as one.
    pub fn read(&self, places: &[u64]) -> io::Result<Notes> {
        let mut whole = Notes::default();
        for place in places {
            // A flow's parts are linked from the last to the first.
            let mut parts = Vec::new();
            let mut at = *place;
            while at != 0 {
                parts.push(at);
                at = self.previous(at)?;
            }
            for at in parts.into_iter().rev() {
                whole.merge(self.part(at)?);
            }
        }
        Ok(whole)
    }

    fn previous(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.out.get_ref().read_exact_at(&mut bytes, at)?;
        let previous = u64::from_le_bytes(bytes);
        if previous >= at {
            return Err(broken());
        }
        Ok(previous)
    }

    fn part(&self, at: u64) -> io::Result<Notes> {
        let file = self.out.get_ref();
        let mut first = [0; READ];
        let ready = (self.position.saturating_sub(at) as usize).min(READ);
        let first = first.get_mut(..ready).ok_or_else(broken)?;
        file.read_exact_at(first, at)?;
        let length = first
            .get(8..PART_HEADER)
            .and_then(|bytes| bytes.first_chunk::<4>())
            .map(|bytes| u32::from_le_bytes(*bytes) as usize)
            .ok_or_else(broken)?;
        if (length as u64) > self.position.saturating_sub(at) {
            return Err(broken());
        }
        let notes = match first.get(PART_HEADER..PART_HEADER + length) {
            Some(bytes) => postcard::from_bytes(bytes),
            None => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, at + PART_HEADER as u64)?;
                postcard::from_bytes(&bytes)
            }
        };
        notes.map_err(io::Error::other)
    }
}

impl Drop for NoteFile {
    fn drop(&mut self) {
        // It held payload and was for the time being only; one that is gone already is no loss.
        drop(std::fs::remove_file(&self.path));
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a file of notes was changed while it was in use",
    )
}
