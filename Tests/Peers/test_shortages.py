"""Short of something: descriptors, memory, source ports, time. Live sessions are never harmed, nothing spins, each
shortage is counted and told of, and what comes back is used again (P-10…P-13, T-11…T-14)."""

import contextlib
import pathlib
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time

import pytest

from harness import vocabulary, wire
from harness.endpoints import EchoOrigin, connect, connect_from_outside, read_exactly, reset
from harness.groups import MemoryGroup
from harness.network import free_port
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.stalled import Stalled

pytestmark = pytest.mark.weir

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def many_descriptors():
    """The tests hold both ends of ten thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, max(hard, 65536)))
    yield
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def echo(stopping):
    return stopping(EchoOrigin())


def echoes(client: socket.socket, text: bytes = b"ping") -> bool:
    try:
        client.sendall(text)
        return read_exactly(client, len(text)) == text
    except (OSError, AssertionError):
        return False


def served(endpoint) -> bool:
    """Whether a new client gets an echo within a second."""
    try:
        with connect(endpoint, seconds=1) as client:
            return echoes(client)
    except OSError:
        return False


def shortages(process, kind: str) -> float:
    return process.metrics().sum(vocabulary.SHORTAGES, kind=kind)


def told(process, words: str) -> list[str]:
    """The lines about a shortage so far."""
    return [line for line in process.output().splitlines() if line.startswith(f"weir: short of {words},")]


def attempt(endpoint) -> socket.socket:
    """A client that waits for nothing, its connect included."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(endpoint)
    return client


def cpu_share(process, seconds: float) -> float:
    """Of one core."""
    before, started = process.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (process.cpu_seconds() - before) / (time.monotonic() - started)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class Latencies(threading.Thread):
    """A healthy client: one session after the other, each with one exchange, timed from connect to the echo."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.found: list[float] = []
        self.failures = 0
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            started = time.monotonic()
            if served(self.endpoint):
                self.found.append(time.monotonic() - started)
            else:
                self.failures += 1
            time.sleep(0.005)

    def stop(self) -> list[float]:
        self._over.set()
        self.join()
        return self.found


# What start derives, and says -----------------------------------------------------------------------


def test_start_says_what_it_takes_and_what_binds_it(proxy, echo):
    """T-12: the sentence, the metric and the refusals name one number."""
    listen = Listen("stated", free_port(), default=echo.endpoint)
    process = proxy(Setup([listen], limits={"connections": 7}), name="stated")
    assert re.search(r"^weir: at most 7 sessions, bound by limits.connections \(descriptors \d+, memory \d+ MiB of",
                     process.output(), re.MULTILINE)
    assert process.metrics().sum("weir_sessions_limit") == 7
    clients = [connect(listen.endpoint) for _ in range(7)]
    assert all(echoes(client) for client in clients)
    assert not served(listen.endpoint)
    assert process.metrics().sum(vocabulary.SESSIONS_CLOSED, reason=vocabulary.CONNECTION_LIMIT) == 1
    assert shortages(process, "sessions") == 1
    eventually(lambda: told(process, "sessions"), 3, "a line about sessions")
    for client in clients:
        client.close()


# Descriptors ----------------------------------------------------------------------------------------


def test_clients_beyond_few_descriptors_are_refused_before_the_kernel_has_to(proxy, echo, figure):
    """P-11, T-12: the limit that was derived is met, so who is let in finds a descriptor for its upstream. Those who are
    turned away in one burst may fill the table for a moment, and accepting pauses for 10 ms."""
    listen = Listen("derived", free_port(), default=echo.endpoint)
    process = proxy(Setup([listen]), name="derived", prefix=["prlimit", "--nofile=128:128"])
    most = int(process.metrics().sum("weir_sessions_limit"))
    assert 16 <= most <= 64
    started = time.monotonic()
    inside = [connect(listen.endpoint) for _ in range(most)]
    assert all(echoes(client) for client in inside)
    outside = [attempt(listen.endpoint) for _ in range(200)]
    eventually(
        lambda: process.metrics().sum(vocabulary.SESSIONS_CLOSED, reason=vocabulary.CONNECTION_LIMIT) >= 200, 5
    )
    share = cpu_share(process, 2)
    figure("P-11", f"200 clients beyond {most} sessions of 128 descriptors: CPU", "< 5 % of a core", f"{share:.1%}")
    assert share < 0.05
    assert all(echoes(client) for client in inside)
    metrics = process.metrics()
    assert metrics.sum(vocabulary.SESSIONS_CLOSED, reason=vocabulary.DESCRIPTORS_EXHAUSTED) == 0
    lines = eventually(lambda: told(process, "sessions"), 3, "a line about sessions")
    assert len(lines) <= time.monotonic() - started + 1
    inside.pop().close()
    eventually(lambda: served(listen.endpoint), 3, "room is used again")
    for client in inside + outside:
        client.close()
    process.expect_nothing_outstanding()


def limit_descriptors(process, count: int) -> None:
    """Changes the limit of the running process from outside: what nobody can derive at start."""
    subprocess.run(["prlimit", f"--pid={process.pid}", f"--nofile={count}:20000"], check=True)


def test_accept_waits_for_descriptors_and_goes_on_with_them(proxy, echo, figure):
    """P-11: EMFILE. Nothing spins, live streams go on, and clients are served as soon as there are descriptors."""
    listen = Listen("emfile", free_port(), default=echo.endpoint)
    process = proxy(Setup([listen]), name="emfile", prefix=["prlimit", "--nofile=20000:20000"])
    inside = [connect(listen.endpoint, seconds=20) for _ in range(20)]
    assert all(echoes(client) for client in inside)
    # The admin endpoint's sockets are among those that are left.
    limit_descriptors(process, max(process_descriptors(process)) + 5)
    started = time.monotonic()
    waiting = [attempt(listen.endpoint) for _ in range(200)]
    time.sleep(1)
    share = cpu_share(process, 3)
    figure("P-11", "200 clients wait at EMFILE: CPU", "< 5 % of a core", f"{share:.1%}")
    assert share < 0.05
    assert all(echoes(client, bytes(3000)) for client in inside)
    limit_descriptors(process, 20000)
    freed = time.monotonic()
    late = connect(listen.endpoint)
    assert echoes(late)
    delay = time.monotonic() - freed
    figure("P-11", "first client served after the limit was raised", "<= 500 ms", f"{delay * 1000:.0f} ms")
    assert delay < 2
    assert shortages(process, "descriptors") > 0
    lines = told(process, "descriptors")
    assert 1 <= len(lines) <= time.monotonic() - started + 1
    assert all("LimitNOFILE" in line for line in lines)
    assert all(echoes(client) for client in inside)
    for client in inside + waiting + [late]:
        client.close()
    process.expect_nothing_outstanding()
    metrics = process.metrics()
    assert metrics.sum("weir_accept_pauses_total") == metrics.sum("weir_accept_resumes_total")


def process_descriptors(process) -> list[int]:
    return [int(entry.name) for entry in pathlib.Path(f"/proc/{process.pid}/fd").iterdir()]


# Source ports ---------------------------------------------------------------------------------------


@pytest.mark.own_network
def test_a_connect_without_source_port_fails_at_once_and_says_why(proxy, stopping, figure):
    """P-13: a hundred ports towards one destination; a hundred sessions live, the next is refused, ports come back."""
    sysctl = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
    origin = stopping(EchoOrigin())  # which no connection of another test is still closing towards
    listen = Listen("ports", free_port(), default=origin.endpoint)
    process = proxy(Setup([listen], workers=1), name="ports")
    before = sysctl.read_text()
    sysctl.write_text("61100 61199")
    try:
        inside = [connect_from_outside(listen.endpoint) for _ in range(100)]
        assert all(echoes(client) for client in inside)
        times = []
        for _ in range(20):
            started = time.monotonic()
            with connect_from_outside(listen.endpoint) as client:
                assert client.recv(1) == b""
            times.append(time.monotonic() - started)
        worst, median = max(times) * 1000, statistics.median(times) * 1000
        figure("P-13", "refused for want of a source port, median and worst of 20", "< 10 ms",
               f"{median:.1f} ms, {worst:.1f} ms")
        record = process.record(reason=vocabulary.SOURCE_EXHAUSTED)
        assert record["errno"] == "EADDRNOTAVAIL" and record["status"] == 500
        figure("P-13", "the same in the session's record", "< 10 ms", f"{record['session_seconds'] * 1000:.1f} ms")
        assert shortages(process, "source_ports") == 20
        lines = eventually(lambda: told(process, "source ports"), 3, "a line about source ports")
        assert "ip_local_port_range" in lines[0]
        assert all(echoes(client) for client in inside)
        assert process.metrics().sum("weir_accept_pauses_total") == 0
        # RST leaves no TIME_WAIT behind, so the ports are free at once.
        for client in inside[:30]:
            reset(client)
        eventually(lambda: process.metrics().sum(vocabulary.SESSIONS_ACTIVE) == 70, 3)
        again = [connect_from_outside(listen.endpoint) for _ in range(30)]
        assert all(echoes(client) for client in again + inside[30:])
    finally:
        sysctl.write_text(before)
    for client in inside[30:] + again:
        client.close()
    process.expect_nothing_outstanding()


# Memory ---------------------------------------------------------------------------------------------


class Flood:
    """An origin that sends without end to everyone, as fast as they take it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.endpoint = self._listener.getsockname()[:2]
        self.byte_count = 0
        self.connection_count = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poll = select.epoll()
        self._listener.setblocking(False)
        poll.register(self._listener, select.EPOLLIN)
        connections: dict[int, socket.socket] = {}
        payload = bytes(65536)
        while not self._over:
            for number, event in poll.poll(0.1):
                if number == self._listener.fileno():
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            connection, _ = self._listener.accept()
                            connection.setblocking(False)
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
                            connections[connection.fileno()] = connection
                            poll.register(connection, select.EPOLLOUT)
                            self.connection_count += 1
                    continue
                try:
                    if event & (select.EPOLLERR | select.EPOLLHUP):
                        raise ConnectionError
                    self.byte_count += connections[number].send(payload)
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(number)
                    connections.pop(number).close()
        for connection in connections.values():
            connection.close()
        poll.close()

    def stop(self) -> None:
        self._over = True
        self._thread.join()
        self._listener.close()


@pytest.fixture
def memory_group(request):
    group = MemoryGroup.make(request.param)
    if isinstance(group, str):
        pytest.skip(f"no control group of its own ({group})")
    yield group
    eventually(lambda: not (group.directory / "cgroup.procs").read_text(), 5, "the group is empty")
    group.stop()


@pytest.mark.parametrize("memory_group", [128 * MIB], indirect=True)
@pytest.mark.exact
def test_two_thousand_who_never_read_do_not_cost_the_process_its_life(proxy, echo, stopping, memory_group, figure):
    """P-12: a fast upstream, clients that never read, 128 MiB. No kill, and a healthy client is served as before."""
    flood = stopping(Flood())
    stalled = Listen("stalled", free_port(), default=flood.endpoint)
    healthy = Listen("healthy", free_port(), default=echo.endpoint)
    process = proxy(Setup([stalled, healthy]), name="memory", prefix=memory_group.prefix)
    try:
        assert re.search(r"bound by memory .*memory 128 MiB of the control group", process.output())
        assert process.metrics().sum("weir_memory_limit_bytes") == 128 * MIB
        resident = process.resident_bytes()
        friend = connect(healthy.endpoint, seconds=20)
        assert echoes(friend)
        clients = []
        for _ in range(2000):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(stalled.endpoint)
            clients.append(client)
        eventually(lambda: flood.connection_count == 2000, 30, "every client has its upstream")
        settle(lambda: flood.byte_count)
        assert process.is_running() and memory_group.kills() == 0
        assert echoes(friend, bytes(10_000))
        assert all(served(healthy.endpoint) for _ in range(20))
        metrics = process.metrics()
        usage = memory_group.usage()
        kinds = ", ".join(f"{kind} {value / MIB:.0f} MiB" for kind, value in usage.items())
        figure("P-12", "2000 who never read in 128 MiB: killed, most in use", "0, < 128 MiB",
               f"{memory_group.kills()}, {kinds} (cgroup v{memory_group.version})")
        figure("P-12", "the same: resident memory and relay buffers held", "-",
               f"{resident / MIB:.0f} to {process.resident_bytes() / MIB:.0f} MiB, "
               f"{metrics.sum('weir_buffers_outstanding'):.0f} of {metrics.sum('weir_buffers_limit'):.0f}")
        # What version 2 counts together.
        assert usage["memory"] + usage.get("sockets", 0) < 128 * MIB
        for client in clients:
            client.close()
        friend.close()
        process.expect_nothing_outstanding(20)
        metrics = process.metrics()
        pauses, resumes = metrics.sum("weir_receive_pauses_total"), metrics.sum("weir_receive_resumes_total")
        figure("P-12", "receives paused for want of a buffer, and resumed", "equal", f"{pauses:.0f}, {resumes:.0f}")
        assert pauses == resumes
        assert memory_group.kills() == 0
    finally:
        process.stop()


def settle(value, seconds: float = 30) -> None:
    """Waits until nothing has changed for a second."""
    deadline = time.monotonic() + seconds
    while True:
        before = value()
        time.sleep(1)
        if value() == before or time.monotonic() > deadline:
            return


@pytest.mark.exact
@pytest.mark.parametrize("memory_group", [256 * MIB], indirect=True)
def test_nobody_is_accepted_while_the_group_has_no_memory(proxy, echo, memory_group, figure):
    """T-13: a neighbour in the group takes nearly all. Who is in goes on, who comes waits, and is served afterwards."""
    listen = Listen("neighbour", free_port(), default=echo.endpoint)
    process = proxy(Setup([listen]), name="neighbour", prefix=memory_group.prefix)
    neighbour = None
    try:
        friend = connect(listen.endpoint, seconds=20)
        assert echoes(friend)
        # A mebibyte per line that it is told.
        greedy = "import sys\nheld = []\nfor line in sys.stdin:\n held.append(b'x' * (1 << 20))\n print(flush=True)"
        neighbour = subprocess.Popen(
            memory_group.prefix + [sys.executable, "-c", greedy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        for taken in range(256):
            if taken > 150 and process.metrics().sum("weir_memory_short") == 1:
                break
            neighbour.stdin.write(b"\n")
            assert neighbour.stdout.readline() == b"\n", "the neighbour was killed"
            if taken > 200:
                time.sleep(0.25)  # the proxy looks several times a second
        assert process.metrics().sum("weir_memory_short") == 1
        eventually(lambda: process.metrics().sum("weir_accept_pauses_total") == 2, 3, "both workers pause")
        late = connect(listen.endpoint, seconds=20)
        late.settimeout(0.5)
        assert not echoes(late)
        assert echoes(friend)
        share = cpu_share(process, 2)
        figure("T-13", "memory is short, a client waits: CPU", "< 5 % of a core", f"{share:.1%}")
        assert share < 0.05
        eventually(lambda: told(process, "memory"), 3, "a line about memory")
        neighbour.kill()
        neighbour.wait()
        freed = time.monotonic()
        late.settimeout(10)
        assert read_exactly(late, 4) == b"ping"
        figure("T-13", "the client that waited is served after memory came back", "<= 1 s",
               f"{(time.monotonic() - freed) * 1000:.0f} ms")
        assert echoes(friend)
        late.close()
        friend.close()
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
        process.stop()


# Slow clients ---------------------------------------------------------------------------------------


@pytest.mark.exact
def test_ten_thousand_stalled_hellos_end_on_time_and_harm_nobody(proxy, echo, stopping, figure):
    """P-10, T-11: each at 5 s, little memory, and another client is served as fast as before."""
    slow = Listen("slow", free_port(), routes={"good.test": echo.endpoint})
    healthy = Listen("brisk", free_port(), default=echo.endpoint)
    process = proxy(Setup([slow, healthy]), name="slow", prefix=["sh", "-c", 'ulimit -Hn 32768 2>/dev/null; exec "$@"', "sh"])
    count = min(10_000, int(process.metrics().sum("weir_sessions_limit")) - 100)
    quiet = Latencies(healthy.endpoint)
    # What is touched at first use is touched now.
    assert len(Stalled(slow.endpoint, 50).finish(20)) == 50
    before = percentile(quiet.stop(), 0.99)
    resident = process.resident_bytes()
    stalled = stopping(Stalled(slow.endpoint, count))
    sent_after = stalled.await_sent()
    eventually(lambda: process.metrics().sum(vocabulary.SESSIONS_ACTIVE, listener="slow") == count, 4)
    each = (process.resident_bytes() - resident) / count
    busy = Latencies(healthy.endpoint)
    lifetimes = stalled.finish(20)
    during = percentile(busy.stop(), 0.99)
    assert len(lifetimes) == count, "some are still open"
    metrics = process.metrics()
    assert metrics.sum(vocabulary.SESSIONS_CLOSED, reason=vocabulary.PREAMBLE_TIMEOUT) == count + 50
    spans = eventually(lambda: spans_of(process, count), 5, "records of all, or of all but those dropped")
    low, high = min(spans), max(spans)
    figure("P-10", f"{count} half hellos, all sent within {sent_after:.1f} s: closed after", "5 s +- 10 %",
           f"{low:.2f} to {high:.2f} s by the records, "
           f"{min(lifetimes):.2f} to {max(lifetimes):.2f} s by the clients")
    figure("P-10", "resident memory of each", "<= 4 KiB", f"{each / 1024:.1f} KiB")
    figure("P-10", "p99 of a new session with an echo, before and during", "< 2x",
           f"{before * 1000:.1f} ms, {during * 1000:.1f} ms")
    assert 4.5 <= low and high <= 5.5
    assert each <= 4096
    assert busy.failures == 0
    process.expect_nothing_outstanding()


def spans_of(process, count: int) -> list[float]:
    spans = [record["session_seconds"] for record in process.records()
             if record[vocabulary.REASON] == vocabulary.PREAMBLE_TIMEOUT]
    dropped = process.metrics().sum("weir_log_records_dropped_total")
    return spans if len(spans) + dropped >= count + 50 else []


def test_a_byte_now_and_then_does_not_move_the_deadline(proxy, echo, figure):
    """P-10: a hello of 200 bytes at one byte per second is over at 5 s as well."""
    slow = Listen("drip", free_port(), routes={"good.test": echo.endpoint})
    process = proxy(Setup([slow]), name="drip")
    clients = [connect(slow.endpoint) for _ in range(50)]
    hello = wire.hello(b"good.test")
    for position in range(8):
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(hello[position : position + 1])
        time.sleep(1)
    spans = eventually(
        lambda: (found := [record["session_seconds"] for record in process.records()]) and len(found) == 50 and found, 5
    )
    figure("P-10", "50 clients at one byte per second: closed after", "5 s +- 10 %",
           f"{min(spans):.2f} to {max(spans):.2f} s")
    assert 4.5 <= min(spans) and max(spans) <= 5.5
    for client in clients:
        client.close()
