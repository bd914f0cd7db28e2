//! What ring and files have in common: one captured frame, as the choosing and the writing take it.

use crate::capture::record::Direction;

/// A frame, borrowed from the ring's block or the reader's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The kernel's interface index, or the number that the file's reader gave.
    pub interface: u32,
    /// LINKTYPE_ value.
    pub link_type: u16,
    pub direction: Direction,
    pub data: &'a [u8],
    /// Length on the wire, without a tag in `vlan`.
    pub original_length: u32,
    /// EtherType and control information of the VLAN tag that the kernel took off, to be put back behind the two addresses.
    pub vlan: Option<(u16, u16)>,
}

/// Where an Ethernet frame's VLAN tag stands (IEEE 802.1Q clause 9.3).
const TAG_OFFSET: usize = 12;

impl Frame<'_> {
    /// The bytes as they were on the wire, the tag put back: `scratch` is used where there is one.
    pub fn on_the_wire<'b>(&'b self, scratch: &'b mut Vec<u8>) -> (&'b [u8], u32) {
        let Some((kind, tag)) = self.vlan else {
            return (self.data, self.original_length);
        };
        let Some((addresses, rest)) = self.data.split_at_checked(TAG_OFFSET) else {
            return (self.data, self.original_length);
        };
        scratch.clear();
        scratch.extend_from_slice(addresses);
        scratch.extend_from_slice(&kind.to_be_bytes());
        scratch.extend_from_slice(&tag.to_be_bytes());
        scratch.extend_from_slice(rest);
        (scratch, self.original_length.saturating_add(4))
    }
}
