//! Frames of a ring or a file go in, in their order; what is followed is written, and what is to be told comes out.

use super::choosing::by_option;
use super::event::{End, Event};
use super::followed::{Basis, Belonging, Followed};
use super::forwarded;
use super::frame::Frame;
use super::openings::{Opening, Openings};
use super::output::Output;
use super::requests::Told;
use super::wanted::Wanted;
use crate::decode::decode;
use crate::decode::packet::{Address, IcmpError, Inner, Ip, Tcp, flag};
use crate::flows::row::Tuple;
use crate::reveal::heads::Budget;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::io;

/// A connection that is closed is remembered so long, for what comes late (TIME_WAIT, net/tcp.h TCP_TIMEWAIT_LEN).
const CLOSED_NS: i64 = 60_000_000_000;
/// Packets of followed connections between two looks at which of them are over.
const SWEEP_EVERY: u64 = 65_536;
/// First fragments remembered, so that later ones are followed too.
const FRAGMENTS_KEPT: usize = 1024;
/// Bytes that wait in all readers of heads together, at most.
const HEADS_BYTES: usize = 64 << 20;
/// What was seen and done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames looked at.
    pub seen: u64,
    /// Packets of followed connections.
    pub followed: u64,
    pub connections: u64,
    pub requests: u64,
    /// Requests on followed connections that name another client in a trusted header: not told.
    pub of_others: u64,
    /// Request heads, at least, that could not be read, for bytes of them are missing.
    pub heads_lost: u64,
    /// Connections that were open before the first packet, at least.
    pub open_before: u64,
    /// Connections that were not followed although they are asked for: there were too many.
    pub refused: u64,
}

/// What an interface is called.
pub type NameOf = dyn Fn(u32) -> Option<String> + Send;

/// Chooses and follows.
pub struct Engine {
    pub(super) wanted: Wanted,
    pub(super) followed: HashMap<Tuple, Followed>,
    pub(super) openings: Openings,
    fragments: VecDeque<(Address, Address, u32)>,
    output: Option<Output>,
    /// Stop when so many packets were followed.
    most: Option<u64>,
    names: Box<NameOf>,
    swept: u64,
    /// Packets were lost before they got here: what was not seen may have been sent.
    pub is_gappy: bool,
    pub totals: Totals,
    pub events: Vec<Event>,
    /// What readers of heads may hold, all together.
    pub(super) budget: Budget,
    pub(super) told: Vec<(bool, Told)>,
}

impl Engine {
    pub fn new(wanted: Wanted, output: Option<Output>, most: Option<u64>) -> Engine {
        Engine {
            wanted,
            followed: HashMap::new(),
            openings: Openings::default(),
            fragments: VecDeque::new(),
            output,
            most,
            names: Box::new(|_| None),
            swept: 0,
            is_gappy: false,
            totals: Totals::default(),
            events: Vec::new(),
            budget: Budget::new(HEADS_BYTES),
            told: Vec::new(),
        }
    }

    /// Learns how to name interfaces that are written.
    pub fn name_interfaces(&mut self, names: Box<NameOf>) {
        self.names = names;
    }

    /// Packets written, and packets that pcapng cannot hold.
    pub fn written(&self) -> (u64, u64) {
        self.output
            .as_ref()
            .map_or((0, 0), |output| (output.written, output.unwritten))
    }

    /// True where as many packets were followed as were asked for.
    pub fn has_enough(&self) -> bool {
        self.most.is_some_and(|most| self.totals.followed >= most)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.output.as_mut().map_or(Ok(()), Output::flush)
    }

    /// Ends what is written; `dropped` by the capture, where it is a live one.
    pub fn finish(&mut self, dropped: Option<u64>, now_ns: i64) -> io::Result<()> {
        for (tuple, followed) in std::mem::take(&mut self.followed) {
            self.end(&tuple, followed);
        }
        self.output
            .as_mut()
            .map_or(Ok(()), |output| output.finish(dropped, now_ns))
    }

    /// Takes a frame. An error is one of writing.
    pub fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.totals.seen += 1;
        let packet = decode(frame.link_type, frame.data, frame.original_length);
        match packet.inner {
            Inner::Tcp(tcp) => self.segment(frame, &packet.ip, &tcp),
            Inner::TcpFragment(_) => {
                let key = (packet.ip.source, packet.ip.destination, packet.ip.id);
                if self.fragments.contains(&key) {
                    self.write(frame, &[])?;
                }
                Ok(())
            }
            Inner::IcmpError(error) => self.icmp(frame, &error),
            _ => Ok(()),
        }
    }

    fn segment(&mut self, frame: &Frame<'_>, ip: &Ip, tcp: &Tcp<'_>) -> io::Result<()> {
        let source = (ip.source, tcp.source_port);
        let destination = (ip.destination, tcp.destination_port);
        let (tuple, from_b) = Tuple::of(source, destination);
        if let Some(followed) = self.followed.get_mut(&tuple) {
            let choice = if tcp.flags & (flag::SYN | flag::ACK) == flag::SYN {
                by_option(&self.wanted, tcp)
            } else {
                None
            };
            let followed_basis = followed.basis;
            match followed.belonging(tcp, from_b) {
                Belonging::Own => return self.deliver(frame, ip, tcp, &tuple, from_b, &[]),
                Belonging::Stranger => return Ok(()),
                Belonging::Held | Belonging::Renewed | Belonging::Lost if followed_basis == Basis::Given => {
                    let old = followed.begin_anew();
                    self.end(&tuple, old);
                    return self.deliver(frame, ip, tcp, &tuple, from_b, &[]);
                }
                // A SYN that names the client itself is followed, whatever becomes of the connection before it.
                Belonging::Held if choice.is_none() => {
                    let mut opening = Opening::new(Some((tcp.seq, from_b)));
                    opening.keep(frame);
                    followed.renewal = Some(Box::new(opening));
                    return Ok(());
                }
                belonging => self.replace(&tuple, source, destination, belonging != Belonging::Lost),
            }
        }
        self.unfollowed(frame, ip, tcp, &tuple, from_b)
    }

    /// A followed connection's addresses and ports are another's from now on.
    fn replace(&mut self, tuple: &Tuple, source: End, destination: End, seen: bool) {
        let Some(mut old) = self.followed.remove(tuple) else {
            return;
        };
        let renewal = old.renewal.take();
        if !old.is_closed() {
            self.events.push(Event::Replaced {
                connection: old.number,
                source,
                destination,
                seen,
            });
        }
        self.end(tuple, old);
        if let Some(renewal) = renewal {
            self.openings.insert(*tuple, *renewal);
        }
    }

    /// Tells what a connection's reader still holds.
    fn end(&mut self, tuple: &Tuple, mut old: Followed) {
        let requests = std::mem::take(&mut old.requests);
        requests.finish(&mut self.budget, &mut self.told);
        let heads = std::mem::take(&mut self.told);
        self.tell_of(&old, old.last_ns, tuple, heads);
    }

    /// Takes in, reads and writes a packet of a followed connection.
    pub(super) fn deliver(
        &mut self,
        frame: &Frame<'_>,
        ip: &Ip,
        tcp: &Tcp<'_>,
        tuple: &Tuple,
        from_b: bool,
        comments: &[&str],
    ) -> io::Result<()> {
        self.note(frame, ip, tcp, tuple, from_b);
        self.read(frame, tcp, tuple, from_b);
        self.write(frame, comments)
    }

    pub(super) fn note(&mut self, frame: &Frame<'_>, ip: &Ip, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) {
        if let Some(followed) = self.followed.get_mut(tuple) {
            followed.note(tcp, from_b, frame.time_ns);
        }
        if ip.more_fragments {
            if self.fragments.len() >= FRAGMENTS_KEPT {
                self.fragments.pop_front();
            }
            self.fragments.push_back((ip.source, ip.destination, ip.id));
        }
    }

    /// Reads request heads from a followed connection's packet.
    pub(super) fn read(&mut self, frame: &Frame<'_>, tcp: &Tcp<'_>, tuple: &Tuple, from_b: bool) {
        let Some(followed) = self.followed.get_mut(tuple) else {
            return;
        };
        followed
            .requests
            .packet(tcp, from_b, frame.time_ns, &mut self.budget, &mut self.told);
        if !self.told.is_empty() {
            let heads = std::mem::take(&mut self.told);
            self.tell(frame, tuple, heads);
        }
    }

    pub(super) fn tell(&mut self, frame: &Frame<'_>, tuple: &Tuple, told: Vec<(bool, Told)>) {
        if let Some(followed) = self.followed.remove(tuple) {
            self.tell_of(&followed, frame.time_ns, tuple, told);
            self.followed.insert(*tuple, followed);
        }
    }

    fn tell_of(&mut self, followed: &Followed, time_ns: i64, tuple: &Tuple, told: Vec<(bool, Told)>) {
        for (asked_by_b, one) in told {
            let (source, destination) = if asked_by_b {
                (tuple.b(), tuple.a())
            } else {
                (tuple.a(), tuple.b())
            };
            match one {
                Told::Encrypted => self.events.push(Event::Encrypted {
                    connection: followed.number,
                    source,
                    destination,
                }),
                Told::Lost(count) => self.totals.heads_lost += count,
                Told::Head { line, fields } => {
                    let mut client = followed.client;
                    if followed.basis == Basis::Header {
                        // Requests of many clients may share a proxy's connection: each says whose it is.
                        let hops = self.wanted.trusted_hops.unwrap_or(1);
                        client = forwarded::client_of(&borrowed(&fields), hops);
                        if !client.is_some_and(|(address, port)| self.wanted.names(address, port)) {
                            self.totals.of_others += 1;
                            continue;
                        }
                    }
                    self.totals.requests += 1;
                    self.events.push(Event::Request {
                        connection: followed.number,
                        time_ns,
                        source,
                        destination,
                        client,
                        basis: followed.basis,
                        line,
                        fields,
                    });
                }
            }
        }
    }

    fn icmp(&mut self, frame: &Frame<'_>, error: &IcmpError) -> io::Result<()> {
        let (tuple, _) = Tuple::of(
            (error.quoted_source, error.quoted_source_port),
            (error.quoted_destination, error.quoted_destination_port),
        );
        if self.followed.contains_key(&tuple) {
            self.write(frame, &[])?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, frame: &Frame<'_>, comments: &[&str]) -> io::Result<()> {
        if self.has_enough() {
            return Ok(());
        }
        self.totals.followed += 1;
        if self.totals.followed - self.swept >= SWEEP_EVERY {
            self.sweep(frame.time_ns);
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        output.write(frame, comments, &self.names)
    }

    /// Forgets connections that are over, and nothing of which can come late any more.
    pub(super) fn sweep(&mut self, now_ns: i64) {
        self.swept = self.totals.followed;
        let over = |followed: &Followed| followed.is_closed() && now_ns - followed.last_ns >= CLOSED_NS;
        let ended: Vec<(Tuple, Followed)> = self.followed.extract_if(|_, followed| over(followed)).collect();
        for (tuple, followed) in ended {
            self.end(&tuple, followed);
        }
    }
}

pub(super) fn borrowed(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<forwarded::Field<'_>> {
    fields
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect()
}
