//! An IEEE 802.11 frame, with or without a radiotap header, goes in, the LLC frame of an unencrypted data frame comes out.

use super::bytes::Bytes;
use super::packet::Packet;
use super::{Layer, Next, other};

/// Radiotap (radiotap.org): version 0, pad, header length in little-endian order.
pub(super) fn radiotap<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let length = usize::from(bytes.u16(2)?.swap_bytes());
    if bytes.u8(0)? != 0 || length < 8 {
        return None;
    }
    ieee80211(packet, bytes.skip(length)?)
}

/// IEEE 802.11 clause 9.2.3 (frame format), 9.2.4.1 (frame control), 9.3.2.1 (which address is whose).
pub(super) fn ieee80211<'a>(packet: &mut Packet<'a>, bytes: Bytes<'a>) -> Next<'a> {
    let (control, flags) = (bytes.u8(0)?, bytes.u8(1)?);
    // Type 2 is data; subtype bit 0x40 says there is none; flag 0x40 says that it is encrypted.
    if control & 0x0f != 0x08 || control & 0x40 != 0 || flags & 0x40 != 0 {
        return other(packet);
    }
    let with_quality = control & 0x80 != 0;
    let (to_station_system, from_station_system) = (flags & 0x01 != 0, flags & 0x02 != 0);
    let (destination, source) = match (to_station_system, from_station_system) {
        (false, false) => (4, 10),
        (true, false) => (16, 10),
        (false, true) => (4, 16),
        (true, true) => (16, 24),
    };
    packet.link.destination_mac = bytes.mac(destination)?;
    packet.link.source_mac = bytes.mac(source)?;
    // The low four bits of the sequence control are the fragment number: only fragment 0 begins with an LLC header.
    if bytes.u8(22)? & 0x0f != 0 {
        return other(packet);
    }
    let mut length = if to_station_system && from_station_system {
        30
    } else {
        24
    };
    if with_quality {
        // Bit 7: several frames in one (A-MSDU), each with a header of its own.
        if bytes.u8(length)? & 0x80 != 0 {
            return other(packet);
        }
        length += 2;
        // The order bit of a QoS data frame says that an HT control field follows.
        if flags & 0x80 != 0 {
            length += 4;
        }
    }
    Some((Layer::Llc, bytes.skip(length)?))
}
