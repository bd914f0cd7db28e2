//! Decoded packets go in, the flow table comes out.

mod delays;
mod end;
mod flow;
mod key;
pub mod live;
pub mod row;
mod slab;
pub mod table;
pub mod watch;

#[cfg(test)]
mod tests;
