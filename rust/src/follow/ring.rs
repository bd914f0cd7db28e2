//! The blocks of a TPACKET_V3 ring go in as the kernel hands them over, their frames come out (linux/if_packet.h;
//! Documentation/networking/packet_mmap.rst of the kernel).

use super::engine::NameOf;
use super::filter;
use super::frame::Frame;
use super::socket::{BLOCK_SIZE, Mapping, PacketSocket, RETIRE_MS, interface_index, interface_name};
use crate::capture::record::Direction;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Offsets in struct tpacket_block_desc.
const BLOCK_STATUS: usize = 8;
const PACKET_COUNT: usize = 12;
const FIRST_PACKET: usize = 16;
/// struct sockaddr_ll stands behind struct tpacket3_hdr, aligned to 16 (TPACKET_ALIGN).
const ADDRESS: usize = 48;

const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;
const STATUS_VLAN: u32 = 1 << 4;
const STATUS_VLAN_TYPE: u32 = 1 << 6;

/// linux/if_arp.h: what has an Ethernet header.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const PACKET_OUTGOING: u8 = 4;

const LINKTYPE_ETHERNET: u16 = 1;
const LINKTYPE_RAW: u16 = 101;

/// A live capture.
#[derive(Debug)]
pub struct Ring {
    // Fields are dropped in this order: the mapping goes before the socket.
    mapping: Mapping,
    socket: PacketSocket,
    name: String,
    index: u32,
    next: usize,
    blocks: usize,
    passed: u64,
    dropped: u64,
    /// The interface went down and has not been heard of since.
    is_down: bool,
}

/// What one wait for packets ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Frames were handed over, or none came in time.
    Done,
    /// The interface went down; it may come up again.
    Down,
    /// The interface is no more.
    Gone,
    /// Whoever takes the frames wants no more.
    Enough,
}

impl Ring {
    /// Begins to capture at an interface, or at all with `any`. EPERM without CAP_NET_RAW, ENODEV where it is not there.
    pub fn open(name: &str, promiscuous: bool, ring_bytes: usize) -> io::Result<Ring> {
        let index = interface_index(name)?;
        let (socket, mapping) = PacketSocket::open(index, promiscuous, ring_bytes)?;
        Ok(Ring {
            blocks: mapping.length / BLOCK_SIZE,
            mapping,
            socket,
            name: name.to_owned(),
            index,
            next: 0,
            passed: 0,
            dropped: 0,
            is_down: false,
        })
    }

    /// Waits for frames and hands over all that are there, one block after the other.
    pub fn wait(
        &mut self,
        timeout: Duration,
        take: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> io::Result<Waited> {
        if !self.is_ready() && self.socket.wait(timeout)? {
            match self.socket.take_error() {
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                    self.is_down = true;
                    return Ok(if self.is_there() { Waited::Down } else { Waited::Gone });
                }
                other => other?,
            }
        }
        // Of one that is down already the kernel does not say that it vanishes (net/packet/af_packet.c packet_notifier).
        if self.is_down && !self.is_ready() && !self.is_there() {
            return Ok(Waited::Gone);
        }
        self.is_down &= !self.is_ready();
        for _ in 0..self.blocks {
            if !self.is_ready() {
                break;
            }
            let flow = self.hand_over(take);
            self.next = (self.next + 1) % self.blocks;
            if flow.is_break() {
                return Ok(Waited::Enough);
            }
        }
        Ok(Waited::Done)
    }

    /// Lets nothing more in and hands over what was taken until now.
    pub fn drain(&mut self, take: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>) -> io::Result<Waited> {
        self.socket.attach(&filter::nothing())?;
        // The block that is being filled is handed over when its time is up; a second one may have begun meanwhile.
        for _ in 0..2 {
            let waited = self.wait(Duration::from_millis(u64::from(2 * RETIRE_MS)), take)?;
            if waited == Waited::Enough {
                return Ok(waited);
            }
        }
        Ok(Waited::Done)
    }

    /// Packets that passed the filter, and of these the ones that found no room in the ring, from the start on.
    pub fn counts(&mut self) -> io::Result<(u64, u64)> {
        let (passed, dropped) = self.socket.statistics()?;
        self.passed += passed;
        self.dropped += dropped;
        Ok((self.passed, self.dropped))
    }

    /// How packets get here, for people.
    pub fn mechanism(&self) -> String {
        format!(
            "AF_PACKET ring of {} MiB, classic BPF filter: {}",
            self.mapping.length >> 20,
            filter::DESCRIPTION
        )
    }

    /// Names interfaces by their numbers, where they are still there.
    pub fn names(&self) -> Box<NameOf> {
        let (own, name) = (self.index, self.name.clone());
        Box::new(move |index| {
            if index == own {
                Some(name.clone())
            } else {
                interface_name(index)
            }
        })
    }

    #[expect(unsafe_code, reason = "the ring is memory that is shared with the kernel")]
    fn status(&self) -> &AtomicU32 {
        debug_assert!(self.next < self.blocks);
        // SAFETY: block `next` lies within the mapping, blocks begin at pages and the status is four bytes at an offset that is a multiple of
        // four; kernel and process change it as a whole (tpacket_block_desc), so it is never read but as an atomic.
        unsafe { AtomicU32::from_ptr(self.mapping.start.add(self.next * BLOCK_SIZE + BLOCK_STATUS).cast()) }
    }

    fn is_there(&self) -> bool {
        interface_index(&self.name).is_ok_and(|index| index == self.index)
    }

    fn is_ready(&self) -> bool {
        self.status().load(Ordering::Acquire) & STATUS_USER != 0
    }

    #[expect(unsafe_code, reason = "the ring is memory that is shared with the kernel")]
    fn hand_over(&self, take: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        // SAFETY: the block lies within the mapping; its status, read with acquire order, says that it is the process's: the kernel writes
        // nothing in it until the status is given back below (net/packet/af_packet.c prb_close_block, prb_open_block). The status field itself
        // is part of the slice and is not touched while the slice lives: `self` is the only reader of the ring.
        let block = unsafe {
            std::slice::from_raw_parts(self.mapping.start.add(self.next * BLOCK_SIZE).cast_const(), BLOCK_SIZE)
        };
        let flow = frames(block, take);
        self.status().store(STATUS_KERNEL, Ordering::Release);
        flow
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// All frames of a block. What the kernel says of offsets and lengths is checked as if it were a stranger's.
fn frames(block: &[u8], take: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
    let count = u32_at(block, PACKET_COUNT).unwrap_or(0);
    let mut at = u32_at(block, FIRST_PACKET).unwrap_or(0) as usize;
    for _ in 0..count {
        let Some(header) = block.get(at..) else { break };
        if let Some(frame) = frame(header) {
            take(&frame)?;
        }
        match u32_at(header, 0) {
            Some(0) | None => break,
            Some(next) => at += next as usize,
        }
    }
    ControlFlow::Continue(())
}

/// One frame by its struct tpacket3_hdr; None where its link layer is neither Ethernet nor IP alone.
fn frame(header: &[u8]) -> Option<Frame<'_>> {
    let (seconds, nanoseconds) = (u32_at(header, 4)?, u32_at(header, 8)?);
    let (captured, length, status) = (u32_at(header, 12)?, u32_at(header, 16)?, u32_at(header, 20)?);
    let (link, network) = (usize::from(u16_at(header, 24)?), usize::from(u16_at(header, 26)?));
    let protocol = u16::from_be(u16_at(header, ADDRESS + 2)?);
    let interface = u32_at(header, ADDRESS + 4)?;
    let hardware = u16_at(header, ADDRESS + 8)?;
    let packet_type = *header.get(ADDRESS + 10)?;
    let data = header.get(link..link.checked_add(captured as usize)?)?;
    let vlan = (status & STATUS_VLAN != 0).then(|| {
        let tag = u32_at(header, 32).unwrap_or(0) as u16;
        let told = u16_at(header, 36).unwrap_or(0);
        (if status & STATUS_VLAN_TYPE != 0 { told } else { 0x8100 }, tag)
    });
    let before = network.checked_sub(link)?;
    let (link_type, data, cut, vlan) = match hardware {
        ARPHRD_ETHER | ARPHRD_LOOPBACK => (LINKTYPE_ETHERNET, data, 0, vlan),
        // What another link layer's header looks like need not be known: the kernel says where IP begins.
        _ if matches!(protocol, 0x0800 | 0x86dd) => (LINKTYPE_RAW, data.get(before..)?, before, None),
        _ => return None,
    };
    Some(Frame {
        time_ns: i64::from(seconds) * 1_000_000_000 + i64::from(nanoseconds),
        interface,
        link_type,
        direction: if packet_type == PACKET_OUTGOING {
            Direction::Out
        } else {
            Direction::In
        },
        data,
        original_length: length.saturating_sub(cut as u32),
        vlan,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with one frame for each (hardware type, protocol, VLAN tag, packet), as af_packet.c lays it out.
    fn block(packets: &[(u16, u16, Option<u16>, &[u8])]) -> Vec<u8> {
        let mut block = vec![0_u8; BLOCK_SIZE];
        block[BLOCK_STATUS] = 1;
        block[PACKET_COUNT..PACKET_COUNT + 4].copy_from_slice(&(packets.len() as u32).to_ne_bytes());
        block[FIRST_PACKET..FIRST_PACKET + 4].copy_from_slice(&48_u32.to_ne_bytes());
        let mut at = 48;
        for (hardware, protocol, tag, packet) in packets {
            let size = (82 + packet.len()).next_multiple_of(16);
            let mut put =
                |offset: usize, bytes: &[u8]| block[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
            put(0, &(size as u32).to_ne_bytes());
            put(4, &7_u32.to_ne_bytes());
            put(8, &9_u32.to_ne_bytes());
            put(12, &(packet.len() as u32).to_ne_bytes());
            put(16, &(packet.len() as u32 + 5).to_ne_bytes());
            put(20, &(1 | tag.map_or(0, |_| STATUS_VLAN)).to_ne_bytes());
            put(24, &82_u16.to_ne_bytes());
            put(26, &(if *hardware == 1 { 96_u16 } else { 82 }).to_ne_bytes());
            put(32, &u32::from(tag.unwrap_or(0)).to_ne_bytes());
            put(ADDRESS + 2, &protocol.to_be_bytes());
            put(ADDRESS + 4, &3_u32.to_ne_bytes());
            put(ADDRESS + 8, &hardware.to_ne_bytes());
            put(82, packet);
            at += size;
        }
        block
    }

    #[test]
    fn reads_frames_and_puts_tags_back() {
        let ethernet: Vec<u8> = (0..60).collect();
        let block = block(&[
            (1, 0x0800, Some(0x2005), &ethernet),
            (65534, 0x86dd, None, &[0x60; 40]),
            (824, 0x0004, None, &[1; 40]),
            (1, 0x0800, None, &ethernet),
        ]);
        let mut seen = Vec::new();
        let flow = frames(&block, &mut |frame| {
            let mut scratch = Vec::new();
            let (bytes, length) = frame.on_the_wire(&mut scratch);
            seen.push((frame.link_type, frame.time_ns, bytes.to_vec(), length));
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        let mut tagged = ethernet.clone();
        tagged.splice(12..12, [0x81, 0x00, 0x20, 0x05]);
        assert_eq!(
            seen,
            [
                (1, 7_000_000_009, tagged, 69),
                (101, 7_000_000_009, vec![0x60; 40], 45),
                (1, 7_000_000_009, ethernet, 65)
            ]
        );
    }

    #[test]
    fn no_bytes_lead_beyond_the_block() {
        let mut state = 1_u64;
        let mut random = move || {
            state = crate::hash::mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            state
        };
        let packet = [0_u8; 60];
        for _ in 0..2000 {
            let mut block = block(&[(1, 0x0800, Some(1), &packet), (1, 0x0800, None, &packet)]);
            for _ in 0..4 {
                let at = random() as usize % 260;
                block[at] = random() as u8;
            }
            let mut count = 0;
            let _ = frames(&block, &mut |frame| {
                count += 1;
                assert!(frame.data.len() <= BLOCK_SIZE);
                ControlFlow::Continue(())
            });
            // However often the headers lead in a circle, offsets only grow, by one at least.
            assert!(count <= BLOCK_SIZE);
        }
    }
}
