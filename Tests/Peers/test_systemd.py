"""What a service manager hears and hands over, without one: a datagram socket, and systemd's own tools."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from harness.endpoints import FIN, Origin, connect, echo, exchange
from harness.network import free_port
from harness.peers import accepts, listens
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.succession import Succession
from harness.weir import Weir, text

pytestmark = pytest.mark.weir

PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "tools/packaging"


@pytest.fixture(scope="module")
def origin(stopping):
    return stopping(Origin(echo))


class NotifySocket:
    """Collects what is said, each message with the process that said it."""

    def __init__(self, name: str):
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.heard: list[tuple[int, list[str]]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                said, ancillary, _, _ = self._socket.recvmsg(8192, socket.CMSG_SPACE(struct.calcsize("3i")))
            except OSError:
                return
            pid = struct.unpack("3i", ancillary[0][2])[0] if ancillary else 0
            self.heard.append((pid, said.decode().split("\n")))

    def lines(self, pid: int | None = None) -> list[str]:
        return [line for who, said in list(self.heard) for line in said if pid in (None, who)]

    def expect(self, line: str, pid: int | None = None, seconds: float = 5) -> None:
        eventually(lambda: line in self.lines(pid), seconds, f"{line} in {self.heard}")

    def stop(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def notify(request, tmp_path):
    found = NotifySocket(str(tmp_path / "notify") if request.param == "path" else f"@weir-{os.getpid()}-{id(request)}")
    yield found
    found.stop()


@contextlib.contextmanager
def running(*arguments, **options):
    process = Weir.start(*arguments, **options)
    try:
        yield process
    finally:
        process.stop(signal.SIGINT)


# Notification -------------------------------------------------------------------------------------


def test_the_life_of_the_process_is_told(notify, origin, tmp_path):
    listen = Listen("told", free_port(), default=origin.endpoint)
    setup = Setup([listen], drain_delay=0.5, drain_timeout=7)
    with running(tmp_path, setup, prefix=["env", f"NOTIFY_SOCKET={notify.name}"]) as process:
        notify.expect("READY=1", process.pid)
        assert any(line.startswith("STATUS=serving; listeners: 1") for line in notify.lines())
        process.reload()
        eventually(lambda: notify.lines().count("READY=1") == 2, 5, "ready again")
        lines = notify.lines()
        began = lines.index("RELOADING=1")
        stamp = int(lines[began + 1].removeprefix("MONOTONIC_USEC="))
        assert abs(stamp / 1e6 - time.monotonic()) < 60
        assert began < len(lines) - 1 - lines[::-1].index("READY=1")
        assert "WATCHDOG=1" not in lines
        process.send(signal.SIGTERM)
        notify.expect("STOPPING=1", process.pid)
        # The drain, and some time to end.
        assert "EXTEND_TIMEOUT_USEC=22500000" in notify.lines()
        assert process.wait(5) == 0


def test_a_reload_that_fails_is_told_as_over(notify, origin, tmp_path):
    listen = Listen("fails", free_port(), default=origin.endpoint)
    with running(tmp_path, Setup([listen]), prefix=["env", f"NOTIFY_SOCKET={notify.name}"]) as process:
        process.config.write_text("nonsense: 1\n")
        process.send(signal.SIGHUP)
        eventually(lambda: any("not in force" in line for line in notify.lines()), 5)
        assert notify.lines().count("READY=1") >= 2


def test_an_upgrade_names_the_new_main_process(notify, origin, tmp_path):
    listen = Listen("main", free_port(), default=origin.endpoint)
    prefix = ["env", f"NOTIFY_SOCKET={notify.name}", "WATCHDOG_USEC=400000"]
    process = Succession(tmp_path, Setup([listen]), prefix=prefix)
    try:
        old = process.upgrade()
        new = process.pid
        notify.expect(f"MAINPID={new}", old)
        notify.expect("READY=1", new)
        notify.expect("WATCHDOG=1", new)
        assert process.await_end(old) == 0
        assert "STOPPING=1" not in notify.lines(old), "the service does not stop"
        os.kill(new, signal.SIGTERM)
        notify.expect("STOPPING=1", new)
    finally:
        process.stop()


def test_the_watchdog_hears_nothing_while_a_worker_is_stuck(notify, origin, tmp_path):
    listen = Listen("dog", free_port(), default=origin.endpoint)
    prefix = ["env", f"NOTIFY_SOCKET={notify.name}", "WATCHDOG_USEC=400000"]
    with running(tmp_path, Setup([listen], workers=2), prefix=prefix) as process:
        eventually(lambda: notify.lines().count("WATCHDOG=1") >= 5, 10, "signs of life of an idle process")
        worker = next(
            int(task.name)
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()
            if (task / "comm").read_text() == "weir-worker-1\n"
        )
        with stopped(worker):
            eventually(lambda: "workers that do not turn: [1]" in process.output(), 5, process.output)
            count = notify.lines().count("WATCHDOG=1")
            eventually(lambda: process.output().count("workers that do not turn") >= 4, 5, process.output)
            assert notify.lines().count("WATCHDOG=1") == count
        eventually(lambda: notify.lines().count("WATCHDOG=1") > count, 5, "signs of life again")


@contextlib.contextmanager
def stopped(thread: int):
    """One thread of another process stands still (ptrace)."""
    attach, detach = 16, 17
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(attach, thread, None, None) != 0:
        pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(detach, thread, None, None)


# Socket activation --------------------------------------------------------------------------------


def activated(directory, setup: Setup, *addresses: str, names: str = "one") -> Weir:
    """Weir on sockets that systemd-socket-activate has bound; the first connection starts it."""
    prefix = ["systemd-socket-activate", f"--fdname={names}"]
    # It hands on nothing else of the environment.
    prefix += [f"--setenv={name}" for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS") if name in os.environ]
    for address in addresses:
        prefix += ["-l", address]

    def first() -> None:
        port = int(addresses[0].rpartition(":")[2])
        eventually(lambda: listens(port), 10)
        with connect(("127.0.0.1", port), seconds=10) as client:
            client.sendall(b"first")
            answers.append(client.recv(5))

    answers: list[bytes] = []
    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    process = Weir.start(directory, setup, prefix=prefix)
    thread.join(10)
    assert answers == [b"first"], "the connection that started it is served"
    return process


def test_a_socket_of_the_service_manager_is_shared_by_all_workers(origin, tmp_path):
    listen = Listen("given", free_port(), default=origin.endpoint)
    process = activated(tmp_path, Setup([listen], workers=3), f"127.0.0.1:{listen.port}")
    try:
        assert [exchange(listen.endpoint, b"who") for _ in range(50)] == [(b"who", FIN)] * 50
        rows = pathlib.Path("/proc/net/tcp").read_text().count(f":{listen.port:04X} 00000000:0000 0A ")
        assert rows == 1, "no other socket listens beside it"
        process.send(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.stop(signal.SIGKILL)


def test_each_listener_takes_the_socket_with_its_address(origin, tmp_path):
    given, own = Listen("given", free_port(), default=origin.endpoint), Listen("own", free_port())
    other = Listen("other", free_port(), default=origin.endpoint)
    own.default = origin.endpoint
    addresses = (f"127.0.0.1:{given.port}", f"127.0.0.1:{other.port}")
    process = activated(tmp_path, Setup([own, other, given]), *addresses, names="a:b")
    try:
        for listen in (given, own, other):
            assert exchange(listen.endpoint, b"who") == (b"who", FIN)
    finally:
        process.stop(signal.SIGINT)


def test_a_socket_without_a_listener_is_an_error_that_names_it(origin, tmp_path):
    listen, stray = Listen("given", free_port(), default=origin.endpoint), free_port()
    config = tmp_path / "weir.yaml"
    config.write_text(text(Setup([listen])))
    command = ["systemd-socket-activate", "--fdname=good:stray"]
    command += ["-l", f"127.0.0.1:{listen.port}", "-l", f"127.0.0.1:{stray}"]
    command += [str(Weir.binary), "run", "--config", str(config), "--admin", "off"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: listens(stray), 10)
        with connect(("127.0.0.1", stray)):
            _, errors = child.communicate(timeout=10)
        assert child.returncode == 3, errors
        assert 'no listener has the address of socket "stray"' in errors and f"127.0.0.1:{stray}" in errors
    finally:
        child.kill()
        child.wait()


@pytest.mark.own_driver
def test_sockets_of_the_service_manager_go_from_process_to_process(origin, tmp_path):
    """P-08 with socket activation; the manager keeps the socket over all of them."""
    listen = Listen("kept", free_port(), default=origin.endpoint)
    keeper = socket.create_server(("127.0.0.1", listen.port), backlog=16)
    os.set_inheritable(keeper.fileno(), True)
    # LISTEN_PID has to be the pid of weir itself, which exec keeps.
    script = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])"""
    prefix = [sys.executable, "-c", script, str(keeper.fileno())]
    process = Succession(tmp_path, Setup([listen], workers=2), prefix=prefix, pass_fds=(keeper.fileno(),))
    try:
        old = process.upgrade()
        assert process.await_end(old) == 0
        assert [exchange(listen.endpoint, b"who") for _ in range(20)] == [(b"who", FIN)] * 20
        os.kill(process.pid, signal.SIGTERM)
        process.await_end(process.pid)
        assert accepts(listen.endpoint), "whoever comes now waits for the next process"
    finally:
        process.stop()
        keeper.close()


# The unit file ------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path):
    """The shipped unit files, with the program under test for the installed one."""
    for unit in ("weir.service", "weir.socket"):
        (tmp_path / unit).write_text((PACKAGING / unit).read_text().replace("/usr/bin/weir", str(Weir.binary)))
    return tmp_path


def test_the_unit_files_are_understood(units):
    done = subprocess.run(
        ["systemd-analyze", "verify", "./weir.service", "./weir.socket"], cwd=units, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_confined(units, figure):
    """T-20"""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "./weir.service"],
        cwd=units,
        capture_output=True,
        text=True,
    )
    score = float(re.search(r"Overall exposure level for weir.service: ([\d.]+)", done.stdout)[1])
    figure("T-20", "systemd-analyze security of the unit file", "<= 2.0", score)
    assert score <= 2.0
