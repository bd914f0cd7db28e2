//! The bytes of an HTTP/1 request head go in; its request line, its fields and what says how its body ends come out.

use super::proxy;
use crate::flows::watch::Origin;
use std::borrow::Cow;

/// What a client's stream held.
#[derive(Debug)]
pub enum Found<'a> {
    /// A PROXY protocol header in front of everything else.
    Proxy {
        header: &'a proxy::Header,
        origin: Origin,
        /// True where it stands at the stream's first byte; false where the capture began in mid-connection and it is merely the first
        /// payload seen.
        at_start: bool,
    },
    Head(Head<'a>),
}

/// One complete request head.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Request line, field lines and the empty line, as they were sent.
    pub bytes: &'a [u8],
    /// The record in which it began, and the sequence number of its first byte.
    pub origin: Origin,
    pub seq: u32,
    /// Found at the begin of a segment after bytes had been lost, not right behind the message before it.
    pub resynchronised: bool,
}

/// One field, its value without the spaces around it; lines folded into one (RFC 9112 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: Cow<'a, [u8]>,
}

impl<'a> Head<'a> {
    /// The first line, without its end.
    pub fn request_line(&self) -> &'a [u8] {
        lines(self.bytes).next().unwrap_or_default()
    }

    pub fn method(&self) -> &'a [u8] {
        self.request_line()
            .split(|byte| *byte == b' ')
            .next()
            .unwrap_or_default()
    }

    /// The request target, as it was sent: all between the first space and the last.
    pub fn target(&self) -> &'a [u8] {
        let line = self.request_line();
        let end = line.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
        line.get(self.method().len() + 1..end).unwrap_or_default()
    }

    /// All fields in their order; a line that is none is left out.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut rest = lines(self.bytes).skip(1).peekable();
        std::iter::from_fn(move || {
            loop {
                let line = rest.next()?;
                let Some((name, first)) = split_field(line) else {
                    continue;
                };
                let mut value = Cow::Borrowed(trim(first));
                while let Some(more) = rest.next_if(|line| folded(line)) {
                    let value = value.to_mut();
                    value.push(b' ');
                    value.extend_from_slice(trim(more));
                }
                return Some(Field { name, value });
            }
        })
    }

    /// True where every line behind the first is a field or its continuation.
    pub(super) fn is_sound(&self) -> bool {
        lines(self.bytes)
            .skip(1)
            .enumerate()
            .all(|(number, line)| line.is_empty() || split_field(line).is_some() || (number > 0 && folded(line)))
    }

    /// How the message goes on behind the head.
    pub(super) fn body(&self) -> Body {
        if self.method() == b"CONNECT" {
            return Body::Unknown;
        }
        let (mut length, mut chunked, mut upgrade) = (None, None, false);
        for field in self.fields() {
            if field.name.eq_ignore_ascii_case(b"content-length") {
                for told in field.value.split(|byte| *byte == b',') {
                    let Some(told) = number(trim(told)) else {
                        return Body::Unknown;
                    };
                    if length.is_some_and(|length| length != told) {
                        return Body::Unknown;
                    }
                    length = Some(told);
                }
            } else if field.name.eq_ignore_ascii_case(b"transfer-encoding") {
                let last = field.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                chunked = Some(trim(last).eq_ignore_ascii_case(b"chunked"));
            } else if field.name.eq_ignore_ascii_case(b"upgrade") {
                upgrade = true;
            }
        }
        match (upgrade, chunked, length) {
            // The server may switch to another protocol or stay: what follows says so itself.
            (true, ..) | (_, Some(false), _) => Body::Unknown,
            (_, Some(true), _) => Body::Chunked,
            (_, None, Some(length)) => Body::Length(length),
            (_, None, None) => Body::Length(0),
        }
    }
}

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    /// A tunnel, an upgrade, or fields that contradict each other.
    Unknown,
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t')) && !trim(line).is_empty()
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let is_name = !name.is_empty() && name.iter().copied().all(is_token);
    is_name.then_some((name, value.get(1..)?))
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstLine {
    Http1,
    /// The preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    Other,
}

/// Reads a request line: token, space, target, space, version (RFC 9112 section 3). Spaces inside a target are the client's fault, and some
/// servers let them pass.
pub(super) fn first_line(line: &[u8]) -> FirstLine {
    let space = |byte: &u8| *byte == b' ';
    let (Some(first), Some(last)) = (line.iter().position(space), line.iter().rposition(space)) else {
        return FirstLine::Other;
    };
    let (Some(method), Some(target), Some(version)) =
        (line.get(..first), line.get(first + 1..last), line.get(last + 1..))
    else {
        return FirstLine::Other;
    };
    let sound = !method.is_empty()
        && method.len() <= METHOD_MAX
        && method.iter().copied().all(is_token)
        && target.first().is_some_and(|byte| *byte > b' ')
        && !target.iter().any(u8::is_ascii_control);
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" if sound => FirstLine::Http1,
        b"HTTP/2.0" if (method, target) == (b"PRI", b"*") => FirstLine::Http2,
        _ => FirstLine::Other,
    }
}

/// Longest method taken for one; the longest registered is UPDATEREDIRECTREF (iana.org/assignments/http-methods).
pub(super) const METHOD_MAX: usize = 32;

/// Whether bytes at the begin of a segment begin a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    No,
    /// They are the begin of a method: what follows decides.
    Perhaps,
    /// A method that is in use, a target, and, as far as it is there, the rest of a request line.
    Surely,
}

const METHODS: [&[u8]; 21] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"REPORT ",
    b"SEARCH ",
    b"PURGE ",
    b"QUERY ",
    b"MERGE ",
];

/// Looks at bytes where no place in the stream is known.
pub(super) fn begins(data: &[u8]) -> Begins {
    if !data.first().is_some_and(u8::is_ascii_uppercase) {
        return Begins::No;
    }
    let Some(target) = METHODS.iter().find_map(|method| data.strip_prefix(*method)) else {
        return if METHODS.iter().any(|method| method.starts_with(data)) {
            Begins::Perhaps
        } else {
            Begins::No
        };
    };
    let Some(first) = target.first() else {
        return Begins::Perhaps;
    };
    if !(b'!'..=b'~').contains(first) {
        return Begins::No;
    }
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = data.get(..end).unwrap_or_default();
            match first_line(line.strip_suffix(b"\r").unwrap_or(line)) {
                FirstLine::Http1 => Begins::Surely,
                FirstLine::Http2 | FirstLine::Other => Begins::No,
            }
        }
        None => Begins::Surely,
    }
}
