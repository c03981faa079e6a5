"""The differential battery: hellos and PROXY headers on which proxies disagree, row by row.

Every row has the reaction that Debian's haproxy 2.6 and nginx 1.22 showed when they were measured, and the one that
Weir promises. `A` is the right route, `B` the default route, `closed` a refusal without a byte (FIN or RST), `alert(n)`
a TLS alert of seven bytes and then a close. Run with `--subject nginx` the suite shows that nginx still does what its
column says, which is how the harness itself is known to see these things right. The bytes that reach an origin are
compared with the bytes sent in every row.
"""

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable

import pytest

from harness import wire
from harness.conformance import Line
from harness.endpoints import FIN, OPEN, RST, Origin, answering, connect, read_to_end, reset
from harness.network import free_port
from harness.processes import eventually
from harness.setup import Listen, Setup

GOOD = wire.hello(b"good.test")
GOOD_MESSAGE = wire.message(b"good.test")
# Where the name stands in the message: cuts through it are cuts inside the SNI.
NAME_AT = GOOD_MESSAGE.index(b"good.test")


@dataclasses.dataclass
class Row:
    """One vector: what is sent, where, and what is to come of it."""

    vector: str
    # The reactions of haproxy, nginx and weir; `-` is not compared.
    expected: str
    payload: bytes = b""
    header: bytes = b""
    listener: str = "sni"
    # Bytes of each segment where the payload is not sent at once, and the pause behind each.
    segments: int | None = None
    pause: float = 0.002
    # In place of sending `header + payload` and looking at the answer.
    run: Callable | None = None
    # Where another payload than the sent one reaches the origin.
    arrives: bytes | None = None


def sni(vector: str, expected: str, payload: bytes, **options) -> Row:
    return Row(vector, expected, payload=payload, **options)


def proxied(vector: str, expected: str, header: bytes, **options) -> Row:
    return Row(vector, expected, payload=GOOD, header=header, listener="proxy", **options)


def big_message(byte_count: int) -> bytes:
    """A hello whose name comes first and whose padding makes it `byte_count` long."""
    return wire.client_hello(
        wire.server_name(b"good.test")
        + wire.COMMON
        + wire.key_share()
        + wire.padding(byte_count - len(GOOD_MESSAGE) - 4)
    )


POST_QUANTUM = wire.record(
    wire.client_hello(wire.key_share(0x11EC, 1216) + wire.COMMON + wire.padding(300) + wire.server_name(b"good.test"))
)
SSLV2 = bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(16)
UNIX_BLOCK = b"/run/from.sock".ljust(108, b"\0") + b"/run/to.sock".ljust(108, b"\0")
V4_BLOCK = wire.addresses("10.77.0.7", "10.77.0.1", 7007, 443)

AGREED = [
    sni("plain hello", "A A A", GOOD),
    sni("hello of this machine's OpenSSL", "A A A", wire.openssl_hello("good.test")),
    sni("hello in 2 segments", "A A A", GOOD, segments=len(GOOD) // 2, pause=0.05),
    sni("hello in 1-byte segments", "A A A", GOOD, segments=1, pause=0.0005),
    sni("X25519MLKEM768 hello of 1.8 KB split at 1400 (CH-02)", "A A A", POST_QUANTUM, segments=1400, pause=0.05),
    sni("record version 3.0 (CH-05)", "A A A", wire.records(GOOD_MESSAGE, version=0x0300)),
    sni(
        "change cipher spec and data behind the hello (CH-27)",
        "A A A",
        GOOD + wire.record(b"\x01", kind=0x14) + wire.record(bytes(500), kind=0x17),
    ),
    sni("no server name (CH-14)", "B B B", wire.hello()),
    sni("HTTP (CH-06)", "B B B", b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n"),
]

HELLOS = [
    sni("hello in 2 records, cut in the name (CH-04)", "B A A", wire.records(GOOD_MESSAGE, NAME_AT + 4)),
    sni("hello in 2 records, cut after 20 bytes", "B A A", wire.records(GOOD_MESSAGE, 20)),
    sni("hello in 1-byte records", "B A A", wire.records(GOOD_MESSAGE, *range(1, len(GOOD_MESSAGE)))),
    sni("zero-length handshake record first (CH-07)", "B A alert(10)", wire.record(b"") + GOOD),
    sni("GOOD.TEST (CH-18)", "A A A", wire.hello(b"GOOD.TEST")),
    sni("good.test. (CH-19)", "B B A", wire.hello(b"good.test.")),
    sni("good.test NUL .evil.test (CH-22)", "B B alert(112)", wire.hello(b"good.test\0.evil.test")),
    sni(
        "server_name extension twice, good first (CH-15)",
        "A A alert(47)",
        wire.hello(b"good.test", extra=wire.server_name(b"evil.test")),
    ),
    sni(
        "server_name extension twice, good second",
        "B B alert(47)",
        wire.hello(b"evil.test", extra=wire.server_name(b"good.test")),
    ),
    sni("two host names, good first (CH-16)", "A A alert(47)", wire.hello(b"good.test", b"evil.test")),
    sni("two host names, good second", "B B alert(47)", wire.hello(b"evil.test", b"good.test")),
    sni(
        "unknown name type, then good (CH-16)",
        "B B alert(50)",
        wire.record(
            wire.client_hello(
                wire.server_name_entries(wire.name_entry(b"x", kind=7), wire.name_entry(b"good.test")) + wire.COMMON
            )
        ),
    ),
    sni("empty name (CH-17)", "B B alert(50)", wire.hello(b"")),
    sni("IP literal as name (CH-21)", "B B alert(112)", wire.hello(b"192.0.2.1")),
    sni("SSLv2 hello (CH-30)", "B B closed", SSLV2),
    sni("12 KB hello (CH-28)", "A A A", wire.record(big_message(12_000))),
    sni("20 KB hello in 2 records, name first (CH-10)", "B closed closed", wire.records(big_message(20_000), 16_000)),
    sni("the same with the limit raised", "- A A", wire.records(big_message(20_000), 16_000), listener="sni-large"),
]

PROXY = [
    proxied("v1", "A A A", wire.v1("10.77.0.7", "10.77.0.1", 7007, 443)),
    proxied(
        "v1 split in the middle (PP-02)",
        "closed closed A",
        wire.v1("10.77.0.7", "10.77.0.1", 7007, 443),
        segments=20,
        pause=0.02,
    ),
    proxied("v2", "A A A", wire.v2_tcp4()),
    proxied("v2 split in the middle (PP-02)", "closed closed A", wire.v2_tcp4(), segments=14, pause=0.02),
    proxied("v1 UNKNOWN foo bar 1 2 (PP-07)", "closed A A", b"PROXY UNKNOWN foo bar 1 2\r\n"),
    proxied("v1 port 0443 (PP-11)", "A A closed", wire.v1("10.77.0.7", "10.77.0.1", 7007, "0443")),
    proxied("v1 octet 02", "A A closed", wire.v1("10.77.0.02", "10.77.0.1", 7007, 443)),
    proxied("v1 port 70000", "A closed closed", wire.v1("10.77.0.7", "10.77.0.1", 70000, 443)),
    proxied("v1 TCP6 with IPv4 text (PP-12)", "closed A closed", wire.v1("10.77.0.7", "10.77.0.1", 7007, 443, "TCP6")),
    proxied("v2 PROXY+UNSPEC, no address (PP-17)", "closed A A", wire.v2(wire.PROXY, wire.UNSPEC, b"")),
    proxied("v2 PROXY+UNSPEC, 12 bytes", "closed A A", wire.v2(wire.PROXY, wire.UNSPEC, bytes(12))),
    proxied("v2 AF_UNIX, 216 bytes (PP-18)", "closed closed A", wire.v2(wire.PROXY, wire.UNIX_STREAM, UNIX_BLOCK)),
    proxied("v2 UDP4 (PP-18)", "closed A A", wire.v2(wire.PROXY, wire.UDP4, V4_BLOCK)),
    proxied("v2 right CRC32C (PP-22)", "A A A", wire.with_crc32c(wire.tlv(wire.TLV_NOOP, b"xx"))),
    proxied("v2 wrong CRC32C", "closed A closed", wire.with_crc32c(error=1)),
    proxied(
        "v2 TLV longer than the header (PP-21)",
        "closed A closed",
        wire.v2_tcp4(bytes([wire.TLV_NOOP]) + wire.u16(9) + b"xx"),
    ),
    proxied("v2 one stray byte", "closed A closed", wire.v2_tcp4(b"\x04")),
    proxied("v2 TLV of 2000 bytes (PP-20)", "A closed A", wire.v2_tcp4(wire.tlv(0xE0, bytes(2000)))),
    proxied("v2 TLV of 5000 bytes", "A closed closed", wire.v2_tcp4(wire.tlv(0xE0, bytes(5000)))),
    proxied(
        "v2 AUTHORITY of 300 bytes (PP-23)",
        "closed closed closed",
        wire.v2_tcp4(wire.tlv(wire.TLV_AUTHORITY, b"a" * 300)),
    ),
    proxied("v2 command 2 (PP-14)", "closed A closed", wire.v2(0x22, wire.TCP4, V4_BLOCK)),
    proxied("v2 LOCAL with an address (PP-16)", "A A A", wire.v2(wire.LOCAL, wire.TCP4, V4_BLOCK)),
]


# The rest of what Weir promises about hellos and headers, where no peer was measured.


def hello_with(extensions: bytes) -> bytes:
    return wire.record(wire.client_hello(extensions))


def mutated(offset: int, value: int) -> bytes:
    """The good hello with one byte of its message replaced."""
    message = bytearray(GOOD_MESSAGE)
    message[offset] = value
    return wire.record(bytes(message))


GREASE = wire.extension(0x0A0A, b"") + wire.extension(0xFAFA, b"\0")
BODY = 4 + 2 + 32  # of a hello message: up to the session id's length
PROMISED = [
    sni("first byte no TLS: 16 04 10 (CH-06)", "- - B", b"\x16\x04\x10" + bytes(40)),
    sni("DTLS on TCP (CH-31)", "- - B", b"\x16\xfe\xfd" + bytes(40)),
    sni("record longer than 16384 (CH-07)", "- - alert(22)", b"\x16\x03\x01\x40\x01" + GOOD_MESSAGE),
    sni(
        "alert between two hello records (CH-08)",
        "- - alert(10)",
        wire.record(GOOD_MESSAGE[:50]) + wire.record(b"\x01\x00", kind=0x15) + wire.record(GOOD_MESSAGE[50:]),
    ),
    sni("handshake type 2 (CH-09)", "- - alert(10)", mutated(0, 2)),
    sni("message of 16 MB announced (CH-10)", "- - closed", b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"),
    sni("session id of 33 bytes (CH-11)", "- - alert(50)", mutated(BODY, 33)),
    sni("cipher suites of odd length (CH-11)", "- - alert(50)", mutated(BODY + 34, 13)),
    sni(
        "extensions past the end (CH-11)",
        "- - alert(50)",
        wire.record(
            GOOD_MESSAGE[:-1].replace(
                len(GOOD_MESSAGE[4:]).to_bytes(3, "big"), len(GOOD_MESSAGE[5:]).to_bytes(3, "big"), 1
            )
        ),
    ),
    sni("empty block of extensions (CH-12)", "- - B", hello_with(b"")),
    sni(
        "two stray bytes behind the last extension (CH-13)",
        "- - alert(50)",
        hello_with(wire.server_name(b"good.test") + b"\0\0"),
    ),
    sni(
        "good name, then unknown type (CH-16)",
        "- - alert(50)",
        hello_with(wire.server_name_entries(wire.name_entry(b"good.test"), wire.name_entry(b"x", kind=7))),
    ),
    sni("empty list of names (CH-17)", "- - alert(50)", hello_with(wire.server_name_entries())),
    sni(
        "trailing byte in the server_name extension (CH-17)",
        "- - alert(50)",
        hello_with(wire.extension(0, wire.vector16(wire.name_entry(b"good.test")) + b"x")),
    ),
    sni("two trailing dots (CH-19)", "- - alert(112)", wire.hello(b"good.test..")),
    sni("127.1 as name (CH-21)", "- - alert(112)", wire.hello(b"127.1")),
    sni("0x7f.1 as name (CH-21)", "- - alert(112)", wire.hello(b"0x7f.1")),
    sni("space in the name (CH-22)", "- - alert(112)", wire.hello(b"good .test")),
    sni("label of 64 bytes (CH-23)", "- - alert(112)", wire.hello(b"a" * 64 + b".test")),
    sni("name of 254 bytes (CH-23)", "- - alert(112)", wire.hello(b".".join([b"a" * 49] * 5) + b".aaaa")),
    sni("GREASE everywhere (CH-24)", "- - A", wire.hello(b"good.test", extra=GREASE)),
    sni("encrypted_client_hello (CH-25)", "- - A", wire.hello(b"good.test", extra=wire.extension(0xFE0D, bytes(200)))),
    sni("truncated ALPN (CH-34)", "- - A", wire.hello(b"good.test", extra=wire.extension(16, b"\0\x05\x02h"))),
    sni(
        "server name behind everything (CH-03)",
        "- - A",
        hello_with(wire.COMMON + wire.padding(600) + wire.server_name(b"good.test")),
    ),
    proxied("no PROXY header (PP-01)", "- - closed", b""),
    proxied("v1 UNKNOWN alone (PP-07)", "- - A", b"PROXY UNKNOWN\r\n"),
    proxied("v1 line of 108 bytes (PP-08)", "- - closed", b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n"),
    proxied("v1 line of 107 bytes (PP-07)", "- - A", b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"),
    proxied("v1 lower case (PP-09)", "- - closed", b"proxy TCP4 10.77.0.7 10.77.0.1 7007 443\r\n"),
    proxied("v1 ended by LF alone (PP-09)", "- - closed", b"PROXY TCP4 10.77.0.7 10.77.0.1 7007 443\n"),
    proxied("v1 two spaces (PP-10)", "- - closed", b"PROXY TCP4  10.77.0.7 10.77.0.1 7007 443\r\n"),
    proxied("v1 zone id (PP-13)", "- - closed", b"PROXY TCP6 fe80::1%eth0 fe80::2 7007 443\r\n"),
    proxied("v1 IPv6", "- - A", wire.v1("fd00::7", "fd00::1", 7007, 443, "TCP6")),
    proxied("v2 version 1 (PP-14)", "- - closed", wire.v2(0x11, wire.TCP4, V4_BLOCK)),
    proxied("v2 family 4 (PP-15)", "- - closed", wire.v2(wire.PROXY, 0x41, V4_BLOCK)),
    proxied("v2 LOCAL, empty (PP-16)", "- - A", wire.v2(wire.LOCAL, wire.UNSPEC, b"")),
    proxied("v2 LOCAL, odd block (PP-16)", "- - A", wire.v2(wire.LOCAL, wire.TCP4, bytes(5))),
    proxied("v2 TCP4 with 11 bytes (PP-19)", "- - closed", wire.v2(wire.PROXY, wire.TCP4, V4_BLOCK[:11])),
    proxied("v2 CRC32C twice (PP-22)", "- - closed", wire.with_crc32c(wire.tlv(wire.TLV_CRC32C, bytes(4)))),
    proxied("v2 UNIQUE_ID of 129 bytes (PP-23)", "- - closed", wire.v2_tcp4(wire.tlv(wire.TLV_UNIQUE_ID, bytes(129)))),
    proxied("v2 source 0.0.0.0 (PP-26)", "- - closed", wire.v2_tcp4(source="0.0.0.0")),
    proxied("v2 source 224.0.0.1 (PP-26)", "- - closed", wire.v2_tcp4(source="224.0.0.1")),
    proxied(
        "a second header is payload: not TLS (PP-28)",
        "- - B",
        wire.v2_tcp4() + wire.v2_tcp4(),
        arrives=wire.v2_tcp4() + GOOD,
    ),
]


# Rows about time and the end of a connection ------------------------------------------------------


def until_the_limit(send) -> Callable:
    """Connects, calls `send`, and says what came of it; a refusal must come at the limit of one second."""

    def run(battery) -> str:
        with connect(battery["sni-slow"]) as client:
            started = time.monotonic()
            send(client, started)
            answer, end = read_to_end(client, seconds=3)
            elapsed = time.monotonic() - started
        kind = battery.classify(answer, end)
        # Generous above: the machine may be busy. Below, the deadline would have been missed.
        assert kind != "closed" or 0.9 <= elapsed <= 2.5, f"closed after {elapsed:.2f} s"
        return kind

    return run


def drip(client: socket.socket, started: float) -> None:
    client.settimeout(0.2)
    for byte in GOOD:
        if time.monotonic() - started > 2:
            return
        try:
            client.sendall(bytes([byte]))
            # Waiting in recv is the pause, and ends early when the proxy has decided.
            if client.recv(1, socket.MSG_PEEK) is not None:
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return


def late_answer(battery) -> str:
    with connect(battery["late"]) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        answer, end = read_to_end(client)
    return "delivered" if (answer, end) == (b"late answer", FIN) else f"lost ({end} after {answer!r})"


def upstream_reset(battery) -> str:
    with connect(battery["resetting"]) as client:
        client.sendall(b"question")
        return read_to_end(client)[1]


def client_reset(battery) -> str:
    origin = battery.origins["reset-seen"]
    origin.forget()
    client = connect(battery["reset-seen"])
    client.sendall(b"question")
    assert client.recv(1) == b"A"
    reset(client)
    return eventually(lambda: origin.seen and origin.seen[0].end, what="the origin sees the end")


ENDS = [
    # nginx with `proxy_half_close on`, which is not its default.
    Row("client FIN, late upstream data (RS-02)", "delivered delivered delivered", run=late_answer),
    Row("upstream RST, the client sees (RS-06)", "FIN FIN RST", run=upstream_reset),
    Row("client RST, the upstream sees (RS-06)", "RST FIN RST", run=client_reset),
    Row("hello dripped, limit 1 s (T-11)", "B closed closed", run=until_the_limit(drip)),
    Row("silent client, limit 1 s (T-11)", "- closed closed", run=until_the_limit(lambda client, started: None)),
]


# The battery --------------------------------------------------------------------------------------


def late(seen) -> None:
    seen.read_all()
    time.sleep(0.05)
    seen.connection.sendall(b"late answer")


def resetting(seen) -> None:
    seen.read()
    reset(seen.connection)


class Battery:
    """The subject with its listeners, and the origins behind it."""

    def __init__(self, proxy):
        self.origins = {
            "A": Origin(answering(b"A")),
            "B": Origin(answering(b"B")),
            "late": Origin(late),
            "resetting": Origin(resetting),
            "reset-seen": Origin(answering(b"A")),
        }
        a, b = self.origins["A"].endpoint, self.origins["B"].endpoint
        names = dict(routes={"good.test": a}, default=b)
        self.listeners = {
            listen.name: listen
            for listen in (
                Listen("sni", free_port(), **names),
                Listen("sni-large", free_port(), hello_max=32 << 10, **names),
                Listen("sni-slow", free_port(), hello_timeout=1, **names),
                Listen("proxy", free_port(), proxy_from=["127.0.0.0/8"], **names),
                *(
                    Listen(name, free_port(), default=self.origins[name].endpoint)
                    for name in ("late", "resetting", "reset-seen")
                ),
            )
        }
        proxy(Setup(list(self.listeners.values())))

    def __getitem__(self, name: str) -> tuple[str, int]:
        return self.listeners[name].endpoint

    def stop(self) -> None:
        for origin in self.origins.values():
            origin.stop()

    @staticmethod
    def classify(answer: bytes, end: str) -> str:
        if answer in (b"A", b"B"):
            return answer.decode()
        if answer == b"":
            return "closed" if end in (FIN, RST) else OPEN
        if len(answer) == 7 and answer == wire.alert(answer[6]) and end in (FIN, RST):
            return f"alert({answer[6]})"
        return f"{answer!r} and {end}"

    def send(self, listener: str, sent: bytes, segments: int | None = None, pause: float = 0.0) -> str:
        """Sends on a connection of its own, and says what came of it."""
        with connect(self[listener], seconds=4) as client:
            with contextlib.suppress(ConnectionError):  # refused while we were sending
                for start in range(0, len(sent), segments or len(sent)):
                    client.sendall(sent[start : start + (segments or len(sent))])
                    if segments:
                        time.sleep(pause)
            try:
                answer, end = client.recv(64), OPEN
            except ConnectionError:
                answer, end = b"", RST
            except TimeoutError:
                return OPEN
            if answer not in (b"A", b"B"):
                rest, end = (b"", end) if end == RST else read_to_end(client)
                return self.classify(answer + rest, end)
            client.shutdown(socket.SHUT_WR)
            rest, end = read_to_end(client)
            assert (rest, end) == (b"", FIN), "the origin's end did not come through"
        return answer.decode()

    def run(self, row: Row) -> str:
        if row.run:
            return row.run(self)
        a, b = self.origins["A"], self.origins["B"]
        a.forget()
        b.forget()
        kind = self.send(row.listener, row.header + row.payload, row.segments, row.pause)
        if kind in ("A", "B"):
            reached = self.origins[kind]
            [seen] = reached.seen
            assert seen.done.wait(5)
            assert bytes(seen.received) == (row.payload if row.arrives is None else row.arrives), "bytes were changed"
        assert sum(len(origin.seen) for origin in (a, b)) == (kind in ("A", "B")), "an origin was reached on a refusal"
        return kind


@pytest.fixture(scope="module")
def battery(proxy, stopping) -> Battery:
    return stopping(Battery(proxy))


def identity(row: Row) -> str:
    return row.vector


@pytest.mark.parametrize("row", AGREED + HELLOS + PROXY + ENDS, ids=identity)
def test_row(battery, subject_name, table, row):
    judge(battery, subject_name, table, row)


def judge(battery: Battery, subject: str, table: dict[str, Line], row: Row) -> None:
    """Runs the row, writes its line into the table, and fails where the subject reacted otherwise than expected."""
    line = table[row.vector] = Line(row.expected, "failed")
    line.observed = battery.run(row)
    assert line.verdict(subject) != "DIFFERS", line


@pytest.mark.weir
@pytest.mark.parametrize("row", PROMISED, ids=identity)
def test_promise_beyond_the_table(battery, table, row):
    judge(battery, "weir", table, row)


# Every split --------------------------------------------------------------------------------------


def feed_in_two(battery: Battery, listener: str, sent: bytes, offsets: list[int]) -> dict[int, str]:
    """The reaction to `sent` in two segments, by the offset of the cut; a hundred connections at a time."""
    found = {}
    for start in range(0, len(offsets), 100):
        clients = {offset: connect(battery[listener]) for offset in offsets[start : start + 100]}
        for offset, client in clients.items():
            client.sendall(sent[:offset])
        time.sleep(0.05)  # so that the proxy reads the first part alone
        for offset, client in clients.items():
            with contextlib.suppress(ConnectionError):
                client.sendall(sent[offset:])
        for offset, client in clients.items():
            with client:
                try:
                    answer, end = client.recv(64), FIN
                except ConnectionError:
                    answer, end = b"", RST
                except TimeoutError:
                    answer, end = b"", OPEN
                found[offset] = battery.classify(answer, end)
    return found


def expect_whole(origin: Origin, payload: bytes, count: int) -> None:
    eventually(
        lambda: len(origin.seen) == count and all(seen.done.is_set() for seen in origin.seen),
        5,
        f"{count} connections at the origin",
    )
    assert all(bytes(seen.received) == payload for seen in origin.seen)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(wire.openssl_hello("good.test"), id="OpenSSL"),
        pytest.param(wire.records(GOOD_MESSAGE, 60, NAME_AT + 2), id="three records"),
    ],
)
def test_a_hello_cut_at_any_byte_finds_its_route(battery, subject_name, payload):
    """CH-01; HAProxy needs the hello in one record."""
    expected = "B" if subject_name == "haproxy" and payload.count(b"\x16\x03\x01") > 1 else "A"
    origin = battery.origins[expected]
    origin.forget()
    offsets = list(range(1, len(payload)))
    found = feed_in_two(battery, "sni", payload, offsets)
    assert {offset: kind for offset, kind in found.items() if kind != expected} == {}
    expect_whole(origin, payload, len(offsets))


def test_a_hello_in_two_records_cut_at_any_byte_finds_its_route(battery, subject_name):
    """CH-04; HAProxy reads the first record only, and routes right where that holds the name."""
    found = {}
    for cut in range(1, len(GOOD_MESSAGE)):
        found[cut] = battery.send("sni", wire.records(GOOD_MESSAGE, cut))
    wrong = {cut: kind for cut, kind in found.items() if kind != "A"}
    assert wrong if subject_name == "haproxy" else wrong == {}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(wire.v1("10.77.0.7", "10.77.0.1", 7007, 443), id="v1"),
        pytest.param(wire.v2_tcp4(), id="v2"),
        pytest.param(
            wire.with_crc32c(wire.tlv(wire.TLV_AUTHORITY, b"good.test"), wire.tlv(0xE0, b"x" * 20)), id="v2 with TLVs"
        ),
    ],
)
def test_a_proxy_header_cut_at_any_byte_is_taken(battery, subject_name, header):
    """PP-02, PP-03: also where the cut is the header's end. HAProxy and nginx refuse every cut inside the header."""
    origin = battery.origins["A"]
    origin.forget()
    sent = header + GOOD
    offsets = list(range(1, len(header) + 1))
    found = feed_in_two(battery, "proxy", sent, offsets)
    if subject_name == "weir":
        assert {offset: kind for offset, kind in found.items() if kind != "A"} == {}
        expect_whole(origin, GOOD, len(offsets))
    else:
        assert found.pop(len(header)) == "A"
        assert set(found.values()) == {"closed"}


@pytest.mark.weir
@pytest.mark.parametrize("header", [wire.v1("10.77.0.7", "10.77.0.1", 7007, 443), wire.v2_tcp4()], ids=["v1", "v2"])
def test_a_proxy_header_and_hello_in_one_byte_segments_are_taken(battery, header):
    """PP-02."""
    assert battery.send("proxy", header + GOOD, segments=1, pause=0.0005) == "A"


@pytest.mark.weir
def test_an_aborted_preamble_reaches_no_origin(battery):
    """PP-04, CH-36: half a header or half a hello, then FIN or RST."""
    for origin in battery.origins.values():
        origin.forget()
    for listener, part in (("proxy", wire.v2_tcp4()[:20]), ("proxy", b"PROXY TCP4 10."), ("sni", GOOD[:100])):
        with connect(battery[listener]) as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            answer, end = read_to_end(client)
            assert end in (FIN, RST) and len(answer) in (0, 7)
        client = connect(battery[listener])
        client.sendall(part)
        reset(client)
    # What comes behind is served, and is the only thing that any origin sees.
    assert battery.send("sni", GOOD) == "A"
    assert [len(battery.origins[name].seen) for name in ("A", "B")] == [1, 0]
