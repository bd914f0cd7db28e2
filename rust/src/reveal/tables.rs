//! Notes of flows go in by flow number, three Parquet tables come out: claims, requests, headers.

use super::notes::{Asked, Layout, Notes, Said, Seen, Value};
use crate::decode::packet::Address;
use crate::flows::row::Tuple;
use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Rows of one row group: a header value may take half a kibibyte.
const GROUP: usize = 16_384;

/// One column being filled.
enum Column {
    Bool(BooleanBuilder),
    U16(UInt16Builder),
    U32(UInt32Builder),
    U64(UInt64Builder),
    I64(Int64Builder),
    Text(StringBuilder),
}

/// One cell; a column takes only its own kind, or None.
enum Cell<'a> {
    None,
    Bool(bool),
    U16(u16),
    U32(u32),
    U64(u64),
    I64(i64),
    Text(&'a str),
}

impl Column {
    fn new(kind: &DataType) -> Self {
        match kind {
            DataType::Boolean => Column::Bool(BooleanBuilder::new()),
            DataType::UInt16 => Column::U16(UInt16Builder::new()),
            DataType::UInt32 => Column::U32(UInt32Builder::new()),
            DataType::UInt64 => Column::U64(UInt64Builder::new()),
            DataType::Int64 => Column::I64(Int64Builder::new()),
            _ => Column::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match (self, cell) {
            (Column::Bool(column), Cell::Bool(value)) => column.append_value(*value),
            (Column::U16(column), Cell::U16(value)) => column.append_value(*value),
            (Column::U32(column), Cell::U32(value)) => column.append_value(*value),
            (Column::U64(column), Cell::U64(value)) => column.append_value(*value),
            (Column::I64(column), Cell::I64(value)) => column.append_value(*value),
            (Column::Text(column), Cell::Text(value)) => column.append_value(value),
            (Column::Bool(column), _) => column.append_null(),
            (Column::U16(column), _) => column.append_null(),
            (Column::U32(column), _) => column.append_null(),
            (Column::U64(column), _) => column.append_null(),
            (Column::I64(column), _) => column.append_null(),
            (Column::Text(column), _) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Bool(column) => Arc::new(column.finish()),
            Column::U16(column) => Arc::new(column.finish()),
            Column::U32(column) => Arc::new(column.finish()),
            Column::U64(column) => Arc::new(column.finish()),
            Column::I64(column) => Arc::new(column.finish()),
            Column::Text(column) => Arc::new(column.finish()),
        }
    }
}

/// One table being written.
struct Table {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    writer: ArrowWriter<File>,
}

impl Table {
    fn begin(path: &Path, fields: &[(&str, DataType, bool)]) -> io::Result<Self> {
        // Which flow, and which of its ends sent it.
        let common = [
            ("flow", DataType::UInt32, false),
            ("sender_ip", DataType::Utf8, false),
            ("sender_port", DataType::UInt16, false),
        ];
        let schema = Arc::new(Schema::new(
            common
                .iter()
                .chain(fields)
                .map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable))
                .collect::<Vec<_>>(),
        ));
        let properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let writer = ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties));
        Ok(Table {
            columns: schema
                .fields()
                .iter()
                .map(|field| Column::new(field.data_type()))
                .collect(),
            schema,
            rows: 0,
            writer: writer.map_err(io::Error::other)?,
        })
    }

    fn add(&mut self, flow: u32, sender: (Address, u16), cells: &[Cell<'_>]) -> io::Result<()> {
        let ip = sender.0.to_ip().to_string();
        let common = [Cell::U32(flow), Cell::Text(&ip), Cell::U16(sender.1)];
        for (column, cell) in self.columns.iter_mut().zip(common.iter().chain(cells)) {
            column.push(cell);
        }
        self.rows += 1;
        if self.rows >= GROUP {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(io::Error::other)?;
        self.rows = 0;
        self.writer.write(&batch).map_err(io::Error::other)
    }

    fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.writer.close().map(drop).map_err(io::Error::other)
    }
}

/// The three tables.
pub(super) struct Tables {
    names: Vec<String>,
    claims: Table,
    requests: Table,
    headers: Table,
}

impl Tables {
    pub fn begin(folder: &Path, names: Vec<String>) -> io::Result<Self> {
        use DataType::{Boolean, Int64, UInt16, UInt32, UInt64, Utf8};
        let seen = [
            ("count", UInt64, false),
            ("file", UInt32, false),
            ("frame", UInt64, false),
            ("time_ns", Int64, false),
        ];
        let claim = [
            ("basis", Utf8, false),
            ("layout", Utf8, false),
            ("what", Utf8, false),
            ("ip", Utf8, true),
            ("port", UInt16, true),
            ("ambiguous", Boolean, false),
            ("text", Utf8, false),
        ];
        let header = [
            ("name", Utf8, false),
            ("value", Utf8, false),
            ("cut", Boolean, false),
            ("resynchronised", UInt64, false),
        ];
        let request = [
            ("requests", UInt64, false),
            ("resynchronised", UInt64, false),
            ("heads_lost", UInt64, false),
            ("gaps", UInt64, false),
            ("headers_lost", UInt64, false),
            ("claims_lost", UInt64, false),
            ("is_tls", Boolean, false),
            ("is_http2", Boolean, false),
        ];
        Ok(Tables {
            names,
            claims: Table::begin(&folder.join("claim.parquet"), &[&claim[..], &seen].concat())?,
            requests: Table::begin(&folder.join("request.parquet"), &request)?,
            headers: Table::begin(&folder.join("header.parquet"), &[&header[..], &seen].concat())?,
        })
    }

    pub fn add(&mut self, flow: u32, tuple: &Tuple, notes: &Notes) -> io::Result<()> {
        for (said, seen) in &notes.claims {
            self.claim(flow, if said.from_b { tuple.b() } else { tuple.a() }, said, seen)?;
        }
        for (sender, asked) in [tuple.a(), tuple.b()].into_iter().zip(&notes.asked) {
            // Claims beyond those kept belong to no end: they are told with the first.
            let claims_lost = if sender == tuple.a() { notes.claims_lost } else { 0 };
            if asked.is_empty() && claims_lost == 0 {
                continue;
            }
            self.request(flow, sender, asked, claims_lost)?;
            for value in &asked.values {
                self.header(flow, sender, value)?;
            }
        }
        Ok(())
    }

    fn claim(&mut self, flow: u32, sender: (Address, u16), said: &Said, seen: &Seen) -> io::Result<()> {
        let (basis, layout) = match said.layout {
            Layout::Toa(kind, length) => ("toa", format!("{kind}/{length}")),
            Layout::Proxy(version) => ("proxy", format!("proxy-v{version}")),
        };
        let ip = said.address.map(|address| Address(address).to_ip().to_string());
        self.claims.add(
            flow,
            sender,
            &[
                Cell::Text(basis),
                Cell::Text(&layout),
                Cell::Text(said.topic.name()),
                ip.as_deref().map_or(Cell::None, Cell::Text),
                said.port.map_or(Cell::None, Cell::U16),
                Cell::Bool(said.ambiguous),
                Cell::Text(&said.text),
                Cell::U64(seen.count),
                Cell::U32(seen.file),
                Cell::U64(seen.frame),
                Cell::I64(seen.time_ns),
            ],
        )
    }

    fn request(&mut self, flow: u32, sender: (Address, u16), asked: &Asked, claims_lost: u64) -> io::Result<()> {
        self.requests.add(
            flow,
            sender,
            &[
                Cell::U64(asked.requests),
                Cell::U64(asked.resynchronised),
                Cell::U64(asked.heads_lost),
                Cell::U64(asked.gaps),
                Cell::U64(asked.values_lost),
                Cell::U64(claims_lost),
                Cell::Bool(asked.is_tls),
                Cell::Bool(asked.is_http2),
            ],
        )
    }

    fn header(&mut self, flow: u32, sender: (Address, u16), value: &Value) -> io::Result<()> {
        let name = self.names.get(usize::from(value.name)).map_or("", String::as_str);
        // Header values are bytes (RFC 9110 section 5.5); what is no UTF-8 is shown by the replacement character.
        let text = String::from_utf8_lossy(&value.bytes);
        self.headers.add(
            flow,
            sender,
            &[
                Cell::Text(name),
                Cell::Text(&text),
                Cell::Bool(value.cut),
                Cell::U64(value.resynchronised),
                Cell::U64(value.seen.count),
                Cell::U32(value.seen.file),
                Cell::U64(value.seen.frame),
                Cell::I64(value.seen.time_ns),
            ],
        )
    }

    pub fn finish(self) -> io::Result<()> {
        self.claims.finish()?;
        self.requests.finish()?;
        self.headers.finish()
    }
}
