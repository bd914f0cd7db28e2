//! Words go in, hashes come out that are the same in every run: results must not depend on chance.

/// The finalizer of MurmurHash3, a public-domain bijection of 64 bits.
pub fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// Both halves of a product of 128 bits: each bit of the one factor reaches all others.
#[inline]
fn product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The digits of pi behind the point: numbers that hide nothing.
const PI: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// A hash of two words that is the same in every run.
#[inline]
pub fn hash_pair(a: u64, b: u64) -> u64 {
    product(a ^ PI[0], b ^ PI[1])
}

/// A hash of words that is the same in every run.
#[inline]
pub fn hash_words(words: [u64; 4]) -> u64 {
    let [a, b, c, d] = words;
    let first = hash_pair(a, b);
    let second = product(c ^ PI[2], d ^ PI[3]);
    product(first ^ PI[1], second ^ PI[2])
}
