//! A layer's captured bytes and its length on the wire go in, those of the layer inside it come out, never read past their end.

/// The captured bytes of one layer, and how long it was on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub data: &'a [u8],
    /// Length on the wire in bytes; at least `data.len()`.
    pub length: u32,
}

impl<'a> Bytes<'a> {
    /// A record that claims to have been shorter on the wire than it is in the file is believed to be as long as it is.
    pub fn of_record(data: &'a [u8], original_length: u32) -> Self {
        let captured = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Bytes {
            data,
            length: original_length.max(captured),
        }
    }

    /// What follows the first `count` bytes; `None` where fewer were captured.
    #[inline(always)]
    pub fn skip(self, count: usize) -> Option<Self> {
        let data = self.data.get(count..)?;
        Some(Bytes {
            data,
            length: self.length.saturating_sub(count as u32),
        })
    }

    /// This layer with the length that its header tells: captured bytes beyond it (padding) go, missing ones were cut off.
    #[inline(always)]
    pub fn with_length(self, length: u32) -> Self {
        Bytes {
            data: self.data.get(..length as usize).unwrap_or(self.data),
            length,
        }
    }

    /// This layer, no longer than `length`.
    pub fn at_most(self, length: u32) -> Self {
        self.with_length(length.min(self.length))
    }

    pub fn u8(&self, at: usize) -> Option<u8> {
        self.data.get(at).copied()
    }

    /// Two bytes in network order.
    pub fn u16(&self, at: usize) -> Option<u16> {
        self.data
            .get(at..)?
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Four bytes in network order.
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.data
            .get(at..)?
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A hardware address.
    pub fn mac(&self, at: usize) -> Option<[u8; 6]> {
        self.data.get(at..)?.first_chunk().copied()
    }
}
