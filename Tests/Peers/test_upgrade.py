"""What changes while clients keep coming: the binary, and the configuration. Nobody is refused, reset or cut."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness import wire
from harness.endpoints import EchoOrigin, Origin, answering, connect, exchange, read_exactly, read_to_end, FIN
from harness.load import Load
from harness.network import free_port
from harness.peers import accepts, listens
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.succession import Succession
from harness.weir import Weir, text
from test_congestion import AVAILABLE, SYSTEM, congestion_of

pytestmark = pytest.mark.weir

# Connections that the kernel gave up: a full or vanished queue, at either step of the handshake.
DROPS = ("TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPReqQFullDrop", "TcpExtTCPReqQFullDoCookies")


def counters(*names: str) -> dict[str, int]:
    """Of this network namespace."""
    done = subprocess.run(["nstat", "-asz", *names], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    return {row[0]: int(row[1]) for row in rows}


@pytest.fixture(scope="module")
def origins(stopping):
    return {"A": stopping(Origin(answering(b"A"))), "echo": stopping(EchoOrigin())}


@pytest.fixture
def succession(tmp_path):
    """Starts a succession with a setup, and ends all of it after the test."""
    with contextlib.ExitStack() as stack:

        def start(setup: Setup, **options) -> Succession:
            found = Succession(tmp_path, setup, **options)
            stack.callback(found.stop)
            return found

        yield start


@pytest.fixture
def load():
    """Starts loads; `finish()` all, or they are killed after the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **options) -> Load:
            found = Load(*arguments, **options)
            stack.callback(found.stop)
            return found

        yield start


def executable(path: pathlib.Path, script: str) -> pathlib.Path:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


class Scraper(threading.Thread):
    """Asks the admin endpoint again and again, over a new connection each time."""

    def __init__(self, process: Weir):
        super().__init__(daemon=True)
        self._process = process
        self._stopping = threading.Event()
        self.answers: dict[int, int] = {}
        self.start()

    def run(self) -> None:
        while not self._stopping.is_set():
            for path in ("/readyz", "/metrics"):
                status = self._process.admin(path)[0]
                self.answers[status] = self.answers.get(status, 0) + 1

    def finish(self) -> dict[int, int]:
        self.stop()
        return self.answers

    def stop(self) -> None:
        self._stopping.set()
        self.join(10)


# The binary ---------------------------------------------------------------------------------------


def test_twenty_upgrades_under_load_lose_no_connection(succession, origins, load, stopping, figure):
    """P-08: the new process has the old one's sockets, also where it has fewer or more workers than there are sockets.

    As a socket is never closed while somebody is in its queue or in a handshake, `net.ipv4.tcp_migrate_req` plays no
    part: it is 0, its default, here.
    """
    plain = Listen("plain", free_port(), default=origins["echo"].endpoint)
    named = Listen("named", free_port(), routes={"a.test": origins["echo"].endpoint})
    # The idle client outlives twenty upgrades, on a slow machine, too.
    setup = Setup([plain, named], workers=2, drain_timeout=300)
    process = succession(setup)
    assert pathlib.Path("/proc/sys/net/ipv4/tcp_migrate_req").read_text().strip() == "0"
    before = counters(*DROPS, "TcpOutRsts")
    with connect(plain.endpoint, seconds=30) as idle:
        idle.sendall(b"x")
        assert idle.recv(1) == b"x"
        scraper = stopping(Scraper(process.first))
        loads = [load(plain.endpoint, clients=6), load(named.endpoint, wire.hello(b"a.test"), clients=6)]
        seconds = []
        for number in range(20):
            setup.workers = (1, 3, 2, 4)[number % 4]
            process.first.config.write_text(text(setup))
            started = time.monotonic()
            old = process.upgrade()
            seconds.append(time.monotonic() - started)
            if old != process.first.pid:
                assert process.await_end(old) == 0
        results = [found.finish() for found in loads]
        answers = scraper.finish()
        idle.sendall(b"y")
        assert idle.recv(1) == b"y", "a session of the first process lives through all of them"
    after = counters(*before)
    change = {name: after[name] - before[name] for name in before}
    succeeded = sum(result.pop("ok") for result in results)
    lasted = max(result.pop("seconds") for result in results)
    assert process.await_end(process.first.pid) == 0, "it ends with its last session"
    assert results == [{}, {}], "how connections failed"
    assert all(change[name] == 0 for name in DROPS), change
    assert set(answers) == {200}, f"the admin endpoint answers throughout: {answers}"
    figure("P-08", f"20 upgrades during {succeeded} new connections in {lasted:.1f} s, failed", "0", "0")
    figure("P-08", "from USR2 to the new process serving, the longest of 20", "-", f"{max(seconds) * 1000:.0f} ms")
    figure("P-08", "listen drops and overflows during 20 upgrades", "0", sum(change[name] for name in DROPS))
    figure("P-08", "segments with RST sent during 20 upgrades", "0", change["TcpOutRsts"])


def test_a_client_behind_whom_nobody_comes_is_not_left_in_the_queue_of_an_upgrade(succession, origins):
    """P-08: whom the kernel has announced to the process that leaves, it does not announce to the one that stays.

    With more clients the next one would wake that, which hides it.
    """
    listens = [Listen(f"lonely{number}", free_port(), default=origins["echo"].endpoint) for number in range(6)]
    process = succession(Setup(listens, workers=1))
    over = threading.Event()

    def one_after_another(listen: Listen) -> set[tuple[bytes, str]]:
        outcomes = set()
        while not over.is_set():
            outcomes.add(exchange(listen.endpoint, b"x"))
        return outcomes

    with concurrent.futures.ThreadPoolExecutor(len(listens)) as threads:
        clients = [threads.submit(one_after_another, listen) for listen in listens]
        with contextlib.ExitStack() as stack:
            stack.callback(over.set)
            for _ in range(60):
                assert process.await_end(process.upgrade()) == 0
        assert set.union(*(client.result() for client in clients)) == {(b"x", FIN)}


def test_the_new_process_holds_nothing_of_the_old_one_but_what_was_handed_over(succession, origins):
    """P-08: a scraper that keeps its connection hears that it ends, rather than waiting for an answer for ever."""
    listen = Listen("clean", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen], workers=1))

    def kinds(pid: int) -> list[str]:
        """But for sockets, as a question to the admin endpoint may still be closing."""
        found = []
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed while we looked
                found.append(os.readlink(entry.path).split(":[")[0])
        return sorted(kind for kind in found if kind != "socket")

    before = kinds(process.pid)
    with connect(("127.0.0.1", process.first.admin_port)) as scraper:
        scraper.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert scraper.recv(4096).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            assert process.await_end(process.upgrade()) == 0
        assert read_to_end(scraper) == (b"", FIN)
    eventually(lambda: kinds(process.pid) == before, 5, f"no more than {before}")


# The same arguments, but for the driver.
WITH_DRIVER = """
for word; do
    shift
    [ "$previous" = --io ] && word={driver}
    previous=$word
    set -- "$@" "$word"
done
exec -a "$0" {binary} "$@"
"""


@pytest.mark.own_driver
def test_an_upgrade_may_go_to_the_other_io_driver_and_back(succession, ring, origins, load, tmp_path):
    """P-08: a listening socket is one for both processes, and what one driver sets on it must not hinder the other."""
    listens = [Listen(f"on{number}", free_port(), default=origins["echo"].endpoint) for number in range(3)]
    process = succession(Setup(listens, workers=2), arguments=["--io", "uring"])
    loads = [load(listen.endpoint, clients=2) for listen in listens]
    for driver in ("epoll", "uring", "epoll", "epoll", "uring", "uring"):
        script = WITH_DRIVER.format(driver=driver, binary=Weir.binary)
        process.install(executable(tmp_path / driver, script))
        assert process.await_end(process.upgrade()) == 0
        assert f'weir_driver_info{{driver="{driver}",' in process.first.admin("/metrics")[1]
    results = [found.finish() for found in loads]
    assert all(result.pop("ok") > 0 and result.pop("seconds") for result in results)
    assert results == [{}] * len(loads), "how connections failed"


# The channel to the process before.
CLOSE = 'eval "exec $WEIR_UPGRADE>&-"'


@pytest.mark.parametrize(
    "broken, words",
    [
        ("exit 1", "ended with status 1"),
        ("exec sleep 60", "does not serve after"),
        ("kill -SEGV $$", "was ended by signal 11"),
        ("configuration", "ended with status 1"),
        ("nothing", "No such file or directory"),
        (f"{CLOSE}; exec sleep 60", "does not listen to this one any more, and did not end"),
    ],
    ids=["fails", "hangs", "crashes", "bad configuration", "no file", "closes the channel"],
)
def test_a_new_binary_that_does_not_come_to_serve_changes_nothing(succession, origins, load, tmp_path, broken, words):
    """P-08, five times over; then an upgrade that works."""
    listen = Listen("stays", free_port(), default=origins["echo"].endpoint)
    setup = Setup([listen])
    process = succession(setup)
    good = text(setup) + "upgrade: { timeout: 1s }\n"
    process.first.config.write_text(good)
    process.first.reload()
    if broken == "configuration":
        # The old process must not see it: only what is started from here on does.
        process.install(executable(tmp_path / "new", f"exec {Weir.binary} run --config {tmp_path}/bad.yaml"))
        (tmp_path / "bad.yaml").write_text("listeners: nonsense\n")
    elif broken == "nothing":
        process.install(tmp_path / "new")
    else:
        process.install(executable(tmp_path / "new", broken))
    running = load(listen.endpoint)
    for number in range(5):
        os.kill(process.first.pid, signal.SIGUSR2)
        eventually(lambda: process.count("weir: not upgraded: ") == number + 1, 10, process.errors)
    result = running.finish()
    assert result.pop("ok") > 0
    del result["seconds"]
    assert result == {}
    assert process.count(words) >= 5, process.errors()
    assert process.first.admin("/readyz")[0] == 200
    assert process.pid == process.first.pid
    # With the time that a good one may take.
    process.first.config.write_text(text(setup))
    process.first.reload()
    process.install(Weir.binary)
    process.upgrade()
    assert exchange(listen.endpoint, b"again") == (b"again", FIN)
    assert process.await_end(process.first.pid) == 0


def test_a_second_order_to_upgrade_is_ignored_while_one_is_under_way(succession, origins, tmp_path):
    listen = Listen("once", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    process.install(executable(tmp_path / "new", "exec sleep 60"))
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually(lambda: process.count("weir: upgrading") == 1, 5)
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually(lambda: process.count("an upgrade is under way already") == 1, 5, process.errors)
    # An order to end is not for the process that was about to take over.
    os.kill(process.first.pid, signal.SIGTERM)
    assert process.await_end(process.first.pid) == 0
    assert process.count("was ended, as this process was told to end") == 1, process.errors()
    assert not accepts(listen.endpoint)


def test_an_order_to_end_is_heard_whatever_the_new_binary_does(succession, origins, tmp_path):
    listen = Listen("heard", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    process.install(executable(tmp_path / "new", f"{CLOSE}; touch {tmp_path}/closed; exec sleep 60"))
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually((tmp_path / "closed").exists, 5)
    os.kill(process.first.pid, signal.SIGTERM)
    assert process.await_end(process.first.pid) == 0


# Takes over, and gives the process before an order before that can have heard that it has taken over. Writes down which
# order it gets itself.
HURRIED = """#!{python}
import os, pathlib, signal, socket, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
channel, before = socket.socket(fileno=int(os.environ["WEIR_UPGRADE"])), os.getppid()
while socket.recv_fds(channel, 4096, 250)[0] != b"end":
    pass
os.kill(before, signal.SIGSTOP)
while pathlib.Path(f"/proc/{{before}}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
    time.sleep(0.001)
channel.send(b"ready")
os.kill(before, {number})
os.kill(before, signal.SIGCONT)
got = signal.sigtimedwait([signal.SIGTERM, signal.SIGQUIT, signal.SIGINT], 20).si_signo
pathlib.Path("{note}.new").write_text(str(got))
os.rename("{note}.new", "{note}")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT], ids=lambda number: number.name)
def test_an_order_to_end_at_the_moment_of_taking_over_is_for_both(succession, origins, tmp_path, number):
    """P-18: the first order does not reset a session, and is not lost on the process that serves."""
    listen = Listen("both", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    note, program = tmp_path / "note", tmp_path / "new"
    program.write_text(HURRIED.format(python=sys.executable, number=int(number), note=note))
    program.chmod(0o755)
    process.install(program)
    with connect(listen.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        os.kill(process.first.pid, signal.SIGUSR2)
        eventually(note.exists, 5, "an order to the process that took over")
        assert note.read_text() == str(int(number))
        if number != signal.SIGINT:
            eventually(lambda: process.count("this one drains") == 1, 5, "the drain")
            live.sendall(b"y")
            assert live.recv(1) == b"y"
            live.shutdown(socket.SHUT_WR)
            assert read_to_end(live) == (b"", FIN)
    assert process.await_end(process.first.pid) == 0


def test_the_pid_file_names_the_process_that_serves_after_an_attempt_that_came_late(succession, origins, tmp_path):
    listen = Listen("named", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    process.first.config.write_text(text(Setup([listen])) + "upgrade: { timeout: 1s }\n")
    process.first.reload()
    script = f"echo $$ > {process.pid_file}; touch {tmp_path}/written; exec sleep 60"
    process.install(executable(tmp_path / "new", script))
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually((tmp_path / "written").exists, 5)
    eventually(lambda: process.count("weir: not upgraded: ") == 1, 5, process.errors)
    assert process.pid == process.first.pid
    process.first.send(signal.SIGTERM)
    assert process.await_end(process.first.pid) == 0
    assert not process.pid_file.exists()


def test_a_process_that_drains_tells_that_the_one_which_took_over_has_died(succession, origins):
    """P-08: its status says so, too, for a supervisor that knows no other process."""
    listen = Listen("deserted", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    with connect(listen.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        process.upgrade()
        heir = process.pid
        eventually(lambda: process.count("this one drains") == 1, 5, "the drain")
        os.kill(heir, signal.SIGKILL)
        words = f"weir: process {heir}, which took over, was ended by signal 9: nobody serves"
        eventually(lambda: process.count(words) == 1, 5, process.errors)
        live.sendall(b"y")
        assert live.recv(1) == b"y", "its sessions go on"
    assert process.await_end(process.first.pid) == 3
    # Whoever inherits the process learns how it ended: here we do, as a service manager would.
    assert process.await_end(heir) == -signal.SIGKILL


def test_a_process_that_drains_does_not_mind_an_orderly_end_of_the_one_which_took_over(succession, origins):
    """P-08: here because of another upgrade."""
    listen = Listen("chain", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    with connect(listen.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        process.upgrade()
        assert process.await_end(process.upgrade()) == 0
    assert process.await_end(process.first.pid) == 0
    assert process.count("nobody serves") == 0


def test_an_upgrade_that_finds_no_thread_changes_nothing(succession, origins):
    """P-08: room for a thread's stack is what the system refuses here, as root has no limit on the number of threads."""
    listen = Listen("narrow", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen], workers=1))
    status = pathlib.Path(f"/proc/{process.first.pid}/status").read_text()
    used = int(status.split("VmSize:")[1].split()[0]) << 10
    unlimited = resource.prlimit(process.first.pid, resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually(lambda: process.count("weir: not upgraded: no thread for it") == 1, 5, process.errors)
    resource.prlimit(process.first.pid, resource.RLIMIT_AS, unlimited)
    assert exchange(listen.endpoint, b"who") == (b"who", FIN)
    process.upgrade()
    assert process.await_end(process.first.pid) == 0


def test_reloads_wait_for_the_end_of_an_upgrade(succession, origins, tmp_path):
    listen = Listen("waits", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    process.first.config.write_text(text(Setup([listen])) + "upgrade: { timeout: 1s }\n")
    process.first.reload()
    process.install(executable(tmp_path / "new", "exec sleep 60"))
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually(lambda: process.count("weir: upgrading") == 1, 5)
    reloads = process.first.reload_count()
    added = Listen("added", free_port(), default=origins["A"].endpoint)
    process.first.config.write_text(text(Setup([listen, added])))
    process.first.send(signal.SIGHUP)
    eventually(lambda: process.count("weir: not upgraded") == 1, 5)
    assert process.first.reload_count() >= reloads
    eventually(lambda: listens(added.port), 5, "the configuration that came meanwhile")
    order = ("not upgraded", "configuration reloaded")
    eventually(lambda: process.errors().index(order[0]) < process.errors().rindex(order[1]), 5, process.errors)


def test_listeners_come_and_go_with_an_upgrade(succession, origins):
    stays = Listen("stays", free_port(), default=origins["echo"].endpoint)
    goes = Listen("goes", free_port(), default=origins["echo"].endpoint)
    comes = Listen("comes", free_port(), default=origins["A"].endpoint)
    process = succession(Setup([stays, goes]))
    with connect(goes.endpoint) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        # A reload would do it otherwise: from here on the file is another one.
        process.install(
            executable(
                process.program.with_name("other"),
                f"exec {Weir.binary} run --config {shlex.quote(str(process.first.config))}.next "
                f"--admin 127.0.0.1:{process.first.admin_port} --pid-file {process.pid_file}",
            )
        )
        pathlib.Path(f"{process.first.config}.next").write_text(text(Setup([stays, comes])))
        process.upgrade()
        eventually(lambda: not listens(goes.port), 5, "nobody listens for the one that went")
        assert exchange(comes.endpoint, b"who") == (b"A", FIN)
        assert exchange(stays.endpoint, b"who") == (b"who", FIN)
        live.sendall(b"y")
        assert live.recv(1) == b"y"
    assert process.await_end(process.first.pid) == 0


def next_file(process: Succession) -> pathlib.Path:
    """What a new process reads from here on; the old one does not look at it."""
    path = pathlib.Path(f"{process.first.config}.next")
    options = f"--admin 127.0.0.1:{process.first.admin_port} --pid-file {process.pid_file}"
    script = f"exec {Weir.binary} run --config {shlex.quote(str(path))} {options}"
    process.install(executable(process.program.with_name("other"), script))
    return path


def accepted_congestion(listen: Listen) -> str:
    """Of the proxy's end of a connection that it has just accepted."""
    with connect(listen.endpoint) as client:
        client.sendall(b"x")
        assert read_exactly(client, 1) == b"x"
        return congestion_of(listen.port, client.getsockname()[1])


OTHER_CONGESTION = "cubic" if SYSTEM.read_text().strip() == "bbr" else "bbr"
needs_another = pytest.mark.skipif(OTHER_CONGESTION not in AVAILABLE, reason="the kernel has one congestion control")


@needs_another
def test_an_upgrade_takes_the_congestion_control_and_the_steering_of_the_new_file(succession, origins):
    listen = Listen("main", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    before = accepted_congestion(listen)
    file = next_file(process)
    for setup, expected in (
        (Setup([listen], congestion=OTHER_CONGESTION, steering="cpu"), OTHER_CONGESTION),
        (Setup([listen]), before),
    ):
        file.write_text(text(setup))
        process.upgrade()
        assert accepted_congestion(listen) == expected
    assert process.count("is not steered") == 0


@needs_another
def test_an_upgrade_that_fails_after_binding_leaves_the_sockets_options_alone(succession, origins):
    listen = Listen("main", free_port(), default=origins["echo"].endpoint)
    process = succession(Setup([listen]))
    before = accepted_congestion(listen)
    file = next_file(process)
    file.write_text(text(Setup([listen], congestion=OTHER_CONGESTION)) + "log: { access: /no/such/place/log }\n")
    os.kill(process.first.pid, signal.SIGUSR2)
    eventually(lambda: process.count("weir: not upgraded: ") == 1, 10, process.errors)
    assert accepted_congestion(listen) == before


@pytest.mark.own_network
def test_an_upgrade_without_rights_keeps_sockets_that_it_could_not_make(readable_for_all, origins):
    """T-18: what was bound as root below port 1024 goes from one unprivileged process to the next."""
    listen = Listen("low", 443, default=origins["echo"].endpoint)
    setup = Setup([listen], workers=1)
    process = Succession(readable_for_all, setup, arguments=["--user", "nobody"])
    try:
        # Of its own: the directory of the suite's may be closed to nobody.
        shutil.copy(Weir.binary, readable_for_all / "copy")
        process.install(readable_for_all / "copy")
        # More workers than there are sockets: nobody cannot bind another, so they share it.
        setup.workers = 3
        process.first.config.write_text(text(setup))
        process.upgrade()
        assert process.await_end(process.first.pid) == 0
        answers = [exchange(listen.endpoint, b"who") for _ in range(30)]
        assert answers == [(b"who", FIN)] * 30
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
            assert status["Uid"].split() == ["65534"] * 4, task
            assert (status["CapPrm"], status["CapEff"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1"), task
    finally:
        process.stop()


def test_the_first_process_of_a_container_is_not_upgraded(tmp_path, origins):
    """Its end would be the container's."""
    listen = Listen("one", free_port(), default=origins["echo"].endpoint)
    process = Weir.start(tmp_path, Setup([listen]), prefix=["unshare", "--pid", "--fork", "--kill-child"])
    try:
        inner = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(inner, signal.SIGUSR2)
        eventually(lambda: "no upgrade: this is process 1" in process.output(), 5, process.output)
        assert exchange(listen.endpoint, b"who") == (b"who", FIN)
    finally:
        process.stop(signal.SIGKILL)


def test_a_reader_of_lines_that_has_stalled_holds_no_order_up(succession, origins, tmp_path):
    """P-18: not an upgrade, not a drain, and not the end."""
    listen = Listen("unread", free_port(), default=origins["echo"].endpoint)
    lines = tmp_path / "lines"
    os.mkfifo(lines)
    reader = os.open(lines, os.O_RDWR | os.O_NONBLOCK)
    try:
        process = succession(
            Setup([listen], workers=1), prefix=["bash", "-c", f'exec "$@" 2> {shlex.quote(str(lines))}', "-"]
        )
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(reader, b"." * size)
        assert process.await_end(process.upgrade()) == 0
        heir = process.pid
        with connect(listen.endpoint) as live:
            live.sendall(b"x")
            assert live.recv(1) == b"x"
            os.kill(heir, signal.SIGTERM)
            eventually(lambda: not listens(listen.port), 5, "the drain")
            live.sendall(b"y")
            assert live.recv(1) == b"y"
        assert process.await_end(heir) == 0
    finally:
        os.close(reader)


# The configuration --------------------------------------------------------------------------------


def test_a_hundred_reloads_under_load_change_no_byte(tmp_path, origins, load, figure):
    """P-07, P-09: new connections, idle ones and long streams during a hundred reloads."""
    listen = Listen("busy", free_port(), default=origins["echo"].endpoint)
    other = Listen("other", free_port(), default=origins["A"].endpoint)
    process = Weir.start(tmp_path, Setup([listen, other]))
    before = counters(*DROPS, "TcpOutRsts")
    done, failures, streamed = threading.Event(), [], []

    def stream() -> None:
        block, sent, received, count = os.urandom(1 << 16), hashlib.sha256(), hashlib.sha256(), 0
        try:
            with connect(listen.endpoint, seconds=30) as client:
                while not done.is_set():
                    client.sendall(block)
                    sent.update(block)
                    received.update(read_exactly(client, len(block)))
                    count += len(block)
                client.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == (b"", FIN)
            assert sent.digest() == received.digest()
            streamed.append(count)
        except Exception as failure:
            failures.append(repr(failure))

    try:
        idle = [connect(listen.endpoint) for _ in range(100)]
        for client in idle:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        running = load(listen.endpoint, clients=8)
        streams = [threading.Thread(target=stream, daemon=True) for _ in range(3)]
        for thread in streams:
            thread.start()
        started, times = time.monotonic(), []
        for number in range(100):
            # Something differs each time, every fifth time whether there is another listener.
            other.default = origins["echo" if number % 2 else "A"].endpoint
            process.config.write_text(text(Setup([listen, other] if number % 5 else [listen])))
            asked = time.monotonic()
            process.reload()
            times.append(time.monotonic() - asked)
        lasted = time.monotonic() - started
        done.set()
        for thread in streams:
            thread.join(30)
        result = running.finish()
        for client in idle:
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == (b"", FIN)
            client.close()
        after = counters(*before)
        change = {name: after[name] - before[name] for name in before}
        succeeded = result.pop("ok")
        del result["seconds"]
        assert (result, failures) == ({}, [])
        assert len(streamed) == 3
        assert change == dict.fromkeys(change, 0)
        process.expect_nothing_outstanding()
    finally:
        process.stop(signal.SIGINT)
    new = f"{succeeded} new connections, 100 idle, {sum(streamed) >> 20} MiB streamed"
    figure("P-07", f"100 reloads in {lasted:.1f} s, {new}: failed, cut or changed", "0", "0")
    figure("P-07", "segments with RST, listen drops and overflows meanwhile", "0", sum(change.values()))
    figure("P-09", "from HUP to every worker on the new routes, the longest of 100", "<= 100 ms", f"{max(times) * 1000:.0f} ms")
