//! Rows of flows go in as they end, in any order; the flow table comes out as Parquet, parts of one flow merged, sorted by time.

#![expect(
    clippy::vec_box,
    reason = "rows are long, and sorted twice: what moves must be short"
)]

use super::row::{Half, Row, Shared};
use super::watch::RowSink;
use crate::decode::packet::Address;
use arrow::array::{
    ArrayRef, BooleanBuilder, ListBuilder, RecordBatch, StringBuilder, UInt16Array, UInt32Array, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows held in memory before they are written to partitions on disk.
const HELD: usize = 20_000;
/// Partitions by tuple: a tuple's parts meet in one, and one of ten million flows still fits in memory.
const PARTITIONS: usize = 64;
/// Rows of a partition read at once.
const SLICE: usize = 20_000;
/// Rows of a tuple that a later part is compared with.
const LOOKED_BACK: usize = 3;
/// Rows of one row group.
const GROUP: usize = 65_536;

/// Takes rows in the order of the table, and the number of the first.
pub type TakeRows<'a> = dyn FnMut(u64, &[Box<Row>]) -> io::Result<()> + 'a;

/// Takes rows, spills them where they are many, and merges the parts of each flow at the end.
pub struct RowStore {
    held: Vec<Box<Row>>,
    folder: PathBuf,
    partitions: Vec<(PathBuf, BufWriter<File>)>,
}

impl RowSink for RowStore {
    fn row(&mut self, row: Row) -> io::Result<()> {
        self.held.push(Box::new(row));
        if self.held.len() >= HELD {
            self.spill()?;
        }
        Ok(())
    }
}

impl RowStore {
    /// `folder` is where spill files go, should any be needed.
    pub fn new(folder: &Path) -> Self {
        RowStore {
            held: Vec::new(),
            folder: folder.to_owned(),
            partitions: Vec::new(),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.partitions.is_empty() {
            for number in 0..PARTITIONS {
                let path = self.folder.join(format!("flows-{number}.spill"));
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)?;
                self.partitions.push((path, BufWriter::with_capacity(32 * 1024, file)));
            }
        }
        let mut bytes = Vec::new();
        for row in self.held.drain(..) {
            bytes.clear();
            row.put(&mut bytes);
            let number = (row.tuple.hash64() >> 32) as usize % PARTITIONS;
            if let Some((_, writer)) = self.partitions.get_mut(number) {
                writer.write_all(&(bytes.len() as u32).to_le_bytes())?;
                writer.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Merges what belongs together and writes the table; how many rows it has.
    pub fn write(self, path: &Path) -> io::Result<u64> {
        let schema = schema();
        let properties = properties(&schema);
        let file = File::create(path)?;
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(io::Error::other)?;
        let count = self.drain(&mut |first, rows| {
            for (number, group) in rows.chunks(GROUP).enumerate() {
                let batch = batch(&schema, group, first + (number * GROUP) as u64)?;
                writer.write(&batch).map_err(io::Error::other)?;
            }
            Ok(())
        })?;
        let file = writer.into_inner().map_err(io::Error::other)?;
        file.sync_data()?;
        Ok(count)
    }

    /// Merges what belongs together and hands the rows on in the order of the table, with the number of the first; how many there were.
    pub fn drain(mut self, take: &mut TakeRows<'_>) -> io::Result<u64> {
        let mut count = 0_u64;
        let mut hand_on = |rows: Vec<Box<Row>>| {
            let rows = merge_parts(rows);
            take(count, &rows)?;
            count += rows.len() as u64;
            io::Result::Ok(())
        };
        if self.partitions.is_empty() {
            hand_on(std::mem::take(&mut self.held))?;
        } else {
            self.spill()?;
            for (path, buffered) in std::mem::take(&mut self.partitions) {
                let mut file = buffered.into_inner().map_err(|error| error.into_error())?;
                file.seek(SeekFrom::Start(0))?;
                std::fs::remove_file(&path)?;
                let mut input = BufReader::new(file);
                let mut rows = Vec::new();
                while read_spill(&mut input, &mut rows)? {
                    // More of the same flows may follow: the last rows of each tuple wait for it.
                    let (done, waiting) = settled(rows);
                    hand_on(done)?;
                    rows = waiting;
                }
                hand_on(rows)?;
            }
        }
        Ok(count)
    }
}

impl Drop for RowStore {
    fn drop(&mut self) {
        // Spill files left over where the scan was stopped; one that is gone already is no loss.
        for (path, _) in &self.partitions {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Appends rows from a spill file until `SLICE` more are held; false at its end.
fn read_spill(input: &mut impl Read, rows: &mut Vec<Box<Row>>) -> io::Result<bool> {
    let broken = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a spill file was changed while it was in use",
        )
    };
    let mut length = [0_u8; 4];
    let mut bytes = Vec::new();
    for _ in 0..SLICE {
        match input.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        bytes.clear();
        let wanted = u64::from(u32::from_le_bytes(length));
        if input.take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
            return Err(broken());
        }
        rows.push(Box::new(Row::get(&mut bytes.as_slice()).ok_or_else(broken)?));
    }
    Ok(true)
}

/// Merges the parts of each flow, which follow each other in time; in the order of tuples.
fn merged_by_tuple(mut rows: Vec<Box<Row>>) -> Vec<Box<Row>> {
    rows.sort_by(|x, y| (x.tuple, x.shared.first_ns, &x.chains).cmp(&(y.tuple, y.shared.first_ns, &y.chains)));
    let mut merged: Vec<Box<Row>> = Vec::with_capacity(rows.len());
    for row in rows {
        // A late packet may belong to an incarnation before the last one.
        let home = merged
            .iter_mut()
            .rev()
            .take(LOOKED_BACK)
            .take_while(|kept| kept.tuple == row.tuple)
            .find(|kept| kept.continues_in(&row));
        match home {
            Some(kept) => kept.merge(&row),
            None => merged.push(row),
        }
    }
    merged
}

/// Rows that nothing later can be merged with, and the last ones of each tuple.
fn settled(rows: Vec<Box<Row>>) -> (Vec<Box<Row>>, Vec<Box<Row>>) {
    let merged = merged_by_tuple(rows);
    let tuples: Vec<_> = merged.iter().map(|row| row.tuple).collect();
    let (mut done, mut waiting) = (Vec::new(), Vec::new());
    for (at, row) in merged.into_iter().enumerate() {
        let has_successors = tuples.get(at + LOOKED_BACK) == Some(&row.tuple);
        if has_successors {
            done.push(row)
        } else {
            waiting.push(row)
        }
    }
    (done, waiting)
}

/// The rows of flows in the order of time, their parts merged.
pub fn merge_parts(rows: Vec<Box<Row>>) -> Vec<Box<Row>> {
    let mut merged = merged_by_tuple(rows);
    merged.sort_by_key(|row| row.order());
    merged
}

/// The columns of the flow table. Those of the two ends have `_a` and `_b` behind their names; `a` is the lower end.
pub fn schema() -> SchemaRef {
    let hashes = DataType::List(Arc::new(Field::new("item", DataType::UInt64, false)));
    let mut fields = vec![
        Field::new("flow", DataType::UInt32, false),
        Field::new("ip_a", DataType::Utf8, false),
        Field::new("port_a", DataType::UInt16, false),
        Field::new("ip_b", DataType::Utf8, false),
        Field::new("port_b", DataType::UInt16, false),
        Field::new("ipv6", DataType::Boolean, false),
    ];
    fields.extend(Shared::fields(""));
    fields.extend(Half::fields("_a"));
    fields.extend(Half::fields("_b"));
    fields.push(Field::new("timestamp_anchors", hashes.clone(), false));
    fields.push(Field::new("payload_anchors", hashes.clone(), false));
    fields.push(Field::new("chains", hashes, false));
    Arc::new(Schema::new(fields))
}

/// How the columns are written: numbers as distances in as few bits as they take (Parquet's DELTA_BINARY_PACKED), which leaves a compressor
/// nothing to do; a dictionary for addresses alone, for looking each value up costs more than all the rest; and the range of values of what
/// is asked for by range.
fn properties(schema: &Schema) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_max_row_group_row_count(Some(GROUP))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    for name in ["flow", "first_ns", "last_ns"] {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Chunk);
    }
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        builder = match field.data_type() {
            DataType::Utf8 => builder
                .set_column_dictionary_enabled(path.clone(), true)
                .set_column_compression(path, Compression::LZ4_RAW),
            DataType::List(_) => {
                let items = vec![field.name().clone(), "list".to_owned(), "item".to_owned()];
                builder.set_column_encoding(ColumnPath::new(items), Encoding::DELTA_BINARY_PACKED)
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 | DataType::Int64 => {
                builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
            _ => builder,
        };
    }
    builder.build()
}

/// The text of an address, without the detours of a formatter.
fn put_ip(text: &mut StringBuilder, address: Address) {
    let Some(v4) = address.to_v4() else {
        text.append_value(address.to_ip().to_string());
        return;
    };
    let mut bytes = [b'.'; 15];
    let mut used = 0;
    for (number, octet) in v4.octets().into_iter().enumerate() {
        used += usize::from(number > 0);
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let first = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        for digit in digits.iter().skip(first) {
            if let Some(byte) = bytes.get_mut(used) {
                *byte = b'0' + digit;
            }
            used += 1;
        }
    }
    text.append_value(str::from_utf8(bytes.get(..used).unwrap_or_default()).unwrap_or_default());
}

fn batch(schema: &SchemaRef, rows: &[Box<Row>], first: u64) -> io::Result<RecordBatch> {
    let mut ips = [StringBuilder::new(), StringBuilder::new()];
    let mut ipv6 = BooleanBuilder::new();
    let list = || ListBuilder::new(UInt64Builder::new()).with_field(Field::new("item", DataType::UInt64, false));
    let (mut stamps, mut payloads, mut chains) = (list(), list(), list());
    for row in rows {
        put_ip(&mut ips[0], row.tuple.a().0);
        put_ip(&mut ips[1], row.tuple.b().0);
        ipv6.append_value(!row.tuple.a().0.is_v4());
        for (builder, values) in [
            (&mut stamps, row.timestamp_anchors.values()),
            (&mut payloads, row.payload_anchors.values()),
            (&mut chains, row.chains.as_slice()),
        ] {
            builder.values().append_slice(values);
            builder.append(true);
        }
    }
    let [mut ip_a, mut ip_b] = ips;
    let numbers = (0..rows.len())
        .map(|row| (first + row as u64) as u32)
        .collect::<Vec<_>>();
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(numbers)),
        Arc::new(ip_a.finish()),
        Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.tuple.a().1))),
        Arc::new(ip_b.finish()),
        Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.tuple.b().1))),
        Arc::new(ipv6.finish()),
    ];
    arrays.extend(Shared::arrays(rows.iter().map(|row| &row.shared)));
    arrays.extend(Half::arrays(rows.iter().map(|row| &row.a)));
    arrays.extend(Half::arrays(rows.iter().map(|row| &row.b)));
    arrays.push(Arc::new(stamps.finish()));
    arrays.push(Arc::new(payloads.finish()));
    arrays.push(Arc::new(chains.finish()));
    RecordBatch::try_new(schema.clone(), arrays).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_library_writes_them() {
        let mut text = StringBuilder::new();
        let mut octet = 0_u8;
        let addresses: Vec<Address> = (0..256)
            .map(|_| {
                octet = octet.wrapping_add(37);
                Address::v4([octet, octet.wrapping_mul(3), 255 - octet, 9])
            })
            .chain([Address::v6([0x20; 16]), Address::v4([0; 4]), Address::v4([255; 4])])
            .collect();
        for address in &addresses {
            put_ip(&mut text, *address);
        }
        let text = text.finish();
        for (at, address) in addresses.iter().enumerate() {
            assert_eq!(text.value(at), address.to_ip().to_string());
        }
    }
}
