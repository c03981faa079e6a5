"""Promises that are numbers over many: half-closes, streams over a lossy network, and clocks that jump."""

import asyncio
import datetime
import hashlib
import pathlib
import socket
import time

import pytest

from harness import vocabulary
from harness.conversations import Conversations, in_turn, listening
from harness.endpoints import FIN, OPEN, Origin, connect, echo, exchange, read_exactly, read_to_end
from harness.network import Switch, free_port
from harness.setup import Listen, Setup
from harness.streams import UP, Streams
from harness.wallclock import WallClock
from harness.weir import Weir, WeirElsewhere


async def connected(endpoint) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(client, endpoint)
    except BaseException:
        client.close()
        raise
    return client


async def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
        received += chunk
    return bytes(received)


def test_every_half_close_gets_its_answer(proxy, request, subject_name, figure):
    """P-17: the client ends its side; the origin answers after that, with what it got and its SHA-256."""
    count = request.config.getoption("--half-closes")
    here = ("127.0.0.1", free_port())
    listen = Listen("half-closes", free_port(), default=here)
    process = proxy(Setup([listen]), name="half-closes")
    streams = Streams(17)
    wrong = []

    async def serve(connection):
        with connection:
            received = await read_all(connection)
            answer = hashlib.sha256(received).digest() + received
            await asyncio.get_running_loop().sock_sendall(connection, answer)

    async def one(number: int) -> None:
        sent = streams.bytes(number, UP, 0, number * 7919 % 20_000)
        try:
            async with asyncio.timeout(20):
                with await connected(listen.endpoint) as client:
                    await asyncio.get_running_loop().sock_sendall(client, sent)
                    client.shutdown(socket.SHUT_WR)
                    answer = await read_all(client)
        except OSError as failure:
            wrong.append(f"{number}: {failure!r}")
            return
        if answer != hashlib.sha256(sent).digest() + sent:
            wrong.append(f"{number}: {len(answer)} bytes in place of {32 + len(sent)}")

    async def run():
        origin = await listening(here, serve)
        await in_turn(count, 64, one)
        origin.cancel()

    asyncio.run(run())
    figure("P-17", f"half-closes answered whole, of {count}", "100 %", f"{100 * (count - len(wrong)) / count:.2f} %")
    assert wrong == []
    if subject_name == "weir":
        process.expect_nothing_outstanding()


@pytest.mark.weir
@pytest.mark.own_network
@pytest.mark.timeout(240)
def test_no_stream_is_corrupted_on_a_lossy_network(tmp_path, request, stopping, figure):
    """P-20: 5 % of all segments between clients, proxy and origin are lost, both ways."""
    count = request.config.getoption("--lossy-streams")
    conversations = Conversations(20)
    switch = stopping(Switch())
    clients, host, origins = (
        switch.host("cli", "10.99.0.2"),
        switch.host("px", "10.99.0.1"),
        switch.host("be1", "10.99.0.11"),
    )
    listen = Listen("lossy", 8001, address="10.99.0.1", default=("10.99.0.11", 7000), preamble_timeout=30)
    process = stopping(WeirElsewhere.start(host, tmp_path, Setup([listen])))
    async def run():
        with origins.entered():
            origin = await listening(("10.99.0.11", 7000), conversations.serve)
        switch.lose(5, "px")
        started = time.monotonic()
        await in_turn(count, 400, lambda number: conversations.one(clients, listen.endpoint, number))
        seconds, lost = time.monotonic() - started, switch.lost_count()
        switch.rules()
        origin.cancel()
        return seconds, lost

    seconds, lost = asyncio.run(run())
    outcomes, corrupted = conversations.outcomes, conversations.corrupted
    figure("P-20", f"streams corrupted at 5 % loss both ways, of {count}", "0", f"{len(corrupted)}, {seconds:.0f} s")
    figure("P-20", "  whole; refused; segments lost", "", f"{outcomes['whole']}; {outcomes['refused']}; {lost}")
    assert corrupted == []
    assert lost > 20 * count / 100, "hardly anything was lost"
    assert outcomes["timeout"] == 0
    # A connect fails when both its tries are lost: about one in ten thousand.
    assert outcomes["whole"] >= count * 0.99, outcomes
    process.expect_nothing_outstanding(70)  # a RST that was lost leaves its session to the idle limit


# Clocks -------------------------------------------------------------------------------------------


def keeps_its_times(listen: Listen, silent: Listen) -> list[float]:
    """A limit of 1 s is kept, and a session without a limit near goes on; returns what the limits measured."""
    measured = []
    with connect(listen.endpoint) as live:
        live.sendall(b"a")
        assert read_exactly(live, 1) == b"a"
        for _ in range(2):
            started = time.monotonic()
            with connect(silent.endpoint) as client:
                client.sendall(b"\x16")
                assert read_to_end(client)[1] != OPEN
            measured.append(time.monotonic() - started)
        live.sendall(b"b")
        assert read_exactly(live, 1) == b"b"
    assert all(0.9 <= seconds <= 2.5 for seconds in measured), measured
    return measured


@pytest.fixture
def timed(stopping):
    """Two listeners: one that relays, one that waits for a hello for 1 s."""
    origin = stopping(Origin(echo))
    return (
        Listen("live", free_port(), default=origin.endpoint),
        Listen("silent", free_port(), routes={"a.test": origin.endpoint}, hello_timeout=1),
    )


@pytest.mark.weir
def test_steps_of_the_wall_clock_change_no_timer(tmp_path, timed, stopping, figure):
    """P-21: the process's wall clock jumps an hour on and two back while it runs; only the log's times follow."""
    clock = WallClock(tmp_path)
    process = stopping(Weir.start(tmp_path, Setup(list(timed)), prefix=clock.prefix))
    measured, ahead = [], []
    for hours in (0, 1, -1, 0):
        clock.step(hours * 3600)
        measured += keeps_its_times(*timed)
        before = len(process.records())
        assert exchange(timed[0].endpoint, b"x") == (b"x", FIN)
        record = process.record(before, **{vocabulary.BYTES_FROM_CLIENT: 1, vocabulary.REASON: vocabulary.FINISHED})
        logged = datetime.datetime.fromisoformat(record["time"])
        ahead.append(round((logged - datetime.datetime.now(datetime.UTC)).total_seconds() / 3600))
    assert ahead == [0, 1, -1, 0], "the steps did not reach the process"
    times = f"{min(measured):.2f}-{max(measured):.2f} s"
    figure("P-21", "a limit of 1 s while the wall clock steps by hours", "unchanged", times)


@pytest.mark.weir
def test_another_monotonic_clock_changes_no_timer(tmp_path, timed, stopping, figure):
    """P-21: in a time namespace the kernel's clock and the process's differ by a day."""
    prefix = ["unshare", "--time", "--monotonic", "86400", "--boottime", "86400"]
    process = stopping(Weir.start(tmp_path, Setup(list(timed)), prefix=prefix))
    offsets = pathlib.Path(f"/proc/{process.pid}/timens_offsets").read_text().split()
    assert offsets[1] == "86400", offsets
    measured = keeps_its_times(*timed)
    figure("P-21", "the same in a time namespace a day ahead", "unchanged", f"{min(measured):.2f}-{max(measured):.2f} s")
