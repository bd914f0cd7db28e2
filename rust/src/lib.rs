//! Python calls come in, tables and events go out; no file but those named `python` and `python_follow` knows Python.

pub mod capture;
mod columns;
pub mod decode;
pub mod flows;
pub mod fold;
pub mod follow;
mod hash;
pub mod index;
pub mod marked;
pub mod packets;
pub mod reveal;
pub mod scan;
pub mod slice;
pub mod trailer;

#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod python_follow;

#[cfg(feature = "python")]
#[pyo3::pymodule(name = "_core")]
mod extension {
    #[pymodule_export]
    use super::python::{Frames, Table, marked_lines, read_flows, reveal, scan, sniff, write_slice};
    #[pymodule_export]
    use super::python_follow::{Following, follow_file, follow_live};
}
