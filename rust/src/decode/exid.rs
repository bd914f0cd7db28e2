//! The experiment identifiers that stand first in options of kind 253 and 254: by them a shared kind is told from an address.

/// The experiment identifier of HOST_ID (RFC 7974 section 3).
pub(crate) const HOST_ID: u16 = 0x0348;

/// Registered experiment identifiers (RFC 6994; iana.org/assignments/tcp-parameters): an option that begins with one is most likely no TOA.
pub(crate) const IDENTIFIERS: [u16; 13] = [
    0x00ac, 0x0a0d, 0x0ca0, 0x0ed0, 0x454e, 0x5323, 0x75ec, 0xacc0, 0xacc1, 0xacce, 0xe2d4, 0xf989, 0xf990,
];
