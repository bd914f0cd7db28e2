//! Captures built byte by byte, in every variant, byte order and compression, must give back what was put in.

use super::pcapng::{EARLIEST_NS, LATEST_NS, ticks_per_second, time_ns};
use super::record::Direction;
use super::write::{Packet, PcapngWriter};
use super::{Compression, RandomReader, Reader};
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// (frame, offset, time, interface, link type, direction, data, original length).
pub type Row = (u64, u64, i64, u32, u16, Direction, Vec<u8>, u32);

pub fn rows(reader: &mut Reader) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(record) = reader.next() {
        rows.push(row(&record));
    }
    rows
}

fn row(r: &super::record::Record<'_>) -> Row {
    (
        r.frame,
        r.offset,
        r.time_ns,
        r.interface,
        r.link_type,
        r.direction,
        r.data.to_vec(),
        r.original_length,
    )
}

pub fn read(bytes: &[u8]) -> (Vec<Row>, Reader) {
    let mut reader = Reader::from_read(Box::new(Cursor::new(bytes.to_vec()))).expect("a capture");
    (rows(&mut reader), reader)
}

pub fn number(out: &mut Vec<u8>, value: u32, big_endian: bool) {
    out.extend_from_slice(&if big_endian {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    });
}

pub fn half(out: &mut Vec<u8>, value: u16, big_endian: bool) {
    out.extend_from_slice(&if big_endian {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    });
}

/// A pcap file of `count` packets of growing length.
pub fn pcap(magic: u32, big_endian: bool, header: usize, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, magic, big_endian);
    half(&mut out, 2, big_endian);
    half(&mut out, 4, big_endian);
    // Link type with a frame check sequence of four bytes stated above it.
    for field in [0, 0, 65_535, 0x4400_0001] {
        number(&mut out, field, big_endian);
    }
    if magic == 0x1c00_01ac || magic == 0x1c00_01ab {
        number(&mut out, 0, big_endian);
    }
    for at in 0..count {
        let length = 60 + at;
        for field in [4_000_000_000 + at, 123_456 + at, length, length + 7] {
            number(&mut out, field, big_endian);
        }
        let mut more = vec![0; header - 16];
        if let Some(kind) = more.get_mut(6) {
            *kind = 4;
        }
        out.extend_from_slice(&more);
        out.extend((0..length).map(|byte| (byte * 7 + at) as u8 | 0x80));
    }
    out
}

/// A pcapng block around a body.
pub fn block(kind: u32, body: &[u8], big_endian: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let length = body.len().next_multiple_of(4);
    number(&mut out, kind, big_endian);
    number(&mut out, length as u32 + 12, big_endian);
    out.extend_from_slice(body);
    out.resize(8 + length, 0);
    number(&mut out, length as u32 + 12, big_endian);
    out
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8], big_endian: bool) {
    half(out, code, big_endian);
    half(out, value.len() as u16, big_endian);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn section(big_endian: bool) -> Vec<u8> {
    let mut body = Vec::new();
    number(&mut body, 0x1a2b_3c4d, big_endian);
    half(&mut body, 1, big_endian);
    half(&mut body, 0, big_endian);
    body.extend_from_slice(&[0xff; 8]);
    block(0x0a0d_0d0a, &body, big_endian)
}

fn interface(link_type: u16, resolution: u8, offset: i64, name: &str, big_endian: bool) -> Vec<u8> {
    let mut body = Vec::new();
    half(&mut body, link_type, big_endian);
    half(&mut body, 0, big_endian);
    number(&mut body, 100, big_endian);
    option(&mut body, 2, name.as_bytes(), big_endian);
    option(&mut body, 9, &[resolution], big_endian);
    option(
        &mut body,
        14,
        &if big_endian {
            offset.to_be_bytes()
        } else {
            offset.to_le_bytes()
        },
        big_endian,
    );
    option(&mut body, 1, &[0xff, 0xfe], big_endian);
    half(&mut body, 0, big_endian);
    half(&mut body, 0, big_endian);
    block(1, &body, big_endian)
}

fn enhanced(interface: u32, ticks: u64, data: &[u8], flags: u32, big_endian: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [
        interface,
        (ticks >> 32) as u32,
        ticks as u32,
        data.len() as u32,
        data.len() as u32 + 1,
    ] {
        number(&mut body, field, big_endian);
    }
    body.extend_from_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
    let mut value = Vec::new();
    number(&mut value, flags, big_endian);
    option(&mut body, 2, &value, big_endian);
    option(&mut body, 1, b"a remark", big_endian);
    block(6, &body, big_endian)
}

/// Two sections of different byte order, all packet blocks, statistics, a block of unknown type.
pub fn sections() -> Vec<u8> {
    let mut out = section(false);
    out.extend(interface(1, 6, 0, "eth0", false));
    out.extend(interface(113, 9, 10, "any", false));
    out.extend(enhanced(0, 1_700_000_000_000_001, b"first", 1, false));
    out.extend(block(0x7777, b"unknown", false));
    out.extend(enhanced(1, 1_700_000_000_000_000_002, b"second!", 2, false));
    let mut simple = Vec::new();
    number(&mut simple, 6, false);
    simple.extend_from_slice(b"simple");
    out.extend(block(3, &simple, false));
    out.extend(section(true));
    out.extend(interface(276, 0x80 | 20, 0, "wlan0", true));
    out.extend(enhanced(0, (1_700_000_000 << 20) + (1 << 19), b"third", 0, true));
    let mut obsolete = Vec::new();
    half(&mut obsolete, 0, true);
    half(&mut obsolete, 0xffff, true);
    let ticks = 1_700_000_001_u64 << 20;
    for field in [(ticks >> 32) as u32, ticks as u32, 3, 3] {
        number(&mut obsolete, field, true);
    }
    obsolete.extend_from_slice(b"old\0");
    out.extend(block(2, &obsolete, true));
    let mut statistics = Vec::new();
    for field in [0, 0, 0] {
        number(&mut statistics, field, true);
    }
    option(&mut statistics, 2, &ticks.to_be_bytes(), true);
    option(&mut statistics, 4, &77_u64.to_be_bytes(), true);
    option(&mut statistics, 5, &3_u64.to_be_bytes(), true);
    option(&mut statistics, 7, &2_u64.to_be_bytes(), true);
    out.extend(block(5, &statistics, true));
    out
}

pub fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).and_then(|()| out.finish()).expect("gzip")
        }
        Compression::Zstd => zstd::stream::encode_all(bytes, 1).expect("zstd"),
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(bytes).expect("lz4");
            out.finish().expect("lz4")
        }
        Compression::Xz => liblzma::encode_all(bytes, 1).expect("xz"),
    }
}

pub const PACKED: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Xz];

pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tcpwhy-capture-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}

#[test]
fn every_pcap_variant_is_read() {
    let variants = [
        (0xa1b2_c3d4, 16, 1_000),
        (0xa1b2_3c4d, 16, 1),
        (0xa1b2_cd34, 24, 1_000),
        (0xa1b2_cd34, 28, 1_000),
        (0x1c00_01ac, 16, 1),
        (0x1c00_01ab, 16, 1_000),
        (0xa1b2_c3d4, 20, 1_000),
        (0xa1b2_c3d4, 24, 1_000),
    ];
    for (magic, header, unit) in variants {
        for big_endian in [false, true] {
            let (rows, reader) = read(&pcap(magic, big_endian, header, 10));
            let what = format!("{magic:x} {header} {big_endian}");
            assert_eq!(rows.len(), 10, "{what}");
            assert!(reader.losses().is_empty(), "{what}: {:?}", reader.losses());
            let direction = if header >= 24 {
                Direction::Out
            } else {
                Direction::Unknown
            };
            for (at, row) in (0_u32..).zip(&rows) {
                assert_eq!(
                    row.2,
                    i64::from(4_000_000_000 + at) * 1_000_000_000 + i64::from(123_456 + at) * unit,
                    "{what}"
                );
                assert_eq!(
                    (row.0, row.4, row.5, row.7),
                    (u64::from(at) + 1, 1, direction, 67 + at),
                    "{what}"
                );
                assert_eq!(
                    row.6,
                    (0..60 + at)
                        .map(|byte| (byte * 7 + at) as u8 | 0x80)
                        .collect::<Vec<_>>(),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn files_without_packets_and_no_captures_at_all_are_told_apart() {
    let (rows, reader) = read(&pcap(0xa1b2_c3d4, true, 16, 0));
    assert!(rows.is_empty() && reader.losses().is_empty());
    let error = |bytes: &[u8]| {
        Reader::from_read(Box::new(Cursor::new(bytes.to_vec())))
            .expect_err("no capture")
            .what
    };
    assert_eq!(error(b""), "empty file");
    assert!(error(b"hello world").starts_with("read `0x68656c6c`, expected `0xa1b2c3d4` (pcap)"));
    assert_eq!(
        error(&pcap(0xa1b2_c3d4, true, 16, 0)[..20]),
        "the file ends inside its header: read 20 bytes, expected 24 (pcap)"
    );
    let mut other_magic = section(false);
    other_magic[8] = 9;
    assert_eq!(
        error(&other_magic),
        "read `0x093c2b1a`, expected `0x1a2b3c4d` (pcapng byte-order magic)"
    );
    for compression in PACKED {
        assert_eq!(
            error(&pack(compression, b"")),
            format!("empty file ({} of nothing)", compression.name())
        );
    }
}

#[test]
fn sections_of_both_byte_orders_are_read() {
    let (rows, reader) = read(&sections());
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.2, row.3, row.4, row.5, row.6.as_slice(), row.7))
        .collect();
    let expected: [(_, _, _, _, &[u8], _); 5] = [
        (1_700_000_000_000_001_000, 0, 1, Direction::In, b"first", 6),
        (1_700_000_010_000_000_002, 1, 113, Direction::Out, b"second!", 8),
        (1_700_000_010_000_000_002, 0, 1, Direction::Unknown, b"simple", 6),
        (1_700_000_000_500_000_000, 2, 276, Direction::Unknown, b"third", 6),
        (1_700_000_001_000_000_000, 2, 276, Direction::Unknown, b"old", 3),
    ];
    assert_eq!(seen, expected);
    assert!(reader.losses().is_empty(), "{:?}", reader.losses());
    assert_eq!(reader.comments(), 6);
    let names: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|interface| interface.name.as_deref())
        .collect();
    assert_eq!(names, [Some("eth0"), Some("any"), Some("wlan0")]);
    let last = &reader.interfaces()[2];
    assert_eq!(
        (last.received, last.dropped, last.start_ns, last.end_ns),
        (Some(77), Some(5), Some(1_700_000_001_000_000_000), None)
    );
    assert_eq!(
        reader
            .format()
            .sections
            .iter()
            .map(|section| (section.big_endian, section.interface_base))
            .collect::<Vec<_>>(),
        [(false, 0), (true, 2)]
    );
}

#[test]
fn every_time_resolution_is_counted_without_overflow() {
    for resolution in 0..=255 {
        let ticks = ticks_per_second(resolution);
        assert_eq!(
            ticks.is_none(),
            matches!(resolution, 20..=127 | 192..=255),
            "{resolution}"
        );
        for count in [0, 1, u64::MAX] {
            for offset in [i64::MIN, -1, 0, i64::MAX] {
                let time = time_ns(count, ticks.unwrap_or(u64::MAX), offset);
                if count == 0 && offset == -1 {
                    assert_eq!(time, -1_000_000_000);
                }
            }
        }
    }
    assert_eq!(time_ns(u64::MAX, 1, 0), LATEST_NS);
    assert_eq!(time_ns(0, 1, i64::MIN), EARLIEST_NS);
    assert!(
        LATEST_NS
            .checked_add(LATEST_NS - EARLIEST_NS + 600_000_000_000)
            .is_some()
    );
    assert_eq!(time_ns(3, 2, 5), 6_500_000_000);
}

#[test]
fn all_compressions_in_several_parts_give_the_same() {
    for bytes in [pcap(0xa1b2_c3d4, false, 16, 500), sections()] {
        let (plain, _) = read(&bytes);
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        for compression in PACKED {
            let packed = [pack(compression, head), pack(compression, b""), pack(compression, tail)].concat();
            let (rows, reader) = read(&packed);
            assert!(rows == plain, "{compression:?}");
            assert!(reader.losses().is_empty(), "{compression:?}: {:?}", reader.losses());
            assert_eq!(reader.bytes_read(), packed.len() as u64);
            let (rows, reader) = read(&[packed, b"\x07garbage".to_vec()].concat());
            assert!(
                rows == plain && reader.losses().len() == 1,
                "{compression:?}: {:?}",
                reader.losses()
            );
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut writer = PcapngWriter::begin(Vec::new()).expect("a section");
    let first = writer
        .interface(1, 0, Some("eth0"), Some("uplink"))
        .expect("an interface");
    let second = writer.interface(276, 96, None, None).expect("an interface");
    let long = "ä".repeat(40_000);
    let packets = [
        Packet {
            interface: first,
            time_ns: 1,
            direction: Direction::In,
            data: b"abc",
            original_length: 9,
            comments: &["one", &long],
        },
        Packet {
            interface: second,
            time_ns: LATEST_NS,
            direction: Direction::Unknown,
            data: b"",
            original_length: 0,
            comments: &[],
        },
        Packet {
            interface: first,
            time_ns: 7,
            direction: Direction::Out,
            data: b"abcd",
            original_length: 4,
            comments: &[],
        },
    ];
    for packet in &packets {
        writer.packet(packet).expect("a packet");
    }
    assert!(
        writer
            .packet(&Packet {
                time_ns: -1,
                ..packets[0]
            })
            .is_err()
    );
    assert!(
        writer
            .packet(&Packet {
                interface: 2,
                ..packets[0]
            })
            .is_err()
    );
    let (rows, reader) = read(&writer.finish().expect("the output"));
    assert_eq!(rows.len(), 3);
    for (row, packet) in rows.iter().zip(&packets) {
        let expected = (
            packet.time_ns,
            packet.interface,
            packet.direction,
            packet.data,
            packet.original_length,
        );
        assert_eq!((row.2, row.3, row.5, row.6.as_slice(), row.7), expected);
    }
    assert_eq!((reader.comments(), reader.losses().len()), (2, 0));
    assert_eq!(reader.interfaces()[0].description.as_deref(), Some("uplink"));
}

#[test]
fn records_are_read_again_by_position() {
    let mut damaged = pcap(0xa1b2_c3d4, true, 16, 3_000);
    damaged[100_000..100_050].fill(0xff);
    let mut many = sections()[..sections().len() - 8].to_vec();
    many.extend(sections());
    for at in 0..2_000_u32 {
        many.extend(enhanced(
            0,
            (1_700_000_000 << 20) + u64::from(at),
            &at.to_be_bytes(),
            at,
            true,
        ));
    }
    // Without a simple packet block, so that positions are used.
    let mut timed = section(true);
    timed.extend(interface(1, 9, 0, "a", true));
    for at in 0..2_000_u32 {
        if at % 300 == 0 {
            timed.extend(section(at % 600 == 0));
            timed.extend(interface(1, if at % 600 == 0 { 9 } else { 6 }, 0, "b", at % 600 == 0));
        }
        timed.extend(enhanced(
            0,
            1_000_000 + u64::from(at),
            &at.to_be_bytes(),
            at,
            at % 600 < 300,
        ));
    }
    let plain = [pcap(0xa1b2_cd34, false, 24, 3_000), damaged, many, timed];
    for (number, bytes) in plain.iter().enumerate() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let path = file(
                &format!("again-{number}-{}", compression.name()),
                &pack(compression, bytes),
            );
            let mut first = Reader::open(&path).expect("a capture");
            let all = rows(&mut first);
            let mut again =
                RandomReader::open(&path, first.format(), first.interfaces().to_vec()).expect("the same capture");
            let mut wanted: Vec<usize> = (0..all.len()).step_by(7).collect();
            wanted.extend([all.len() - 1, 0, 0, 1, 63, 64, 65, 1_000, 999]);
            for at in wanted {
                let checkpoint = &all[at - at % 64];
                let record = again
                    .read_frame(checkpoint.1, checkpoint.0, all[at].0)
                    .expect("the frame");
                assert_eq!(row(&record), all[at], "{number} {compression:?}");
                if compression == Compression::None {
                    let record = again.read_at(all[at].1, all[at].0).expect("the record");
                    assert_eq!(row(&record), all[at], "{number} {compression:?}");
                }
            }
            let mut walked = Vec::new();
            let from = &all[128];
            again
                .walk_from(from.1, from.0, &mut |record| {
                    walked.push(row(record));
                    if walked.len() == 300 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
                .expect("a walk");
            assert!(walked == all[128..428]);
            assert!(again.read_frame(from.1, from.0, 1_000_000).is_err());
            std::fs::remove_file(path).expect("the temporary file");
        }
    }
}
