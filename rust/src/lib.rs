//! Python calls come in, Arrow tables go out: the only file of the core that knows Python.

pub mod capture;
mod columns;
pub mod decode;
pub mod flows;
pub mod fold;
pub mod index;
pub mod packets;
pub mod reveal;
pub mod scan;
pub mod slice;
pub mod trailer;

#[cfg(feature = "python")]
mod python;

#[cfg(feature = "python")]
#[pyo3::pymodule(name = "_core")]
mod extension {
    #[pymodule_export]
    use super::python::{Frames, Table, read_flows, reveal, scan, sniff, write_slice};
}
