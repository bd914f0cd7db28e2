//! A live ring or a capture goes in; connections of a given real client are chosen and followed: their packets are written, their request
//! heads told.

mod choosing;
mod engine;
pub mod event;
mod followed;
mod forwarded;
mod frame;
mod openings;
mod output;
mod requests;
pub mod wanted;
pub mod worker;

#[cfg(target_os = "linux")]
pub mod filter;
#[cfg(target_os = "linux")]
pub mod ring;
#[cfg(target_os = "linux")]
mod socket;

#[cfg(test)]
mod tests;

pub use engine::{Engine, Totals};
pub use output::Output;
