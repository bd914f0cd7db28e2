//! Capture files and streams of every kind go in, packet records come out.

pub mod record;
