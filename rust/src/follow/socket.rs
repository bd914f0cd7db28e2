//! An interface's name goes in, a packet socket with filter and ring comes out: all system calls of the live capture.
#![expect(
    unsafe_code,
    reason = "system calls on AF_PACKET sockets have no safe form in the standard library"
)]

use super::filter;
use std::ffi::{CString, c_int, c_uint, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// linux/if_packet.h, which the libc crate does not have.
mod packet {
    use std::ffi::{c_int, c_uint, c_ushort};

    pub const ADD_MEMBERSHIP: c_int = 1;
    pub const RX_RING: c_int = 5;
    pub const STATISTICS: c_int = 6;
    pub const VERSION: c_int = 10;
    pub const TPACKET_V3: c_int = 2;
    pub const MR_PROMISC: c_ushort = 1;

    #[repr(C)]
    pub struct MembershipRequest {
        pub ifindex: c_int,
        pub kind: c_ushort,
        pub address_length: c_ushort,
        pub address: [u8; 8],
    }

    #[repr(C)]
    pub struct RingRequest {
        pub block_size: c_uint,
        pub block_nr: c_uint,
        pub frame_size: c_uint,
        pub frame_nr: c_uint,
        pub retire_block_ms: c_uint,
        pub private_size: c_uint,
        pub features: c_uint,
    }

    #[repr(C)]
    #[derive(Default)]
    pub struct Statistics {
        pub packets: c_uint,
        pub drops: c_uint,
        pub freezes: c_uint,
    }
}

/// Bytes of one block of the ring: a frame never spans two, so the largest frame with its header fits in one (64 KiB of GSO, 512 KiB of BIG TCP).
pub const BLOCK_SIZE: usize = 1 << 20;
/// Milliseconds after which the kernel hands a block over although it is not full.
pub const RETIRE_MS: u32 = 20;
/// Only checked by the kernel, not used: a block of TPACKET_V3 holds frames of any length.
const FRAME_SIZE: usize = 2048;

/// The socket of a live capture.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
}

/// A mapping of the ring, unmapped when it goes.
#[derive(Debug)]
pub struct Mapping {
    pub start: *mut u8,
    pub length: usize,
}

// SAFETY: the mapping is memory of the process, not of a thread; whoever owns the value is the only one who reads it.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are what mmap returned and was asked for, and nothing borrowed from the mapping outlives its owner.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// Number of an interface; `any` is 0, all of them.
pub fn interface_index(name: &str) -> io::Result<c_uint> {
    if name == "any" {
        return Ok(0);
    }
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `name` is a string that ends with a zero and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Name of an interface; None where it is gone.
pub fn interface_name(index: c_uint) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that if_indextoname asks for.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
        return None;
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Some(String::from_utf8_lossy(name.get(..end)?).into_owned())
}

impl PacketSocket {
    /// Opens the socket with its filter and a ring of about `ring_bytes`, then lets packets in: nothing that the filter refuses gets before it.
    /// EPERM without CAP_NET_RAW.
    pub fn open(index: c_uint, promiscuous: bool, ring_bytes: usize) -> io::Result<(PacketSocket, Mapping)> {
        // Protocol 0 receives nothing yet (packet(7)).
        // SAFETY: no pointers.
        let number = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = PacketSocket {
            // SAFETY: the number is a descriptor that was just opened and that nobody else owns.
            descriptor: unsafe { OwnedFd::from_raw_fd(number) },
        };
        socket.attach(&filter::tcp())?;
        socket.set(libc::SOL_PACKET, packet::VERSION, &packet::TPACKET_V3)?;
        let blocks = ring_bytes.div_ceil(BLOCK_SIZE).max(2);
        let length = blocks * BLOCK_SIZE;
        let request = packet::RingRequest {
            block_size: BLOCK_SIZE as c_uint,
            block_nr: c_uint::try_from(blocks).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            frame_size: FRAME_SIZE as c_uint,
            frame_nr: c_uint::try_from(length / FRAME_SIZE).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            retire_block_ms: RETIRE_MS,
            private_size: 0,
            features: 0,
        };
        socket.set(libc::SOL_PACKET, packet::RX_RING, &request)?;
        // SAFETY: a new mapping at an address that the kernel chooses, as long as the ring that was just made.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.descriptor.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Mapping {
            start: start.cast(),
            length,
        };
        socket.bind(index)?;
        if promiscuous && index != 0 {
            // Bound to the socket: the kernel takes it back when the socket is closed, however the process ends (packet(7)).
            socket.set(
                libc::SOL_PACKET,
                packet::ADD_MEMBERSHIP,
                &packet::MembershipRequest {
                    ifindex: index as c_int,
                    kind: packet::MR_PROMISC,
                    address_length: 0,
                    address: [0; 8],
                },
            )?;
        }
        Ok((socket, mapping))
    }

    /// Attaches a classic filter in the place of the one before.
    pub fn attach(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let mut instructions = program.to_vec();
        let request = libc::sock_fprog {
            len: u16::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            filter: instructions.as_mut_ptr(),
        };
        // The kernel copies the instructions before the call ends (net/core/filter.c __get_filter).
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &request)
    }

    fn bind(&self, index: c_uint) -> io::Result<()> {
        // SAFETY: all of sockaddr_ll's fields are integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as c_int;
        // SAFETY: the address is a sockaddr_ll, as long as is said, and lives through the call.
        let done = unsafe {
            libc::bind(
                self.descriptor.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is as long as is said and lives through the call; each caller passes the type that its option takes (packet(7),
        // socket(7), linux/if_packet.h).
        let done = unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast::<c_void>(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn get<T: Default>(&self, level: c_int, option: c_int) -> io::Result<T> {
        let mut value = T::default();
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes `length` bytes at most, which `value` has; the callers' types are structures of integers.
        let done = unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                level,
                option,
                (&raw mut value).cast::<c_void>(),
                &raw mut length,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value)
    }

    /// Packets that passed the filter and packets that found no room in the ring, since the last call (packet(7): reading resets them). The
    /// first number holds the second.
    pub fn statistics(&self) -> io::Result<(u64, u64)> {
        let counts: packet::Statistics = self.get(libc::SOL_PACKET, packet::STATISTICS)?;
        Ok((u64::from(counts.packets), u64::from(counts.drops)))
    }

    /// The error that waits at the socket, taken from it.
    pub fn take_error(&self) -> io::Result<()> {
        match self.get::<c_int>(libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// Waits until a block is ready. True where an error waits at the socket.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut asked = libc::pollfd {
            fd: self.descriptor.as_raw_fd(),
            events: libc::POLLIN | libc::POLLERR,
            revents: 0,
        };
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: one pollfd, which lives through the call.
        if unsafe { libc::poll(&raw mut asked, 1, timeout) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return Ok(false);
            }
            return Err(error);
        }
        Ok(asked.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0)
    }
}
