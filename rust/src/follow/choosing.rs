//! Packets of connections that are not followed go in; those that name a client who is asked for choose their connection.

use super::engine::{Engine, borrowed};
use super::event::Event;
use super::followed::{Basis, Followed};
use super::forwarded::{self, Node};
use super::frame::Frame;
use super::openings::Opening;
use super::requests::{Requests, Told};
use super::wanted::Wanted;
use crate::decode::decode;
use crate::decode::packet::{Inner, Ip, Tcp, flag};
use crate::flows::row::Tuple;
use crate::reveal::proxy::{Checksum, Header, Transport};
use crate::reveal::toa::{self, What};
use std::io;

/// Connections followed at once, at most; a user who asks for one client meets some thousands.
const FOLLOWED_MAX: usize = 50_000;
/// The two NOPs and timestamps that nearly every segment carries, and nothing else (RFC 7323 appendix A).
const TIMESTAMPS_ALONE: usize = 12;

/// Names a connection's client, and why.
pub(super) struct Choice {
    pub basis: Basis,
    pub client: Option<Node>,
    pub because: String,
}

impl Engine {
    /// A packet of a connection that is not followed: perhaps from now on.
    pub(super) fn unfollowed(
        &mut self,
        frame: &Frame<'_>,
        ip: &Ip,
        tcp: &Tcp<'_>,
        tuple: &Tuple,
        from_b: bool,
    ) -> io::Result<()> {
        self.remember(ip, tcp, tuple, from_b);
        for requests in self.openings.left.drain(..) {
            requests.forget(&mut self.budget);
        }
        let choice = if self.wanted.is_given(tuple) {
            Some(Choice {
                basis: Basis::Given,
                client: None,
                because: "it was asked for".to_owned(),
            })
        } else {
            by_option(&self.wanted, tcp)
                .filter(|_| !self.comes_from_the_other_end(tcp, tuple, from_b))
                .or_else(|| self.by_stream_start(tcp, tuple, from_b))
                .or_else(|| self.by_request(frame, tcp, tuple, from_b))
        };
        let Some(choice) = choice else {
            self.keep_early(frame, tcp, tuple, from_b);
            return Ok(());
        };
        if self.followed.len() >= FOLLOWED_MAX {
            self.sweep(frame.time_ns);
        }
        if self.followed.len() >= FOLLOWED_MAX {
            if self.totals.refused == 0 {
                self.events.push(Event::TooMany { most: FOLLOWED_MAX });
            }
            self.totals.refused += 1;
            return Ok(());
        }
        self.choose(frame, ip, tcp, tuple, from_b, choice)
    }

    /// Remembers that a connection is there, and how it began.
    fn remember(&mut self, ip: &Ip, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) {
        let opener = match tcp.flags & (flag::SYN | flag::ACK) {
            flag::SYN => Some((tcp.seq, from_b)),
            // flag::SYN | flag::ACK
            0x012 => Some((tcp.ack.wrapping_sub(1), !from_b)),
            _ => None,
        };
        let known = self.openings.get_mut(tuple).map(|opening| opening.opener);
        match (opener, known) {
            (Some(_), Some(known)) if known == opener => {}
            (Some(_), _) => self.openings.insert(*tuple, Opening::new(opener)),
            (None, None) if tcp.payload_length > 0 => {
                if !self.openings.overflowed && !self.is_gappy {
                    if self.totals.open_before == 0 {
                        self.events.push(Event::OpenBefore {
                            source: (ip.source, tcp.source_port),
                            destination: (ip.destination, tcp.destination_port),
                        });
                    }
                    self.totals.open_before += 1;
                }
                self.openings.insert(*tuple, Opening::new(None));
            }
            _ => {}
        }
    }

    /// True where the handshake says that this end was called: what its options hold is about somebody else.
    fn comes_from_the_other_end(&mut self, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) -> bool {
        let opener = self.openings.get_mut(tuple).and_then(|opening| opening.opener);
        tcp.flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK
            || opener.is_some_and(|(_, opener_is_b)| opener_is_b != from_b)
    }

    fn by_stream_start(&mut self, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) -> Option<Choice> {
        if tcp.payload.is_empty() {
            return None;
        }
        let first = tcp.seq.wrapping_add(u32::from(tcp.flags & flag::SYN != 0));
        let header = self.openings.proxy_header(tuple, from_b, first, tcp.payload)?;
        by_header(&self.wanted, &header)
    }

    fn by_request(&mut self, frame: &Frame<'_>, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) -> Option<Choice> {
        let hops = self.wanted.trusted_hops?;
        let opening = self.openings.get_mut(tuple)?;
        let (opener, budget) = (opening.opener, &mut self.budget);
        opening
            .requests
            .get_or_insert_with(|| Box::new(Requests::new(opener, budget)))
            .packet(tcp, from_b, frame.time_ns, &mut self.budget, &mut self.told);
        let choice = self.told.iter().find_map(|(_, told)| {
            let Told::Head { fields, .. } = told else { return None };
            let (address, port) = forwarded::client_of(&borrowed(fields), hops)?;
            self.wanted.names(address, port).then(|| Choice {
                basis: Basis::Header,
                client: Some((address, port)),
                because: "a header of its request names the client".to_owned(),
            })
        });
        if choice.is_none() {
            self.told.clear();
        }
        choice
    }

    /// Keeps a packet of a connection that may yet be chosen by how it begins, and forgets these once the other end has answered.
    fn keep_early(&mut self, frame: &Frame<'_>, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) {
        let opener = self.openings.get_mut(tuple).and_then(|opening| opening.opener);
        let Some((_, opener_is_b)) = opener else { return };
        if from_b != opener_is_b && tcp.payload_length > 0 {
            self.openings.settle(tuple);
        } else {
            self.openings.keep(tuple, frame);
        }
    }

    fn choose(
        &mut self,
        frame: &Frame<'_>,
        ip: &Ip,
        tcp: &Tcp<'_>,
        tuple: &Tuple,
        from_b: bool,
        choice: Choice,
    ) -> io::Result<()> {
        let mut opening = self.openings.remove(tuple).unwrap_or_else(|| Opening::new(None));
        self.totals.connections += 1;
        let number = u32::try_from(self.totals.connections).unwrap_or(u32::MAX);
        let asked_by_b = self.told.iter().map(|(asked_by_b, _)| *asked_by_b).next();
        let opener_is_b = match opening.opener {
            Some((_, opener_is_b)) => opener_is_b,
            None if choice.basis == Basis::Toa => from_b,
            // Ephemeral ports are the higher ones.
            None => asked_by_b.unwrap_or(tuple.b().1 > tuple.a().1),
        };
        let (source, destination) = if opener_is_b {
            (tuple.b(), tuple.a())
        } else {
            (tuple.a(), tuple.b())
        };
        let comment = format!("tcpwhy: connection {number} is followed: {}", choice.because);
        self.events.push(Event::Chosen {
            connection: number,
            time_ns: frame.time_ns,
            source,
            destination,
            client: choice.client,
            basis: choice.basis,
            because: choice.because,
        });
        let opener = opening.opener;
        // Heads that were read already, to choose by them, are not read again from the packets that were kept.
        let heads = std::mem::take(&mut self.told);
        let read_before = choice.basis == Basis::Header;
        let requests = match opening.requests.take() {
            Some(requests) if read_before => requests,
            before => {
                if let Some(before) = before {
                    before.forget(&mut self.budget);
                }
                Box::new(Requests::new(opener, &mut self.budget))
            }
        };
        self.followed.insert(
            *tuple,
            Followed::new(number, choice.basis, choice.client, opener, requests),
        );
        for early in opening.into_early() {
            let kept = early.frame();
            let packet = decode(kept.link_type, kept.data, kept.original_length);
            if let Inner::Tcp(tcp) = packet.inner {
                let (_, from_b) = Tuple::of(
                    (packet.ip.source, tcp.source_port),
                    (packet.ip.destination, tcp.destination_port),
                );
                self.note(&kept, &packet.ip, &tcp, tuple, from_b);
                if !read_before {
                    self.read(&kept, &tcp, tuple, from_b);
                }
                self.write(&kept, &[])?;
            }
        }
        self.note(frame, ip, tcp, tuple, from_b);
        if read_before {
            self.tell(frame, tuple, heads);
        } else {
            self.read(frame, tcp, tuple, from_b);
        }
        self.write(frame, &[&comment])
    }
}

/// The client by an option of the packet.
pub(super) fn by_option(wanted: &Wanted, tcp: &Tcp<'_>) -> Option<Choice> {
    if wanted.clients.is_empty()
        || tcp.options.is_empty()
        || (tcp.timestamps.is_some() && tcp.options.len() == TIMESTAMPS_ALONE)
    {
        return None;
    }
    let claims = toa::claims(tcp.options);
    let claim = claims.iter().find(|claim| {
        claim.what == What::Client && claim.address.is_some_and(|address| wanted.names(address, claim.port))
    })?;
    let contradicted = claims
        .iter()
        .any(|other| other.what == What::Client && other.address.is_some() && other.address != claim.address);
    let mut because = format!("TCP option {} names the client", claim.layout());
    if claim.ambiguous {
        because.push_str(", but its bytes may mean something else");
    }
    if contradicted {
        because.push_str(", but another option of the packet names another client");
    }
    Some(Choice {
        basis: Basis::Toa,
        client: claim.address.map(|address| (address, claim.port)),
        because,
    })
}

/// The client by a PROXY header.
fn by_header(wanted: &Wanted, header: &Header) -> Option<Choice> {
    let (address, port) = header.source?;
    let is_tcp = matches!(header.transport, Transport::Tcp4 | Transport::Tcp6);
    if !is_tcp || header.checksum == Checksum::Wrong || !wanted.names(address, Some(port)) {
        return None;
    }
    Some(Choice {
        basis: Basis::Proxy,
        client: Some((address, Some(port))),
        because: format!("its PROXY header of version {} names the client", header.version),
    })
}
