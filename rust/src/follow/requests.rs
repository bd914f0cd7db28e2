//! Packets of one connection go in; the heads of its requests come out as they complete, and once that it is encrypted.

use crate::decode::packet::Tcp;
use crate::flows::watch::Origin;
use crate::reveal::head::Found;
use crate::reveal::heads::{Budget, Conversation};

/// What a reader of heads has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Head {
        /// The request line, without its end.
        line: Vec<u8>,
        /// Names and values, in the order of the head.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// TLS, or HTTP/2: no head will come.
    Encrypted,
    /// So many heads more, at least, could not be read, for bytes of them are missing.
    Lost(u64),
}

/// Reads one connection.
#[derive(Debug, Default)]
pub struct Requests {
    conversation: Conversation,
    lost: u64,
    encrypted: bool,
}

impl Requests {
    /// `opener`: the first sequence number of the end that opened the connection, and whether that is end `b`, where it is known.
    pub fn new(opener: Option<(u32, bool)>, budget: &mut Budget) -> Requests {
        let mut requests = Requests::default();
        if let Some((isn, opener_is_b)) = opener {
            let [a, b] = &mut requests.conversation.directions;
            let (asks, answers) = if opener_is_b { (b, a) } else { (a, b) };
            asks.opened(isn.wrapping_add(1));
            answers.silence(budget);
        }
        requests
    }

    /// Takes a packet of end `b` or the other; what it completes is told with the end that asked.
    pub fn packet(
        &mut self,
        tcp: &Tcp<'_>,
        from_b: bool,
        time_ns: i64,
        budget: &mut Budget,
        told: &mut Vec<(bool, Told)>,
    ) {
        let origin = Origin {
            file: 0,
            frame: 0,
            interface: 0,
            direction: 0,
            time_ns,
        };
        self.conversation
            .packet(tcp, from_b, origin, budget, &mut |asked_by_b, found| {
                told.extend(head(found).map(|head| (asked_by_b, head)));
            });
        self.tell_of_losses(from_b, told);
    }

    fn tell_of_losses(&mut self, from_b: bool, told: &mut Vec<(bool, Told)>) {
        let [a, b] = &self.conversation.directions;
        let lost = a.tally.heads_lost + b.tally.heads_lost;
        if lost > self.lost {
            told.push((from_b, Told::Lost(lost - self.lost)));
            self.lost = lost;
        }
        let is_encrypted = [a, b].iter().any(|one| one.tally.is_tls || one.tally.is_http2);
        if is_encrypted && !self.encrypted {
            self.encrypted = true;
            told.push((from_b, Told::Encrypted));
        }
    }

    /// No more packets come: what was held until it would be certain is told, memory is given back.
    pub fn finish(mut self, budget: &mut Budget, told: &mut Vec<(bool, Told)>) {
        self.conversation.finish(budget, &mut |asked_by_b, found| {
            told.extend(head(found).map(|head| (asked_by_b, head)));
        });
        self.tell_of_losses(false, told);
    }

    /// As `finish`, where nobody is to be told.
    pub fn forget(self, budget: &mut Budget) {
        self.finish(budget, &mut Vec::new());
    }
}

fn head(found: Found<'_>) -> Option<Told> {
    let Found::Head(head) = found else { return None };
    let fields = head
        .fields()
        .map(|field| (field.name.to_vec(), field.value.into_owned()))
        .collect();
    Some(Told::Head {
        line: head.request_line().to_vec(),
        fields,
    })
}
