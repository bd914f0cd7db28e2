//! The bytes of a request head go in as they come, each looked at once; where the head ends comes out, or that it is none.

use super::head::{FirstLine, METHOD_MAX, first_line, is_token};
use crate::flows::watch::Origin;

/// A head that has begun.
#[derive(Debug)]
pub(super) struct Partial {
    pub bytes: Vec<u8>,
    pub scan: Scan,
    pub origin: Origin,
    pub seq: u32,
    pub first: bool,
    pub resynchronised: bool,
    /// It stands where a message begins for certain: at a segment's begin, after the other end has spoken.
    pub after_answer: bool,
}

/// How far a head was looked through: nothing is looked at twice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    at: usize,
    line: usize,
    pub has_first_line: bool,
}

pub(super) enum Looked {
    More,
    /// The head ends before this byte.
    Complete(usize),
    Http2,
    NoRequest,
}

impl Scan {
    pub fn look(&mut self, bytes: &[u8]) -> Looked {
        while let Some(found) = bytes
            .get(self.at..)
            .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let end = self.at + found;
            let line = bytes.get(self.line..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.at = end + 1;
            self.line = self.at;
            if !self.has_first_line {
                match first_line(line) {
                    FirstLine::Http1 => self.has_first_line = true,
                    FirstLine::Http2 => return Looked::Http2,
                    FirstLine::Other => return Looked::NoRequest,
                }
            } else if line.is_empty() {
                return Looked::Complete(self.at);
            }
        }
        self.at = bytes.len();
        if self.has_first_line {
            return Looked::More;
        }
        // No line has ended yet: what is no method is no request, before much of it is kept.
        let window = bytes.get(..=METHOD_MAX).unwrap_or(bytes);
        let method = window.iter().position(|byte| *byte == b' ');
        let sound = window
            .get(..method.unwrap_or(window.len()))
            .is_some_and(|method| method.iter().copied().all(is_token));
        if sound && (method.is_some() || bytes.len() <= METHOD_MAX) {
            Looked::More
        } else {
            Looked::NoRequest
        }
    }
}
