//! Python calls come in, Arrow tables go out: the only file of the core that knows Python.

pub mod capture;
pub mod decode;

#[cfg(feature = "python")]
#[pyo3::pymodule]
mod _core {}
