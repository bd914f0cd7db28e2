//! The fields of a request head go in, the client that the trusted proxies name comes out.
//!
//! Each proxy appends the address of its peer (X-Forwarded-For by convention, `for=` of Forwarded by RFC 7239 section 5.2), so only as many
//! entries from the right are believed as there are trusted proxies: the one farthest to the left of these is the client.

use crate::decode::packet::Address;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A field's name and value.
pub type Field<'a> = (&'a [u8], &'a [u8]);
/// An address, and a port where one stands behind it.
pub type Node = (Address, Option<u16>);

/// The client that `hops` trusted proxies name; None where the fields are fewer, hold no address there, or contradict each other.
///
/// X-Real-IP, which nginx sets to its peer by convention, counts of one proxy alone and where there is no list: a proxy that appends to a
/// list hands on a field of that name that anybody wrote.
pub fn client_of(fields: &[Field<'_>], hops: usize) -> Option<Node> {
    let lists = [
        listed(fields, b"x-forwarded-for", hops, plain_entry),
        listed(fields, b"forwarded", hops, forwarded_entry),
    ];
    match lists {
        [Told::Nothing, Told::Nothing] if hops == 1 => match values(fields, b"x-real-ip").as_slice() {
            [value] => plain_entry(value),
            _ => None,
        },
        [Told::Client(client), Told::Nothing] | [Told::Nothing, Told::Client(client)] => Some(client),
        [Told::Client((address, port)), Told::Client((other, other_port))] => {
            let agree = address == other && (port.is_none() || other_port.is_none() || port == other_port);
            agree.then_some((address, port.or(other_port)))
        }
        _ => None,
    }
}

enum Told {
    Nothing,
    Unreadable,
    Client(Node),
}

fn values<'a>(fields: &[Field<'a>], name: &[u8]) -> Vec<&'a [u8]> {
    fields
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value)
        .collect()
}

fn listed(fields: &[Field<'_>], name: &[u8], hops: usize, read: fn(&[u8]) -> Option<Node>) -> Told {
    let values = values(fields, name);
    if values.is_empty() {
        return Told::Nothing;
    }
    // Several lines of one name are one list (RFC 9110 section 5.3).
    let entries: Vec<&[u8]> = values.iter().flat_map(|value| split(value, b',')).collect();
    entries
        .len()
        .checked_sub(hops)
        .and_then(|at| entries.get(at))
        .and_then(|entry| read(entry))
        .map_or(Told::Unreadable, Told::Client)
}

/// Splits at a byte that stands outside quotes (RFC 9110 section 5.6.4), spaces around the parts taken off.
fn split(value: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(|byte| {
            let is_end = *byte == at && !quoted;
            match *byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            is_end
        })
        .map(<[u8]>::trim_ascii)
        .collect()
}

/// `for=…` of one element; exactly one.
fn forwarded_entry(element: &[u8]) -> Option<Node> {
    let mut named = split(element, b';').into_iter().filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(equals);
        name.eq_ignore_ascii_case(b"for").then(|| value.get(1..))?
    });
    let value = named.next()?;
    if named.next().is_some() {
        return None;
    }
    let bare = match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    plain_entry(bare)
}

/// An address, or an address and a port; IPv6 with a port in brackets. Names, `unknown` and obfuscated identifiers are none.
fn plain_entry(entry: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let of = |ip: IpAddr, port| Some((super::wanted::address(ip), port));
    if let Ok(ip) = text.parse::<IpAddr>() {
        return of(ip, None);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return of(socket.ip(), Some(socket.port()));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    of(IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::wanted::shown;

    fn client(fields: &[(&str, &str)], hops: usize) -> Option<String> {
        let fields: Vec<Field<'_>> = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        client_of(&fields, hops).map(|(address, port)| shown(address, port))
    }

    #[test]
    fn believes_as_many_entries_as_there_are_trusted_proxies() {
        let list = [
            ("X-Forwarded-For", "6.6.6.6, 10.0.0.9"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(client(&list, 1).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&list, 2).as_deref(), Some("10.0.0.9"));
        assert_eq!(client(&list, 3).as_deref(), Some("6.6.6.6"));
        assert_eq!(client(&list, 4), None);
        assert_eq!(client(&[("Host", "a")], 1), None);
        assert_eq!(client(&[("X-Forwarded-For", "unknown")], 1), None);
        assert_eq!(client(&[("X-Forwarded-For", "")], 1), None);
    }

    #[test]
    fn reads_forwarded_with_quotes_and_ports() {
        let value = r#"for=6.6.6.6;by="a,b;c", For="[2001:db8:cafe::17]:4711";proto=http"#;
        assert_eq!(
            client(&[("Forwarded", value)], 1).as_deref(),
            Some("[2001:db8:cafe::17]:4711")
        );
        assert_eq!(client(&[("Forwarded", value)], 2).as_deref(), Some("6.6.6.6"));
        assert_eq!(client(&[("Forwarded", "for=_hidden")], 1), None);
        assert_eq!(client(&[("Forwarded", "for=1.2.3.4;for=1.2.3.5")], 1), None);
        assert_eq!(
            client(&[("Forwarded", "for=\"[2001:db8::1]\"")], 1).as_deref(),
            Some("2001:db8::1")
        );
    }

    #[test]
    fn contradictions_name_nobody() {
        let both = |address| [("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", address)];
        assert_eq!(client(&both("192.0.2.1"), 1).as_deref(), Some("192.0.2.1"));
        // Who stands before a proxy that appends can write the single field.
        assert_eq!(client(&both("192.0.2.2"), 1).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&[("X-Real-IP", "192.0.2.2")], 1).as_deref(), Some("192.0.2.2"));
        assert_eq!(client(&[("X-Real-IP", "192.0.2.2")], 2), None);
        let lists = |address| [("X-Forwarded-For", "192.0.2.2"), ("Forwarded", address)];
        assert_eq!(
            client(&lists("for=\"192.0.2.2:81\""), 1).as_deref(),
            Some("192.0.2.2:81")
        );
        assert_eq!(client(&lists("for=192.0.2.3"), 1), None);
        assert_eq!(client(&lists("for=unknown"), 1), None);
    }
}
