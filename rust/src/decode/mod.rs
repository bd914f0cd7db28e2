//! A packet record goes in, its innermost TCP segment, ICMP error or ARP message comes out.

pub mod packet;
