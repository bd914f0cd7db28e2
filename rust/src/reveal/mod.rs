//! Packets go in, what they say of the real client comes out: addresses in TCP options, PROXY protocol headers, HTTP request heads.

pub mod proxy;
pub mod tlv;
pub mod toa;

mod crc;
#[cfg(test)]
mod tests;
