//! A compressed byte stream goes in, its plain bytes come out, in bounded memory whatever its headers say.

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read};

/// Largest zstd window accepted, as a power of two: 128 MiB, what `zstd -d` accepts without `--memory` (RFC 8878 section 3.1.1.1.2).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Memory an xz stream may ask for: `xz -9` needs 65 MiB, a dictionary of 128 MiB a little more than its size (xz(1)).
const XZ_MEMORY_MAX: u64 = 160 << 20;
/// Compressed bytes read at once.
const READ_SIZE: usize = 128 << 10;
/// lz4 frame without end mark and with blocks of 8 MiB (lz4 frame format, "Legacy frame").
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// How a capture's bytes are packed; told from the first bytes, never from the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Compression {
    #[default]
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
    /// lz4 frame format, any number of frames.
    Lz4,
    /// The .xz file format, any number of streams.
    Xz,
}

impl Compression {
    /// Told from the first (up to six) bytes of a file.
    pub fn of(first: &[u8]) -> Compression {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame first: pzstd writes one (RFC 8878 section 3.1.2); lz4 tools do not.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Compression::Lz4,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }

    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
            Compression::Xz => "xz",
        }
    }

    /// What to say of an error of its decompressor.
    pub fn explain(self, error: &io::Error) -> String {
        let name = self.name();
        let text = error.to_string();
        match self {
            Compression::None => format!("reading stops here: {error}"),
            _ if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("incomplete frame") => {
                format!("the {name} stream ends inside a frame, expected its end")
            }
            Compression::Zstd if text.contains("too much memory") => {
                "the zstd stream needs a window larger than expected, at most 128 MiB".to_owned()
            }
            Compression::Xz if text.contains("memory") => {
                format!(
                    "the xz stream needs more memory than expected, at most {} MiB",
                    XZ_MEMORY_MAX >> 20
                )
            }
            _ => format!("the {name} stream is damaged: {text}"),
        }
    }
}

/// The plain bytes of `input`.
pub fn decompress(compression: Compression, input: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let buffered = BufReader::with_capacity(READ_SIZE, input);
    Ok(match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(GzipMembers {
            member: Some(GzDecoder::new(buffered)),
        }),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Lz4 => Box::new(Lz4Frames {
            frame: None,
            between: Some(buffered),
            legacy: false,
        }),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, stream))
        }
    })
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The members of a gzip file one behind the other; zeros behind the last one are padding (gzip(1)), anything else is damage.
struct GzipMembers<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = self.member.as_mut() else {
                return Ok(0);
            };
            let count = member.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else {
                return Ok(0);
            };
            loop {
                let ahead = rest.fill_buf()?;
                match ahead.iter().position(|byte| *byte != 0) {
                    _ if ahead.is_empty() => return Ok(0),
                    None => {
                        let zeros = ahead.len();
                        rest.consume(zeros);
                    }
                    Some(zeros) => {
                        rest.consume(zeros);
                        break;
                    }
                }
            }
            match rest.fill_buf()?.first() {
                Some(0x1f) => self.member = Some(GzDecoder::new(rest)),
                Some(byte) => {
                    return Err(damaged(format!(
                        "read `0x{byte:02x}`, expected `0x1f8b` (next gzip member)"
                    )));
                }
                None => return Ok(0),
            }
        }
    }
}

/// Gives back the magic that was looked at, and remembers whether the end of the input was met.
struct Framed<R> {
    magic: [u8; 4],
    magic_left: usize,
    inner: R,
    met_end: bool,
}

impl<R: Read> Read for Framed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.magic_left > 0 {
            let mut left = self.magic.get(4 - self.magic_left..).unwrap_or_default();
            let count = left.read(out)?;
            self.magic_left -= count;
            return Ok(count);
        }
        let count = self.inner.read(out)?;
        self.met_end |= count == 0 && !out.is_empty();
        Ok(count)
    }
}

/// The frames of an lz4 file one behind the other, skippable ones passed over. A decoder a frame: the decoder takes the end of the input
/// at a block's start for the end of the frame, which `Framed` tells apart.
struct Lz4Frames<R: BufRead> {
    frame: Option<lz4_flex::frame::FrameDecoder<Framed<R>>>,
    between: Option<R>,
    legacy: bool,
}

impl<R: BufRead> Lz4Frames<R> {
    /// Begins the next frame; false at the end of the input.
    fn begin(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.between.take() else {
            return Ok(false);
        };
        loop {
            let mut magic = [0; 4];
            if rest.fill_buf()?.is_empty() {
                return Ok(false);
            }
            rest.read_exact(&mut magic)?;
            match magic {
                [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                    let mut length = [0; 4];
                    rest.read_exact(&mut length)?;
                    let length = u64::from(u32::from_le_bytes(length));
                    if io::copy(&mut (&mut rest).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                [0x04, 0x22, 0x4d, 0x18] | LZ4_LEGACY => {
                    self.legacy = magic == LZ4_LEGACY;
                    let framed = Framed {
                        magic,
                        magic_left: 4,
                        inner: rest,
                        met_end: false,
                    };
                    self.frame = Some(lz4_flex::frame::FrameDecoder::new(framed));
                    return Ok(true);
                }
                _ => {
                    let read = u32::from_le_bytes(magic);
                    return Err(damaged(format!(
                        "read `0x{read:08x}`, expected `0x184d2204` (next lz4 frame)"
                    )));
                }
            }
        }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.frame.is_none() && !self.begin()? {
                return Ok(0);
            }
            let Some(frame) = self.frame.as_mut() else { return Ok(0) };
            let count = frame.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let Some(ended) = self.frame.take().map(lz4_flex::frame::FrameDecoder::into_inner) else {
                return Ok(0);
            };
            if ended.met_end && !self.legacy {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.between = Some(ended.inner);
        }
    }
}
