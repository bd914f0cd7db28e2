//! Bytes of a body in chunked framing go in, and how many of them belong to it; its end comes out.

/// Longest line of chunked framing: a size, extensions, or a trailer field.
const CHUNK_LINE_MAX: u32 = 16 << 10;

/// Chunked framing (RFC 9112 section 7.1): where in it the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line of a size: its value, its digits, and whether they are over; and the line's length so far.
    Size {
        value: u64,
        digits: u32,
        over: bool,
        length: u32,
    },
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd,
    /// Trailer fields: what this line's length is so far, its CR not counted; and of all lines.
    Trailer {
        line: u32,
        length: u32,
    },
}

/// Before the first size.
pub(super) const CHUNK_BEGIN: Chunks = Chunks::Size {
    value: 0,
    digits: 0,
    over: false,
    length: 0,
};

impl Chunks {
    /// Takes bytes; how many belonged to the body, and the framing behind them: None where the body is over. An error where it is broken.
    pub fn take(self, data: &[u8]) -> Result<(usize, Option<Chunks>), ()> {
        let mut state = self;
        let mut at = 0;
        while let Some(&byte) = data.get(at) {
            state = match state {
                Chunks::Data(left) => {
                    let taken = left.min((data.len() - at) as u64);
                    at += taken as usize;
                    if taken == left {
                        Chunks::DataEnd
                    } else {
                        Chunks::Data(left - taken)
                    }
                }
                Chunks::DataEnd => {
                    at += 1;
                    match byte {
                        b'\r' => Chunks::DataEnd,
                        b'\n' => CHUNK_BEGIN,
                        _ => return Err(()),
                    }
                }
                Chunks::Size {
                    value,
                    digits,
                    over,
                    length,
                } => {
                    at += 1;
                    match (byte, char::from(byte).to_digit(16)) {
                        (_, Some(digit)) if !over && digits < 16 => Chunks::Size {
                            value: value << 4 | u64::from(digit),
                            digits: digits + 1,
                            over,
                            length: length + 1,
                        },
                        (b'\n', _) if digits == 0 => return Err(()),
                        (b'\n', _) if value == 0 => Chunks::Trailer { line: 0, length: 0 },
                        (b'\n', _) => Chunks::Data(value),
                        (b';' | b' ' | b'\t' | b'\r', _) if digits > 0 => Chunks::Size {
                            value,
                            digits,
                            over: true,
                            length: length + 1,
                        },
                        _ if over && length < CHUNK_LINE_MAX => Chunks::Size {
                            value,
                            digits,
                            over,
                            length: length + 1,
                        },
                        _ => return Err(()),
                    }
                }
                Chunks::Trailer { line, length } => {
                    at += 1;
                    match byte {
                        b'\n' if line == 0 => return Ok((at, None)),
                        b'\n' => Chunks::Trailer { line: 0, length },
                        b'\r' => Chunks::Trailer { line, length },
                        _ if length < CHUNK_LINE_MAX => Chunks::Trailer {
                            line: line + 1,
                            length: length + 1,
                        },
                        _ => return Err(()),
                    }
                }
            };
        }
        Ok((at, Some(state)))
    }
}
