"""What keeps the proxy from being turned against its own network (T-01 to T-15).

The namespace's loopback interface carries the addresses in question, so that a connection which the guard ought to
have refused does arrive, and is seen.
"""

import contextlib
import json
import random
import socket
import time

import pytest

from harness import vocabulary, wire
from harness.endpoints import FIN, RST, EchoOrigin, Origin, answering, connect, exchange, reset
from harness.network import add_address, free_port
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.weir import check

pytestmark = pytest.mark.weir

PUBLIC, PUBLIC_V6 = "93.184.215.14", "2606:2800:21f:cb07::14"

# Addresses that a name may not have, and the rule that says so (T-02).
DENIED = {
    "127.0.0.1": "loopback",
    "127.77.0.1": "loopback",
    "10.1.1.1": "private",
    "172.16.0.1": "private",
    "172.31.255.254": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "cgnat",
    "100.127.255.254": "cgnat",
    "169.254.1.1": "link_local",
    "169.254.169.254": "metadata",
    "168.63.129.16": "metadata",
    "192.0.0.1": "ietf_protocol",
    "192.0.2.1": "documentation",
    "198.51.100.1": "documentation",
    "203.0.113.9": "documentation",
    "198.18.0.1": "benchmarking",
    "198.19.255.254": "benchmarking",
    "0.0.0.0": "unspecified",
    "224.0.0.1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:10.1.1.1": "private",
    "::7f00:1": "ipv4_compatible",
    "fd00::1": "ula",
    "fd00:ec2::254": "metadata",
    "fe80::1": "link_local",
    "fec0::1": "site_local",
    "ff02::1": "multicast",
    "64:ff9b::7f00:1": "nat64",
    "64:ff9b:1::1": "nat64",
    "2002:7f00:1::1": "six_to_four",
    "2001::1": "teredo",
    "2001:db8::1": "documentation",
}
# Of these a host can have none as its own.
NOT_OURS = {
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.1.1.1",
    "ff02::1",
}


def name_of(address: str) -> str:
    return f"a-{address.replace(':', 'x').replace('.', '-')}.test"


def ask(listen: Listen, name: str, **options) -> tuple[bytes, str]:
    return exchange(listen.endpoint, wire.hello(name.encode()), **options)


def refused(answer: bytes, end: str) -> bool:
    """Nothing came but, perhaps, a TLS alert."""
    return end in (FIN, RST) and (answer == b"" or (len(answer) == 7 and answer == wire.alert(answer[6])))


# Who may connect ----------------------------------------------------------------------------------


@pytest.mark.own_network
def test_only_private_clients_are_served_unless_a_file_says_otherwise(proxy, stopping):
    """T-01: a listener on every address is not an open proxy."""
    origin = stopping(Origin(answering(b"A")))
    default = Listen("default", free_port(), address="0.0.0.0", default=origin.endpoint)
    opened = Listen("opened", free_port(), address="0.0.0.0", default=origin.endpoint, clients=["93.184.215.0/24"])
    process = proxy(Setup([default, opened]), name="clients")
    private = ["127.0.0.1", "10.9.8.7", "172.20.0.7", "192.168.7.7"]
    for address in (*private[1:], PUBLIC, "100.64.7.7"):
        add_address(address)

    def served(listen, source, to):
        answer, end = exchange((to, listen.port), b"hello", source=source)
        assert (answer, end) == (b"A", FIN) or (answer == b"" and end in (FIN, RST))
        return answer == b"A"

    assert [served(default, source, "127.0.0.1") for source in private] == [True] * 4
    assert [served(default, source, PUBLIC) for source in (PUBLIC, "100.64.7.7")] == [False] * 2

    def refusals():
        refused = [record for record in process.records() if record[vocabulary.REASON] == vocabulary.CLIENT_DENIED]
        return sorted(record[vocabulary.CLIENT].partition(":")[0] for record in refused)

    eventually(lambda: refusals() == ["100.64.7.7", PUBLIC], 5, "a record of each refusal")
    assert [served(opened, source, PUBLIC) for source in (PUBLIC, "10.9.8.7")] == [True, False]


def test_an_open_forward_is_warned_about_by_name(proxy, names):
    """T-01: public clients and any name is what an open proxy is."""
    listen = Listen("wide-open", free_port(), forward_port=443, clients=["0.0.0.0/0"])
    process = proxy(Setup([listen], resolver=(names.address, names.port)), name="open")
    said = [line for line in process.stderr_path.read_text().splitlines() if "wide-open" in line]
    assert any("warning" in line for line in said), said


# Where a name may point ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(proxy, names, stopping):
    """A dynamic forward without exemptions, to a port on which an origin listens on every address."""
    for address in (PUBLIC, PUBLIC_V6, *(set(DENIED) - NOT_OURS - {"127.0.0.1", "127.77.0.1", "::1"})):
        add_address(address)
    origin = stopping(Origin(answering(b"A"), address="*", port=free_port()))
    for address in (*DENIED, PUBLIC, PUBLIC_V6):
        # DNS has no mapped addresses in A, so they come in AAAA.
        names.set(name_of(address), address)
    listen = Listen("guarded", free_port(), forward_port=origin.endpoint[1])
    process = proxy(Setup([listen], resolver=(names.address, names.port), destinations=[]), name="guarded")
    return listen, process, origin


@pytest.mark.own_network
@pytest.mark.parametrize("address", [PUBLIC, PUBLIC_V6])
def test_a_public_address_is_connected_to(guarded, address):
    """The control of the tests below: what is refused there would have arrived."""
    listen, _, _ = guarded
    assert ask(listen, name_of(address)) == (b"A", FIN)


@pytest.mark.own_network
@pytest.mark.parametrize("address", DENIED)
def test_a_name_may_not_point_inside(guarded, address):
    """T-02: refused on the resolved address, and the rule is named in the log and counted."""
    listen, process, origin = guarded
    origin.forget()
    rule = DENIED[address]
    before, counted = len(process.records()), process.metrics().sum(vocabulary.GUARD_DENIED, rule=rule)
    assert refused(*ask(listen, name_of(address)))
    record = process.record(before, **{vocabulary.SERVER_NAME: name_of(address)})
    assert (record[vocabulary.REASON], record.get(vocabulary.GUARD_RULE)) == (vocabulary.DESTINATION_DENIED, rule)
    assert process.metrics().sum(vocabulary.GUARD_DENIED, rule=rule) == counted + 1
    assert origin.seen == []


def test_exemptions_hold_for_their_block_and_port_and_denials_beat_them(proxy, names, stopping):
    origins = {address: stopping(Origin(answering(b"A"), address=address)) for address in ("127.0.0.21", "127.0.0.22")}
    first, second = origins.values()
    for address in origins:
        names.set(name_of(address), address)
    right = Listen("right-port", free_port(), forward_port=first.endpoint[1])
    wrong = Listen("wrong-port", free_port(), forward_port=second.endpoint[1])
    process = proxy(
        Setup(
            [right, wrong],
            resolver=(names.address, names.port),
            destinations=[f"127.0.0.0/8:{first.endpoint[1]}"],
            denied=["127.0.0.22/32"],
        ),
        name="exempt",
    )
    assert ask(right, name_of("127.0.0.21")) == (b"A", FIN)
    assert refused(*ask(wrong, name_of("127.0.0.21")))
    assert refused(*ask(right, name_of("127.0.0.22")))
    assert (
        process.record(0, **{vocabulary.SERVER_NAME: name_of("127.0.0.22")})[vocabulary.GUARD_RULE] == "configured_deny"
    )
    assert second.seen == []


# Names that change their mind ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def rebound(proxy, names, stopping):
    """Two origins on one port: `good` on a public address, `bad` on loopback, where no name may lead."""
    add_address(PUBLIC)
    good = stopping(Origin(answering(b"A"), address=PUBLIC))
    bad = stopping(Origin(answering(b"B"), address="127.0.0.1", port=good.endpoint[1]))
    listen = Listen("rebound", free_port(), forward_port=good.endpoint[1])
    process = proxy(Setup([listen], resolver=(names.address, names.port), destinations=[]), name="rebound")
    return listen, process, bad


@pytest.mark.own_network
def test_a_name_that_flips_to_loopback_never_gets_there(rebound, names):
    """T-03: TTL 0; each new answer is checked, and what was checked is what is connected to."""
    listen, process, bad = rebound
    names.set("flip.test", PUBLIC, ttl=0)
    assert ask(listen, "flip.test") == (b"A", FIN)
    names.set("flip.test", "127.0.0.1", ttl=0)
    eventually(lambda: refused(*ask(listen, "flip.test")), 5, "the new answer is in use")
    assert process.record(0, **{vocabulary.SERVER_NAME: "flip.test", vocabulary.GUARD_RULE: "loopback"})
    for turn in range(6):
        names.set("flip.test", ("127.0.0.1", PUBLIC)[turn % 2], ttl=0)
        for _ in range(5):
            answer, end = ask(listen, "flip.test")
            assert answer == b"A" or refused(answer, end)
    names.set("flip.test", PUBLIC, ttl=0)
    eventually(lambda: ask(listen, "flip.test")[0] == b"A", 10, "the good answer is in use again")
    assert bad.seen == []


@pytest.mark.own_network
def test_of_a_mixed_answer_only_the_good_addresses_are_used(rebound, names):
    """T-03."""
    listen, _, bad = rebound
    names.set("mixed.test", "127.0.0.1", PUBLIC, "10.1.1.1", "::1")
    assert [ask(listen, "mixed.test") for _ in range(10)] == [(b"A", FIN)] * 10
    assert bad.seen == []


@pytest.mark.own_network
def test_an_alias_of_a_loopback_name_is_refused(rebound, names):
    """T-03: A after CNAME."""
    listen, process, bad = rebound
    names.set("inside.test", "127.0.0.1")
    names.set("alias.test", "inside.test")
    assert refused(*ask(listen, "alias.test"))
    assert process.record(0, **{vocabulary.SERVER_NAME: "alias.test", vocabulary.GUARD_RULE: "loopback"})
    assert bad.seen == []


# Itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.5"])
def test_a_name_that_points_at_our_own_listener_is_refused_not_followed(proxy, names, address):
    """T-07: one session, not a loop until descriptors run out; on any local address of a wildcard listener."""
    port = free_port()
    listen = Listen(f"loop-{address}", port, address="0.0.0.0", forward_port=port)
    process = proxy(Setup([listen], resolver=(names.address, names.port)), name=f"loop-{address}")
    names.set("loop.test", address)
    assert refused(*exchange(("127.0.0.1", port), wire.hello(b"loop.test")))
    record = process.record(0, **{vocabulary.SERVER_NAME: "loop.test"})
    assert record[vocabulary.GUARD_RULE] == "own_listener"
    assert process.metrics().sum(vocabulary.SESSIONS_OPENED) == 1


# Configuration that trusts too much ---------------------------------------------------------------


@pytest.mark.parametrize("trust", ["accept_proxy: {}", "accept_proxy: { from: [] }"])
def test_a_proxy_listener_that_names_nobody_to_trust_is_an_error(tmp_path, trust):
    """T-08."""
    done = check(
        tmp_path,
        f"""
listeners:
  - name: egress
    address: 127.0.0.1:{free_port()}
    {trust}
    routes: [ {{ to: {{ server_name: {{ port: 443 }} }} }} ]
""",
    )
    assert done.returncode == 1
    assert "check-0.yaml:5:" in done.stderr


# Slow clients -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(proxy, names, stopping):
    origin = stopping(Origin(answering(b"A")))
    listeners = {
        "hello": Listen("hello", free_port(), routes={"good.test": origin.endpoint}, hello_timeout=1),
        "header": Listen(
            "header", free_port(), routes={"good.test": origin.endpoint}, hello_timeout=1, proxy_from=["127.0.0.0/8"]
        ),
        "dns": Listen("dns", free_port(), forward_port=443, preamble_timeout=1.5, hello_timeout=1),
    }
    process = proxy(Setup(list(listeners.values()), resolver=(names.address, names.port)), name="slow")
    return listeners, process


@pytest.mark.parametrize(
    "where, prefix",
    [("hello", b""), ("header", b""), ("header", wire.v2_tcp4())],
    ids=["hello", "PROXY header", "hello behind a PROXY header"],
)
def test_dripping_clients_are_closed_at_the_deadline(slow, where, prefix):
    """T-11: two hundred of them, a byte every 0.1 s; another client is served meanwhile, and nothing spins."""
    listeners, process = slow
    listen = listeners[where]
    whole = prefix + (wire.v2_tcp4() if where == "header" and not prefix else b"") + wire.hello(b"good.test")
    cpu, started = process.cpu_seconds(), time.monotonic()
    clients = [connect(listen.endpoint) for _ in range(200)]
    for client in clients:
        client.setblocking(False)
        client.sendall(prefix)
    ended: dict[int, float] = {}
    at = len(prefix)
    while len(ended) < len(clients) and time.monotonic() - started < 4:
        for number, client in enumerate(clients):
            if number in ended:
                continue
            with contextlib.suppress(BlockingIOError):
                try:
                    client.send(whole[at : at + 1])
                    client.recv(16)  # an alert or the end: either way it is over
                    ended[number] = time.monotonic() - started
                except ConnectionError:
                    ended[number] = time.monotonic() - started
        at += 1
        if at == len(prefix) + 3:
            header = wire.v2_tcp4() if where == "header" else b""
            assert exchange(listen.endpoint, header + wire.hello(b"good.test")) == (b"A", FIN)
        time.sleep(0.1)
    for client in clients:
        client.close()
    assert len(ended) == len(clients), f"{len(clients) - len(ended)} are still open"
    # Closed at 1 s after their own accept; generous above.
    assert 0.9 <= min(ended.values()) and max(ended.values()) <= 3
    assert process.cpu_seconds() - cpu < 1
    process.expect_nothing_outstanding()


def test_the_deadline_holds_while_dns_is_silent(slow, names):
    """T-11, claim I: no state before the relay is without a deadline."""
    listeners, process = slow
    names.silent = True
    try:
        started = time.monotonic()
        answer, end = ask(listeners["dns"], "silent.test", seconds=6)
        elapsed = time.monotonic() - started
    finally:
        names.silent = False
    assert refused(answer, end)
    assert 1.3 <= elapsed <= 4
    process.expect_nothing_outstanding()


# Exhaustion ---------------------------------------------------------------------------------------


def test_few_descriptors_are_shared_by_those_who_have_them(proxy, stopping):
    """T-12: more clients than descriptors. Those inside keep their streams, nothing spins, and room is used again."""
    origin = stopping(EchoOrigin())
    listen = Listen("narrow", free_port(), default=origin.endpoint)
    process = proxy(Setup([listen], workers=1), name="narrow", prefix=["prlimit", "--nofile=128:128"])

    def echoes(client) -> bool:
        try:
            client.sendall(b"ping")
            return client.recv(4) == b"ping"
        except OSError:
            return False

    inside = [connect(listen.endpoint) for _ in range(10)]
    assert all(echoes(client) for client in inside)
    outside = []
    for _ in range(300):
        client = socket.socket()
        client.settimeout(0.3)
        client.connect_ex(listen.endpoint)
        outside.append(client)
    time.sleep(0.2)
    cpu = process.cpu_seconds()
    time.sleep(0.5)
    assert process.cpu_seconds() - cpu < 0.25
    assert all(echoes(client) for client in inside)
    assert process.is_running()
    for client in outside:
        reset(client)

    def served():
        with connect(listen.endpoint, seconds=1) as client:
            return echoes(client)

    eventually(served, 3, "a new client is served")
    assert all(echoes(client) for client in inside)
    for client in inside:
        client.close()
    process.expect_nothing_outstanding()


# What peers say, and where it is written ----------------------------------------------------------


@pytest.mark.own_network
def test_no_byte_of_a_peer_breaks_the_log_or_the_metrics(proxy, names, stopping):
    """T-15: every byte in names, headers and noise; and names that are valid but new, which are no labels."""
    origin = stopping(Origin(answering(b"A")))
    sni = Listen("sni", free_port(), default=origin.endpoint, routes={"known.test": origin.endpoint})
    header = Listen("header", free_port(), default=origin.endpoint, proxy_from=["127.0.0.0/8"])
    forward = Listen("forward", free_port(), forward_port=9)
    process = proxy(Setup([sni, header, forward], resolver=(names.address, names.port)), name="hostile")
    dice = random.Random(15)
    count = 0
    for byte in range(256):
        one = bytes([byte])
        for listen, sent in (
            (sni, wire.hello(b"hostile" + one + b"name.test")),
            (sni, one * 40),
            (sni, wire.hello(b"known.test", extra=wire.alpn(b"hostile" + one))),
            (forward, wire.hello(b"hostile-%d" % byte + b".test")),
            (forward, wire.hello(one + b'hostile\x1b[31m\r\n"}{.test')),
            (header, b"PROXY TCP4 hostile" + one + b" 10.0.0.1 1 2\r\n"),
            (header, b"PROXY UNKNOWN hostile" + one + b"\r\nrest"),
            (
                header,
                wire.v2_tcp4(
                    wire.tlv(wire.TLV_AUTHORITY, b"hostile" + one + b"\r\n"), wire.tlv(wire.TLV_UNIQUE_ID, one * 20)
                ),
            ),
            (header, dice.randbytes(60)),
        ):
            exchange(listen.endpoint, sent)
            count += 1
    eventually(lambda: len(process.log_lines()) >= count, 10, f"{count} log lines")
    for line in process.log_lines():
        record = json.loads(line)
        assert isinstance(record, dict)
        assert line.isascii() and line.isprintable(), "a control byte got into the log"
    metrics = process.metrics()
    assert metrics.lint() == ""
    wire_labels = {value for _, labels, _ in metrics.samples for value in labels.values() if "hostile" in value}
    assert wire_labels == set()
    assert metrics.sum(vocabulary.SESSIONS_CLOSED) == count
    process.expect_nothing_outstanding()
