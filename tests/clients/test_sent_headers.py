"""HTTP headers that anyone can write go in; they must name a client only where a trusted proxy wrote them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwhy.clients.headers import MOST_HOPS, beyond_proxies, hops_of, plain_address
from tcpwhy.clients.hosts import Hosts
from tests.clients.builders import LB, entry, names, node, proxy, resolve, toa

CLIENT_IP = "198.51.100.7"
PROXY = Hosts(addresses={"gw": frozenset({LB})}, roles={"gw": "proxy"})


@pytest.mark.parametrize(
    ("name", "value", "hops"),
    [
        ("x-forwarded-for", "198.51.100.7", [("198.51.100.7", None)]),
        ("x-forwarded-for", " 198.51.100.7:81 ,10.0.0.1", [("198.51.100.7", 81), ("10.0.0.1", None)]),
        ("x-forwarded-for", "unknown, _x, 1.2.3", [None, None, None]),
        ("x-forwarded-for", "[2001:db8::1]:4711, 2001:db8::2", [("2001:db8::1", 4711), ("2001:db8::2", None)]),
        ("x-forwarded-for", "::ffff:192.0.2.1", [("192.0.2.1", None)]),
        ("x-forwarded-for", "192.0.2.1:99999", [None]),
        ("x-forwarded-for", "", [None]),
        ("x-real-ip", "192.0.2.1, 192.0.2.2", [None]),
        ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43", [("192.0.2.60", None)]),
        ("forwarded", 'for=192.0.2.43, For="[2001:db8:cafe::17]:4711"', [("192.0.2.43", None), ("2001:db8:cafe::17", 4711)]),
        ("forwarded", 'for=_hidden, proto=http, for="unknown"', [None, None, None]),
        ("forwarded", 'for="a,b;for=1.2.3.4", for=192.0.2.1', [None, ("192.0.2.1", None)]),
        ("forwarded", 'by="for=1.1.1.1";for=192.0.2.1', [("192.0.2.1", None)]),
    ],
)
def test_hops_are_read_as_the_documents_have_them(name: str, value: str, hops: list[object]) -> None:
    assert hops_of(name, value) == hops


@given(st.sampled_from(["forwarded", "x-forwarded-for", "x-real-ip"]), st.text(alphabet=st.characters(), max_size=400))
def test_any_text_is_read_to_its_end(name: str, value: str) -> None:
    hops = hops_of(name, value)
    assert len(hops) <= MOST_HOPS
    assert all(hop is None or plain_address(hop[0]) == hop[0] for hop in hops)


def test_a_chain_is_walked_from_the_right_past_known_proxies() -> None:
    chain = hops_of("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.0.0.1, 10.0.0.2")
    assert beyond_proxies(chain, {"10.0.0.1", "10.0.0.2"}) == (CLIENT_IP, None)
    assert beyond_proxies(hops_of("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.1"), {"10.0.0.1"}) is None
    assert beyond_proxies(hops_of("x-forwarded-for", "10.0.0.1"), {"10.0.0.1"}) is None


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "x-envoy-external-address"])
def test_a_header_of_a_stranger_is_a_candidate_only(name: str) -> None:
    answer = resolve(node(headers=[(name, CLIENT_IP)]))
    assert answer.real_client is None
    assert [(one.real_client, one.basis, one.confidence) for one in answer.candidates] == [(CLIENT_IP, ("header",), "possible")]


@pytest.mark.parametrize(("hops", "real"), [(1, "10.0.0.9"), (2, "198.51.100.7"), (3, "6.6.6.6"), (4, None), (0, None), (None, None)])
def test_the_nth_entry_from_the_right_counts(hops: int | None, real: str | None) -> None:
    answer = resolve(node(headers=[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.0.0.9")]), trusted_hops=hops)
    assert answer.real_client == real


def test_a_spoofed_left_end_never_wins_behind_a_proxy() -> None:
    answer = resolve(node(headers=[("x-forwarded-for", "6.6.6.6, 198.51.100.7")]), hosts=PROXY)
    assert (answer.real_client, answer.basis, answer.confidence) == (CLIENT_IP, ("header",), "likely")


def test_a_spoofed_single_header_does_not_outweigh_counted_hops() -> None:
    story = node(headers=[("x-forwarded-for", "6.6.6.6, 198.51.100.7"), ("x-real-ip", "6.6.6.6")])
    assert resolve(story, trusted_hops=1).real_client == CLIENT_IP
    unsure = resolve(story, hosts=PROXY)
    assert unsure.real_client is None, "the proxy may append to the one and pass the other on, or the other way round"
    assert names(unsure) == {CLIENT_IP, "6.6.6.6"}


def test_forwarded_and_x_forwarded_for_that_differ_name_nobody() -> None:
    story = node(headers=[("x-forwarded-for", CLIENT_IP), ("forwarded", "for=6.6.6.6")])
    assert resolve(story, trusted_hops=1).real_client is None


def test_several_clients_over_one_kept_alive_connection_are_candidates() -> None:
    story = node(headers=[("x-forwarded-for", CLIENT_IP), ("x-forwarded-for", "198.51.100.8")], requests=2)
    answer = resolve(story, trusted_hops=1)
    assert answer.real_client is None
    assert names(answer) == {CLIENT_IP, "198.51.100.8"}


def test_requests_without_the_header_leave_it_open() -> None:
    assert resolve(node(headers=[("x-forwarded-for", CLIENT_IP)], requests=2), trusted_hops=1).real_client is None
    both = node(headers=[("x-forwarded-for", CLIENT_IP), ("x-forwarded-for", "unknown")], requests=2)
    assert resolve(both, trusted_hops=1).real_client is None


@pytest.mark.parametrize("value", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "not an address"])
def test_what_cannot_be_a_client_is_none(value: str) -> None:
    answer = resolve(node(headers=[("x-forwarded-for", value)]), trusted_hops=1)
    assert (answer.real_client, answer.candidates) == (None, ())


def test_a_cut_value_names_nobody() -> None:
    story = node(headers=[("x-forwarded-for", "6.6.6.6")])
    story.headers[0] = story.headers[0].__class__("x-forwarded-for", "6.6.6.6", 1, "rs1.pcap #4", is_cut=True)
    assert resolve(story, trusted_hops=1).real_client is None


def test_an_own_capture_of_the_proxy_shows_who_asked_it() -> None:
    hosts = Hosts(addresses={"gw": frozenset({LB})}, callers={"gw": frozenset({CLIENT_IP})})
    assert resolve(node(headers=[("x-forwarded-for", CLIENT_IP)]), hosts=hosts).real_client == CLIENT_IP
    stranger = resolve(node(headers=[("x-forwarded-for", "6.6.6.6")]), hosts=hosts)
    assert stranger.real_client is None
    client_host = Hosts(addresses={"laptop": frozenset({LB})})
    assert resolve(node(headers=[("x-forwarded-for", "6.6.6.6")]), hosts=client_host).real_client is None


def test_a_header_does_not_outweigh_what_was_done_to_the_packets() -> None:
    for claim in (toa("198.51.100.7:4660"), proxy("198.51.100.7:4660")):
        story = node(claims=[claim], headers=[("x-forwarded-for", "6.6.6.6")])
        balancer = Hosts(addresses={"lb": frozenset({LB})}, roles={"lb": "balancer"})
        for hosts in (Hosts(), balancer, PROXY):
            answer = resolve(story, hosts=hosts)
            assert answer.real_client == "198.51.100.7:4660"
            assert names(answer) == {"6.6.6.6"}
        assert resolve(story, trusted_hops=1).real_client is None, "two witnesses that are both trusted contradict each other"


def test_a_header_that_agrees_confirms_only_where_it_is_trusted() -> None:
    story = node(claims=[toa("198.51.100.7:4660")], headers=[("x-forwarded-for", CLIENT_IP)])
    assert resolve(story).confidence == "likely"
    trusted = resolve(story, trusted_hops=1)
    assert (trusted.real_client, trusted.confidence, trusted.basis) == ("198.51.100.7:4660", "confirmed", ("toa", "header"))


def test_a_header_goes_on_where_the_option_names_a_proxy() -> None:
    story = node(claims=[toa("192.0.2.9:5000")], headers=[("x-forwarded-for", "6.6.6.6, 198.51.100.7")])
    hosts = Hosts(addresses={"edge": frozenset({"192.0.2.9"})}, roles={"edge": "proxy"})
    answer = resolve(story, hosts=hosts)
    assert (answer.real_client, answer.basis) == (CLIENT_IP, ("toa", "header"))
    counted = node(claims=[toa("192.0.2.9:5000")], headers=[("x-forwarded-for", "198.51.100.7, 192.0.2.9")])
    assert resolve(counted, trusted_hops=2).real_client == CLIENT_IP


def test_a_header_that_names_a_balancer_is_no_client() -> None:
    answer = resolve(node("10.9.0.20:3000", headers=[("x-forwarded-for", f"6.6.6.6, {LB}")]), trusted_hops=1,
                     entries=[entry("198.51.100.7:1", behind=f"{LB}:9")])  # fmt: skip
    assert answer.real_client is None
    assert LB in names(answer)


def test_a_header_that_names_the_balancer_before_the_proxy_is_no_client() -> None:
    """nginx behind a balancer in full NAT without its TOA module: its own peer is the balancer, and so says its header."""
    hosts = Hosts(relays=frozenset({"10.9.0.1"}))
    answer = resolve(node("10.9.0.20:3000", headers=[("x-forwarded-for", "10.9.0.1")]), trusted_hops=1, hosts=hosts)
    assert answer.real_client is None
    assert names(answer) == {"10.9.0.1"}


def test_a_header_of_one_value_counts_for_one_hop_where_nothing_was_appended() -> None:
    for name in ("x-real-ip", "x-envoy-external-address"):
        assert resolve(node(headers=[(name, CLIENT_IP)]), trusted_hops=1).real_client == CLIENT_IP
        assert resolve(node(headers=[(name, CLIENT_IP)]), trusted_hops=2).real_client is None
    both = node(headers=[("x-real-ip", CLIENT_IP), ("x-envoy-external-address", "6.6.6.6")])
    assert resolve(both, trusted_hops=1).real_client is None


def test_lost_heads_may_name_others() -> None:
    story = node(headers=[("x-forwarded-for", CLIENT_IP)])
    story.heads_lost = 3
    assert resolve(story, trusted_hops=1).real_client is None
