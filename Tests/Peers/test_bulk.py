"""Directions that move in bulk, by every method: bytes, ends and resets are those of the relay (RS-03, RS-06, RS-13)."""

import hashlib
import os
import signal
import socket
import threading
import time

import pytest

from harness import vocabulary
from harness.endpoints import FIN, RST, Digest, EchoOrigin, Origin, connect, echo, read_exactly, reset
from harness.network import free_port
from harness.processes import eventually
from harness.setup import Listen, Setup

pytestmark = pytest.mark.weir

MIB = 1 << 20
BLOCK = os.urandom(MIB)


class Line:
    """A proxy between a client and an origin, which moves bulk by `method`."""

    def __init__(self, proxy, stopping, method, script, **listen):
        self.origin = stopping(Origin(script) if callable(script) else script)
        self.listen = Listen("bulk", free_port(), default=self.origin.endpoint, **listen)
        self.process = proxy(Setup([self.listen], splice=method), name=f"bulk-{method}-{self.listen.port}")

    def connect(self, seconds: float = 30) -> socket.socket:
        return connect(self.listen.endpoint, seconds=seconds)

    def pumped(self) -> float:
        return self.process.metrics().sum("weir_pumped_bytes_total")

    def pumps(self) -> float:
        return self.process.metrics().sum("weir_pumps_active")


@pytest.fixture(params=["direct", "ring", "off"])
def method(request):
    return request.param


@pytest.fixture
def line(proxy, stopping, method):
    return lambda script=echo, **listen: Line(proxy, stopping, method, script, **listen)


def pour(connection: socket.socket, count: int) -> str:
    digest = hashlib.sha256()
    for _ in range(count):
        connection.sendall(BLOCK)
        digest.update(BLOCK)
    return digest.hexdigest()


def test_bulk_both_ways_arrives_whole_and_ends_each_for_itself(line):
    """RS-13: 32 MiB each way at once; each FIN comes after the last byte of its direction."""
    down = {}

    def script(seen):
        sender = threading.Thread(
            target=lambda: (down.update(sent=pour(seen.connection, 32)), seen.connection.shutdown(socket.SHUT_WR))
        )
        sender.start()
        digest = Digest(seen.connection)
        down["up"] = (digest.hexdigest(), digest.byte_count, digest.end)
        sender.join()

    found = line(script)
    with found.connect() as client:
        received = Digest(client)
        sent = pour(client, 32)
        client.shutdown(socket.SHUT_WR)
        assert received.hexdigest() == down["sent"]
        assert (received.byte_count, received.end) == (32 * MIB, FIN)
    eventually(lambda: "up" in down, 10)
    assert down["up"] == (sent, 32 * MIB, FIN)
    # Where the two ends take turns on one core, receives come up short for a while.
    assert found.pumped() > 48 * MIB
    found.process.expect_nothing_outstanding()


def test_a_reader_that_pauses_gets_every_byte(line):
    """RS-03: the source is held back meanwhile, and nothing is lost or repeated."""
    sent = []
    found = line(lambda seen: (sent.append(pour(seen.connection, 16)), seen.connection.shutdown(socket.SHUT_WR)))
    digest, count = hashlib.sha256(), 0
    with found.connect() as client:
        while chunk := client.recv(1 << 16):
            digest.update(chunk)
            before, count = count // MIB, count + len(chunk)
            if count // MIB > before and count // MIB % 4 == 0:
                time.sleep(0.3)
    assert (digest.hexdigest(), count) == (sent[0], 16 * MIB)


def test_messages_follow_bulk_and_the_pump_rests(line, stopping):
    """A direction that calms is received from again, one small piece at a time."""
    found = line(EchoOrigin())
    with found.connect() as client:
        for _ in range(3):
            received = threading.Thread(target=read_exactly, args=(client, 8 * MIB))
            received.start()
            pour(client, 8)
            received.join()
            for number in range(20):
                client.sendall(b"%19d\n" % number)
                assert read_exactly(client, 20) == b"%19d\n" % number
            eventually(lambda: found.pumps() == 0, 5, "no pump while there are but messages")
    assert found.pumped() > 24 * MIB


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_reset_in_the_middle_of_bulk_is_passed_on(line, who):
    """RS-06: while bytes stand in the carrier and the other end does not read."""
    ready, seen_end = threading.Event(), {}

    def script(seen):
        if who == "origin":
            seen.connection.settimeout(0.5)
            try:
                while True:
                    seen.connection.sendall(BLOCK)
            except TimeoutError:
                pass  # nobody reads
            reset(seen.connection)
        else:
            ready.wait(10)
            seen.read_all()
            seen_end["how"], seen_end["at"] = seen.end, time.monotonic()

    found = line(script)
    client = found.connect()
    if who == "client":
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                client.sendall(BLOCK)
        reset(client)
        ready.set()
        eventually(lambda: seen_end.get("how") == RST, 5, "the origin is reset")
    else:
        eventually(lambda: found.process.metrics().sum(vocabulary.SESSIONS_CLOSED) == 1, 10)
        with pytest.raises(ConnectionResetError):
            while client.recv(MIB):
                pass
        client.close()
    found.process.expect_nothing_outstanding()


def test_a_hundred_bulk_streams_share_few_carriers(line):
    """Where no carrier is free a direction goes on with receives; every stream is whole."""

    def script(seen):
        pour(seen.connection, 2)
        seen.connection.shutdown(socket.SHUT_WR)
        seen.read_all()

    found = line(script)
    clients = [found.connect() for _ in range(100)]
    digests = [Digest(client) for client in clients]
    expected = hashlib.sha256(BLOCK * 2).hexdigest()
    assert [digest.hexdigest() for digest in digests] == [expected] * 100
    for client in clients:
        client.close()
    found.process.expect_nothing_outstanding()


def test_a_stalled_bulk_direction_ends_at_the_idle_timeout(line):
    """A carrier that is full is given up with its session."""
    found = line(lambda seen: seen.connection.sendall(BLOCK * 64), idle_timeout=1)
    with found.connect():
        eventually(lambda: found.process.metrics().sum(vocabulary.SESSIONS_CLOSED, reason=vocabulary.IDLE_TIMEOUT) == 1, 10)
    found.process.expect_nothing_outstanding()


def test_a_drain_waits_for_bulk(line):
    """The stream goes on after TERM to its last byte."""
    sent = []
    found = line(lambda seen: (sent.append(pour(seen.connection, 16)), seen.connection.shutdown(socket.SHUT_WR)))
    digest, count = hashlib.sha256(), 0
    with found.connect() as client:
        first = read_exactly(client, MIB)
        found.process.send(signal.SIGTERM)
        digest.update(first)
        while chunk := client.recv(1 << 18):
            digest.update(chunk)
            count += len(chunk)
            time.sleep(0.002)
        client.shutdown(socket.SHUT_WR)
    assert (digest.hexdigest(), count + MIB) == (sent[0], 16 * MIB)
