//! A ring or a reader goes in; a thread of its own takes its frames in, so that whoever reads the events may be slow, and events come out.

use super::engine::{Engine, Totals};
use super::event::{Ending, Event};
use super::frame::Frame;
#[cfg(target_os = "linux")]
use super::ring::{Ring, Waited};
use crate::capture::{CaptureError, Reader};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events that wait to be told, at most, and their bytes: a live capture goes on without more, and counts them.
const WAITING_MAX: usize = 10_000;
const WAITING_BYTES: usize = 32 << 20;
/// How long the thread waits for packets before it looks whether it is to stop.
#[cfg(target_os = "linux")]
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the kernel is asked what it dropped.
#[cfg(target_os = "linux")]
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// How a capture file was left, when its reading ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Offset, what, and whether the file merely ends inside its last record.
    pub losses: Vec<(u64, String, bool)>,
    pub losses_more: u64,
}

/// Figures for the end.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub totals: Totals,
    pub written: u64,
    pub unwritten: u64,
    /// Packets that passed the kernel's filter, and those of them for which the ring had no room; None of a file.
    pub passed: Option<u64>,
    pub dropped: Option<u64>,
    /// Events that nobody took in time.
    pub untold: u64,
    pub damage: Damage,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    untold: u64,
    ended: bool,
}

struct Shared {
    stop: AtomicBool,
    queue: Mutex<Queue>,
    /// Something was put into the queue, or taken from it.
    changed: Condvar,
    engine: Mutex<Engine>,
    counts: Mutex<(Option<u64>, Option<u64>, Damage)>,
}

/// A poisoned lock is one of a thread that panicked, which `Worker::next` reports; what it guards is still whole enough to be read.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a capture.
pub type Open = dyn FnOnce() -> Result<Reader, CaptureError> + Send;

/// A following that runs.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Follows what is captured live from now on.
    #[cfg(target_os = "linux")]
    pub fn live(ring: Ring, mut engine: Engine) -> io::Result<Worker> {
        engine.name_interfaces(ring.names());
        Worker::spawn(engine, move |shared| live(ring, shared))
    }

    /// Follows what a capture file or stream holds; it is opened in the thread, for a pipe's first bytes may be long in coming.
    pub fn offline(open: Box<Open>, engine: Engine) -> io::Result<Worker> {
        Worker::spawn(engine, move |shared| match open() {
            Ok(reader) => offline(reader, shared),
            Err(error) => Ending::NoCapture(error.what),
        })
    }

    fn spawn(engine: Engine, run: impl FnOnce(&Shared) -> Ending + Send + 'static) -> io::Result<Worker> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            queue: Mutex::default(),
            changed: Condvar::new(),
            engine: Mutex::new(engine),
            counts: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tcpwhy-follow".to_owned())
            .spawn(move || {
                let mut ending = run(&theirs);
                if let Err(error) = finish(&theirs) {
                    ending = failure(&error);
                }
                put(
                    &theirs,
                    std::mem::take(&mut locked(&theirs.engine).events),
                    Patience::Endless,
                );
                put(&theirs, vec![Event::End(ending)], Patience::Endless);
            })?;
        Ok(Worker {
            shared,
            thread: Some(thread),
        })
    }

    /// The events that wait, at most `most`, or those that come within `timeout`; empty where none does. None after the end, and an error
    /// where the thread broke off, which is a bug.
    pub fn next(&mut self, timeout: Duration, most: usize) -> io::Result<Option<Vec<Event>>> {
        let until = Instant::now() + timeout;
        let mut queue = locked(&self.shared.queue);
        while queue.events.is_empty() {
            if queue.ended {
                return Ok(None);
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(io::Error::other("the thread that follows broke off"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(queue);
                // Nothing new: what is written so far is of use to who reads it now.
                if let Ok(mut engine) = self.shared.engine.try_lock() {
                    engine.flush()?;
                }
                return Ok(Some(Vec::new()));
            }
            queue = self
                .shared
                .changed
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let count = queue.events.len().min(most);
        let events: Vec<Event> = queue.events.drain(..count).collect();
        queue.bytes -= events.iter().map(size).sum::<usize>();
        queue.ended = events.iter().any(|event| matches!(event, Event::End(_)));
        drop(queue);
        self.shared.changed.notify_all();
        Ok(Some(events))
    }

    /// Asks the thread to end; a live one does so at once, one that waits for a pipe's next bytes need not. What is written is whole.
    pub fn stop(&mut self) -> io::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        let until = Instant::now() + Duration::from_secs(2);
        while let Some(thread) = &self.thread
            && !thread.is_finished()
            && Instant::now() < until
        {
            let queue = locked(&self.shared.queue);
            drop(self.shared.changed.wait_timeout(queue, Duration::from_millis(5)));
        }
        finish(&self.shared)
    }

    pub fn figures(&self) -> Figures {
        let engine = locked(&self.shared.engine);
        let (written, unwritten) = engine.written();
        let (passed, dropped, damage) = locked(&self.shared.counts).clone();
        Figures {
            totals: engine.totals,
            written,
            unwritten,
            passed,
            dropped,
            untold: locked(&self.shared.queue).untold,
            damage,
        }
    }
}

/// Ends what is written, once, whoever comes first.
fn finish(shared: &Shared) -> io::Result<()> {
    let dropped = locked(&shared.counts).1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    locked(&shared.engine).finish(dropped, now_ns)
}

/// Whether events wait for room or are left out where there is none.
#[derive(Clone, Copy, PartialEq)]
enum Patience {
    None,
    Endless,
}

fn put(shared: &Shared, events: Vec<Event>, patience: Patience) {
    if events.is_empty() {
        return;
    }
    let mut queue = locked(&shared.queue);
    for event in events {
        let is_end = matches!(event, Event::End(_));
        let is_full = |queue: &Queue| queue.events.len() >= WAITING_MAX || queue.bytes >= WAITING_BYTES;
        while patience == Patience::Endless && !is_end && is_full(&queue) && !shared.stop.load(Ordering::Acquire) {
            shared.changed.notify_all();
            queue = shared
                .changed
                .wait_timeout(queue, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if is_full(&queue) && !is_end {
            queue.untold += 1;
            continue;
        }
        queue.bytes += size(&event);
        queue.events.push_back(event);
    }
    drop(queue);
    shared.changed.notify_all();
}

/// Bytes that an event takes, about.
fn size(event: &Event) -> usize {
    let held = match event {
        Event::Request { line, fields, .. } => {
            line.len()
                + fields
                    .iter()
                    .map(|(name, value)| name.len() + value.len() + 48)
                    .sum::<usize>()
        }
        Event::Chosen { because, .. } => because.len(),
        _ => 0,
    };
    size_of::<Event>() + held
}

fn failure(error: &io::Error) -> Ending {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ending::Closed,
        _ => Ending::Failed(error.raw_os_error(), error.to_string()),
    }
}

#[cfg(target_os = "linux")]
fn live(mut ring: Ring, shared: &Shared) -> Ending {
    let ending = live_until(&mut ring, shared);
    let mut failed = None;
    if !matches!(ending, Ending::Counted | Ending::Closed | Ending::Failed(..))
        && let Err(error) = ring.drain(&mut |frame| take(shared, frame, &mut failed))
    {
        return failure(&error);
    }
    put(
        shared,
        std::mem::take(&mut locked(&shared.engine).events),
        Patience::None,
    );
    if let Err(error) = count(&mut ring, shared) {
        return failure(&error);
    }
    failed.as_ref().map_or(ending, failure)
}

#[cfg(target_os = "linux")]
fn live_until(ring: &mut Ring, shared: &Shared) -> Ending {
    let mut counted = Instant::now();
    let mut failed: Option<io::Error> = None;
    loop {
        if shared.stop.load(Ordering::Acquire) {
            return Ending::Stopped;
        }
        let mut engine = None;
        let waited = ring.wait(LOOK_EVERY, &mut |frame| {
            // Taken with the first frame, not while waiting, and kept for all that are there.
            let engine = engine.get_or_insert_with(|| locked(&shared.engine));
            match engine.frame(frame) {
                Ok(()) if engine.has_enough() => ControlFlow::Break(()),
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(engine) = &mut engine
            && failed.is_none()
            && let Err(error) = engine.flush()
        {
            failed = Some(error);
        }
        let events = engine.as_mut().map(|engine| std::mem::take(&mut engine.events));
        drop(engine);
        put(shared, events.unwrap_or_default(), Patience::None);
        if let Some(error) = failed {
            return failure(&error);
        }
        match waited {
            Ok(Waited::Done) => {}
            Ok(Waited::Enough) => return Ending::Counted,
            Ok(Waited::Down) => put(shared, vec![Event::Down], Patience::None),
            Ok(Waited::Gone) => return Ending::Gone,
            Err(error) => return failure(&error),
        }
        if counted.elapsed() >= COUNT_EVERY {
            counted = Instant::now();
            if let Err(error) = count(ring, shared) {
                return failure(&error);
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn take(shared: &Shared, frame: &Frame<'_>, failed: &mut Option<io::Error>) -> ControlFlow<()> {
    match locked(&shared.engine).frame(frame) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failed = Some(error);
            ControlFlow::Break(())
        }
    }
}

/// Asks the kernel how many packets it dropped, and tells of new ones.
#[cfg(target_os = "linux")]
fn count(ring: &mut Ring, shared: &Shared) -> io::Result<()> {
    let (passed, dropped) = ring.counts()?;
    let mut counts = locked(&shared.counts);
    let before = counts.1.unwrap_or(0);
    (counts.0, counts.1) = (Some(passed), Some(dropped));
    drop(counts);
    if dropped > before {
        locked(&shared.engine).is_gappy = true;
        put(
            shared,
            vec![Event::Dropped {
                packets: dropped - before,
            }],
            Patience::None,
        );
    }
    Ok(())
}

fn offline(mut reader: Reader, shared: &Shared) -> Ending {
    let ending = offline_until(&mut reader, shared);
    locked(&shared.counts).2 = Damage {
        losses: reader
            .losses()
            .iter()
            .map(|loss| (loss.offset, loss.what.clone(), loss.cut_off))
            .collect(),
        losses_more: reader.losses_more(),
    };
    ending
}

fn offline_until(reader: &mut Reader, shared: &Shared) -> Ending {
    let mut named = 0;
    let mut kept = Vec::new();
    loop {
        // A pipe may have nothing for hours: all is told before each read, and nothing is locked meanwhile.
        let Some(record) = reader.next() else {
            return Ending::Read;
        };
        let (time_ns, interface, link_type) = (record.time_ns, record.interface, record.link_type);
        let (direction, original_length) = (record.direction, record.original_length);
        let mut names = None;
        let data = if (interface as usize) < named {
            record.data
        } else {
            // The reader's interfaces can be looked at only while nothing is borrowed from it.
            kept.clear();
            kept.extend_from_slice(record.data);
            let found: Vec<Option<String>> = reader.interfaces().iter().map(|one| one.name.clone()).collect();
            named = found.len().max(interface as usize + 1);
            names = Some(found);
            &kept
        };
        let frame = Frame {
            time_ns,
            interface,
            link_type,
            direction,
            data,
            original_length,
            vlan: None,
        };
        let mut engine = locked(&shared.engine);
        if shared.stop.load(Ordering::Acquire) {
            return Ending::Stopped;
        }
        if let Some(names) = names {
            engine.name_interfaces(Box::new(move |interface| {
                names.get(interface as usize).cloned().flatten()
            }));
        }
        if let Err(error) = engine.frame(&frame) {
            return failure(&error);
        }
        let enough = engine.has_enough();
        let events = std::mem::take(&mut engine.events);
        drop(engine);
        put(shared, events, Patience::Endless);
        if enough {
            return Ending::Counted;
        }
    }
}
