//! Noise and damaged headers go in, and nothing may panic, or claim to be longer than it can be.

use crate::reveal::proxy::{LONGEST, Parsed, parse};
use crate::reveal::tlv::describe;
use crate::reveal::toa::{CLAIMS_MAX, claims, walk};

/// xorshift64* (Vigna 2016): the same noise in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn any_option_bytes() {
    const KINDS: [u8; 12] = [0, 1, 8, 28, 200, 201, 202, 249, 250, 252, 253, 254];
    let mut random = Random(11);
    for _ in 0..300_000 {
        let length = random.below(64);
        let mut options = random.bytes(length);
        for _ in 0..random.below(4) {
            let at = random.below(length);
            if let Some([kind, told]) = options.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
                *kind = KINDS[random.below(KINDS.len())];
                *told = random.below(41) as u8;
            }
        }
        let inside = walk(&options).all(|option| option.offset + 2 + option.value.len() <= length);
        assert!(inside && claims(&options).iter().count() <= CLAIMS_MAX);
    }
}

#[test]
fn forty_bytes_never_hold_more_claims_than_are_kept() {
    // The densest list: five options that say one thing each, or one that says three and two more.
    let five = [254_u8, 8, 0, 80, 1, 2, 3, 4].repeat(5);
    assert_eq!(claims(&five).iter().count(), 5);
    let mut mixed = vec![252, 20];
    mixed.extend([7; 18]);
    mixed.extend([201, 6, 0, 0, 0, 1].repeat(3));
    assert_eq!(claims(&mixed).iter().count(), CLAIMS_MAX);
    assert_eq!(claims(&[201, 6, 0, 0, 0, 1].repeat(6)).iter().count(), 6);
}

#[test]
fn any_bytes_for_a_proxy_header() {
    let seeds: [&[u8]; 4] = [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x17\x0a\0\x3c\x02\x0a\0\x3c\x64\x81\x38\0\x50\xe0\0\x08\0\0\x4d\xde\x29\x0a\0\x3c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20\x0a\0\x3c\x02\x0a\0\x3c\x64\x81\x38\0\x50\x20\0\x11\x01\0\0\0\0\x21\0\x01a\x22\0\x05b\x03\0\x04",
    ];
    let mut random = Random(5);
    for round in 0..300_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..random.below(5) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.below(bytes.len() + 20));
        match parse(&bytes) {
            Parsed::More(wanted) => assert!(wanted > bytes.len() && wanted <= LONGEST),
            Parsed::Header(header) => {
                assert!(header.length <= bytes.len() && header.length > 0);
                assert!(describe(&header).len() <= 512);
            }
            Parsed::No => {}
        }
    }
}
