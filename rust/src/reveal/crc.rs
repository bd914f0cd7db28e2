//! Bytes go in, their CRC32C comes out.

/// The Castagnoli polynomial, bits reversed (RFC 3385 section 2; RFC 9260 appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ POLYNOMIAL
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// CRC32C over the parts, one behind the other.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut value = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        let place = (value ^ u32::from(*byte)) as u8;
        value = value >> 8 ^ TABLE.get(usize::from(place)).copied().unwrap_or_default();
    }
    !value
}
