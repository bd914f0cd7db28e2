//! What two ends of a connection say goes in, segment by segment; what was found in it comes out.

use crate::decode::packet::{Tcp, flag};
use crate::flows::watch::Origin;
use crate::reveal::head::Found;
use crate::reveal::heads::{Budget, Conversation, Tally};

/// What was found: each head's bytes and the frame where it began; PROXY headers as their length, below zero in mid-connection.
#[derive(Debug, Default)]
pub struct Collected {
    pub heads: Vec<(Vec<u8>, u64)>,
    pub proxies: Vec<i64>,
}

/// A connection under test: the client is end a.
pub struct Talk {
    conversation: Conversation,
    budget: Budget,
    pub collected: Collected,
    frame: u64,
    /// What the server said so far: each of the client's messages follows one of its.
    pub server: u32,
}

pub const ISN: u32 = u32::MAX - 700;

impl Talk {
    pub fn mid() -> Talk {
        Talk {
            conversation: Conversation::default(),
            budget: Budget::new(64 << 20),
            collected: Collected::default(),
            frame: 0,
            server: 5000,
        }
    }

    pub fn opened() -> Talk {
        let mut talk = Talk::mid();
        talk.packet(false, flag::SYN, ISN.wrapping_sub(1), 0, b"", 0);
        talk.packet(true, flag::SYN | flag::ACK, 4999, ISN, b"", 0);
        talk
    }

    pub fn packet(&mut self, from_b: bool, flags: u16, seq: u32, ack: u32, payload: &[u8], cut: usize) {
        self.frame += 1;
        let tcp = Tcp {
            seq,
            ack,
            flags,
            payload: &payload[..payload.len() - cut],
            payload_length: payload.len() as u32,
            ..Tcp::default()
        };
        let origin = Origin {
            file: 0,
            frame: self.frame,
            interface: 0,
            direction: 0,
            time_ns: self.frame as i64,
        };
        let collected = &mut self.collected;
        self.conversation
            .packet(&tcp, from_b, origin, &mut self.budget, &mut |_, found| {
                take(collected, found)
            });
    }

    /// The client sends bytes at an offset of its stream; where `turn`, the server has spoken before.
    pub fn says(&mut self, offset: usize, payload: &[u8], turn: bool) {
        if turn {
            self.server = self.server.wrapping_add(100);
        }
        self.packet(
            false,
            flag::ACK,
            ISN.wrapping_add(offset as u32),
            self.server,
            payload,
            0,
        );
    }

    /// The server answers all that it has, with payload.
    pub fn answers(&mut self, offset: usize) {
        let ack = ISN.wrapping_add(offset as u32);
        self.packet(true, flag::ACK, self.server, ack, b"HTTP/1.1 200 OK\r\n\r\n", 0);
    }

    pub fn hears(&mut self, offset: usize) {
        self.packet(true, flag::ACK, self.server, ISN.wrapping_add(offset as u32), b"", 0);
    }

    pub fn end(mut self) -> (Collected, Tally) {
        let collected = &mut self.collected;
        self.conversation
            .finish(&mut self.budget, &mut |_, found| take(collected, found));
        assert_eq!(self.budget.held(), 0, "all memory is given back");
        (self.collected, self.conversation.directions[0].tally)
    }
}

fn take(collected: &mut Collected, found: Found<'_>) {
    match found {
        Found::Head(head) => collected.heads.push((head.bytes.to_vec(), head.origin.frame)),
        Found::Proxy { header, at_start, .. } => {
            let length = header.length as i64;
            collected.proxies.push(if at_start { length } else { -length });
        }
    }
}

pub fn heads_of(collected: &Collected) -> Vec<String> {
    collected
        .heads
        .iter()
        .map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}
