"""Who the process is, and when it became that (T-18)."""

import pathlib
import signal
import subprocess

import pytest

from harness.endpoints import FIN, Origin, echo, exchange
from harness.network import free_port
from harness.peers import listens
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.weir import Weir, text

pytestmark = [pytest.mark.weir, pytest.mark.own_network, pytest.mark.usefixtures("without_leak_check")]

NOBODY = 65534
CAP_NET_BIND_SERVICE = 1 << 10


@pytest.fixture(scope="module")
def origin(stopping):
    return stopping(Origin(echo))


@pytest.fixture
def weir(readable_for_all):
    """Starts Weir with a setup on port 443, as nobody, and stops it after the test."""
    started = []

    def start(setup: Setup, arguments=(), **options) -> Weir:
        started.append(Weir.start(readable_for_all, setup, arguments=["--user", "nobody", *arguments], **options))
        return started[-1]

    yield start
    for process in started:
        process.stop(signal.SIGINT)


def statuses(process: Weir) -> list[dict[str, str]]:
    """/proc/PID/task/TID/status of every thread."""
    return [
        dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    ]


def expect_nobody(process: Weir, capabilities: int) -> None:
    for status in statuses(process):
        name = status["Name"]
        for key in ("Uid", "Gid"):
            assert status[key].split() == [str(NOBODY)] * 4, (name, key)
        assert "0" not in status["Groups"].split(), name
        for key in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(status[key], 16) == capabilities, (name, key)
        assert status["NoNewPrivs"] == "1", name


@pytest.mark.own_driver
def test_every_thread_is_nobody_and_every_ring_was_made_as_nobody(weir, ring, origin, tmp_path):
    """Bind, drop, then create rings: a ring keeps the rights it was made with."""
    trace = tmp_path / "trace"
    calls = "bind,listen,setgroups,setresgid,setresuid,capset,prctl,io_uring_setup"
    listen = Listen("low", 443, default=origin.endpoint)
    # -D: the traced process is our child.
    prefix = ["strace", "-D", "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace)]
    process = weir(Setup([listen]), ["--io", "uring"], prefix=prefix)
    assert exchange(listen.endpoint, b"who") == (b"who", FIN)
    expect_nobody(process, 0)
    process.send(signal.SIGINT)
    assert process.wait(10) == 0
    lines = [line.split(None, 1)[1] for line in trace.read_text().splitlines() if not line.endswith("resumed>")]

    def positions(call: str) -> list[int]:
        found = [index for index, line in enumerate(lines) if line.startswith(call)]
        assert found, f"no {call} in {lines}"
        return found

    order = [
        max(index for index in positions("bind(") if "AF_INET" in lines[index]),
        positions("setgroups(")[0],
        positions("setresgid(")[0],
        positions("setresuid(")[0],
        positions("capset(")[0],
        positions("prctl(PR_SET_NO_NEW_PRIVS")[0],
        positions("io_uring_setup(")[0],
    ]
    assert order == sorted(order), lines


def test_a_reload_without_rights_binds_no_low_port(weir, origin):
    low, lower = Listen("low", 443, default=origin.endpoint), Listen("lower", 444, default=origin.endpoint)
    process = weir(Setup([low]))
    process.config.write_text(text(Setup([low, lower])))
    eventually(lambda: process.reload_count("failed") == 1, 5, "a failed reload")
    assert "a port below 1024 needs root or CAP_NET_BIND_SERVICE" in process.output()
    assert exchange(low.endpoint, b"who") == (b"who", FIN)


def test_the_right_to_bind_low_ports_is_kept_where_asked_for(weir, origin):
    low, lower = Listen("low", 443, default=origin.endpoint), Listen("lower", 444, default=origin.endpoint)
    process = weir(Setup([low]), ["--keep-low-ports"])
    expect_nobody(process, CAP_NET_BIND_SERVICE)
    process.config.write_text(text(Setup([low, lower])))
    eventually(lambda: listens(lower.port), 5, process.output)
    assert exchange(lower.endpoint, b"who") == (b"who", FIN)


def test_a_right_to_keep_needs_somebody_to_become():
    done = subprocess.run([Weir.binary, "run", "--keep-low-ports"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    assert "--keep-low-ports goes with --user" in done.stderr
