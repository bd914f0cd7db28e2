//! Packets go in, what they say of the real client comes out: addresses in TCP options, PROXY protocol headers, HTTP request heads.

pub mod head;
pub mod heads;
pub mod notes;
pub mod pass;
pub mod proxy;
pub mod tlv;
pub mod toa;

mod chunks;
mod crc;
mod held;
mod note_file;
mod partial;
mod reading;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
