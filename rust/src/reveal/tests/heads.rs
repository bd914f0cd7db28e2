//! Streams of requests go in, cut, shuffled, repeated and lossy; what comes out is held against the requests that were written.

use super::hostile::Random;
use crate::decode::packet::{Tcp, flag};
use crate::flows::live::Origin;
use crate::reveal::head::Found;
use crate::reveal::heads::{Budget, Conversation, HEAD_MAX, Tally};

/// What was found: each head's bytes and the frame where it began; PROXY headers as their length, below zero in mid-connection.
#[derive(Debug, Default)]
struct Collected {
    heads: Vec<(Vec<u8>, u64)>,
    proxies: Vec<i64>,
}

/// A connection under test: the client is end a.
struct Talk {
    conversation: Conversation,
    budget: Budget,
    collected: Collected,
    frame: u64,
    /// What the server said so far: each of the client's messages follows one of its.
    server: u32,
}

const ISN: u32 = u32::MAX - 700;

impl Talk {
    fn mid() -> Talk {
        Talk {
            conversation: Conversation::default(),
            budget: Budget::new(64 << 20),
            collected: Collected::default(),
            frame: 0,
            server: 5000,
        }
    }

    fn opened() -> Talk {
        let mut talk = Talk::mid();
        talk.packet(false, flag::SYN, ISN.wrapping_sub(1), 0, b"", 0);
        talk.packet(true, flag::SYN | flag::ACK, 4999, ISN, b"", 0);
        talk
    }

    fn packet(&mut self, from_b: bool, flags: u16, seq: u32, ack: u32, payload: &[u8], cut: usize) {
        self.frame += 1;
        let tcp = Tcp {
            seq,
            ack,
            flags,
            payload: &payload[..payload.len() - cut],
            payload_length: payload.len() as u32,
            ..Tcp::default()
        };
        let origin = Origin {
            file: 0,
            frame: self.frame,
            interface: 0,
            direction: 0,
            time_ns: self.frame as i64,
        };
        let collected = &mut self.collected;
        self.conversation
            .packet(&tcp, from_b, origin, &mut self.budget, &mut |_, found| {
                take(collected, found)
            });
    }

    /// The client sends bytes at an offset of its stream; where `turn`, the server has spoken before.
    fn says(&mut self, offset: usize, payload: &[u8], turn: bool) {
        if turn {
            self.server = self.server.wrapping_add(100);
        }
        self.packet(
            false,
            flag::ACK,
            ISN.wrapping_add(offset as u32),
            self.server,
            payload,
            0,
        );
    }

    fn hears(&mut self, offset: usize) {
        self.packet(true, flag::ACK, self.server, ISN.wrapping_add(offset as u32), b"", 0);
    }

    fn end(mut self) -> (Collected, Tally) {
        let collected = &mut self.collected;
        self.conversation
            .finish(&mut self.budget, &mut |_, found| take(collected, found));
        assert_eq!(self.budget.held(), 0, "all memory is given back");
        (self.collected, self.conversation.directions[0].tally)
    }
}

fn take(collected: &mut Collected, found: Found<'_>) {
    match found {
        Found::Head(head) => collected.heads.push((head.bytes.to_vec(), head.origin.frame)),
        Found::Proxy { header, at_start, .. } => {
            let length = header.length as i64;
            collected.proxies.push(if at_start { length } else { -length });
        }
    }
}

fn heads_of(collected: &Collected) -> Vec<String> {
    collected
        .heads
        .iter()
        .map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}

/// One request: its head, and its body in one framing or another.
fn request(random: &mut Random, number: usize) -> (String, Vec<u8>) {
    let padding = "x".repeat(random.below(300));
    let fields = format!("Host: shop\r\nX-Team: t{number}\r\nCookie: {padding}\r\n");
    match random.below(4) {
        0 | 1 => (format!("GET /{number} HTTP/1.1\r\n{fields}\r\n"), Vec::new()),
        2 => {
            let length = random.below(3000);
            let body = random.bytes(length);
            (
                format!("POST /{number} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n"),
                body,
            )
        }
        _ => {
            let mut body = Vec::new();
            for _ in 0..random.below(4) {
                let length = 1 + random.below(900);
                body.extend(format!("{length:x};ext=\"1\"\r\n").bytes());
                body.extend(random.bytes(length));
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\nTrailer: x\r\n\r\n");
            (
                format!("PUT /{number} HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"),
                body,
            )
        }
    }
}

/// A stream of requests: its bytes, and where each head begins and ends in it.
fn stream(random: &mut Random, count: usize) -> (Vec<u8>, Vec<(usize, String)>) {
    let mut bytes = Vec::new();
    let mut heads = Vec::new();
    for number in 0..count {
        let (head, body) = request(random, number);
        heads.push((bytes.len(), head.clone()));
        bytes.extend(head.bytes());
        bytes.extend(body);
    }
    (bytes, heads)
}

/// Cuts at random; a cut always lies where a request begins, as when each is sent on its own.
fn cut(random: &mut Random, length: usize, begins: &[usize]) -> Vec<(usize, usize)> {
    let mut at = 0;
    let mut segments = Vec::new();
    while at < length {
        let next = begins.iter().copied().find(|begin| *begin > at).unwrap_or(length);
        let end = (at + 1 + random.below(1448)).min(next);
        segments.push((at, end));
        at = end;
    }
    segments
}

#[test]
fn all_heads_come_out_whatever_the_cuts_the_order_and_the_repetitions() {
    let mut random = Random(3);
    for _ in 0..300 {
        let count = 1 + random.below(8);
        let (bytes, heads) = stream(&mut random, count);
        let begins = if random.below(2) == 0 {
            vec![]
        } else {
            heads.iter().map(|(at, _)| *at).collect()
        };
        let mut segments = cut(&mut random, bytes.len(), &begins);
        // Reordering within a few segments, and retransmissions of longer stretches.
        for at in 0..segments.len() {
            let other = (at + random.below(4)).min(segments.len() - 1);
            segments.swap(at, other);
        }
        for _ in 0..random.below(5) {
            let begin = random.below(bytes.len());
            let end = (begin + 1 + random.below(2000)).min(bytes.len());
            segments.insert(random.below(segments.len()), (begin, end));
        }
        let mut talk = Talk::opened();
        for (begin, end) in segments {
            talk.says(begin, &bytes[begin..end], random.below(3) == 0);
        }
        talk.hears(bytes.len());
        let (collected, tally) = talk.end();
        let expected: Vec<String> = heads.into_iter().map(|(_, head)| head).collect();
        assert_eq!(heads_of(&collected), expected);
        assert_eq!(
            tally,
            Tally {
                requests: count as u64,
                ..Tally::default()
            }
        );
    }
}

#[test]
fn loss_costs_the_heads_it_touches_and_invents_none() {
    let mut random = Random(17);
    let (mut found_all, mut lost_all, mut after_loss) = (0, 0, 0);
    for _ in 0..400 {
        let count = 5 + random.below(12);
        let (bytes, heads) = stream(&mut random, count);
        let begins: Vec<usize> = heads.iter().map(|(at, _)| *at).collect();
        let segments = cut(&mut random, bytes.len(), &begins);
        let mut talk = if random.below(2) == 0 {
            Talk::opened()
        } else {
            Talk::mid()
        };
        let mut lost = Vec::new();
        for (number, (begin, end)) in segments.iter().copied().enumerate() {
            if random.below(12) == 0 && number > 0 {
                lost.push((begin, end));
            } else {
                talk.says(begin, &bytes[begin..end], begins.contains(&begin));
            }
            talk.hears(end);
        }
        let (collected, tally) = talk.end();
        let found = heads_of(&collected);
        let mut expected = heads.iter();
        for head in &found {
            assert!(expected.any(|(_, one)| one == head), "invented or out of order: {head}");
        }
        let intact = heads
            .iter()
            .filter(|(at, head)| !lost.iter().any(|(begin, end)| *begin < at + head.len() && *at < *end))
            .count();
        assert!(found.len() <= intact);
        assert_eq!(tally.requests as usize, found.len());
        if found.len() < count {
            assert!(tally.gaps > 0, "nothing is lost in silence");
        }
        found_all += found.len();
        lost_all += intact - found.len();
        after_loss += tally.resynchronised;
    }
    // Each request begins a segment behind an answer, so that nearly all that were captured whole are found again.
    assert!(
        lost_all * 50 < found_all && after_loss > 100,
        "{lost_all} of {found_all}, {after_loss} after a loss"
    );
}

#[test]
fn a_hole_in_a_body_of_known_length_loses_nothing() {
    let mut talk = Talk::opened();
    let head = b"POST /a HTTP/1.1\r\nContent-Length: 5000\r\n\r\n";
    talk.says(0, head, true);
    // Body bytes 1000 to 3999 are never seen, and the second request follows right behind the body in one segment.
    talk.says(head.len(), &[b'x'; 1000], false);
    let next = b"GET /b HTTP/1.1\r\n\r\n";
    talk.says(head.len() + 4000, &[&[b'y'; 1000], next.as_slice()].concat(), false);
    let (collected, tally) = talk.end();
    assert_eq!(collected.heads.len(), 2);
    assert_eq!((tally.requests, tally.heads_lost, tally.gaps), (2, 0, 0));
}

#[test]
fn what_the_snap_length_cut_is_a_hole() {
    let mut talk = Talk::opened();
    let head = b"POST /a HTTP/1.1\r\nContent-Length: 900\r\n\r\n";
    let message = [head.as_slice(), &[b'x'; 900]].concat();
    talk.packet(false, flag::ACK, ISN, 5000, &message, 850);
    let second = b"GET /b HTTP/1.1\r\nX: y\r\n\r\n";
    talk.packet(
        false,
        flag::ACK,
        ISN.wrapping_add(message.len() as u32),
        5100,
        second,
        0,
    );
    // This head itself is cut.
    let at = (message.len() + second.len()) as u32;
    talk.packet(false, flag::ACK, ISN.wrapping_add(at), 5200, second, 4);
    let third = ISN.wrapping_add(at + second.len() as u32);
    talk.packet(false, flag::ACK, third, 5300, b"GET /d HTTP/1.1\r\n\r\n", 0);
    let (collected, tally) = talk.end();
    assert_eq!(collected.heads.len(), 3);
    assert_eq!((tally.heads_lost, tally.gaps, tally.resynchronised), (1, 1, 1));
}

#[test]
fn a_capture_that_begins_in_the_middle_of_a_body_finds_the_next_request() {
    let mut talk = Talk::mid();
    talk.says(0, b"middle of a body GET /no HTTP/1.1\r\n\r\n", true);
    // Looks like a request, but the server has said nothing since: still the body.
    talk.says(37, b"GET /body HTTP/1.1\r\n\r\n", false);
    talk.says(59, b"GET /yes HTTP/1.1\r\nA: 1\r\n\r\n", true);
    talk.says(86, b"GET /next HTTP/1.1\r\n\r\nGET /third HTTP/1.1\r\n\r\n", false);
    let (collected, tally) = talk.end();
    let lines: Vec<_> = heads_of(&collected)
        .iter()
        .map(|head| head.split("\r\n").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        lines,
        ["GET /yes HTTP/1.1", "GET /next HTTP/1.1", "GET /third HTTP/1.1"]
    );
    assert_eq!((tally.resynchronised, tally.requests), (1, 3));
}

#[test]
fn a_head_that_begins_well_and_goes_on_badly_is_none_after_a_loss() {
    let mut talk = Talk::mid();
    talk.says(0, b"GET /log HTTP/1.1\r\nthis is no field\r\n\r\n", true);
    let (collected, _) = talk.end();
    assert!(collected.heads.is_empty());
    // Where it is known that a request is due, one bad line is the client's own fault.
    let mut talk = Talk::opened();
    talk.says(0, b"GET /log HTTP/1.1\r\nthis is no field\r\nX-Team: a\r\n\r\n", true);
    assert_eq!(talk.end().0.heads.len(), 1);
}

#[test]
fn a_proxy_header_is_handed_on_and_stepped_over() {
    let header = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let bytes = [header.as_slice(), request].concat();
    for size in [1, 7, 50, bytes.len()] {
        let mut talk = Talk::opened();
        for (number, piece) in bytes.chunks(size).enumerate() {
            talk.says(number * size, piece, false);
        }
        let (collected, tally) = talk.end();
        assert_eq!(collected.proxies, [header.len() as i64]);
        assert_eq!(heads_of(&collected), ["GET / HTTP/1.1\r\n\r\n"]);
        assert_eq!(tally.heads_lost, 0);
    }
    // Without the start only a whole one in the very first payload counts, and it is told apart.
    let mut talk = Talk::mid();
    talk.says(0, &bytes, true);
    talk.says(bytes.len(), &bytes, true);
    let (collected, _) = talk.end();
    assert_eq!(collected.proxies, [-(header.len() as i64)]);
}

#[test]
fn what_begins_like_a_proxy_header_and_is_none_is_read_as_it_is() {
    for size in 1..20 {
        let bytes = b"POST /p HTTP/1.1\r\nA: b\r\n\r\n";
        let mut talk = Talk::opened();
        for (number, piece) in bytes.chunks(size).enumerate() {
            talk.says(number * size, piece, false);
        }
        let (collected, _) = talk.end();
        assert_eq!(collected.heads.len(), 1);
        assert_eq!(collected.heads[0].1, 3, "the frame of its first byte");
    }
}

#[test]
fn other_protocols_are_given_up_quietly() {
    let tls = [22, 3, 1, 0, 200, 1, 0, 0, 196];
    let cases: [(&[u8], Tally); 4] = [
        (
            &tls,
            Tally {
                is_tls: true,
                ..Tally::default()
            },
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Tally {
                is_http2: true,
                ..Tally::default()
            },
        ),
        (b"EHLO mail.example\r\n", Tally::default()),
        (b"*1\r\n$4\r\nPING\r\n", Tally::default()),
    ];
    for (bytes, expected) in cases {
        let mut talk = Talk::opened();
        talk.says(0, bytes, true);
        talk.says(bytes.len() + 3000, b"GET / HTTP/1.1\r\n\r\n", true);
        let (collected, tally) = talk.end();
        assert!(collected.heads.is_empty());
        assert_eq!(tally, expected);
    }
}

#[test]
fn tunnels_and_upgrades_are_no_loss() {
    for head in [
        "CONNECT db:5432 HTTP/1.1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let mut talk = Talk::opened();
        talk.says(0, head.as_bytes(), true);
        talk.says(head.len(), b"\x81\x85binary of any kind", true);
        talk.says(head.len() + 20, b"GET /again HTTP/1.1\r\n\r\n", true);
        let (collected, tally) = talk.end();
        assert_eq!((collected.heads.len(), tally.heads_lost), (2, 0));
    }
}

#[test]
fn a_head_beyond_the_limit_is_lost_and_the_next_is_found() {
    let mut talk = Talk::opened();
    let long = [
        b"GET / HTTP/1.1\r\nA: ".as_slice(),
        &vec![b'x'; HEAD_MAX + 10],
        b"\r\n\r\n",
    ]
    .concat();
    let mut at = 0;
    for piece in long.chunks(1400) {
        talk.says(at, piece, at == 0);
        at += piece.len();
    }
    talk.says(at, b"GET /b HTTP/1.1\r\n\r\n", true);
    let (collected, tally) = talk.end();
    assert_eq!(
        (collected.heads.len(), tally.heads_lost, tally.resynchronised),
        (1, 1, 1)
    );
}

#[test]
fn bytes_that_were_acknowledged_but_recorded_late_are_waited_for() {
    let bytes = b"GET /a HTTP/1.1\r\nX-Team: red\r\n\r\n";
    let mut talk = Talk::opened();
    talk.says(10, &bytes[10..], true);
    talk.hears(bytes.len());
    talk.says(0, &bytes[..10], true);
    let (collected, tally) = talk.end();
    assert_eq!((collected.heads.len(), tally.heads_lost), (1, 0));
    assert_eq!(collected.heads[0].1, 5, "the frame of its first byte, which came last");
}

#[test]
fn memory_is_bounded_in_each_flow_and_in_all() {
    let mut budget = Budget::new(1 << 20);
    let mut conversations: Vec<Conversation> = (0..50).map(|_| Conversation::default()).collect();
    let mut random = Random(23);
    let mut most = 0;
    for frame in 0..60_000_u64 {
        let conversation = &mut conversations[random.below(50)];
        let payload = vec![b'A'; 1 + random.below(1448)];
        let tcp = Tcp {
            // Nothing ever fits: each segment leaves a hole before it.
            seq: (frame as u32).wrapping_mul(3000),
            ack: 1,
            flags: flag::ACK,
            payload: &payload,
            payload_length: payload.len() as u32,
            ..Tcp::default()
        };
        let origin = Origin {
            file: 0,
            frame,
            interface: 0,
            direction: 0,
            time_ns: 0,
        };
        conversation.packet(&tcp, false, origin, &mut budget, &mut |_, _| {});
        most = most.max(budget.held());
    }
    assert!(
        (512 << 10..(1 << 20) + (512 << 10)).contains(&most),
        "{most} bytes were held"
    );
}

#[test]
fn hostile_streams() {
    const WORDS: [&[u8]; 14] = [
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\n",
        b"Content-Length: 10\r\n",
        b"Content-Length: 18446744073709551615\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"\x16\x03\x01\x00\x05",
        b"\n",
        b" folded\r\n",
        b"\0\xff\xfe",
    ];
    let mut random = Random(29);
    for _ in 0..20_000 {
        let mut talk = if random.below(2) == 0 {
            Talk::opened()
        } else {
            Talk::mid()
        };
        let mut bytes = Vec::new();
        for _ in 0..random.below(20) {
            bytes.extend_from_slice(WORDS[random.below(WORDS.len())]);
        }
        for _ in 0..random.below(12) {
            let begin = random.below(bytes.len() + 1);
            let end = (begin + random.below(60)).min(bytes.len());
            let seq = match random.below(12) {
                0 => random.next() as u32,
                _ => ISN.wrapping_add(begin as u32),
            };
            let flags = [flag::ACK, flag::ACK, flag::SYN, flag::RST, flag::SYN | flag::ACK][random.below(5)];
            let payload = &bytes[begin..end];
            let cut = if random.below(6) == 0 {
                random.below(payload.len() + 1)
            } else {
                0
            };
            let ack = random.next() as u32 & 0xffff;
            talk.packet(random.below(5) == 0, flags, seq, ack, payload, cut);
        }
        talk.end();
    }
}

#[test]
fn a_head_sent_byte_by_byte_takes_no_more_than_one_look_at_each() {
    let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
    while bytes.len() < HEAD_MAX - 100 {
        bytes.extend(b"A: b\r\n");
    }
    bytes.extend(b"\r\n");
    let mut talk = Talk::opened();
    let begun = std::time::Instant::now();
    for (at, byte) in bytes.iter().enumerate() {
        talk.says(at, &[*byte], false);
    }
    assert_eq!(talk.end().0.heads.len(), 1);
    assert!(
        begun.elapsed().as_secs() < 5,
        "65,000 looks at the whole would take longer"
    );
}
