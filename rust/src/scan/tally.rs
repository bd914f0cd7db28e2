//! Records go in, in the order of time; what is counted of each file, ARP claims and checkpoints come out, and each packet goes to the flow table.

use super::FileSummary;
use crate::capture::record::{Record, Step};
use crate::decode::decode_into;
use crate::decode::packet::{Arp, Inner, Packet};
use crate::flows::live::{FlowTable, TOGETHER};
use crate::flows::table::RowStore;
use crate::flows::watch::{Origin, Watch};
use crate::index::CHECKPOINT;
use std::collections::BTreeMap;
use std::io;

/// Different ARP answers kept; more than that is an attack or a scan, and is counted only.
const ARP_KEPT: usize = 10_000;
/// Payload that no unsegmented packet of an Ethernet can carry: offload made the frame (MTU 1500 and jumbo frames of 9000 apart).
const JUMBO: u32 = 9_216;

/// An address and the hardware address that claimed it in ARP.
#[derive(Debug, Clone, Copy)]
pub struct ArpClaim {
    pub count: u64,
    pub file: u32,
    pub frame: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

pub type ArpClaims = BTreeMap<([u8; 4], [u8; 6], u16), ArpClaim>;

/// What is counted of one file.
#[derive(Debug, Default)]
struct Counted {
    packets: u64,
    tcp_packets: u64,
    malformed: u64,
    cut_by_snap_length: u64,
    longer_than_mtu: u64,
    first_ns: Option<i64>,
    last_ns: Option<i64>,
    checkpoints: Vec<u64>,
}

/// Where records end: the flow table, and the counts beside it.
pub(super) struct Tally<'a, W: Watch> {
    table: &'a mut FlowTable<RowStore, W>,
    files: Vec<Counted>,
    arp: ArpClaims,
}

/// What is left of a tally without its table.
pub(super) struct Counts {
    files: Vec<Counted>,
    pub arp: ArpClaims,
    pub live_max: usize,
}

impl Counts {
    /// Puts the counts of each file into its summary; the checkpoints of all files.
    pub fn put(&mut self, summaries: &mut [FileSummary]) -> Vec<Vec<u64>> {
        for (summary, file) in summaries.iter_mut().zip(&self.files) {
            summary.packets = file.packets;
            summary.tcp_packets = file.tcp_packets;
            summary.malformed = file.malformed;
            summary.cut_by_snap_length = file.cut_by_snap_length;
            summary.longer_than_mtu = file.longer_than_mtu;
            summary.first_ns = file.first_ns;
            summary.last_ns = file.last_ns;
        }
        self.files.drain(..).map(|file| file.checkpoints).collect()
    }
}

impl<'a, W: Watch> Tally<'a, W> {
    pub fn new(table: &'a mut FlowTable<RowStore, W>, files: usize) -> Self {
        Tally {
            table,
            files: std::iter::repeat_with(Counted::default).take(files).collect(),
            arp: ArpClaims::new(),
        }
    }

    /// Writes out all flows that are alive; what was counted.
    pub fn finish(self) -> io::Result<Counts> {
        self.table.finish()?;
        Ok(Counts {
            files: self.files,
            arp: self.arp,
            live_max: self.table.live_max(),
        })
    }

    /// Takes in records that lie in `bytes`, in their order.
    pub fn take(&mut self, bytes: &[u8], records: &[(u32, Step)]) -> io::Result<()> {
        let mut packets: [(Packet<'_>, Origin); TOGETHER] = Default::default();
        for few in records.chunks(TOGETHER) {
            let mut used = 0;
            for (number, step) in few {
                if let Some(place) = packets.get_mut(used) {
                    used += usize::from(self.decode(*number, &step.record(bytes), place));
                }
            }
            self.table.packets(packets.get(..used).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Decodes one record in its place, and counts it; false for a file that does not exist.
    #[inline]
    fn decode<'r>(&mut self, number: u32, record: &Record<'r>, (packet, origin): &mut (Packet<'r>, Origin)) -> bool {
        let Some(file) = self.files.get_mut(number as usize) else {
            return false;
        };
        if (record.frame - 1).is_multiple_of(CHECKPOINT) {
            file.checkpoints.push(record.offset);
        }
        file.packets += 1;
        file.first_ns = Some(file.first_ns.map_or(record.time_ns, |first| first.min(record.time_ns)));
        file.last_ns = Some(file.last_ns.map_or(record.time_ns, |last| last.max(record.time_ns)));
        file.cut_by_snap_length += u64::from((record.data.len() as u64) < u64::from(record.original_length));
        *origin = Origin {
            file: number,
            frame: record.frame,
            interface: number << 16 | (record.interface & 0xffff),
            direction: record.direction as u8,
            time_ns: record.time_ns,
        };
        decode_into(packet, record.link_type, record.data, record.original_length);
        match &packet.inner {
            Inner::Tcp(_) | Inner::TcpFragment(_) => {
                file.tcp_packets += 1;
                file.longer_than_mtu += u64::from(packet.ip.total_length > JUMBO);
            }
            Inner::Malformed => file.malformed += 1,
            Inner::Arp(arp) => self.arp(arp, number, record),
            Inner::IcmpError(_) | Inner::Other => {}
        }
        true
    }

    fn arp(&mut self, arp: &Arp, number: u32, record: &Record<'_>) {
        let key = (arp.sender_ip, arp.sender_mac, arp.operation);
        if self.arp.len() >= ARP_KEPT && !self.arp.contains_key(&key) {
            return;
        }
        let claim = self.arp.entry(key).or_insert(ArpClaim {
            count: 0,
            file: number,
            frame: record.frame,
            first_ns: record.time_ns,
            last_ns: record.time_ns,
        });
        claim.count += 1;
        claim.last_ns = claim.last_ns.max(record.time_ns);
    }
}
