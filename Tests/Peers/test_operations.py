"""What an operator does: checks a file, starts, reloads, drains, stops, looks at health and metrics, loses DNS."""

import hashlib
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from harness import vocabulary, wire
from harness.endpoints import FIN, OPEN, RST, Origin, answering, connect, echo, exchange, read_exactly, read_to_end
from harness.names import NameServer
from harness.network import add_address, free_port, with_file
from harness.peers import TLSOrigin, accepts, listens
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.weir import Weir, check, text

pytestmark = pytest.mark.weir

PUBLIC = "93.184.215.14"


@pytest.fixture(scope="module")
def origins(stopping):
    """`A` and `B` answer with their letter; `echo` echoes."""
    return {
        "A": stopping(Origin(answering(b"A"))),
        "B": stopping(Origin(answering(b"B"))),
        "echo": stopping(Origin(echo)),
    }


@pytest.fixture
def weir(tmp_path):
    """Starts Weir with a setup, and stops it after the test."""
    started = []

    def start(setup: Setup, **options) -> Weir:
        started.append(Weir.start(tmp_path, setup, name=f"weir{len(started)}", **options))
        return started[-1]

    yield start
    for process in started:
        process.stop(signal.SIGINT)


def asks(listen: Listen, sent: bytes = b"who") -> bytes:
    return exchange(listen.endpoint, sent)[0]


# The command line ---------------------------------------------------------------------------------


def command(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(Weir.binary), *(str(word) for word in arguments)], capture_output=True, text=True, timeout=10, **options
    )


def native_file(port: int, **changes) -> str:
    return text(Setup([Listen("one", port, default=("127.0.0.1", 9), **changes)]))


def test_check_says_that_a_good_file_is_good(tmp_path):
    done = check(tmp_path, native_file(8443), "stream { server { listen 127.0.0.1:8444; proxy_pass 127.0.0.1:9; } }")
    assert (done.returncode, done.stdout) == (0, "ok: 2 listeners, 2 routes, 2 clusters\n"), done.stderr


@pytest.mark.parametrize(
    "wrong, line, expected",
    [
        ("listners: []", 1, "listeners"),
        ("listeners:\n  - name: a\n    adress: 127.0.0.1:1\n", 3, "address"),
        ("listeners:\n  - name: a\n    address: 127.0.0.1:99999\n", 3, "127.0.0.1:99999"),
        (
            "listeners:\n  - name: a\n    address: 127.0.0.1:1\n    routes: [ { to: { cluster: nobody } } ]\n",
            None,
            "nobody",
        ),
        ("listeners: [\n", None, ""),
        ("stream {\n  server {\n    listen 127.0.0.1:1;\n    proxy_passs 127.0.0.1:9;\n  }\n}\n", 4, "proxy_pass"),
        ("stream {\n  server {\n    listen 127.0.0.1:1;\n", None, ""),
    ],
)
def test_check_names_the_place_of_a_fault(tmp_path, wrong, line, expected):
    """T-22, status 1."""
    done = check(tmp_path, wrong)
    assert done.returncode == 1, done.stdout
    assert (
        f"check-0.yaml:{line}:" in done.stderr if line else "check-0.yaml" in done.stderr or "listener" in done.stderr
    )
    assert expected in done.stderr


def test_exit_statuses_tell_whose_fault_it_was(tmp_path):
    """0 good, 1 configuration, 2 usage, 3 run time."""
    assert command("--version").returncode == 0
    assert command("--help").returncode == 0
    assert command("check", "--config", tmp_path / "absent.yaml").returncode == 1
    bad = tmp_path / "bad.yaml"
    bad.write_text("listners: []\n")
    assert command("run", "--config", bad).returncode == 1
    assert command("check").returncode == 2
    assert command("frobnicate").returncode == 2
    assert command("run", "--workers", "0").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = tmp_path / "busy.yaml"
        busy.write_text(native_file(port))
        done = command("run", "--config", busy, "--admin", "off")
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr


@pytest.mark.own_network
def test_the_first_command_of_a_newcomer_works(tmp_path, authority, stopping, request):
    """`weir run` without a file, then the very line that it suggests; DNS and example.com are this namespace's."""
    add_address(PUBLIC)
    dns = NameServer(53, address="127.0.0.1")
    dns.set("example.com", PUBLIC)
    origin = TLSOrigin(tmp_path, authority, ["example.com"], address=PUBLIC, port=443)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    process = Weir(
        tmp_path, [], [8443, 9901], admin_port=9901, prefix=with_file("/etc/resolv.conf", tmp_path / "resolv.conf")
    )
    try:
        said = process.stderr_path.read_text()
        [line] = [line for line in said.splitlines() if "curl" in line]
        words = shlex.split(line[line.index("curl") :])
        assert words == ["curl", "--connect-to", "::127.0.0.1:8443", "https://example.com/"]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=10, env=os.environ | {"CURL_CA_BUNDLE": str(authority.path)}
        )
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        assert process.record(0, **{vocabulary.SERVER_NAME: "example.com", vocabulary.REASON: vocabulary.FINISHED})
    finally:
        process.stop()
        origin.stop()
        dns.stop()


# Health and metrics -------------------------------------------------------------------------------


def test_health_and_metrics_are_served(weir, origins):
    listen = Listen("health", free_port(), routes={"a.test": origins["A"].endpoint})
    process = weir(Setup([listen]))
    asks(listen, wire.hello(b"a.test"))
    asks(listen, wire.hello(b"b.test"))
    asks(listen, b"\x16\x03")
    assert process.admin("/livez")[0] == 200
    assert process.admin("/readyz")[0] == 200
    assert process.admin("/nowhere")[0] == 404
    with urllib.request.urlopen(f"http://127.0.0.1:{process.admin_port}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    metrics = process.metrics()
    assert metrics.lint() == ""
    assert metrics.sum(vocabulary.ACCEPTED, listener="health") == 3
    eventually(lambda: process.metrics().sum(vocabulary.SESSIONS_CLOSED, listener="health") == 3, 5)


def test_the_admin_endpoint_can_be_off(tmp_path, origins):
    port, admin_port = free_port(), free_port()
    path = tmp_path / "off.yaml"
    path.write_text(text(Setup([Listen("off", port, default=origins["A"].endpoint)])))
    child = subprocess.Popen(
        [str(Weir.binary), "run", "--io", Weir.driver, "--config", str(path), "--admin", "off"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: listens(port), 5)
        assert not listens(9901) and not listens(admin_port)
        assert exchange(("127.0.0.1", port), b"who") == (b"A", FIN)
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 0


def test_the_log_file_is_opened_again_on_request(weir, origins, tmp_path):
    """USR1, after a rotation."""
    listen = Listen("log", free_port(), default=origins["A"].endpoint)
    log = tmp_path / "access.log"
    process = weir(Setup([listen]), arguments=["--log", str(log)])
    asks(listen)
    eventually(lambda: log.read_text().count("\n") == 1, 5, "a line")
    log.rename(tmp_path / "access.log.1")
    process.send(signal.SIGUSR1)
    eventually(log.exists, 5, "a new log file")
    asks(listen)
    eventually(lambda: log.read_text().count("\n") == 1, 5, "a line in the new file")
    assert (tmp_path / "access.log.1").read_text().count("\n") == 1


# Reload -------------------------------------------------------------------------------------------


def swap_by_rename(path: pathlib.Path, content: str) -> None:
    path.with_suffix(".new").write_text(content)
    path.with_suffix(".new").rename(path)


def test_hangup_reloads_and_live_sessions_go_on(weir, origins):
    """UP-13, P-07."""
    listen = Listen("swap", free_port(), default=origins["echo"].endpoint)
    process = weir(Setup([listen]))
    with connect(listen.endpoint) as live:
        live.sendall(b"before")
        assert read_exactly(live, 6) == b"before"
        listen.default = origins["B"].endpoint
        process.config.write_text(text(Setup([listen])))
        process.reload()
        eventually(lambda: asks(listen) == b"B", 5, "the new route")
        live.sendall(b"after")
        assert read_exactly(live, 5) == b"after"
        live.shutdown(socket.SHUT_WR)
        assert read_to_end(live) == (b"", FIN)
    process.expect_nothing_outstanding()


def test_a_file_that_is_replaced_by_a_rename_is_reloaded(weir, origins):
    listen = Listen("rename", free_port(), default=origins["A"].endpoint)
    process = weir(Setup([listen]))
    assert asks(listen) == b"A"
    for letter in "BAB":
        listen.default = origins[letter].endpoint
        swap_by_rename(process.config, text(Setup([listen])))
        eventually(lambda: asks(listen) == letter.encode(), 5, f"the route to {letter}")


def test_a_file_behind_swapped_links_is_reloaded(tmp_path, origins):
    """As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a directory that is exchanged."""
    listen = Listen("links", free_port(), default=origins["A"].endpoint)
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: int) -> None:
        folder = mount / f"..{version}"
        folder.mkdir()
        (folder / "weir.yaml").write_text(text(Setup([listen])))
        (mount / "..data_tmp").symlink_to(folder.name)
        (mount / "..data_tmp").rename(mount / "..data")

    publish(1)
    (mount / "weir.yaml").symlink_to("..data/weir.yaml")
    process = Weir(tmp_path, [mount / "weir.yaml"], [listen.port])
    try:
        assert asks(listen) == b"A"
        for version, letter in enumerate("BAB", 2):
            listen.default = origins[letter].endpoint
            publish(version)
            eventually(lambda: asks(listen) == letter.encode(), 5, f"the route to {letter}")
    finally:
        process.stop()


def test_a_bad_file_changes_nothing_and_a_good_one_is_taken_again(weir, origins):
    """T-22, UP-13."""
    listen = Listen("bad", free_port(), default=origins["A"].endpoint)
    process = weir(Setup([listen]))
    swap_by_rename(process.config, "listeners:\n  - nonsense: 1\n")
    eventually(lambda: process.reload_count("failed") == 1, 5, "a failed reload")
    assert f"{process.config}:2:" in process.stderr_path.read_text()
    assert asks(listen) == b"A"
    assert process.admin("/readyz")[0] == 200
    process.config.unlink()
    process.send(signal.SIGHUP)
    eventually(lambda: process.reload_count("failed") >= 2, 5, "another failed reload")
    assert asks(listen) == b"A"
    listen.default = origins["B"].endpoint
    swap_by_rename(process.config, text(Setup([listen])))
    eventually(lambda: asks(listen) == b"B", 5, "the good file")


def test_listeners_come_and_go_with_a_reload(weir, origins):
    """UP-13: a session of the listener that went goes on."""
    stays = Listen("stays", free_port(), default=origins["A"].endpoint)
    goes = Listen("goes", free_port(), default=origins["echo"].endpoint)
    comes = Listen("comes", free_port(), default=origins["B"].endpoint)
    process = weir(Setup([stays, goes]))
    with connect(goes.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        process.config.write_text(text(Setup([stays, comes])))
        process.reload()
        eventually(lambda: listens(comes.port) and not listens(goes.port), 5, "the listeners have changed")
        assert (asks(stays), asks(comes)) == (b"A", b"B")
        assert not accepts(goes.endpoint)
        live.sendall(b"y")
        assert live.recv(1) == b"y"
    process.config.write_text(text(Setup([stays])))
    process.reload()
    eventually(lambda: not listens(comes.port), 5, "the last listener has gone, and none came in its place")
    assert asks(stays) == b"A"
    process.expect_nothing_outstanding()


def test_a_thousand_connections_during_twenty_reloads_all_succeed(weir, origins, stopping):
    """P-07: none refused, reset or cut; an idle session and a long stream live through all of them."""
    listen = Listen("busy", free_port(), default=origins["echo"].endpoint)
    other = Listen("other", free_port(), default=origins["A"].endpoint)
    process = weir(Setup([listen, other]))
    failures, done = [], threading.Event()
    reloads, total, workers = 20, 1000, 8

    def worker(number: int) -> None:
        for turn in range(total // workers):
            payload = b"%d/%d " % (number, turn) * 50
            try:
                with connect(listen.endpoint) as client:
                    client.sendall(payload)
                    assert read_exactly(client, len(payload)) == payload
                    client.shutdown(socket.SHUT_WR)
                    assert read_to_end(client) == (b"", FIN)
            except Exception as failure:
                failures.append(f"{number}/{turn}: {failure!r}")

    def stream() -> None:
        block, sent, received = os.urandom(1 << 16), hashlib.sha256(), hashlib.sha256()
        try:
            with connect(listen.endpoint, seconds=20) as client:
                while not done.is_set():
                    client.sendall(block)
                    sent.update(block)
                    received.update(read_exactly(client, len(block)))
                assert sent.digest() == received.digest()
        except Exception as failure:
            failures.append(f"stream: {failure!r}")

    with connect(listen.endpoint) as idle:
        idle.sendall(b"x")
        assert idle.recv(1) == b"x"
        threads = [threading.Thread(target=worker, args=(number,), daemon=True) for number in range(workers)]
        long = threading.Thread(target=stream, daemon=True)
        for thread in (*threads, long):
            thread.start()
        for number in range(reloads):
            # Every time something differs: the other listener's route, and every fifth time whether there is one.
            other.default = origins["AB"[number % 2]].endpoint
            process.config.write_text(text(Setup([listen, other] if number % 5 else [listen])))
            process.reload()
        for thread in threads:
            thread.join(60)
        done.set()
        long.join(20)
        idle.sendall(b"y")
        assert idle.recv(1) == b"y"
    assert failures == []
    assert process.reload_count() >= reloads
    process.expect_nothing_outstanding()


# Stop ---------------------------------------------------------------------------------------------


@pytest.fixture
def draining(weir, origins):
    """A process that has just been told to drain, with one live session."""
    listen = Listen("drain", free_port(), default=origins["echo"].endpoint)

    def start(drain_timeout: float, order=signal.SIGTERM):
        process = weir(Setup([listen], drain_timeout=drain_timeout))
        live = connect(listen.endpoint, seconds=10)
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        process.send(order)
        eventually(lambda: not listens(listen.port, process), 2, "the listener is closed")
        assert not accepts(listen.endpoint)
        live.sendall(b"y")
        assert live.recv(1) == b"y"
        assert process.is_running()
        return process, live

    return start


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGQUIT])
def test_a_drain_lets_live_sessions_finish(draining, order):
    """P-18: the listener is closed, readiness is gone, the session goes on, and its end is the end."""
    process, live = draining(30, order)
    assert process.admin("/readyz")[0] == 503
    assert process.admin("/livez")[0] == 200
    live.shutdown(socket.SHUT_WR)
    assert read_to_end(live) == (b"", FIN)
    live.close()
    assert process.wait(3) == 0


def test_a_drain_with_a_delay_goes_on_accepting_that_long(weir, origins, figure):
    """P-18: whoever asks for readiness has time to look elsewhere before the listener closes."""
    listen = Listen("delay", free_port(), default=origins["echo"].endpoint)
    process = weir(Setup([listen], drain_delay=1, drain_timeout=30))
    told = time.monotonic()
    process.send(signal.SIGTERM)
    eventually(lambda: process.admin("/readyz")[0] == 503, 5, "readiness is gone")
    assert listens(listen.port, process)
    late = connect(listen.endpoint, seconds=10)
    late.sendall(b"x")
    assert late.recv(1) == b"x"
    while accepts(listen.endpoint):
        time.sleep(0.001)
    closed = time.monotonic() - told
    assert 1 <= closed < 3
    late.sendall(b"y")
    assert late.recv(1) == b"y"
    told = time.monotonic()
    late.close()
    assert process.wait(5) == 0
    figure("P-18", "listener closed after the drain's delay", "<= 50 ms", f"{(closed - 1) * 1000:.0f} ms")
    figure("P-18", "process gone after the last session", "-", f"{(time.monotonic() - told) * 1000:.0f} ms")


def test_a_second_order_ends_the_delay_of_a_drain_at_once(weir, origins, figure):
    listen = Listen("hurry", free_port(), default=origins["echo"].endpoint)
    process = weir(Setup([listen], drain_delay=30, drain_timeout=30))
    process.send(signal.SIGTERM)
    eventually(lambda: process.admin("/readyz")[0] == 503, 5, "readiness is gone")
    told = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.wait(5) == 0
    figure("P-18", "process gone after a second TERM", "at once", f"{(time.monotonic() - told) * 1000:.0f} ms")


def test_a_listener_is_closed_as_soon_as_a_drain_begins(weir, origins, figure):
    """P-18, without a delay: the longest of ten."""
    longest = 0.0
    for _ in range(10):
        listen = Listen("soon", free_port(), default=origins["echo"].endpoint)
        process = weir(Setup([listen]))
        with connect(listen.endpoint) as live:
            live.sendall(b"x")
            assert live.recv(1) == b"x"
            told = time.monotonic()
            process.send(signal.SIGTERM)
            while accepts(listen.endpoint):
                assert time.monotonic() - told < 3
                time.sleep(0.001)
            longest = max(longest, time.monotonic() - told)
        assert process.wait(5) == 0
    figure("P-18", "listener closed after TERM, the longest of 10", "<= 50 ms", f"{longest * 1000:.0f} ms")


def test_a_drain_ends_at_its_deadline(draining):
    process, live = draining(1)
    started = time.monotonic()
    assert process.wait(5) == 0
    assert 0.5 <= time.monotonic() - started <= 4
    assert read_to_end(live)[1] in (FIN, RST)
    live.close()


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_a_second_order_ends_a_drain_at_once(draining, order):
    process, live = draining(30)
    process.send(order)
    assert process.wait(3) == 0
    assert read_to_end(live)[1] in (FIN, RST)
    live.close()


def test_interrupt_stops_at_once(weir, origins):
    listen = Listen("interrupt", free_port(), default=origins["echo"].endpoint)
    process = weir(Setup([listen]))
    with connect(listen.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        process.send(signal.SIGINT)
        assert process.wait(3) == 0
        assert read_to_end(live)[1] in (FIN, RST)


# DNS ----------------------------------------------------------------------------------------------


def test_it_starts_without_dns_and_recovers_when_dns_comes(weir, origins, stopping):
    """Routes by address work from the start, and a name as soon as it resolves."""
    dns = stopping(NameServer(free_port()))
    dns.set("late.test", "127.0.0.1")
    dns.pause()
    routed = Listen("routed", free_port(), default=origins["A"].endpoint)
    forward = Listen("forward", free_port(), forward_port=origins["B"].endpoint[1], preamble_timeout=2, hello_timeout=1)
    process = weir(Setup([routed, forward], resolver=(dns.address, dns.port)))
    assert asks(routed) == b"A"
    started = time.monotonic()
    answer, end = exchange(forward.endpoint, wire.hello(b"late.test"))
    assert answer[:1] != b"B" and end != OPEN
    assert time.monotonic() - started < 5
    assert asks(routed) == b"A"
    dns.resume()
    eventually(lambda: asks(forward, wire.hello(b"late.test")) == b"B", 10, "the name resolves")
    process.expect_nothing_outstanding()


def test_known_names_outlive_a_dns_outage(weir, origins, stopping, figure):
    """P-19: an answer past its TTL serves on; a new name fails soon; other routes do not notice."""
    dns = stopping(NameServer(free_port()))
    dns.set("known.test", "127.0.0.1", ttl=0)
    routed = Listen("routed", free_port(), default=origins["A"].endpoint)
    forward = Listen("forward", free_port(), forward_port=origins["B"].endpoint[1], preamble_timeout=2, hello_timeout=1)
    process = weir(Setup([routed, forward], resolver=(dns.address, dns.port), ttl_min=0.2))
    assert asks(forward, wire.hello(b"known.test")) == b"B"
    dns.pause()
    time.sleep(0.5)  # past the TTL
    for _ in range(5):
        assert asks(forward, wire.hello(b"known.test")) == b"B"
    started = time.monotonic()
    answer, end = exchange(forward.endpoint, wire.hello(b"new.test"))
    figure("P-19", "DNS gone: a new name is refused (limit 2 s)", "<= 2 s", f"{time.monotonic() - started:.2f} s")
    assert answer[:1] != b"B" and end != OPEN
    assert asks(routed) == b"A"
    dns.resume()
    process.expect_nothing_outstanding()
