//! Chains of the frame index go in, the packets of those flows come out as columns, read again from the captures themselves.

use crate::capture::random::RandomReader;
use crate::capture::record::Record;
use crate::columns::columns;
use crate::decode::decode;
use crate::decode::packet::{Inner, Packet, Tunnel};
use crate::flows::row::Tuple;
use crate::fold::{Recent, Sought};
use crate::index::{CHECKPOINT, FrameIndex};
use crate::trailer::{FileTrailer, get_trailer};
use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Payload bytes handed on of each packet: enough for a request line or a TLS record header, and never kept in the index.
const PAYLOAD_KEPT: usize = 512;

columns! {
    /// One record of a flow, decoded.
    pub struct PacketColumns {
        /// Which of the asked-for flows it belongs to.
        pub flow: u32,
        /// Which file of the vantage point.
        pub file: u32,
        /// The number that Wireshark shows.
        pub frame: u64,
        /// The row of the packet that this is a copy of; null for the first one met.
        pub copy_of: Option<u32>,
        /// Interface of the capture file (pcapng), and SLL2's interface index (0 without).
        pub interface: u32,
        pub ifindex: u32,
        /// 0 unknown, 1 in, 2 out.
        pub direction: u8,
        pub captured_length: u32,
        pub original_length: u32,
        pub vlan: u16,
        pub tunnel_depth: u8,
        pub network_id: u32,
        pub ip_length: u32,
        pub ip_id: u32,
        pub ttl: u8,
        pub dont_fragment: bool,
        pub more_fragments: bool,
        pub fragment_offset: u16,
        pub source_port: u16,
        pub destination_port: u16,
        /// 0 TCP segment, 1 later fragment, 2 ICMP error that quotes the flow.
        pub kind: u8,
        pub flags: u16,
        pub seq: u32,
        pub ack: u32,
        pub window: u16,
        pub checksum: u16,
        pub length: u32,
        pub mss: Option<u16>,
        pub window_scale: Option<u8>,
        pub sack_permitted: bool,
        pub ts_value: Option<u32>,
        pub ts_echo: Option<u32>,
        pub icmp_type: u8,
        pub icmp_code: u8,
        pub icmp_mtu: u32,
    }
}

/// The packet table; addresses, options and payload beside the plain columns.
#[derive(Default)]
struct Table {
    plain: Vec<PacketColumns>,
    time_ns: Vec<i64>,
    source: StringBuilder,
    destination: StringBuilder,
    source_mac: StringBuilder,
    destination_mac: StringBuilder,
    tunnels: StringBuilder,
    sack: StringBuilder,
    quoted: StringBuilder,
    options: BinaryBuilder,
    payload: BinaryBuilder,
}

fn schema() -> SchemaRef {
    let mut fields = vec![Field::new("time_ns", DataType::Int64, false)];
    for name in [
        "source",
        "destination",
        "source_mac",
        "destination_mac",
        "tunnels",
        "sack",
        "quoted",
    ] {
        fields.push(Field::new(name, DataType::Utf8, false));
    }
    fields.push(Field::new("options", DataType::Binary, false));
    fields.push(Field::new("payload", DataType::Binary, false));
    fields.extend(PacketColumns::fields(""));
    Arc::new(Schema::new(fields))
}

/// The captures of one vantage point, to be read at random by way of its frame index.
pub struct Frames {
    index: FrameIndex,
    paths: Vec<PathBuf>,
    trailers: Vec<FileTrailer>,
}

impl Frames {
    /// `index` is a frame index, `paths` the captures in the order in which they were scanned.
    pub fn open(index: &Path, paths: &[PathBuf]) -> io::Result<Self> {
        let index = FrameIndex::open(index)?;
        let trailers = get_trailer(&index.trailer()?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame index: its trailer is broken"))?;
        if trailers.len() != paths.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "frame index: made of other files",
            ));
        }
        Ok(Frames {
            index,
            paths: paths.to_vec(),
            trailers,
        })
    }

    /// The name that a capture gives to one of its interfaces.
    pub fn interface_name(&self, file: u32, interface: u32) -> Option<&str> {
        self.trailers
            .get(file as usize)?
            .interfaces
            .get(interface as usize)?
            .name
            .as_deref()
    }

    /// Reads records of the named frames, in file order, and hands each to `visit` with its place in `frames`.
    pub fn read(
        &self,
        frames: &[(u32, u64)],
        visit: &mut dyn FnMut(usize, &Record<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut order: Vec<usize> = (0..frames.len()).collect();
        order.sort_by_key(|at| frames.get(*at).copied().unwrap_or_default());
        let mut reader: Option<(u32, RandomReader)> = None;
        for at in order {
            let Some(&(file, frame)) = frames.get(at) else { continue };
            if reader.as_ref().is_none_or(|(open, _)| *open != file) {
                let (Some(path), Some(trailer)) = (self.paths.get(file as usize), self.trailers.get(file as usize))
                else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "frame index: names a file that is not there",
                    ));
                };
                let Some(format) = &trailer.format else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "frame index: names a file that could not be read",
                    ));
                };
                reader = Some((
                    file,
                    RandomReader::open(path, format, trailer.interfaces.clone()).map_err(io::Error::other)?,
                ));
            }
            let (Some((_, reader)), Some(trailer)) = (reader.as_mut(), self.trailers.get(file as usize)) else {
                continue;
            };
            let number = frame.saturating_sub(1) / CHECKPOINT;
            let Some(&offset) = trailer.checkpoints.get(number as usize) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "frame index: a frame lies behind the file's end",
                ));
            };
            let record = reader
                .read_frame(offset, number * CHECKPOINT + 1, frame)
                .map_err(io::Error::other)?;
            visit(at, &record)?;
        }
        Ok(())
    }

    /// The packets of several flows, each given by its chains; ordered by time. Copies are marked as the scan marked them. Of a flow
    /// with more than `limit` frames the first and the last are read, half of the limit each; how many were left out comes second.
    pub fn packets(&self, flows: &[Vec<u64>], limit: usize) -> io::Result<(RecordBatch, u64)> {
        let mut frames = Vec::new();
        let mut owners = Vec::new();
        let mut left_out = 0_u64;
        for (flow, chains) in flows.iter().enumerate() {
            let mut own = Vec::new();
            for chain in chains {
                own.extend(self.index.frames(*chain)?);
            }
            if own.len() > limit {
                let half = limit / 2;
                left_out += (own.len() - 2 * half) as u64;
                own.drain(half..own.len() - half);
            }
            owners.resize(owners.len() + own.len(), flow as u32);
            frames.append(&mut own);
        }
        // All are held before the first is folded: the folding sees the packets of all files in the order of time, as the scan did.
        let mut times = vec![0_i64; frames.len()];
        let mut held: Vec<Option<Held>> = (0..frames.len()).map(|_| None).collect();
        self.read(&frames, &mut |at, record| {
            if let (Some(time), Some(slot)) = (times.get_mut(at), held.get_mut(at)) {
                *time = record.time_ns;
                *slot = Some(Held::of(record));
            }
            Ok(())
        })?;
        let mut order: Vec<usize> = (0..frames.len()).collect();
        order.sort_by_key(|at| (times.get(*at).copied(), frames.get(*at).copied()));
        let mut table = Table::default();
        let mut met = Met::default();
        for at in order {
            let (Some(Some(record)), Some(&(file, frame)), Some(&flow)) =
                (held.get(at), frames.get(at), owners.get(at))
            else {
                continue;
            };
            table.push(record, file, frame, flow, &mut met);
        }
        Ok((table.finish()?, left_out))
    }
}

/// Bytes held of a record: headers through any usual stack of tunnels, and the payload that is handed on.
const HELD: usize = 1_024;

/// Packets that were no copies, to know copies by, and the rows of each flow's direction that hold them.
#[derive(Default)]
struct Met {
    recent: Recent,
    firsts: HashMap<(u32, bool), Vec<u32>>,
}

/// A record kept beyond its reader's buffer.
struct Held {
    time_ns: i64,
    interface: u32,
    link_type: u16,
    direction: u8,
    original_length: u32,
    data: Vec<u8>,
}

impl Held {
    fn of(record: &Record<'_>) -> Held {
        Held {
            time_ns: record.time_ns,
            interface: record.interface,
            link_type: record.link_type,
            direction: record.direction as u8,
            original_length: record.original_length,
            data: record.data.get(..HELD).unwrap_or(record.data).to_vec(),
        }
    }
}

fn mac(address: [u8; 6]) -> String {
    if address == [0; 6] {
        return String::new();
    }
    address
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

fn tunnels(packet: &Packet<'_>) -> String {
    let names = packet.tunnels.kinds.iter().filter_map(|kind| match kind {
        Tunnel::None => None,
        Tunnel::Ipip => Some("ipip"),
        Tunnel::SixInFour => Some("6in4"),
        Tunnel::IpInSix => Some("ip6tnl"),
        Tunnel::Gre => Some("gre"),
        Tunnel::Vxlan => Some("vxlan"),
        Tunnel::Geneve => Some("geneve"),
        Tunnel::Mpls => Some("mpls"),
        Tunnel::Pppoe => Some("pppoe"),
    });
    let mut text = names.collect::<Vec<_>>().join(" ");
    if packet.tunnels.outer_source.0 != 0 {
        let (source, destination) = (
            packet.tunnels.outer_source.to_ip(),
            packet.tunnels.outer_destination.to_ip(),
        );
        text.push_str(&format!(" {source} > {destination}"));
    }
    text
}

impl Table {
    fn push(&mut self, record: &Held, file: u32, frame: u64, flow: u32, met: &mut Met) {
        let packet = decode(record.link_type, &record.data, record.original_length);
        let row = self.plain.len() as u32;
        let mut columns = PacketColumns {
            flow,
            file,
            frame,
            interface: record.interface,
            ifindex: packet.link.ifindex,
            direction: match (record.direction, packet.link.packet_type) {
                (0, 4) => 2,
                (0, 0..=3) => 1,
                (known, _) => known,
            },
            captured_length: record.data.len() as u32,
            original_length: record.original_length,
            vlan: packet.link.vlan[0],
            tunnel_depth: packet.tunnels.depth,
            network_id: packet.tunnels.network_id,
            ip_length: packet.ip.total_length,
            ip_id: packet.ip.id,
            ttl: packet.ip.ttl,
            dont_fragment: packet.ip.dont_fragment,
            more_fragments: packet.ip.more_fragments,
            fragment_offset: packet.ip.fragment_offset,
            ..PacketColumns::default()
        };
        let (mut source, mut destination) = (packet.ip.source, packet.ip.destination);
        let (mut sack, mut quoted) = (String::new(), String::new());
        let (mut options, mut payload): (&[u8], &[u8]) = (&[], &[]);
        match &packet.inner {
            Inner::Tcp(tcp) => {
                let interface = file << 16 | (record.interface & 0xffff);
                let (tuple, from_b) = Tuple::of((source, tcp.source_port), (destination, tcp.destination_port));
                let sought = Sought::of(&packet, tcp, tuple.hash64() ^ u64::from(from_b));
                let (direction, time_ns) = (record.direction, record.time_ns);
                let firsts = met.firsts.entry((flow, from_b)).or_default();
                if met.recent.is_copy(sought, &packet, tcp, interface, direction, time_ns) {
                    columns.copy_of = firsts
                        .iter()
                        .rev()
                        .find(|first| {
                            self.plain.get(**first as usize).is_some_and(|kept| {
                                (kept.seq, kept.ack, kept.flags, kept.length, kept.ip_id)
                                    == (tcp.seq, tcp.ack, tcp.flags, tcp.payload_length, packet.ip.id)
                            })
                        })
                        .copied();
                } else {
                    firsts.push(row);
                }
                columns.source_port = tcp.source_port;
                columns.destination_port = tcp.destination_port;
                columns.flags = tcp.flags;
                columns.seq = tcp.seq;
                columns.ack = tcp.ack;
                columns.window = tcp.window;
                columns.checksum = tcp.checksum;
                columns.length = tcp.payload_length;
                columns.mss = tcp.mss;
                columns.window_scale = tcp.window_scale;
                columns.sack_permitted = tcp.sack_permitted;
                columns.ts_value = tcp.timestamps.map(|(value, _)| value);
                columns.ts_echo = tcp.timestamps.map(|(_, echo)| echo);
                let blocks = tcp.sack.iter().take(usize::from(tcp.sack_count));
                sack = blocks
                    .map(|(left, right)| format!("{left}-{right}"))
                    .collect::<Vec<_>>()
                    .join(" ");
                options = tcp.options;
                payload = tcp.payload.get(..PAYLOAD_KEPT).unwrap_or(tcp.payload);
            }
            Inner::TcpFragment(length) => {
                columns.kind = 1;
                columns.length = *length;
            }
            Inner::IcmpError(error) => {
                columns.kind = 2;
                columns.icmp_type = error.icmp_type;
                columns.icmp_code = error.code;
                columns.icmp_mtu = error.mtu;
                columns.seq = error.quoted_seq;
                // The quoted tuple is the flow's own; who sent the error stands beside it.
                columns.source_port = error.quoted_source_port;
                columns.destination_port = error.quoted_destination_port;
                quoted = format!("{} > {}", packet.ip.source.to_ip(), packet.ip.destination.to_ip());
                (source, destination) = (error.quoted_source, error.quoted_destination);
            }
            Inner::Other | Inner::Malformed | Inner::Arp(_) => return,
        }
        self.plain.push(columns);
        self.time_ns.push(record.time_ns);
        self.source.append_value(source.to_ip().to_string());
        self.destination.append_value(destination.to_ip().to_string());
        self.source_mac.append_value(mac(packet.link.source_mac));
        self.destination_mac.append_value(mac(packet.link.destination_mac));
        self.tunnels.append_value(tunnels(&packet));
        self.sack.append_value(sack);
        self.quoted.append_value(quoted);
        self.options.append_value(options);
        self.payload.append_value(payload);
    }

    fn finish(mut self) -> io::Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(arrow::array::Int64Array::from(self.time_ns)),
            Arc::new(self.source.finish()),
            Arc::new(self.destination.finish()),
            Arc::new(self.source_mac.finish()),
            Arc::new(self.destination_mac.finish()),
            Arc::new(self.tunnels.finish()),
            Arc::new(self.sack.finish()),
            Arc::new(self.quoted.finish()),
            Arc::new(self.options.finish()),
            Arc::new(self.payload.finish()),
        ];
        arrays.extend(PacketColumns::arrays(self.plain.iter()));
        RecordBatch::try_new(schema(), arrays).map_err(io::Error::other)
    }
}
