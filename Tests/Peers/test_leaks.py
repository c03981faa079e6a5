"""After many sessions nothing is left: by /proc, by the gauges and by the records (P-14's short form)."""

import random
import socket
import threading

import pytest

from harness import vocabulary, wire
from harness.endpoints import FIN, EchoOrigin, connect, read_exactly, read_to_end, reset
from harness.network import free_port
from harness.processes import eventually
from harness.setup import Listen, SendProxy, Setup

SESSIONS = 10_000
THREADS = 16


@pytest.fixture(scope="module")
def echo(stopping):
    return stopping(EchoOrigin())


@pytest.fixture(scope="module")
def listeners(echo, names):
    names.set("forward.test", "127.0.0.1")
    return [
        Listen("plain", free_port(), default=echo.endpoint),
        Listen("named", free_port(), routes={"named.test": echo.endpoint}),
        Listen("forward", free_port(), forward_port=echo.endpoint[1]),
        Listen("header", free_port(), proxy_from=["127.0.0.0/8"], default=echo.endpoint),
        Listen("sending", free_port(), default=echo.endpoint, send_proxy=SendProxy("v1")),
        # Where nobody listens.
        Listen("refused", free_port(), default=("127.0.0.1", free_port())),
    ]


class Client(threading.Thread):
    """One session after the other, each of a kind and with an end that the dice choose; counts those it began."""

    def __init__(self, seed: int, listeners: list[Listen], count: int):
        super().__init__(daemon=True)
        self.dice = random.Random(seed)
        self.listeners, self.count = listeners, count
        self.failures: list[str] = []
        # Sessions that the proxy cannot have missed. A client that resets at once may be gone before it is accepted.
        self.certain = 0
        self.start()

    def run(self) -> None:
        for number in range(self.count):
            listen = self.dice.choice(self.listeners)
            try:
                self._session(listen)
            except Exception as failure:
                self.failures.append(f"{listen.name} {number}: {failure!r}")

    def _session(self, listen: Listen) -> None:
        payload = self.dice.randbytes(self.dice.choice((1, 50, 3000, 40_000)))
        first = {
            "named": wire.hello(b"named.test"),
            "forward": wire.hello(b"forward.test"),
            "header": wire.v2_tcp4(),
        }.get(listen.name, b"")
        echoed = payload if listen.name == "header" else first + payload
        with connect(listen.endpoint, seconds=20) as client:
            ending = self.dice.choice(("fin", "half-close", "half-close", "reset", "early fin", "early reset"))
            self.certain += ending != "early reset" or listen.name == "refused"
            if listen.name == "refused":
                assert read_to_end(client)[0] == b""
                return
            if ending.startswith("early"):
                client.sendall(first[: self.dice.randrange(len(first) + 1)])
                return reset(client) if ending == "early reset" else client.close()
            client.sendall(first + payload)
            if listen.name == "sending":
                while read_exactly(client, 1) != b"\n":
                    pass
            assert read_exactly(client, len(echoed)) == echoed
            if ending == "reset":
                reset(client)
            elif ending == "half-close":
                client.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == (b"", FIN)


def storm(listeners: list[Listen], count: int) -> int:
    """Runs `count` sessions, none of which may fail; returns how many of them the proxy cannot have missed."""
    clients = [Client(seed, listeners, count // THREADS) for seed in range(THREADS)]
    for client in clients:
        client.join(80)
        assert not client.is_alive(), "a client hangs"
    assert [failure for client in clients for failure in client.failures] == []
    return sum(client.certain for client in clients)


@pytest.mark.exact
def test_ten_thousand_sessions_leave_nothing_behind(proxy, listeners, names, subject_name, figure):
    """Descriptors, buffers, preamble blocks and sessions are back to none, and every session has a record."""
    if subject_name == "haproxy":  # no dynamic forward; and it waits a second before each of three tries
        listeners = [listen for listen in listeners if listen.name not in ("forward", "refused")]
    process = proxy(Setup(listeners, resolver=(names.address, names.port)), name="leaks")
    certain = storm(listeners, SESSIONS // 5)  # what is made on first use is made now
    if subject_name == "weir":
        process.expect_nothing_outstanding()
    descriptors, resident = settled(process), process.resident_bytes()
    certain += storm(listeners, SESSIONS)
    after = settled(process, at_most=descriptors)
    growth = process.resident_bytes() - resident
    figure("P-14", f"{SESSIONS} mixed sessions leave descriptors", "0", f"{after - descriptors:+d}")
    figure("P-14", f"{SESSIONS} mixed sessions leave memory", "< 8 MiB", f"{growth >> 10} KiB")
    assert after <= descriptors
    if subject_name == "weir":
        process.expect_nothing_outstanding()
        metrics = process.metrics()
        opened = metrics.sum(vocabulary.SESSIONS_OPENED)
        assert certain <= opened <= SESSIONS + SESSIONS // 5
        # Who was reset before the first look at it counts as closed, too, and never as opened.
        assert opened <= metrics.sum(vocabulary.SESSIONS_CLOSED) == metrics.sum(vocabulary.ACCEPTED)
        assert {name: metrics.sum(name) for name in vocabulary.NEVER} == dict.fromkeys(vocabulary.NEVER, 0)
        eventually(lambda: len(process.log_lines()) == opened, 5, f"{opened} records in the log")
        assert growth < 8 << 20


def settled(process, at_most: int = 0) -> int:
    """The number of descriptors once it is `at_most`, or when it has had two seconds to become that."""
    try:
        eventually(lambda: len(process.descriptors()) <= at_most, 2)
    except AssertionError:
        pass
    return len(process.descriptors())
