//! Two ends of a segment go in, what its flow is looked for by comes out.

use super::row::Tuple;
use crate::decode::packet::Address;

/// Where the newest incarnation of a tuple lives.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// The upper half of the tuple's hash.
    pub tag: u32,
    pub slot: u32,
}

/// A tuple as it is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub tuple: Tuple,
    pub from_b: bool,
    pub hash: u64,
}

impl Key {
    #[inline]
    pub fn of(source: (Address, u16), destination: (Address, u16)) -> Key {
        let (tuple, from_b) = Tuple::of(source, destination);
        Key::new(tuple, from_b)
    }

    #[inline]
    pub fn new(tuple: Tuple, from_b: bool) -> Key {
        let hash = spread((tuple.hash64() >> 32) as u32);
        Key { tuple, from_b, hash }
    }

    pub fn tag(&self) -> u32 {
        self.hash as u32
    }
}

/// A hash of 64 bits of a tag of 32, its low ones: the table looks at the upper ones too.
#[inline]
pub fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}
