//! Rows and sketches go in, their properties are checked: bytes read back are the row, merging does not mind how it is grouped.

use super::row::{Half, Row, SKETCH, Sketch, Tuple, before};
use super::table::merge_parts;
use crate::columns::Time;
use crate::decode::packet::Address;

fn row(first_ns: i64, seq: u32) -> Row {
    let mut row = Row {
        tuple: Tuple::of((Address::v4([10, 0, 0, 1]), 80), (Address::v4([10, 0, 0, 2]), 4000)).0,
        ..Row::default()
    };
    row.a.packets = 1;
    row.a.bytes = 10;
    row.a.seq_first = Some(seq);
    row.a.seq_end = Some(seq.wrapping_add(10));
    row.shared.first_ns = Time(first_ns);
    row.shared.last_ns = Time(first_ns + 1);
    row.timestamp_anchors.add(u64::from(seq));
    row.chains.push(first_ns as u64);
    row
}

#[test]
fn a_row_reads_back_what_was_put() {
    let mut original = row(5, u32::MAX - 3);
    original.b.isn = Some(7);
    original.b.reset_stateless = true;
    original.shared.icmp_errors = 3;
    let mut bytes = Vec::new();
    original.put(&mut bytes);
    assert_eq!(Row::get(&mut bytes.as_slice()), Some(original));
    for end in 0..bytes.len() {
        assert_eq!(
            Row::get(&mut &bytes[..end]),
            None,
            "a row cut at {end} must not be read"
        );
    }
}

#[test]
fn parts_merge_alike_however_they_are_grouped() {
    let parts = [row(1, 100), row(2, 110), row(3, 120)];
    let mut left = parts[0].clone();
    left.merge(&parts[1]);
    left.merge(&parts[2]);
    let mut tail = parts[1].clone();
    tail.merge(&parts[2]);
    let mut right = parts[0].clone();
    right.merge(&tail);
    assert_eq!(left, right);
    assert_eq!(left.a.seq_end, Some(130));
    assert_eq!(
        merge_parts([2, 0, 1].map(|at: usize| Box::new(parts[at].clone())).into()),
        vec![Box::new(left)]
    );
}

#[test]
fn parts_with_other_numbers_stay_apart() {
    let mut other = row(9, 0x9000_0000);
    other.a.isn = Some(0x8fff_ffff);
    let mut first = row(1, 100);
    first.a.isn = Some(99);
    assert_eq!(merge_parts([first, other].map(Box::new).into()).len(), 2);
}

#[test]
fn serial_numbers_wrap() {
    assert!(before(u32::MAX, 0));
    assert!(!before(0, u32::MAX));
    let mut half = Half {
        seq_end: Some(u32::MAX - 1),
        ..Half::default()
    };
    half.merge(&Half {
        seq_end: Some(4),
        ..Half::default()
    });
    assert_eq!(half.seq_end, Some(4));
}

#[test]
fn a_sketch_keeps_the_smallest_whatever_the_order() {
    let values: Vec<u64> = (0..50).map(crate::hash::mix).collect();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let mut forward = Sketch::default();
    let mut backward = Sketch::default();
    for value in &values {
        forward.add(*value);
        forward.add(*value);
    }
    for value in values.iter().rev() {
        backward.add(*value);
    }
    assert_eq!(forward, backward);
    assert_eq!(forward.values(), &sorted[..SKETCH]);
}
