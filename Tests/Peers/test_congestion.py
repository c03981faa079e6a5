"""`congestion`: the congestion control of a session's connections."""

import pathlib
import re
import signal
import subprocess

import pytest

from harness.endpoints import Origin, connect, echo, read_exactly
from harness.network import free_port
from harness.setup import Listen, Setup
from harness.weir import Weir, text

pytestmark = pytest.mark.weir

SYSTEM = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
KNOWN = ["bbr", "cubic", "reno"]
AVAILABLE = pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()


def congestion_of(local_port: int, remote_port: int) -> str:
    """Of the socket on this machine with these ports."""
    filters = ["sport", "=", f":{local_port}", "and", "dport", "=", f":{remote_port}"]
    command = ["ss", "-tinH", "state", "established", *filters]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    found = [word for word in words if word in KNOWN]
    assert len(found) == 1, words
    return found[0]


@pytest.mark.parametrize("choice", ["system", "cubic", "bbr"])
def test_both_connections_of_a_session_have_the_congestion_control_of_the_configuration(proxy, stopping, choice):
    if choice not in ["system", *AVAILABLE]:
        pytest.skip(f"this kernel has no {choice}")
    origin = stopping(Origin(echo))
    listen = Listen("main", free_port(), default=origin.endpoint)
    proxy(Setup([listen], congestion=choice), name=f"congestion-{choice}")
    with connect(listen.endpoint) as client:
        client.sendall(b"hello")
        assert read_exactly(client, 5) == b"hello"
        expected = SYSTEM.read_text().strip() if choice == "system" else choice
        assert congestion_of(listen.port, client.getsockname()[1]) == expected
        upstream_port = origin.seen[0].peer[1]
        assert congestion_of(upstream_port, origin.endpoint[1]) == expected


def test_a_congestion_control_that_is_not_for_everybody_ends_the_start_with_advice(readable_for_all):
    """Found out after privileges are given up, when connections will be made."""
    allowed = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    allowed = allowed.read_text().split() if allowed.exists() else [SYSTEM.read_text().strip()]
    forbidden = [name for name in ("cubic", "bbr") if name in AVAILABLE and name not in allowed]
    if not forbidden:
        pytest.skip("this machine allows what it has to everybody")
    setup = Setup([Listen("main", free_port(), default=("127.0.0.1", 9))], congestion=forbidden[0])
    file = readable_for_all / "weir.yaml"
    file.write_text(text(setup))
    command = [str(Weir.binary), "run", "--config", str(file), "--user", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode not in (0, -signal.SIGTERM)
    assert re.search(rf"congestion control {forbidden[0]} .*tcp_allowed_congestion_control", done.stderr), done.stderr
