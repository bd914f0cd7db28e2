//! Hand-built captures go in; what the scan makes of them is held against what was put in.

use _core::capture::record::Direction;
use _core::capture::write::{Packet, PcapngWriter};
use _core::packets::Frames;
use _core::scan::{Summary, scan};
use arrow::array::{RecordBatch, cast::AsArray};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 9), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 1), 80);

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tcpwhy-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[derive(Clone, Copy)]
struct Segment<'a> {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
    seq: u32,
    ack: u32,
    ip_id: u16,
    payload: &'a [u8],
}

fn ethernet(segment: &Segment<'_>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let length = (40 + segment.payload.len()) as u16;
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend(segment.ip_id.to_be_bytes());
    frame.extend([0x40, 0, 64, 6, 0, 0]);
    frame.extend(segment.from.0.octets());
    frame.extend(segment.to.0.octets());
    frame.extend(segment.from.1.to_be_bytes());
    frame.extend(segment.to.1.to_be_bytes());
    frame.extend(segment.seq.to_be_bytes());
    frame.extend(segment.ack.to_be_bytes());
    let window: u16 = if segment.flags & RST != 0 { 0 } else { 512 };
    frame.extend([0x50, segment.flags]);
    frame.extend(window.to_be_bytes());
    frame.extend([0, 0, 0, 0]);
    frame.extend(segment.payload);
    frame
}

/// Writes (time, segment) pairs as a pcapng of one Ethernet interface.
fn capture(path: &Path, packets: &[(i64, Segment<'_>)]) {
    let mut writer = PcapngWriter::begin(File::create(path).unwrap()).unwrap();
    let interface = writer.interface(1, 0, Some("eth0"), None).unwrap();
    for (time_ns, segment) in packets {
        let data = ethernet(segment);
        writer
            .packet(&Packet {
                interface,
                time_ns: *time_ns,
                direction: Direction::Unknown,
                data: &data,
                original_length: data.len() as u32,
                comments: &[],
            })
            .unwrap();
    }
    writer.finish().unwrap();
}

fn up(flags: u8, seq: u32, ack: u32, ip_id: u16, payload: &[u8]) -> Segment<'_> {
    Segment {
        from: CLIENT,
        to: SERVER,
        flags,
        seq,
        ack,
        ip_id,
        payload,
    }
}

fn down(flags: u8, seq: u32, ack: u32, ip_id: u16, payload: &[u8]) -> Segment<'_> {
    Segment {
        from: SERVER,
        to: CLIENT,
        flags,
        seq,
        ack,
        ip_id,
        payload,
    }
}

/// Scans on two threads and on one, which must give the same to the byte.
fn index(paths: &[PathBuf], folder: &Path) -> (Summary, RecordBatch) {
    let mut go_on = |_| ControlFlow::Continue(());
    let beside = scan(paths, folder, 2, &mut go_on).unwrap();
    let tables = || ["flows.parquet", "frames.idx"].map(|name| std::fs::read(folder.join(name)).unwrap());
    let made = tables();
    let summary = scan(paths, folder, 1, &mut go_on).unwrap();
    assert!(made == tables(), "two threads found something else than one");
    assert_eq!(format!("{beside:?}"), format!("{summary:?}"));
    let file = File::open(folder.join("flows.parquet")).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    (summary, arrow::compute::concat_batches(&schema, &batches).unwrap())
}

fn u64_at(table: &RecordBatch, column: &str, row: usize) -> u64 {
    table
        .column_by_name(column)
        .unwrap()
        .as_primitive::<UInt64Type>()
        .value(row)
}

fn u32_at(table: &RecordBatch, column: &str, row: usize) -> u32 {
    table
        .column_by_name(column)
        .unwrap()
        .as_primitive::<UInt32Type>()
        .value(row)
}

fn chains(table: &RecordBatch, row: usize) -> Vec<u64> {
    let list = table.column_by_name("chains").unwrap().as_list::<i32>().value(row);
    list.as_primitive::<UInt64Type>().values().to_vec()
}

/// (file, frame) of each packet of a row, read again through the frame index.
fn frames(folder: &Path, paths: &[PathBuf], table: &RecordBatch, row: usize) -> Vec<(u32, u64)> {
    let frames = Frames::open(&folder.join("frames.idx"), paths).unwrap();
    let (batch, left_out) = frames.packets(&[chains(table, row)], 1_000_000).unwrap();
    assert_eq!(left_out, 0);
    (0..batch.num_rows())
        .map(|at| (u32_at(&batch, "file", at), u64_at(&batch, "frame", at)))
        .collect()
}

const MS: i64 = 1_000_000;
const START: i64 = 1_700_000_000_000_000_000;

fn exchange() -> Vec<(i64, Segment<'static>)> {
    vec![
        (START, up(SYN, 100, 0, 1, b"")),
        (START + MS, down(SYN | ACK, 900, 101, 0, b"")),
        (START + 2 * MS, up(ACK, 101, 901, 2, b"")),
        (START + 3 * MS, up(ACK, 101, 901, 3, b"GET / HTTP/1.1\r\n\r\n")),
        (START + 4 * MS, down(ACK, 901, 119, 7, b"HTTP/1.1 200 OK\r\n\r\n")),
        (START + 5 * MS, up(FIN | ACK, 119, 920, 4, b"")),
        (START + 6 * MS, down(FIN | ACK, 920, 120, 8, b"")),
        (START + 7 * MS, up(ACK, 120, 921, 5, b"")),
    ]
}

#[test]
fn a_connection_is_one_row_and_its_frames_are_found_again() {
    let folder = Folder::new("one-row");
    let path = folder.0.join("a.pcapng");
    capture(&path, &exchange());
    let paths = [path];
    let (summary, table) = index(&paths, &folder.0);
    assert_eq!((summary.flows, table.num_rows()), (1, 1));
    assert_eq!(summary.files[0].packets, 8);
    // The lower address is end a: the server here.
    assert_eq!((u64_at(&table, "packets_b", 0), u64_at(&table, "packets_a", 0)), (5, 3));
    assert_eq!((u64_at(&table, "bytes_b", 0), u64_at(&table, "bytes_a", 0)), (18, 19));
    assert_eq!((u32_at(&table, "isn_b", 0), u32_at(&table, "isn_a", 0)), (100, 900));
    assert_eq!(
        (u32_at(&table, "seq_end_b", 0), u32_at(&table, "ack_end_a", 0)),
        (120, 120)
    );
    assert_eq!(u64_at(&table, "copies", 0), 0);
    assert_eq!(
        frames(&folder.0, &paths, &table, 0),
        (1..=8).map(|frame| (0, frame)).collect::<Vec<_>>()
    );
}

#[test]
fn a_copy_has_the_same_ip_id_and_a_retransmission_another_one() {
    let folder = Folder::new("copies");
    let path = folder.0.join("a.pcapng");
    let data = up(ACK, 101, 901, 3, b"twelve bytes");
    let again = Segment { ip_id: 4, ..data };
    capture(
        &path,
        &[
            (START, data),
            (START + 20_000, data),
            (START + 250 * MS, again),
            (START + 250 * MS + 9_000, again),
        ],
    );
    let (_, table) = index(&[path], &folder.0);
    assert_eq!(u64_at(&table, "packets_b", 0), 2);
    assert_eq!(u64_at(&table, "copies", 0), 2);
    assert_eq!(u32_at(&table, "retransmissions_b", 0), 1);
    assert_eq!(u64_at(&table, "bytes_b", 0), 24);
}

#[test]
fn copies_are_found_however_many_packets_lie_between() {
    let folder = Folder::new("copies-of-a-burst");
    let path = folder.0.join("a.pcapng");
    let burst = |first_ns: i64| {
        (0..60).map(move |at: u16| {
            let segment = up(ACK, 101 + u32::from(at) * 4, 901, at + 1, b"part");
            (first_ns + i64::from(at), segment)
        })
    };
    let packets: Vec<_> = burst(START).chain(burst(START + 300 * MS)).collect();
    capture(&path, &packets);
    let (_, table) = index(&[path], &folder.0);
    assert_eq!(u64_at(&table, "copies", 0), 60);
    assert_eq!(u64_at(&table, "packets_b", 0), 60);
}

#[test]
fn equal_resets_in_a_burst_are_not_copies() {
    let folder = Folder::new("resets");
    let path = folder.0.join("a.pcapng");
    let reset = down(RST, 901, 0, 0, b"");
    capture(&path, &[(START, reset), (START + 3_000, reset), (START + 6_000, reset)]);
    let (_, table) = index(&[path], &folder.0);
    assert_eq!(u32_at(&table, "resets_a", 0), 3);
    assert_eq!(u64_at(&table, "copies", 0), 0);
}

#[test]
fn another_isn_is_another_incarnation_and_late_packets_find_the_old_one() {
    let folder = Folder::new("incarnations");
    let path = folder.0.join("a.pcapng");
    // Incident 3: SYN x, SYN z, the server's ACK of x+1, the client's RST x+1.
    let (x, z) = (5_000_u32, 900_000_000_u32);
    capture(
        &path,
        &[
            (START, up(SYN, x, 0, 1, b"")),
            (START + MS, down(SYN | ACK, 70, x + 1, 0, b"")),
            (START + 3_000 * MS, up(SYN, z, 0, 2, b"")),
            (START + 3_001 * MS, down(ACK, 71, x + 1, 9, b"")),
            (START + 3_002 * MS, up(RST, x + 1, 0, 0, b"")),
            (START + 3_900 * MS, up(SYN, z, 0, 3, b"")),
        ],
    );
    let paths = [path];
    let (_, table) = index(&paths, &folder.0);
    assert_eq!(table.num_rows(), 2);
    let numbers = |row| {
        frames(&folder.0, &paths, &table, row)
            .into_iter()
            .map(|(_, frame)| frame)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(0), vec![1, 2, 4, 5]);
    assert_eq!(numbers(1), vec![3, 6]);
    assert_eq!(u32_at(&table, "isn_b", 1), z);
}

#[test]
fn silence_does_not_split_a_flow() {
    let folder = Folder::new("silence");
    let path = folder.0.join("a.pcapng");
    let mut packets = exchange();
    packets.truncate(5);
    // Two hours later, long after the flow was written out, it goes on; another flow meanwhile keeps the clock going.
    for second in 0..200 {
        let other = Segment {
            from: (CLIENT.0, 50_000 + second),
            ..up(SYN, 1, 0, 1, b"")
        };
        packets.push((START + i64::from(second) * 36_000 * MS, other));
    }
    packets.push((START + 7_200_000 * MS, up(ACK, 119, 920, 40, b"late")));
    packets.sort_by_key(|(time_ns, _)| *time_ns);
    capture(&path, &packets);
    let paths = [path];
    let (_, table) = index(&paths, &folder.0);
    let ports = table
        .column_by_name("port_b")
        .unwrap()
        .as_primitive::<arrow::datatypes::UInt16Type>();
    let rows: Vec<usize> = (0..table.num_rows())
        .filter(|row| ports.value(*row) == CLIENT.1)
        .collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(u64_at(&table, "bytes_b", rows[0]), 22);
    assert_eq!(chains(&table, rows[0]).len(), 2);
    assert_eq!(frames(&folder.0, &paths, &table, rows[0]).len(), 6);
}

#[test]
fn acknowledged_bytes_that_were_never_seen_are_the_captures_loss() {
    let folder = Folder::new("unseen");
    let path = folder.0.join("a.pcapng");
    let mut packets = exchange();
    packets.remove(3);
    capture(&path, &packets);
    let (_, table) = index(&[path], &folder.0);
    assert_eq!(u64_at(&table, "unseen_acked_bytes_b", 0), 18);
    assert_eq!(u64_at(&table, "unseen_acked_bytes_a", 0), 0);
}

#[test]
fn files_side_by_side_are_merged_by_time() {
    let folder = Folder::new("parallel");
    let (one, two) = (folder.0.join("eth0.pcapng"), folder.0.join("eth1.pcapng"));
    let all = exchange();
    capture(&one, &all.iter().copied().step_by(2).collect::<Vec<_>>());
    capture(&two, &all.iter().copied().skip(1).step_by(2).collect::<Vec<_>>());
    let paths = [two, one];
    let (_, table) = index(&paths, &folder.0);
    assert_eq!(table.num_rows(), 1);
    let expected: Vec<(u32, u64)> = (0..8).map(|at| (u32::from(at % 2 == 0), at / 2 + 1)).collect();
    assert_eq!(frames(&folder.0, &paths, &table, 0), expected);
    assert_eq!(u64_at(&table, "unseen_acked_bytes_b", 0), 0);
    let first = table.column_by_name("first_ns").unwrap().as_primitive::<Int64Type>();
    assert_eq!(first.value(0), START);
}

#[test]
fn a_stopped_scan_says_so_and_a_changed_index_is_refused() {
    let folder = Folder::new("stopped");
    let path = folder.0.join("a.pcapng");
    let packets: Vec<_> = (0..70_000)
        .map(|at| (START + at * 1_000, up(ACK, 101 + at as u32, 1, at as u16, b"x")))
        .collect();
    capture(&path, &packets);
    let paths = [path];
    for threads in [1, 2] {
        let error = scan(&paths, &folder.0, threads, &mut |_| ControlFlow::Break(())).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }
    index(&paths, &folder.0);
    let idx = folder.0.join("frames.idx");
    let mut bytes = std::fs::read(&idx).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&idx, &bytes).unwrap();
    assert!(Frames::open(&idx, &paths).is_err());
}
