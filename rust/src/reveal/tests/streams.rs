//! Small streams with one peculiarity each go in; the heads that come out, and what is told of the rest, are held against it.

use super::talk::{ISN, Talk, heads_of};
use crate::decode::packet::flag;
use crate::flows::watch::Origin;
use crate::reveal::head::Head;
use crate::reveal::heads::{HEAD_MAX, Tally};

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
fn the_words_of_a_request_line() {
    let mut talk = Talk::opened();
    talk.says(
        0,
        b"GET /a b?c HTTP/1.1\r\nA: 1\r\nno field\r\nB:\t2 \r\n 3\r\n\r\n",
        true,
    );
    let mut seen = Vec::new();
    let (collected, _) = talk.end();
    for (bytes, _) in &collected.heads {
        let head = Head {
            bytes,
            origin: Origin {
                file: 0,
                frame: 1,
                interface: 0,
                direction: 0,
                time_ns: 0,
            },
            seq: 0,
            resynchronised: false,
        };
        assert_eq!(
            (head.method(), head.target()),
            (b"GET".as_slice(), b"/a b?c".as_slice())
        );
        seen.extend(
            head.fields()
                .map(|field| (field.name.to_vec(), field.value.into_owned())),
        );
    }
    assert_eq!(seen, [(b"A".to_vec(), b"1".to_vec()), (b"B".to_vec(), b"2 3".to_vec())]);
}

#[test]
fn a_method_cut_in_two_is_found_where_no_place_is_known() {
    let request = b"GET /?q=1 HTTP/1.1\r\nX-Team: red\r\n\r\n";
    for cut in 1..request.len() {
        let mut talk = Talk::mid();
        talk.says(0, &request[..cut], true);
        talk.says(cut, &request[cut..], false);
        let (collected, tally) = talk.end();
        assert_eq!((collected.heads.len(), collected.heads[0].1), (1, 1), "cut at {cut}");
        assert_eq!((tally.resynchronised, tally.heads_lost), (1, 0));
    }
    // The end of a body that looks like the begin of a method, and then a request of its own.
    let mut talk = Talk::mid();
    talk.says(0, b"PU", true);
    talk.says(2, request, true);
    let (collected, tally) = talk.end();
    assert_eq!(
        (collected.heads.len(), collected.heads[0].1, tally.heads_lost),
        (1, 2, 0)
    );
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
fn where_no_place_is_known_an_answer_makes_a_head_certain_at_once() {
    let mut talk = Talk::mid();
    let request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    talk.says(0, request, true);
    talk.says(request.len(), b"body", false);
    assert!(
        talk.collected.heads.is_empty(),
        "it may yet be the middle of another body"
    );
    talk.answers(request.len() + 4);
    assert_eq!(talk.collected.heads.len(), 1);
    assert_eq!(talk.end().1.resynchronised, 1);
}

#[test]
fn the_middle_of_a_body_that_looks_like_a_request_is_none() {
    let honest = b"GET /honest HTTP/1.1\r\nX-Team: true\r\n\r\n";
    for evil in [
        b"GET /z HTTP/1.1\r\nX-Team: evil\r\n\r\ntailtailtail".as_slice(),
        b"PUT /z HTTP/1.1\r\nX-Team: evil\r\nContent-Length: 99999\r\n\r\ntail",
        b"PUT /z HTTP/1.1\r\nX-Team: evil\r\nTransfer-Encoding: chunked\r\n\r\ntail",
        b"PUT /z HTTP/1.1\r\nX-Team: evil\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\ntail",
        b"PROXY TCP4 6.6.6.6 9.9.9.9 1 2\r\nmore of the body",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x06\x06\x06\x06\x09\x09\x09\x09\0\x01\0\x02more of the body",
    ] {
        let mut talk = Talk::mid();
        talk.says(0, evil, false);
        talk.says(evil.len(), b"the rest of the body", false);
        let at = evil.len() + 20;
        talk.answers(at);
        talk.says(at, honest, true);
        talk.answers(at + honest.len());
        let (collected, tally) = talk.end();
        assert!(collected.proxies.is_empty());
        assert_eq!(heads_of(&collected), [String::from_utf8_lossy(honest)]);
        assert_eq!(tally.requests, 1);
    }
}

#[test]
fn a_repetition_does_not_hide_that_the_other_end_has_spoken() {
    let mut talk = Talk::mid();
    talk.says(0, b"middle of a body", false);
    talk.answers(16);
    talk.server = talk.server.wrapping_add(50);
    talk.says(0, b"middle of a body", false);
    talk.says(16, b"GET / HTTP/1.1\r\n\r\n", false);
    assert_eq!(talk.end().0.heads.len(), 1);
}
