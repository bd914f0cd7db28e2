//! Decoded packets go in, the flow table comes out.

pub mod delays;
pub mod live;
pub mod row;
pub mod table;

#[cfg(test)]
mod tests;
