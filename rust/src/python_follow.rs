//! Python's calls to follow connections come in, events and figures as plain values go out.

use crate::capture::Reader;
use crate::decode::packet::Address;
use crate::flows::row::Tuple;
use crate::follow::event::{Ending, Event};
#[cfg(target_os = "linux")]
use crate::follow::ring::Ring;
use crate::follow::wanted::{Wanted, address, shown};
use crate::follow::worker::Worker;
use crate::follow::{Engine, Output};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events given at once, so that Python can look at signals in between.
const EVENTS_AT_ONCE: usize = 256;

/// An address, its port; for a client the port may be open.
type Client = (IpAddr, Option<u16>);
type Socket = (IpAddr, u16);

/// A following that runs in a thread of its own.
#[pyclass(frozen)]
pub struct Following {
    worker: Mutex<Worker>,
}

impl Following {
    fn worker(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Following {
    /// What happened within `timeout_ms`: dicts with `event` and what belongs to it; None after the last one.
    fn events<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Option<Bound<'py, PyList>>> {
        let timeout = Duration::from_millis(timeout_ms);
        let events = py
            .detach(|| self.worker().next(timeout, EVENTS_AT_ONCE))
            .map_err(|error| match error.raw_os_error() {
                Some(number) => PyOSError::new_err((number, error.to_string())),
                None => PyRuntimeError::new_err(error.to_string()),
            })?;
        let Some(events) = events else { return Ok(None) };
        let list = PyList::empty(py);
        for event in events {
            list.append(event_dict(py, event)?)?;
        }
        Ok(Some(list))
    }

    /// Ends it; packets written until now are in the file.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.worker().stop())
            .map_err(|error| file_error(&error, None))
    }

    /// Counts, from the start on.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = py.detach(|| self.worker().figures());
        let out = PyDict::new(py);
        out.set_item("seen", figures.totals.seen)?;
        out.set_item("followed", figures.totals.followed)?;
        out.set_item("connections", figures.totals.connections)?;
        out.set_item("requests", figures.totals.requests)?;
        out.set_item("requests_of_others", figures.totals.of_others)?;
        out.set_item("heads_lost", figures.totals.heads_lost)?;
        out.set_item("open_before", figures.totals.open_before)?;
        out.set_item("refused", figures.totals.refused)?;
        out.set_item("written", figures.written)?;
        out.set_item("unwritten", figures.unwritten)?;
        out.set_item("passed", figures.passed)?;
        out.set_item("dropped", figures.dropped)?;
        out.set_item("untold", figures.untold)?;
        out.set_item("losses", figures.damage.losses)?;
        out.set_item("losses_more", figures.damage.losses_more)?;
        Ok(out)
    }
}

fn file_error(error: &io::Error, path: Option<&Path>) -> PyErr {
    match (error.raw_os_error(), path) {
        (Some(number), Some(path)) => PyOSError::new_err((number, os_text(number), path.to_path_buf())),
        (Some(number), None) => PyOSError::new_err((number, os_text(number))),
        (None, _) => PyValueError::new_err(error.to_string()),
    }
}

/// The system's own words, without Rust's number behind them.
fn os_text(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn wanted(clients: Vec<Client>, connections: Vec<(Socket, Socket)>, trusted_hops: Option<usize>) -> Wanted {
    Wanted {
        clients: clients.into_iter().map(|(ip, port)| (address(ip), port)).collect(),
        connections: connections
            .into_iter()
            .map(|(one, other)| Tuple::of((address(one.0), one.1), (address(other.0), other.1)).0)
            .collect(),
        trusted_hops,
    }
}

/// `-` is standard output.
fn output(path: Option<&Path>) -> PyResult<Option<Output>> {
    let Some(path) = path else { return Ok(None) };
    let opened = if path.as_os_str() == "-" {
        io::stdout().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::create(path)
    };
    opened
        .and_then(|file| Output::begin(Box::new(file)))
        .map(Some)
        .map_err(|error| file_error(&error, Some(path)))
}

/// Follows connections that are captured live at an interface, or at all with `any`. OSError EPERM without CAP_NET_RAW, ENODEV for an
/// interface that is not there.
#[pyfunction]
#[pyo3(signature = (interface, clients, connections, trusted_hops, out, most, promiscuous, ring_bytes))]
#[expect(clippy::too_many_arguments, reason = "one caller, which names them all")]
pub fn follow_live(
    interface: &str,
    clients: Vec<Client>,
    connections: Vec<(Socket, Socket)>,
    trusted_hops: Option<usize>,
    out: Option<PathBuf>,
    most: Option<u64>,
    promiscuous: bool,
    ring_bytes: usize,
) -> PyResult<(Following, String)> {
    let wanted = wanted(clients, connections, trusted_hops);
    #[cfg(target_os = "linux")]
    {
        let ring = Ring::open(interface, promiscuous, ring_bytes).map_err(|error| file_error(&error, None))?;
        let mechanism = ring.mechanism();
        let engine = Engine::new(wanted, output(out.as_deref())?, most);
        let worker = Mutex::new(Worker::live(ring, engine).map_err(|error| file_error(&error, None))?);
        Ok((Following { worker }, mechanism))
    }
    #[cfg(not(target_os = "linux"))]
    {
        drop((interface, wanted, out, most, promiscuous, ring_bytes));
        Err(PyValueError::new_err("live captures need Linux's packet sockets"))
    }
}

/// Follows connections in a capture file, or in standard input for `-`. ValueError for what is no capture.
#[pyfunction]
#[pyo3(signature = (path, clients, connections, trusted_hops, out, most))]
pub fn follow_file(
    py: Python<'_>,
    path: PathBuf,
    clients: Vec<Client>,
    connections: Vec<(Socket, Socket)>,
    trusted_hops: Option<usize>,
    out: Option<PathBuf>,
    most: Option<u64>,
) -> PyResult<Following> {
    let opened = py.detach(|| {
        if path.as_os_str() == "-" {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(&path)
        }
    });
    let file = opened.map_err(|error| file_error(&error, Some(&path)))?;
    let engine = Engine::new(
        wanted(clients, connections, trusted_hops),
        output(out.as_deref())?,
        most,
    );
    let worker = Worker::offline(Box::new(move || Reader::from_read(Box::new(file))), engine)
        .map_err(|error| file_error(&error, None))?;
    Ok(Following {
        worker: Mutex::new(worker),
    })
}

fn name((address, port): (Address, Option<u16>)) -> String {
    shown(address, port)
}

fn socket((address, port): (Address, u16)) -> String {
    shown(address, Some(port))
}

fn event_dict(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    match event {
        Event::Chosen {
            connection,
            time_ns,
            source,
            destination,
            client,
            basis,
            because,
        } => {
            out.set_item("event", "connection")?;
            out.set_item("connection", connection)?;
            out.set_item("time_ns", time_ns)?;
            out.set_item("client", socket(source))?;
            out.set_item("server", socket(destination))?;
            out.set_item("real_client", client.map(name))?;
            out.set_item("basis", basis.name())?;
            out.set_item("because", because)?;
        }
        Event::Request {
            connection,
            time_ns,
            source,
            destination,
            client,
            basis,
            line,
            fields,
        } => {
            out.set_item("event", "request")?;
            out.set_item("connection", connection)?;
            out.set_item("time_ns", time_ns)?;
            out.set_item("client", socket(source))?;
            out.set_item("server", socket(destination))?;
            out.set_item("real_client", client.map(name))?;
            out.set_item("basis", basis.name())?;
            out.set_item("line", PyBytes::new(py, &line))?;
            let list = PyList::empty(py);
            for (name, value) in fields {
                list.append((PyBytes::new(py, &name), PyBytes::new(py, &value)))?;
            }
            out.set_item("fields", list)?;
        }
        Event::Encrypted {
            connection,
            source,
            destination,
        } => {
            out.set_item("event", "encrypted")?;
            out.set_item("connection", connection)?;
            out.set_item("client", socket(source))?;
            out.set_item("server", socket(destination))?;
        }
        Event::OpenBefore { source, destination } => {
            out.set_item("event", "open-before")?;
            out.set_item("source", socket(source))?;
            out.set_item("destination", socket(destination))?;
        }
        Event::Replaced {
            connection,
            source,
            destination,
            seen,
        } => {
            out.set_item("event", "replaced")?;
            out.set_item("connection", connection)?;
            out.set_item("source", socket(source))?;
            out.set_item("destination", socket(destination))?;
            out.set_item("seen", seen)?;
        }
        Event::Dropped { packets } => {
            out.set_item("event", "dropped")?;
            out.set_item("packets", packets)?;
        }
        Event::Down => out.set_item("event", "down")?,
        Event::TooMany { most } => {
            out.set_item("event", "too-many")?;
            out.set_item("most", most)?;
        }
        Event::End(ending) => {
            out.set_item("event", "end")?;
            end_dict(&out, ending)?;
        }
    }
    Ok(out)
}

fn end_dict(out: &Bound<'_, PyDict>, ending: Ending) -> PyResult<()> {
    let how = match ending {
        Ending::Counted => "counted",
        Ending::Read => "read",
        Ending::Stopped => "stopped",
        Ending::Gone => "gone",
        Ending::Closed => "closed",
        Ending::NoCapture(what) => {
            out.set_item("error", what)?;
            "no-capture"
        }
        Ending::Failed(number, what) => {
            out.set_item("error", number.map_or(what, os_text))?;
            "failed"
        }
    };
    out.set_item("how", how)
}
