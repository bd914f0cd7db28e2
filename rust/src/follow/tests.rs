//! Crafted conversations go through the engine; who is chosen, what is told and what is written is held against what was sent.

use super::engine::Engine;
use super::event::Event;
use super::followed::Basis;
use super::frame::Frame;
use super::output::Output;
use super::wanted::Wanted;
use crate::capture::Reader;
use crate::capture::record::Direction;
use crate::decode::packet::{Address, flag};
use crate::hash::mix;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

const SYN: u16 = flag::SYN;
const ACK: u16 = flag::ACK;
const BALANCER: ([u8; 4], u16) = ([10, 0, 0, 1], 1025);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 5], 80);
/// 192.0.2.7:4660 in the layout of Alibaba LVS and DPVS.
const TOA: [u8; 8] = [0xfe, 8, 0x12, 0x34, 192, 0, 2, 7];

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn segment(
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    flags: u16,
    numbers: (u32, u32),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 1);
    let length = 40 + options.len() + payload.len();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend((length as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.0);
    frame.extend(to.0);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend(numbers.0.to_be_bytes());
    frame.extend(numbers.1.to_be_bytes());
    frame.extend((((20 + options.len()) as u16 / 4) << 12 | flags).to_be_bytes());
    frame.extend([1, 0, 0, 0, 0, 0]);
    frame.extend(options);
    frame.extend(payload);
    frame
}

fn there(flags: u16, numbers: (u32, u32), options: &[u8], payload: &[u8]) -> Vec<u8> {
    segment(BALANCER, SERVER, flags, numbers, options, payload)
}

fn back(flags: u16, numbers: (u32, u32), payload: &[u8]) -> Vec<u8> {
    segment(SERVER, BALANCER, flags, numbers, &[], payload)
}

struct Run {
    engine: Engine,
    written: Shared,
    time_ns: i64,
    events: Vec<Event>,
}

impl Run {
    fn new(wanted: Wanted) -> Run {
        let written = Shared::default();
        let output = Output::begin(Box::new(written.clone())).expect("memory takes all");
        Run {
            engine: Engine::new(wanted, Some(output), None),
            written,
            time_ns: 1_790_000_000_000_000_000,
            events: Vec::new(),
        }
    }

    fn see(&mut self, frames: &[Vec<u8>]) {
        for data in frames {
            self.time_ns += 1_000_000;
            self.engine
                .frame(&Frame {
                    time_ns: self.time_ns,
                    interface: 1,
                    link_type: 1,
                    direction: Direction::In,
                    data,
                    original_length: data.len() as u32,
                    vlan: None,
                })
                .expect("memory takes all");
            self.events.append(&mut self.engine.events);
        }
    }

    /// The frames that were written, in their order.
    fn written(&mut self) -> Vec<Vec<u8>> {
        self.engine.finish(Some(0), self.time_ns).expect("memory takes all");
        let bytes = self.written.0.lock().expect("one thread").clone();
        let mut reader = Reader::from_read(Box::new(Cursor::new(bytes))).expect("pcapng");
        let mut frames = Vec::new();
        while let Some(record) = reader.next() {
            frames.push(record.data.to_vec());
        }
        assert!(reader.losses().is_empty());
        frames
    }

    fn chosen(&self) -> Vec<Basis> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Chosen { basis, .. } => Some(*basis),
                _ => None,
            })
            .collect()
    }

    fn lines(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Request { line, .. } => Some(String::from_utf8_lossy(line).into_owned()),
                _ => None,
            })
            .collect()
    }
}

fn client() -> Wanted {
    Wanted {
        clients: vec![(Address::v4([192, 0, 2, 7]), None)],
        ..Wanted::default()
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

/// A handshake, a request and its answer; `options` are those of SYN, third ACK and request.
fn exchange(isn: u32, options: [&[u8]; 3], payload: &[u8]) -> Vec<Vec<u8>> {
    let next = isn.wrapping_add(1);
    vec![
        there(SYN, (isn, 0), options[0], b""),
        back(SYN | ACK, (5000, next), b""),
        there(ACK, (next, 5001), options[1], b""),
        there(ACK, (next, 5001), options[2], payload),
        back(
            ACK,
            (5001, next.wrapping_add(payload.len() as u32)),
            b"HTTP/1.1 204 No\r\n\r\n",
        ),
    ]
}

#[test]
fn an_option_on_any_packet_of_the_beginning_chooses_the_whole_connection() {
    let none: &[u8] = &[];
    for options in [[&TOA, none, none], [none, &TOA, none], [none, none, &TOA]] {
        let frames = exchange(u32::MAX, options, GET);
        let mut run = Run::new(client());
        run.see(&frames);
        assert_eq!(run.chosen(), [Basis::Toa]);
        assert_eq!(run.lines(), ["GET /a HTTP/1.1"]);
        assert_eq!(run.written(), frames);
    }
}

#[test]
fn at_every_offset_and_not_in_payload_or_other_options() {
    for before in 0..=32 {
        let mut options = vec![1; before];
        options.extend(TOA);
        let mut run = Run::new(client());
        run.see(&exchange(7, [&[], &options, &[]], GET));
        assert_eq!(run.chosen(), [Basis::Toa], "{before}");
    }
    let mut inside_timestamps = vec![1, 1, 8, 10];
    inside_timestamps.extend(TOA);
    let mut other_client = TOA;
    other_client[7] = 8;
    let payload = [GET, &TOA].concat();
    for (options, payload) in [
        (inside_timestamps.as_slice(), GET),
        (&other_client, GET),
        (&[1, 1, 1, 1], payload.as_slice()),
    ] {
        let mut run = Run::new(client());
        run.see(&exchange(7, [options, options, options], payload));
        assert!(run.chosen().is_empty() && run.written().is_empty());
    }
}

#[test]
fn the_port_counts_where_it_is_asked_for() {
    for (port, chosen) in [(0x1234, 1), (0x1235, 0)] {
        let wanted = Wanted {
            clients: vec![(Address::v4([192, 0, 2, 7]), Some(port))],
            ..Wanted::default()
        };
        let mut run = Run::new(wanted);
        run.see(&exchange(7, [&TOA, &[], &[]], GET));
        assert_eq!(run.chosen().len(), chosen);
    }
}

#[test]
fn what_the_called_end_writes_names_nobody() {
    let mut run = Run::new(client());
    run.see(&[
        there(SYN, (9, 0), &[], b""),
        segment(SERVER, BALANCER, SYN | ACK, (1, 10), &TOA, b""),
        segment(SERVER, BALANCER, ACK, (2, 10), &TOA, b"x"),
    ]);
    assert!(run.chosen().is_empty());
}

#[test]
fn a_proxy_header_chooses_with_all_that_came_before() {
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n";
    let payload = [header.as_slice(), GET].concat();
    let whole = exchange(99, [&[], &[], &[]], &payload);
    let mut run = Run::new(client());
    run.see(&whole);
    assert_eq!(run.chosen(), [Basis::Proxy]);
    assert_eq!(run.lines(), ["GET /a HTTP/1.1"]);
    assert_eq!(run.written(), whole);
    for cut in 1..payload.len() {
        let frames = [
            there(SYN, (99, 0), &[], b""),
            back(SYN | ACK, (5000, 100), b""),
            there(ACK, (100, 5001), &[], &payload[..cut]),
            back(ACK, (5001, 100 + cut as u32), b""),
            there(ACK, (100 + cut as u32, 5001), &[], &payload[cut..]),
        ];
        let mut run = Run::new(client());
        run.see(&frames);
        assert_eq!(run.chosen(), [Basis::Proxy], "{cut}");
        assert_eq!(run.lines(), ["GET /a HTTP/1.1"], "{cut}");
        assert_eq!(run.written(), frames, "{cut}");
    }
    let mut late = Run::new(client());
    late.see(&[there(ACK, (100, 5001), &[], &payload)]);
    assert!(late.chosen().is_empty(), "the stream's begin was not seen");
}

#[test]
fn headers_choose_only_where_hops_are_trusted() {
    let head =
        |address: &str| format!("GET /{address} HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, {address}\r\n\r\n").into_bytes();
    let frames = exchange(5, [&[], &[], &[]], &head("192.0.2.7"));
    let mut distrustful = Run::new(client());
    distrustful.see(&frames);
    assert!(distrustful.chosen().is_empty());
    let trusting = || {
        Run::new(Wanted {
            trusted_hops: Some(1),
            ..client()
        })
    };
    let mut run = trusting();
    run.see(&frames);
    let first = 6 + head("192.0.2.7").len() as u32;
    // Requests of others share the proxy's connection: they are written, and not told under this client's name.
    run.see(&[there(ACK, (first, 5020), &[], &head("192.0.2.8"))]);
    assert_eq!(run.chosen(), [Basis::Header]);
    assert_eq!(run.lines(), ["GET /192.0.2.7 HTTP/1.1"]);
    assert_eq!(run.engine.totals.of_others, 1);
    assert_eq!(run.written().len(), frames.len() + 1);
    // In mid-connection too.
    let mut late = trusting();
    let next = 77 + head("192.0.2.7").len() as u32;
    late.see(&[
        there(ACK, (77, 5020), &[], &head("192.0.2.7")),
        back(ACK, (5020, next), b"HTTP/1.1 204 No\r\n\r\n"),
    ]);
    assert_eq!(late.lines(), ["GET /192.0.2.7 HTTP/1.1"]);
}

#[test]
fn the_next_connection_on_the_same_ports_is_another_clients() {
    let mut run = Run::new(client());
    let first = exchange(1000, [&[], &TOA, &[]], GET);
    run.see(&first);
    let second = exchange(3_000_000_000, [&[], &[], &[]], b"GET /other HTTP/1.1\r\n\r\n");
    run.see(&second);
    assert_eq!(run.lines(), ["GET /a HTTP/1.1"]);
    assert!(
        run.events
            .iter()
            .any(|event| matches!(event, Event::Replaced { seen: true, .. }))
    );
    // And a third one is the client's again.
    let third = exchange(77_000, [&[], &TOA, &[]], b"GET /again HTTP/1.1\r\n\r\n");
    run.see(&third);
    assert_eq!(run.lines(), ["GET /a HTTP/1.1", "GET /again HTTP/1.1"]);
    assert_eq!(run.written(), [first, third].concat());
}

#[test]
fn a_given_connection_is_followed_at_once() {
    let (tuple, _) =
        crate::flows::row::Tuple::of((Address::v4(BALANCER.0), BALANCER.1), (Address::v4(SERVER.0), SERVER.1));
    let mut run = Run::new(Wanted {
        connections: vec![tuple],
        ..Wanted::default()
    });
    let frames = [
        there(ACK, (500, 9), &[], GET),
        back(ACK, (9, 500 + GET.len() as u32), b"x"),
    ];
    run.see(&frames);
    run.see(&exchange(3_000_000_000, [&[], &[], &[]], GET));
    assert_eq!(run.chosen(), [Basis::Given]);
    assert_eq!(run.lines(), ["GET /a HTTP/1.1", "GET /a HTTP/1.1"]);
    assert_eq!(run.written().len(), 7);
}

#[test]
fn says_once_that_connections_were_open_before() {
    let mut run = Run::new(client());
    run.see(&exchange(1, [&[], &[], &[]], GET));
    assert_eq!(run.engine.totals.open_before, 0);
    for port in 2000..2010 {
        run.see(&[segment(([10, 0, 0, 1], port), SERVER, ACK, (5, 6), &[], GET)]);
    }
    assert_eq!(run.engine.totals.open_before, 10);
    let told = run
        .events
        .iter()
        .filter(|event| matches!(event, Event::OpenBefore { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn later_fragments_and_icmp_errors_about_it_are_followed() {
    let mut run = Run::new(client());
    run.see(&exchange(7, [&[], &TOA, &[]], GET));
    let mut first = there(ACK, (8 + GET.len() as u32, 5020), &[], &[b'x'; 24]);
    first[18..22].copy_from_slice(&[0xab, 0xcd, 0x20, 0]);
    let mut later = first.clone();
    later[20..22].copy_from_slice(&[0, 6]);
    let mut stranger = later.clone();
    stranger[19] = 0;
    let mut icmp = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0,
    ];
    icmp.extend([10, 0, 0, 9, 10, 0, 0, 5, 3, 4, 0, 0, 0, 0, 5, 0]);
    icmp.extend(&there(ACK, (8, 5001), &[], b"")[14..42]);
    let before = run.engine.totals.followed;
    run.see(&[first, later, stranger, icmp]);
    assert_eq!(run.engine.totals.followed - before, 3);
}

#[test]
fn any_bytes_are_survived() {
    let mut state = 42_u64;
    let mut random = move || {
        state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
        state
    };
    let mut run = Run::new(Wanted {
        trusted_hops: Some(1),
        ..client()
    });
    for round in 0..3000_u32 {
        let mut frames = exchange(round.wrapping_mul(0x0100_0193), [&[], &TOA, &[]], GET);
        for frame in &mut frames {
            for _ in 0..random() % 3 {
                let at = random() as usize % frame.len();
                frame[at] = random() as u8;
            }
            frame.truncate(frame.len() - random() as usize % 3);
        }
        run.see(&frames);
    }
    assert!(run.engine.totals.seen == 15_000);
    run.written();
}
