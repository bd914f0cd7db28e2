"""Witnesses of one connection go in; the one right name must come out, or none where they do not prove one."""

import dataclasses

import pytest

from tcpwhy.clients.hosts import Hosts
from tcpwhy.clients.resolving import ENCRYPTED, TOO_MANY
from tcpwhy.clients.resolving import LOCAL as LOCAL_WORDS
from tcpwhy.clients.story import Before, HeaderLine
from tests.clients.builders import LB, LOCAL, RS, T0, S, end, entry, life, names, node, proxy, resolve, toa

CLIENT, OTHER, NAT = "198.51.100.7:4660", "198.51.100.8:5000", "192.0.2.1:40001"
SAME_BYTES = Before(2, "bytes", True, "lb1 saw the same bytes")
SAME_ADDRESS = Before(2, "address", True, "")


def test_nothing_identifies_and_the_peer_is_no_answer() -> None:
    answer = resolve(node())
    assert (answer.real_client, answer.basis, answer.confidence, answer.candidates) == (None, (), None, ())


@pytest.mark.parametrize("claim", [toa(CLIENT), proxy(CLIENT)])
def test_one_witness_is_likely(claim: object) -> None:
    answer = resolve(node(claims=[claim]))  # type: ignore[list-item]
    assert (answer.real_client, answer.confidence) == (CLIENT, "likely")
    assert answer.basis == (claim.basis,)  # type: ignore[attr-defined]
    assert "rs1.pcap #" in answer.because[0]


def test_witnesses_that_agree_confirm() -> None:
    answer = resolve(node(claims=[toa(CLIENT)]), entries=[entry(CLIENT)])
    assert (answer.real_client, answer.confidence, set(answer.basis)) == (CLIENT, "confirmed", {"toa", "lb-table"})


def test_one_option_seen_at_two_places_is_one_witness() -> None:
    answer = resolve(node(claims=[toa(CLIENT), toa(CLIENT)]))
    assert (answer.real_client, answer.confidence, answer.basis) == (CLIENT, "likely", ("toa",))


def test_witnesses_that_contradict_each_other_name_nobody() -> None:
    answer = resolve(node(claims=[toa(CLIENT)]), entries=[entry(OTHER)])
    assert answer.real_client is None
    assert answer.confidence is None
    assert {(one.real_client, one.basis, one.confidence) for one in answer.candidates} == {
        (CLIENT, ("toa",), "possible"),
        (OTHER, ("lb-table",), "possible"),
    }


def test_two_options_on_one_flow_are_both_candidates() -> None:
    answer = resolve(node(claims=[toa(CLIENT), toa(OTHER, layout="253/20")]))
    assert answer.real_client is None
    assert names(answer) == {CLIENT, OTHER}


def test_another_port_of_one_address_is_another_client() -> None:
    answer = resolve(node(claims=[toa(CLIENT)]), entries=[entry("198.51.100.7:4661")])
    assert answer.real_client is None
    assert len(answer.candidates) == 2


def test_ipv6_behind_nat64() -> None:
    six = "[2001:db8::66]:45093"
    answer = resolve(node(claims=[toa(six, layout="254/20")]), entries=[entry(six, before_server="[2001:db8::80]:80")])
    assert (answer.real_client, answer.confidence) == (six, "confirmed")


# ---- options that may be something else, or that anybody may have set


def test_an_ambiguous_option_alone_names_nobody() -> None:
    answer = resolve(node(claims=[toa("198.51.100.7:63881", ambiguous=True)]))
    assert answer.real_client is None
    assert names(answer) == {"198.51.100.7:63881"}


def test_an_ambiguous_option_beside_sure_ones_of_the_same_peer_counts_with_less_confidence() -> None:
    hosts = Hosts(trusted_layouts=frozenset({(LB, "254/8")}))
    answer = resolve(node(claims=[toa("198.51.100.7:63881", ambiguous=True)]), hosts=hosts)
    assert (answer.real_client, answer.confidence) == ("198.51.100.7:63881", "possible")
    for impossible in (toa("224.0.0.1:63881", ambiguous=True), toa("198.51.100.7:4660", ambiguous=True)):
        assert resolve(node(claims=[impossible]), hosts=hosts).real_client is None
    late_header = dataclasses.replace(proxy("6.6.6.6:63881"), ambiguous=True, layout="254/8")
    assert resolve(node(claims=[late_header]), hosts=hosts).real_client is None
    other_layout = resolve(node(claims=[toa("198.51.100.7:63881", ambiguous=True, layout="253/8")]), hosts=hosts)
    assert other_layout.real_client is None


def test_an_ambiguous_option_that_a_table_confirms_counts() -> None:
    answer = resolve(node(claims=[toa("198.51.100.7:63881", ambiguous=True)]), entries=[entry("198.51.100.7:63881")])
    assert answer.real_client == "198.51.100.7:63881"


@pytest.mark.parametrize("claim", [toa(CLIENT), proxy(CLIENT)])
def test_a_stranger_s_option_beside_known_balancers_is_a_candidate_only(claim: object) -> None:
    hosts = Hosts(addresses={"lb1": frozenset({LB})}, roles={"lb1": "balancer"}, fronted=frozenset({(RS, 80)}))
    spoofed = resolve(node("203.0.113.66:7000", claims=[claim], headers=[("x-forwarded-for", "198.51.100.7")]), hosts=hosts)  # type: ignore[list-item]
    assert spoofed.real_client is None
    assert CLIENT in names(spoofed)
    honest = resolve(node(claims=[claim]), hosts=hosts)  # type: ignore[list-item]
    assert honest.real_client == CLIENT
    of_its_pool = resolve(node("10.9.0.2:1025", claims=[claim]), hosts=hosts)  # type: ignore[list-item]
    assert of_its_pool.real_client == CLIENT


def test_a_client_that_is_captured_and_sets_the_option_itself_is_not_believed() -> None:
    hosts = Hosts(addresses={"laptop": frozenset({"203.0.113.66"})}, accounted=frozenset({"laptop"}))
    story = node("203.0.113.66:7000", outer_place="laptop", outer_ttl=64, claims=[toa(CLIENT)])
    answer = resolve(story, hosts=hosts)
    assert answer.real_client is None
    assert names(answer) == {CLIENT, "203.0.113.66:7000"}


def test_a_proxy_s_own_connection_has_no_client() -> None:
    answer = resolve(node(claims=[LOCAL], headers=[("x-forwarded-for", "198.51.100.7")]), trusted_hops=1)
    assert (answer.real_client, answer.candidates, answer.because) == (None, (), (LOCAL_WORDS,))


def test_a_health_check_of_the_balancer_has_no_client() -> None:
    hosts = Hosts(addresses={"lb1": frozenset({LB})}, roles={"lb1": "balancer"})
    assert resolve(node(outer_place="lb1", outer_ttl=64), hosts=hosts).real_client is None


def test_an_option_from_a_nat_host_s_address_is_the_client_s_own_word() -> None:
    other = entry("172.16.0.9:5555", f"{LB}:1026", basis="conntrack", place="nat")
    answer = resolve(node(claims=[toa("6.6.6.6:67")]), entries=[other])
    assert answer.real_client is None
    assert names(answer) == {"6.6.6.6:67"}


def test_an_encrypted_connection_says_why_nothing_is_known() -> None:
    story = node(requests=0)
    story.is_tls = True
    assert resolve(story).because == (ENCRYPTED,)


# ---- tables speak for their moment


@pytest.mark.parametrize(
    ("taken_s", "alive", "is_open", "named"),
    [
        (5, life(0, 10), True, True),
        (5, life(None, None), True, True),
        (30, life(0, 10), True, False),  # closed before the table was read
        (-30, life(0, 10), True, False),  # opened after it
        (60, life(0, None), True, True),
        (1000, life(0, None), True, False),  # long after the last packet: may be another one's
        (-60, life(None, None), True, True),
        (-1000, life(None, None), True, False),
        (30, life(0, 10), False, True),  # TIME_WAIT of this one
        (300, life(0, 10), False, False),
        (5, life(0, 10), False, False),  # TIME_WAIT of the one before
        (-0.5, life(0, 10), True, True),  # host.json has whole seconds
        (None, life(0, 10), True, False),
        (None, life(0, None), True, False),
        (None, life(None, 10), True, False),
        (None, life(None, None), True, True),
        (None, life(None, None), False, False),
    ],
)
def test_a_table_speaks_for_its_moment(taken_s: float | None, alive: object, is_open: bool, named: bool) -> None:
    answer = resolve(node(alive=alive), entries=[entry(CLIENT, taken_s=taken_s, is_open=is_open)])  # type: ignore[arg-type]
    assert answer.real_client == (CLIENT if named else None)


def test_a_table_of_unknown_time_is_possible_for_what_was_open_all_the_while() -> None:
    answer = resolve(node(alive=life(None, None)), entries=[entry(CLIENT, taken_s=None)])
    assert (answer.real_client, answer.confidence) == (CLIENT, "possible")
    assert "at a time that is not known" in answer.because[0]
    followed = dataclasses.replace(life(None, None), followed_ns=T0 + 40 * S)
    assert resolve(node(alive=followed), entries=[entry(CLIENT, taken_s=None)]).real_client is None


def test_two_entries_that_fit_are_candidates() -> None:
    answer = resolve(node(alive=life(None, None)), entries=[entry(CLIENT), entry(OTHER, taken_s=6)])
    assert answer.real_client is None
    assert names(answer) == {CLIENT, OTHER}


def test_of_two_incarnations_each_gets_its_own_entry() -> None:
    entries = [entry(CLIENT, taken_s=5), entry(OTHER, taken_s=105)]
    assert resolve(node(alive=life(0, 10)), entries=entries).real_client == CLIENT
    assert resolve(node(alive=life(100, 110)), entries=entries).real_client == OTHER


def test_an_entry_that_was_read_when_the_next_connection_had_the_ports_is_that_one_s() -> None:
    early = life(0, None)
    assert resolve(node(alive=early), entries=[entry(CLIENT, taken_s=60)]).real_client == CLIENT
    followed = dataclasses.replace(early, followed_ns=T0 + 40 * S)
    answer = resolve(node(alive=followed), entries=[entry(CLIENT, taken_s=60)])
    assert (answer.real_client, answer.candidates) == (None, ())


@pytest.mark.parametrize("taken_s", [-2, 11])
def test_an_entry_beside_the_connection_s_life_by_less_than_clocks_differ_is_a_candidate(taken_s: float) -> None:
    answer = resolve(node(alive=life(0, 10)), entries=[entry(CLIENT, taken_s=taken_s)])
    assert answer.real_client is None
    assert names(answer) == {CLIENT}


def test_an_entry_towards_another_server_is_another_connection() -> None:
    assert resolve(node(), entries=[entry(CLIENT, behind_server="10.9.0.12:80")]).real_client is None


def test_a_doubtful_entry_and_a_header_that_agree_are_an_answer() -> None:
    story = node(alive=life(0, None), headers=[("x-forwarded-for", "198.51.100.7")])
    late = entry(CLIENT, taken_s=1000)
    assert resolve(story, entries=[late]).real_client == CLIENT
    assert resolve(node(alive=life(0, None)), entries=[late]).real_client is None


def test_a_shared_connection_is_nobody_s() -> None:
    shared = entry(CLIENT, may_be_shared=True)
    assert resolve(node(requests=2), entries=[shared]).real_client is None
    assert names(resolve(node(requests=2), entries=[shared])) == {CLIENT}
    assert resolve(node(requests=1), entries=[shared]).real_client == CLIENT
    assert resolve(node(requests=0), entries=[shared]).real_client is None, "requests that nobody can count"
    of_proxy = entry(CLIENT, "192.0.2.9:5000", behind_server="203.0.113.80:80", may_be_shared=True)
    assert resolve(node(requests=5, claims=[toa("192.0.2.9:5000")]), entries=[of_proxy]).real_client is None
    assert resolve(node(requests=1, alive=life(None, None)), entries=[shared]).real_client is None


def test_a_balancer_that_keeps_the_address_vouches_for_it() -> None:
    kept = entry(CLIENT, behind=CLIENT, before_server="203.0.113.80:80")
    answer = resolve(node(CLIENT), entries=[kept])
    assert (answer.real_client, answer.basis, answer.confidence) == (CLIENT, ("lb-table",), "likely")


def test_a_balancer_that_keeps_a_nat_s_address_leads_to_the_nat_s_table() -> None:
    """Stock IPVS with -m behind source NAT: the entry's own server is the one that the NAT's table knows."""
    kept = entry(NAT, behind=NAT, before_server="203.0.113.80:80")
    answer = resolve(node(NAT), entries=[kept, nat_entry()])
    assert (answer.real_client, answer.basis) == (CLIENT, ("lb-table", "conntrack"))
    late = resolve(node(NAT), entries=[kept, nat_entry(taken_s=500)])
    assert late.real_client is None
    assert names(late) == {NAT}


def test_one_client_s_port_claimed_twice_at_a_time_is_no_proof() -> None:
    hosts = Hosts(repeated=frozenset({end(CLIENT)}))
    assert resolve(node(claims=[toa(CLIENT)]), hosts=hosts).real_client is None
    proven = resolve(
        node(claims=[toa(CLIENT)], before=[SAME_BYTES]), node(OTHER, "203.0.113.80:80", number=2, outer_place="lb1"), hosts=hosts
    )
    assert (proven.real_client, proven.basis) == (OTHER, ("lb-capture",))


def test_options_that_name_each_other_in_circles_end() -> None:
    """Twenty connections of one hostile client, the options of each naming all the others."""
    ends = [f"203.0.113.66:{port}" for port in range(7000, 7020)]
    circle = [
        node(ends[at], number=at + 1, claims=[toa(other) for other in ends if other != ends[at]],
             before=[Before(number + 1, "address", True, "") for number in range(20) if number != at])
        for at in range(20)
    ]  # fmt: skip
    answer = resolve(*circle)
    assert (answer.real_client, answer.because) == (None, (TOO_MANY,))


def test_destination_nat_on_the_way_vouches_for_nobody() -> None:
    kept = entry(f"{LB}:1025", behind=f"{LB}:1025", before_server="203.0.113.80:80", basis="conntrack")
    assert resolve(node(), entries=[kept]).real_client is None


# ---- outwards through several hosts


def nat_entry(client: str = CLIENT, **words: object):  # type: ignore[no-untyped-def]
    return entry(client, NAT, behind_server="203.0.113.80:80", basis="conntrack", place="nat", **words)  # type: ignore[arg-type]


def test_an_option_that_names_a_nat_host_is_followed_by_its_connection_tracking() -> None:
    answer = resolve(node(claims=[toa(NAT)]), entries=[nat_entry()])
    assert (answer.real_client, answer.basis, answer.confidence) == (CLIENT, ("toa", "conntrack"), "likely")
    assert [word in text for word, text in zip(("254/8", "nat/state/table.txt:2"), answer.because, strict=True)] == [True, True]


def test_table_and_option_agree_on_the_way_and_then_leave_by_nat() -> None:
    answer = resolve(node(claims=[toa(NAT)]), entries=[entry(NAT), nat_entry()])
    assert (answer.real_client, answer.confidence) == (CLIENT, "confirmed")
    assert set(answer.basis) == {"toa", "lb-table", "conntrack"}


def test_nat_s_table_of_another_time_leaves_the_nat_s_address_a_candidate() -> None:
    answer = resolve(node(claims=[toa(NAT)]), entries=[nat_entry(taken_s=500)])
    assert answer.real_client is None
    assert names(answer) == {NAT}
    assert "is an address of the NAT host nat" in answer.candidates[0].because


def test_a_nat_s_entry_that_lingers_speaks_for_the_last_connection_of_its_port() -> None:
    lingering = nat_entry(taken_s=13, is_open=False)
    followed_behind = dataclasses.replace(life(0, 10), followed_ns=T0 + 11 * S)
    assert resolve(node(alive=followed_behind, claims=[toa(NAT)]), entries=[lingering]).real_client == CLIENT
    claimed_again = dataclasses.replace(toa(NAT), followed_ns=T0 + 11 * S)
    assert resolve(node(alive=life(0, 10), claims=[claimed_again]), entries=[lingering]).real_client is None


def test_connection_tracking_of_unknown_time_is_possible_for_what_is_still_open() -> None:
    answer = resolve(node(alive=life(0, None), claims=[toa(NAT)]), entries=[nat_entry(taken_s=None)])
    assert (answer.real_client, answer.confidence) == (CLIENT, "possible")
    assert resolve(node(alive=life(0, 10), claims=[toa(NAT)]), entries=[nat_entry(taken_s=None)]).real_client is None


def test_two_clients_behind_one_nat_port_are_candidates() -> None:
    answer = resolve(node(claims=[toa(NAT)]), entries=[nat_entry(), nat_entry(OTHER)])
    assert answer.real_client is None
    assert names(answer) == {CLIENT, OTHER}


def test_loops_end() -> None:
    circle = [
        entry("192.0.2.2:2", behind=f"{LB}:1025"),
        entry("192.0.2.3:3", behind="192.0.2.2:2", behind_server="203.0.113.80:80", basis="conntrack", place="a"),
        entry("192.0.2.2:2", behind="192.0.2.3:3", behind_server="203.0.113.80:80", basis="conntrack", place="b"),
    ]
    answer = resolve(node(), entries=circle)
    assert answer.real_client is None
    assert names(answer) == {"192.0.2.3:3"}


def test_a_long_chain_ends() -> None:
    virtual = "203.0.113.80:80"
    chain = [entry("192.0.2.1:9", behind=f"{LB}:1025")]
    chain += [
        entry(f"192.0.2.{n + 1}:9", behind=f"192.0.2.{n}:9", behind_server=virtual, basis="conntrack", place=f"nat{n}")
        for n in range(1, 60)
    ]
    answer = resolve(node(), entries=chain)
    assert answer.real_client is None
    assert names(answer) == {"192.0.2.9:9"}


# ---- captures of the balancer's other side


def test_the_same_bytes_on_the_other_side_prove_the_client() -> None:
    answer = resolve(node(before=[SAME_BYTES]), node(CLIENT, "203.0.113.80:80", number=2, outer_place="lb1"))
    assert (answer.real_client, answer.basis, answer.confidence) == (CLIENT, ("lb-capture",), "confirmed")


def test_packets_of_both_sides_outweigh_a_table_of_another_time() -> None:
    other_side = node(CLIENT, "203.0.113.80:80", number=2, outer_place="lb1")
    answer = resolve(node(before=[SAME_BYTES]), other_side, entries=[entry(OTHER)])
    assert (answer.real_client, answer.basis) == (CLIENT, ("lb-capture",))
    assert names(answer) == {OTHER}
    doubtful = Before(2, "bytes", False, "lb1 saw like bytes; one anchor only")
    assert resolve(node(before=[doubtful]), other_side, entries=[entry(OTHER)]).real_client == OTHER


def test_two_other_sides_are_candidates() -> None:
    third = node(OTHER, "203.0.113.80:80", number=3, outer_place="lb1")
    root = node(before=[SAME_BYTES, Before(3, "bytes", True, "lb1 saw the same bytes")])
    answer = resolve(root, node(CLIENT, "203.0.113.80:80", number=2, outer_place="lb1"), third)
    assert answer.real_client is None
    assert names(answer) == {CLIENT, OTHER}


def test_a_doubtful_join_alone_is_a_candidate() -> None:
    doubtful = Before(2, "bytes", False, "lb1 saw like bytes; one anchor only")
    answer = resolve(node(before=[doubtful]), node(CLIENT, "203.0.113.80:80", number=2, outer_place="lb1"))
    assert answer.real_client is None
    assert names(answer) == {CLIENT}


def test_the_other_side_carries_an_option_itself() -> None:
    other = node(NAT, "203.0.113.80:80", number=2, outer_place="lb1", claims=[toa(CLIENT)])
    answer = resolve(node(before=[SAME_BYTES]), other)
    assert (answer.real_client, answer.basis) == (CLIENT, ("lb-capture", "toa"))


def test_capture_and_option_that_contradict_each_other_name_nobody() -> None:
    answer = resolve(node(before=[SAME_BYTES], claims=[toa(OTHER)]), node(CLIENT, "203.0.113.80:80", number=2, outer_place="lb1"))
    assert answer.real_client is None
    assert names(answer) == {CLIENT, OTHER}


def test_source_nat_between_two_captures() -> None:
    answer = resolve(node(NAT, outer=CLIENT, outer_place="nat"))
    assert (answer.real_client, answer.basis, answer.confidence) == (CLIENT, ("lb-capture",), "confirmed")


def test_an_option_that_names_the_nat_and_a_capture_inside_it() -> None:
    inside = node(NAT, "203.0.113.80:80", number=2, outer=CLIENT, outer_place="nat")
    answer = resolve(node(claims=[toa(NAT)], before=[SAME_ADDRESS]), inside)
    assert (answer.real_client, answer.basis) == (CLIENT, ("toa", "lb-capture"))


def test_a_nat_port_that_was_another_connection_s_before() -> None:
    before = node(NAT, "203.0.113.80:80", number=2, outer=OTHER, outer_place="nat", alive=life(-500, -400))
    answer = resolve(node(claims=[toa(NAT)], before=[SAME_ADDRESS]), before)
    assert (answer.real_client, answer.basis) == (NAT, ("toa",))


def test_the_client_s_own_capture() -> None:
    hosts = Hosts(addresses={"laptop": frozenset({"198.51.100.7"})}, accounted=frozenset({"laptop"}))
    sent = node(CLIENT, outer_place="laptop", outer_ttl=64)
    assert resolve(sent, hosts=hosts).basis == ("capture",)
    assert resolve(sent, hosts=hosts).real_client == CLIENT
    assert resolve(sent, hosts=hosts).confidence == "likely"
    sent.headers.append(HeaderLine("x-forwarded-for", "6.6.6.6", 1, "laptop.pcap #4"))
    assert resolve(sent, hosts=hosts).real_client is None, "a proxy that was captured on its back side only"
    unlisted = resolve(sent, hosts=dataclasses.replace(hosts, accounted=frozenset()))  # it may be a proxy, captured on its back side alone
    assert unlisted.real_client is None
    assert CLIENT in [one.real_client for one in unlisted.candidates]
    serving = dataclasses.replace(hosts, serving=frozenset({"laptop"}))
    assert resolve(node(CLIENT, outer_place="laptop", outer_ttl=64), hosts=serving).real_client is None
    forwarded = node(CLIENT, outer_place="laptop", outer_ttl=63)
    assert resolve(forwarded, hosts=hosts).real_client is None, "a container behind the host's own NAT"


@pytest.mark.parametrize("role", ["proxy", "balancer", "router"])
def test_a_proxy_s_capture_names_no_client(role: str) -> None:
    hosts = Hosts(addresses={"lb1": frozenset({LB})}, roles={"lb1": role})  # type: ignore[dict-item]
    assert resolve(node(outer_place="lb1", outer_ttl=64), hosts=hosts).real_client is None


def test_a_host_that_answers_clients_may_be_a_proxy() -> None:
    hosts = Hosts(addresses={"gateway": frozenset({LB})}, callers={"gateway": frozenset({"198.51.100.7"})})
    answer = resolve(node(outer_place="gateway", outer_ttl=64), hosts=hosts)
    assert answer.real_client is None
    by_word = Hosts(addresses={"gateway": frozenset({LB})}, callers={"gateway": frozenset({"1.1.1.1"})}, roles={"gateway": "client"})
    assert resolve(node(outer_place="gateway", outer_ttl=64), hosts=by_word).real_client == f"{LB}:1025"


def test_a_proxy_s_address_is_no_client() -> None:
    hosts = Hosts(addresses={"edge": frozenset({"192.0.2.9"})}, roles={"edge": "proxy"})
    answer = resolve(node(claims=[toa("192.0.2.9:5000")]), hosts=hosts)
    assert answer.real_client is None
    assert names(answer) == {"192.0.2.9:5000"}


def test_a_proxy_header_behind_an_option_that_names_the_proxy() -> None:
    hosts = Hosts(addresses={"edge": frozenset({"192.0.2.9"})}, roles={"edge": "proxy"})
    story = node(claims=[toa("192.0.2.9:5000"), proxy(CLIENT)])
    answer = resolve(story, hosts=hosts)
    assert (answer.real_client, answer.basis) == (CLIENT, ("toa", "proxy"))
    assert resolve(story).real_client is None, "nothing shows 192.0.2.9 to be a proxy: it may have written the header itself"
