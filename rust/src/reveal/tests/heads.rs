//! Streams of requests go in, cut, shuffled, repeated and lossy; what comes out is held against the requests that were written.

use super::hostile::Random;
use super::talk::{ISN, Talk, heads_of};
use crate::decode::packet::{Tcp, flag};
use crate::flows::watch::Origin;
use crate::reveal::heads::{Budget, Conversation, HEAD_MAX, Tally};

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
fn proxy_headers_and_heads_that_never_end_share_the_budget() {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice();
    for begin in [header, b"GET / HTTP/1.1\r\nA: "] {
        let mut budget = Budget::new(1 << 20);
        let mut most = 0;
        let mut conversations: Vec<Conversation> = (0..100).map(|_| Conversation::default()).collect();
        for piece in 0..40_u32 {
            for conversation in &mut conversations {
                let payload = if piece == 0 { begin } else { &[b'x'; 1400] };
                let tcp = Tcp {
                    seq: if piece == 0 {
                        2
                    } else {
                        2 + begin.len() as u32 + (piece - 1) * 1400
                    },
                    flags: flag::ACK,
                    payload,
                    payload_length: payload.len() as u32,
                    ..Tcp::default()
                };
                let origin = Origin {
                    file: 0,
                    frame: 1,
                    interface: 0,
                    direction: 0,
                    time_ns: 0,
                };
                if piece == 0 {
                    let syn = Tcp {
                        seq: 1,
                        flags: flag::SYN,
                        ..Tcp::default()
                    };
                    conversation.packet(&syn, false, origin, &mut budget, &mut |_, _| {});
                }
                conversation.packet(&tcp, false, origin, &mut budget, &mut |_, _| {});
                most = most.max(budget.held());
            }
        }
        assert!(
            (512 << 10..(1 << 20) + (256 << 10)).contains(&most),
            "{most} bytes were held"
        );
        let lost: u64 = conversations.iter().map(|one| one.directions[0].tally.heads_lost).sum();
        assert!(lost > 0, "what was given up is told");
    }
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
