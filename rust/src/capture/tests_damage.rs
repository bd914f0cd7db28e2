//! Captures cut, flipped and spliced: whatever the damage, reading ends, keeps what lies before it and says what is missing.

use super::tests_formats::{PACKED, pack, pcap, read, rows, sections};
use super::{Compression, Reader};
use std::io::Cursor;

/// A deterministic stream of numbers (xorshift64, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn originals() -> Vec<Vec<u8>> {
    vec![
        pcap(0xa1b2_c3d4, false, 16, 12),
        pcap(0xa1b2_3c4d, true, 16, 12),
        pcap(0xa1b2_cd34, true, 24, 12),
        sections(),
    ]
}

/// Reads to the end; the checks that hold for any input.
fn survive(bytes: &[u8]) -> Option<Reader> {
    let mut reader = Reader::from_read(Box::new(Cursor::new(bytes.to_vec()))).ok()?;
    let mut last = None;
    while let Some(record) = reader.next() {
        assert!(last.is_none_or(|last| record.offset > last), "positions rise");
        last = Some(record.offset);
    }
    assert!(reader.next().is_none(), "the end stays the end");
    for loss in reader.losses() {
        assert!(!loss.what.is_empty());
    }
    Some(reader)
}

#[test]
fn a_file_cut_at_any_byte_keeps_all_whole_records() {
    for bytes in originals() {
        let (all, _) = read(&bytes);
        for length in 0..bytes.len() {
            let Ok(mut reader) = Reader::from_read(Box::new(Cursor::new(bytes[..length].to_vec()))) else {
                assert!(length < 28, "an error only inside the file header");
                continue;
            };
            let read = rows(&mut reader);
            let ends = all.iter().skip(1).map(|row| row.1 as usize).chain([usize::MAX]);
            let whole = ends.take_while(|end| *end <= length).count();
            assert!(read.len() >= whole && read == all[..read.len()], "{length}");
            assert!(
                reader.losses().iter().all(|loss| loss.cut_off),
                "{length}: {:?}",
                reader.losses()
            );
            let whole_file = Reader::from_read(Box::new(Cursor::new(bytes.clone())))
                .map(|mut whole| rows(&mut whole))
                .expect("a capture");
            assert!(read.len() <= whole_file.len());
        }
    }
}

#[test]
fn one_flipped_byte_costs_few_records_and_never_the_rest() {
    for bytes in originals() {
        let (all, _) = read(&bytes);
        let pcapng = bytes[0] == 0x0a;
        let from = if pcapng { 28 } else { 24 };
        for at in from..bytes.len() {
            for flip in [0xff, 0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let reader = survive(&damaged).expect("its header is whole");
                let (rows, _) = read(&damaged);
                // What lies before the record that was damaged is the same.
                let before = all.iter().filter(|row| row.1 as usize + 80 + row.6.len() <= at).count();
                assert!(rows.len() >= before && rows[..before] == all[..before], "{at} {flip}");
                if !pcapng {
                    let lost = all.len().saturating_sub(rows.len());
                    // A length that is too large by 256 swallows the four short records behind it.
                    assert!(lost <= 5, "{at} {flip}: {lost} lost, {:?}", reader.losses());
                    assert!(
                        lost == 0 || !reader.losses().is_empty(),
                        "{at} {flip}: {lost} lost without a word"
                    );
                }
            }
        }
    }
}

#[test]
fn reading_resumes_behind_damage_and_says_where() {
    let bytes = pcap(0xa1b2_c3d4, true, 16, 200);
    let (all, _) = read(&bytes);
    let damaged_at = all[50].1 as usize;
    let resumed_at = all[53].1 as usize;
    let mut damaged = bytes.clone();
    damaged[damaged_at..resumed_at].fill(0xee);
    let (rows, reader) = read(&damaged);
    assert_eq!(rows.len(), 197);
    let times = |rows: &[super::tests_formats::Row]| rows.iter().map(|row| row.2).collect::<Vec<_>>();
    assert_eq!(times(&rows[50..]), times(&all[53..]));
    let [loss] = reader.losses() else {
        panic!("one loss, not {:?}", reader.losses())
    };
    assert_eq!((loss.offset, loss.cut_off), (damaged_at as u64, false));
    let passed = resumed_at - damaged_at;
    assert_eq!(
        loss.what,
        format!(
            "read a record length of 4008636142, expected at most 262144; {passed} bytes passed over, reading resumes at {resumed_at}"
        )
    );
    // The same with bytes missing altogether, and with nothing behind.
    let (rows, reader) = read(&[&bytes[..damaged_at + 9], &bytes[resumed_at..]].concat());
    assert!(rows.len() >= 196 && !reader.losses().is_empty());
    let (rows, reader) = read(&[&bytes[..damaged_at], &[0xee; 5_000]].concat());
    assert_eq!(rows.len(), 50);
    assert!(
        reader.losses()[0]
            .what
            .ends_with("no further record in the 5000 bytes that follow"),
        "{:?}",
        reader.losses()
    );

    let (rows, reader) = read(&[&bytes[..], &[0; 70_000]].concat());
    assert!(rows == all);
    assert!(
        reader.losses()[0].what.starts_with("read a record header of zeros"),
        "{:?}",
        reader.losses()
    );

    let bytes = sections();
    let (all, _) = read(&bytes);
    let mut damaged = bytes.clone();
    damaged[all[1].1 as usize + 4] ^= 0x40;
    let (rows, reader) = read(&damaged);
    assert_eq!(
        rows.iter().map(|row| row.6.as_slice()).collect::<Vec<_>>(),
        [b"first".as_slice(), b"simple", b"third", b"old"]
    );
    assert_eq!(reader.losses().len(), 1);
    assert_eq!(reader.losses()[0].offset, all[1].1);
}

#[test]
fn a_compressed_stream_cut_or_damaged_gives_what_it_held() {
    let bytes = pcap(0xa1b2_c3d4, true, 16, 3_000);
    let (all, _) = read(&bytes);
    for compression in PACKED {
        let packed = [
            pack(compression, &bytes[..bytes.len() / 2]),
            pack(compression, &bytes[bytes.len() / 2..]),
        ]
        .concat();
        for part in [1, 3, 5, 7, 9] {
            let (rows, reader) = read(&packed[..packed.len() * (part + 90) / 100]);
            assert!(
                rows.len() > 1_400 && rows.len() < 3_000,
                "{compression:?} {part}: {}",
                rows.len()
            );
            assert!(rows == all[..rows.len()]);
            let [loss] = reader.losses() else {
                panic!("one loss, not {:?}", reader.losses())
            };
            assert!(loss.what.contains("ends inside") && !loss.cut_off, "{loss:?}");
            let mut damaged = packed.clone();
            let at = packed.len() * (part + 90) / 100;
            damaged[at..at + 4].fill(0xff);
            if let Some(reader) = survive(&damaged) {
                // Written here without a checksum: what a byte was, nobody knows.
                let unchecked = matches!(compression, Compression::Zstd | Compression::Lz4);
                assert!(unchecked || !reader.losses().is_empty(), "{compression:?}");
            }
        }
        for length in 0..packed.len().min(600) {
            survive(&packed[..length]);
        }
    }
}

#[test]
fn a_claim_of_a_large_window_is_refused_in_words() {
    // Magic, descriptor with a window, window of 2^41 bytes, a raw block of nothing.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
    let error = Reader::from_read(Box::new(Cursor::new(frame.to_vec()))).expect_err("too large");
    assert_eq!(
        error.what,
        "the zstd stream needs a window larger than expected, at most 128 MiB"
    );
}

#[test]
fn random_splices_never_stop_the_reader() {
    let mut originals = originals();
    originals.push(pcap(0xa1b2_c3d4, false, 20, 12));
    let packed: Vec<Vec<u8>> = originals
        .iter()
        .flat_map(|bytes| PACKED.map(|compression| pack(compression, bytes)))
        .collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut opened = 0;
    for round in 0..20_000 {
        let pool = if round % 8 == 0 { &packed } else { &originals };
        let mut bytes = pool[numbers.below(pool.len())].clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(5) {
                0 => bytes[at] = numbers.next() as u8,
                1 => bytes.truncate(at.max(8)),
                2 => {
                    let other = &pool[numbers.below(pool.len())];
                    let from = numbers.below(other.len());
                    let to = from + numbers.below(other.len() - from);
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
                3 => {
                    let to = at + numbers.below(bytes.len() - at).min(40);
                    bytes.drain(at..to);
                }
                _ => {
                    // Numbers that lengths are made of.
                    let value = [0, u32::MAX, 0x7fff_ffff, 262_144, 16 << 20, 12, 1][numbers.below(7)];
                    let field = if round % 2 == 0 {
                        value.to_be_bytes()
                    } else {
                        value.to_le_bytes()
                    };
                    let at = at & !3;
                    if let Some(slot) = bytes.get_mut(at..at + 4) {
                        slot.copy_from_slice(&field);
                    }
                }
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        opened += u32::from(survive(&bytes).is_some());
    }
    assert!(opened > 10_000, "most inputs still begin as captures: {opened}");
}

#[test]
fn losses_are_bounded() {
    let one = pcap(0xa1b2_c3d4, false, 16, 4);
    let records = &one[24..];
    let mut bytes = one[..24].to_vec();
    for _ in 0..300 {
        bytes.extend_from_slice(records);
        bytes.extend_from_slice(&[0xff; 40]);
    }
    let (rows, reader) = read(&bytes);
    assert_eq!(rows.len(), 1_200);
    assert_eq!((reader.losses().len(), reader.losses_more()), (100, 200));
}
