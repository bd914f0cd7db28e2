//! Damaged packets go in, and nothing may panic or tell more than was captured.

use super::build::stacks;
use crate::decode::decode;
use crate::decode::packet::Inner;

const LINK_TYPES: [u16; 18] = [
    0, 1, 9, 12, 14, 50, 51, 101, 104, 105, 108, 113, 127, 147, 228, 229, 276, 0xffff,
];

/// xorshift64* (Vigna 2016): the same damage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn check(link_type: u16, bytes: &[u8], original_length: u32) {
    let packet = decode(link_type, bytes, original_length);
    if let Inner::Tcp(tcp) = packet.inner {
        assert!(tcp.options.len() <= 40 && tcp.options.len() + tcp.payload.len() + 20 <= bytes.len());
        assert!(tcp.payload.len() <= tcp.payload_length as usize);
        assert!(tcp.sack_count <= 4);
    }
}

#[test]
fn every_prefix_of_every_stack() {
    for (name, link_type, bytes, _) in stacks() {
        for end in 0..bytes.len() {
            let Some(prefix) = bytes.get(..end) else { continue };
            check(link_type, prefix, bytes.len() as u32);
            check(link_type, prefix, 0);
            // All stacks end with 12 bytes of options and 5 of payload: cut before them, there is no segment.
            let segment = matches!(decode(link_type, prefix, bytes.len() as u32).inner, Inner::Tcp(_));
            assert_eq!(segment, end + 17 >= bytes.len(), "{name}, {end} bytes");
        }
    }
}

#[test]
fn every_stack_damaged() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let stacks = stacks();
    for round in 0..1_000_000_usize {
        let Some((_, own, bytes, _)) = stacks.get(round % stacks.len()) else {
            continue;
        };
        let mut bytes = bytes.clone();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len());
            let value = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => 1 << random.below(8),
                _ => random.next() as u8,
            };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if random.below(3) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        let link_type = if random.below(4) == 0 {
            LINK_TYPES[random.below(LINK_TYPES.len())]
        } else {
            *own
        };
        let original_length = match random.below(4) {
            0 => 0,
            1 => u32::MAX,
            2 => random.next() as u32,
            _ => bytes.len() as u32,
        };
        check(link_type, &bytes, original_length);
    }
}

#[test]
fn noise_on_every_link_layer() {
    let mut random = Random(7);
    for _ in 0..100_000 {
        let length = random.below(120);
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8 & random.next() as u8).collect();
        for link_type in LINK_TYPES {
            check(link_type, &noise, random.next() as u32);
        }
    }
}
