//! Calls from Python go in, tables with an Arrow stream and plain rows come out; no panic of the core gets past this file.

use crate::marked;
use crate::packets;
use crate::reveal::pass;
use crate::scan::{self as scanning, FileSummary};
use crate::slice::{self, Wanted};
use arrow::array::{Array, RecordBatch, RecordBatchIterator, cast::AsArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::ffi_stream::FFI_ArrowArrayStream;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyList, PyTuple};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a scan asks Python whether to go on, at most.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Rows in columns. Speaks the Arrow PyCapsule interface; `rows()` gives plain tuples for the few rows that Python looks at itself.
#[pyclass(frozen)]
pub struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

#[pymethods]
impl Table {
    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The names of the columns, in order.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The table as an Arrow C stream (Arrow PyCapsule interface).
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer ignore a requested schema that it cannot give.
        drop(requested_schema);
        let batches = self.batches.clone().into_iter().map(Ok);
        let stream = FFI_ArrowArrayStream::new(Box::new(RecordBatchIterator::new(batches, self.schema.clone())));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }

    /// All rows as tuples, in the order of `columns`.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let values = batch
                    .columns()
                    .iter()
                    .map(|column| value(py, column.as_ref(), row))
                    .collect::<PyResult<Vec<_>>>()?;
                rows.append(PyTuple::new(py, values)?)?;
            }
        }
        Ok(rows)
    }
}

fn value<'py>(py: Python<'py>, column: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
    if column.is_null(row) {
        return Ok(py.None().into_bound(py));
    }
    Ok(match column.data_type() {
        DataType::UInt8 => column
            .as_primitive::<UInt8Type>()
            .value(row)
            .into_pyobject(py)?
            .into_any(),
        DataType::UInt16 => column
            .as_primitive::<UInt16Type>()
            .value(row)
            .into_pyobject(py)?
            .into_any(),
        DataType::UInt32 => column
            .as_primitive::<UInt32Type>()
            .value(row)
            .into_pyobject(py)?
            .into_any(),
        DataType::UInt64 => column
            .as_primitive::<UInt64Type>()
            .value(row)
            .into_pyobject(py)?
            .into_any(),
        DataType::Int64 => column
            .as_primitive::<Int64Type>()
            .value(row)
            .into_pyobject(py)?
            .into_any(),
        DataType::Boolean => column.as_boolean().value(row).into_pyobject(py)?.to_owned().into_any(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into_pyobject(py)?.into_any(),
        DataType::Binary => PyBytes::new(py, column.as_binary::<i32>().value(row)).into_any(),
        DataType::List(_) => {
            let inner = column.as_list::<i32>().value(row);
            let values = (0..inner.len())
                .map(|at| value(py, inner.as_ref(), at))
                .collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, values)?.into_any()
        }
        other => {
            return Err(PyValueError::new_err(format!(
                "no Python value for a column of type {other}"
            )));
        }
    })
}

fn os_error(error: std::io::Error) -> PyErr {
    match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other => PyValueError::new_err(error.to_string()),
        _ => match error.raw_os_error() {
            Some(number) => PyOSError::new_err((number, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
    }
}

/// Runs a pass over captures without Python's lock. Now and then `progress`, if any, is called with the bytes read so far, and what it or a
/// signal handler raises stops the pass.
fn run<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    pass: impl FnOnce(&mut dyn FnMut(u64) -> ControlFlow<()>) -> std::io::Result<T> + Send,
) -> PyResult<T> {
    let mut raised: Option<PyErr> = None;
    let mut asked = Instant::now();
    let result = py.detach(|| {
        pass(&mut |bytes| {
            if asked.elapsed() < ASK_EVERY {
                return ControlFlow::Continue(());
            }
            asked = Instant::now();
            let answer = Python::attach(|py| {
                py.check_signals()?;
                if let Some(progress) = &progress {
                    progress.call1(py, (bytes,))?;
                }
                PyResult::Ok(())
            });
            match answer {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(os_error),
    }
}

/// Reads what the captures of one vantage point say of the real clients into `folder`: claim.parquet, request.parquet and header.parquet,
/// by the flow numbers of the index. The summary is a dict: see `tcpwhy.tables.revealed`.
#[pyfunction]
#[pyo3(signature = (paths, folder, header_names, progress=None, threads=1))]
pub fn reveal<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    folder: PathBuf,
    header_names: Vec<String>,
    progress: Option<Py<PyAny>>,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let revealed = run(py, progress, |progress| {
        pass::reveal(&paths, &folder, &header_names, threads, progress)
    })?;
    let out = PyDict::new(py);
    out.set_item("flows", revealed.flows)?;
    let errors: Vec<Option<&str>> = revealed.files.iter().map(|file| file.error.as_deref()).collect();
    out.set_item("errors", errors)?;
    Ok(out)
}

/// Scans the captures of one vantage point into `folder`. `progress`, if any, is called with the bytes read so far. The summary is a
/// dict: see `tcpwhy.tables.index`.
#[pyfunction]
#[pyo3(signature = (paths, folder, progress=None, threads=1))]
pub fn scan<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    folder: PathBuf,
    progress: Option<Py<PyAny>>,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let summary = run(py, progress, |progress| {
        scanning::scan(&paths, &folder, threads, progress)
    })?;
    let out = PyDict::new(py);
    out.set_item("flows", summary.flows)?;
    out.set_item("live_max", summary.live_max)?;
    let files = PyList::empty(py);
    for file in &summary.files {
        files.append(file_dict(py, file)?)?;
    }
    out.set_item("files", files)?;
    let claims = PyList::empty(py);
    for ((ip, mac, operation), claim) in &summary.arp {
        let entry = PyDict::new(py);
        entry.set_item("ip", std::net::Ipv4Addr::from(*ip).to_string())?;
        entry.set_item("mac", mac.map(|byte| format!("{byte:02x}")).join(":"))?;
        entry.set_item("operation", operation)?;
        entry.set_item("count", claim.count)?;
        entry.set_item("file", claim.file)?;
        entry.set_item("frame", claim.frame)?;
        entry.set_item("first_ns", claim.first_ns)?;
        entry.set_item("last_ns", claim.last_ns)?;
        claims.append(entry)?;
    }
    out.set_item("arp", claims)?;
    Ok(out)
}

fn file_dict<'py>(py: Python<'py>, file: &FileSummary) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("error", &file.error)?;
    out.set_item("packets", file.packets)?;
    out.set_item("tcp_packets", file.tcp_packets)?;
    out.set_item("malformed", file.malformed)?;
    out.set_item("cut_by_snap_length", file.cut_by_snap_length)?;
    out.set_item("longer_than_mtu", file.longer_than_mtu)?;
    out.set_item("first_ns", file.first_ns)?;
    out.set_item("last_ns", file.last_ns)?;
    out.set_item("bytes_read", file.bytes_read)?;
    out.set_item("losses_more", file.losses_more)?;
    let losses = PyList::empty(py);
    for loss in &file.losses {
        let entry = PyDict::new(py);
        entry.set_item("offset", loss.offset)?;
        entry.set_item("what", &loss.what)?;
        entry.set_item("cut_off", loss.cut_off)?;
        losses.append(entry)?;
    }
    out.set_item("losses", losses)?;
    let interfaces = PyList::empty(py);
    for interface in &file.interfaces {
        let entry = PyDict::new(py);
        entry.set_item("link_type", interface.link_type)?;
        entry.set_item("snap_length", interface.snap_length)?;
        entry.set_item("name", &interface.name)?;
        entry.set_item("received", interface.received)?;
        entry.set_item("dropped", interface.dropped)?;
        entry.set_item("start_ns", interface.start_ns)?;
        entry.set_item("end_ns", interface.end_ns)?;
        interfaces.append(entry)?;
    }
    out.set_item("interfaces", interfaces)?;
    Ok(out)
}

/// The captures of one vantage point and their frame index.
#[pyclass(frozen)]
pub struct Frames {
    inner: packets::Frames,
}

#[pymethods]
impl Frames {
    #[new]
    fn new(index: PathBuf, paths: Vec<PathBuf>) -> PyResult<Self> {
        Ok(Frames {
            inner: packets::Frames::open(&index, &paths).map_err(os_error)?,
        })
    }

    /// The packets of flows given by their chains, and how many were left out because a flow has more than `limit`.
    fn packets(&self, py: Python<'_>, flows: Vec<Vec<u64>>, limit: usize) -> PyResult<(Table, u64)> {
        let (batch, left_out) = py.detach(|| self.inner.packets(&flows, limit)).map_err(os_error)?;
        Ok((
            Table {
                schema: batch.schema(),
                batches: vec![batch],
            },
            left_out,
        ))
    }
}

/// Reads a flow table, whole.
#[pyfunction]
pub fn read_flows(py: Python<'_>, path: PathBuf) -> PyResult<Table> {
    py.detach(|| {
        let file = std::fs::File::open(&path)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(std::io::Error::other)?;
        let schema = builder.schema().clone();
        let batches = builder
            .build()
            .and_then(|reader| {
                reader
                    .map(|batch| batch.map_err(Into::into))
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(std::io::Error::other)?;
        Ok(Table { schema, batches })
    })
    .map_err(os_error)
}

/// The lines of a block that hold one of the words: line ends before it, begin and end.
#[pyfunction]
pub fn marked_lines(py: Python<'_>, block: &[u8], words: Vec<Vec<u8>>) -> Vec<marked::Line> {
    py.detach(|| marked::marked_lines(block, words.iter().map(Vec::as_slice)))
}

/// What a file is, if it is a capture: its container and compression in words, else None.
#[pyfunction]
pub fn sniff(path: PathBuf) -> Option<String> {
    scanning::open(&path).ok().map(|reader| reader.format().describe())
}

/// Writes chosen frames as pcapng. `sources` are (name, index, captures); `wanted` are (source, file, frame, comment).
#[pyfunction]
pub fn write_slice(
    py: Python<'_>,
    path: PathBuf,
    sources: Vec<(String, PathBuf, Vec<PathBuf>)>,
    wanted: Vec<(usize, u32, u64, Option<String>)>,
) -> PyResult<()> {
    py.detach(|| {
        let frames = sources
            .iter()
            .map(|(_, index, paths)| packets::Frames::open(index, paths))
            .collect::<std::io::Result<Vec<_>>>()?;
        let names: Vec<String> = sources.into_iter().map(|(name, ..)| name).collect();
        let wanted: Vec<Wanted> = wanted
            .into_iter()
            .map(|(source, file, frame, comment)| Wanted {
                source,
                file,
                frame,
                comment,
            })
            .collect();
        slice::write(&path, &frames, &names, &wanted)
    })
    .map_err(os_error)
}
