"""Endpoints are asked whether they serve, and those that do not are left out before a client meets them."""

import socket
import subprocess

import pytest

from harness import wire
from harness.endpoints import FIN, RST, Origin, answering, connect, read_to_end
from harness.network import free_port
from harness.processes import eventually

pytestmark = pytest.mark.weir

HELLO = wire.openssl_hello("good.test")
QUICK = {"interval": "100ms", "timeout": "100ms"}


@pytest.fixture
def checked(native):
    """A process whose cluster of these ports is checked as `check` says."""

    def start(*ports, check=None, **cluster):
        port = free_port()
        process = native(
            {
                "listeners": [{"address": f"127.0.0.1:{port}", "routes": [{"to": {"cluster": "c"}}]}],
                "clusters": [
                    {
                        "name": "c",
                        "endpoints": [{"address": f"127.0.0.1:{one}", "max_fails": 0} for one in ports],
                        "health_check": {**QUICK, **(check or {})},
                        **cluster,
                    }
                ],
                "workers": 1,
            }
        )
        return process, ("127.0.0.1", port)

    return start


def standing(process, port: int) -> str:
    for line in process.admin("/endpoints")[1].splitlines():
        if f":{port} " in line:
            return line.split()[2]
    raise AssertionError(f"no endpoint with port {port}")


def becomes(process, port: int, status: str) -> None:
    eventually(lambda: standing(process, port) == status, 10, f"{port} is {status}")


def checks(process, port: int) -> int:
    return int(process.metrics().sum("weir_endpoint_checks_total", endpoint=f"127.0.0.1:{port}"))


def answer(endpoint) -> bytes:
    with connect(endpoint) as client:
        client.sendall(HELLO)
        return client.recv(100)


def test_a_dead_endpoint_is_left_out_before_a_client_meets_it(checked, stopping):
    """UP-06, S1-3."""
    good, gone = stopping(Origin(answering(b"good"))), free_port()
    process, endpoint = checked(gone, good.endpoint[1])
    becomes(process, gone, "FAILED_ACTIVE_HC")
    for _ in range(6):
        assert answer(endpoint) == b"good"
    assert process.metrics().sum("weir_endpoint_connect_attempts_total", endpoint=f"127.0.0.1:{gone}") == 0
    assert process.metrics().sum("weir_endpoint_available", endpoint=f"127.0.0.1:{gone}") == 0


def test_it_returns_by_itself(checked, stopping):
    """S1-3."""
    good, port = stopping(Origin(answering(b"good"))), free_port()
    process, endpoint = checked(port, good.endpoint[1])
    eventually(lambda: "is unhealthy: its checks fail" in process.output(), 5, "the line that says so")
    stopping(Origin(answering(b"back"), port=port))
    becomes(process, port, "HEALTHY")
    eventually(lambda: answer(endpoint) == b"back", 5, "its turn")
    eventually(lambda: "is good again" in process.output(), 5, "the line that says so")


@pytest.mark.parametrize("choice, end", [("close", RST), ("keep", "open")])
def test_live_sessions_of_an_endpoint_that_fails_its_checks(checked, stopping, choice, end):
    """UP-07."""
    one = stopping(Origin(answering(b"one")))
    process, endpoint = checked(one.endpoint[1], on_unhealthy=choice)
    becomes(process, one.endpoint[1], "HEALTHY")
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        one.stop()
        becomes(process, one.endpoint[1], "FAILED_ACTIVE_HC")
        assert read_to_end(live, seconds=1.0) == (b"", end)


def test_what_is_known_goes_on_over_a_reload(checked, stopping):
    """UP-05, UP-13: state survives, and a cluster that is not checked any more is told nothing by old checks."""
    good, gone = stopping(Origin(answering(b"good"))), free_port()
    process, _ = checked(gone, good.endpoint[1])
    becomes(process, gone, "FAILED_ACTIVE_HC")
    cluster = process.configuration["clusters"][0]
    cluster["endpoints"].append(f"127.0.0.1:{free_port()}")
    process.change()
    assert standing(process, gone) == "FAILED_ACTIVE_HC"
    del cluster["health_check"]
    process.change()
    assert standing(process, gone) == "HEALTHY"


def test_checks_come_from_the_clusters_own_source_address(checked, stopping):
    """UP-06."""
    origin = stopping(Origin(answering(b"good")))
    checked(origin.endpoint[1], source_addresses=["127.0.0.77"])
    eventually(lambda: len(origin.seen) >= 3, 5, "some checks")
    assert {seen.peer[0] for seen in origin.seen} == {"127.0.0.77"}


def test_a_check_says_that_it_is_no_client(checked, stopping):
    """UP-06: PROXY LOCAL."""
    origin = stopping(Origin(lambda seen: seen.read_all()))
    process, _ = checked(origin.endpoint[1], check={"type": "proxy"}, send_proxy="v2")
    eventually(lambda: any(len(seen.received) >= 16 for seen in list(origin.seen)), 5, "a header")
    header = next(bytes(seen.received) for seen in list(origin.seen) if len(seen.received) >= 16)
    assert header[:13] == b"\r\n\r\n\0\r\nQUIT\n\x20"
    assert standing(process, origin.endpoint[1]) == "HEALTHY"


def test_http_checks_look_at_the_status(checked, stopping):
    """UP-06."""

    def status(line: bytes):
        def script(seen):
            seen.read()
            seen.connection.sendall(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n\r\n")

        return stopping(Origin(script)).endpoint[1]

    good, bad = status(b"204 No Content"), status(b"503 Service Unavailable")
    process, _ = checked(good, bad, check={"type": "http", "path": "/ready", "expected": ["200-299"]})
    becomes(process, bad, "FAILED_ACTIVE_HC")
    eventually(lambda: checks(process, good) > 0, 5, "a check of the other")
    assert standing(process, good) == "HEALTHY"


def test_tls_checks_want_a_server_hello(checked, stopping, tmp_path):
    """UP-06: a real TLS server is healthy; one that answers something else, or nothing, is not."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*made, "-keyout", key, "-out", certificate, "-subj", "/CN=good.test"], check=True, capture_output=True
    )
    real = free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{real}", "-key", key, "-cert", certificate, "-quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        other = stopping(Origin(answering(b"SSH-2.0-nothing"))).endpoint[1]
        silent = stopping(Origin(lambda seen: seen.read_all())).endpoint[1]
        process, _ = checked(real, other, silent, check={"type": "tls", "server_name": "good.test"})
        becomes(process, real, "HEALTHY")
        becomes(process, other, "FAILED_ACTIVE_HC")
        becomes(process, silent, "FAILED_ACTIVE_HC")
        before = checks(process, real)
        eventually(lambda: checks(process, real) > before + 3, 10, "more checks")
        assert standing(process, real) == "HEALTHY"
    finally:
        server.kill()
        server.wait()


def test_forty_endpoints_are_checked_side_by_side(checked, stopping):
    """UP-06."""
    good = [stopping(Origin(answering(b"good"))) for _ in range(38)]
    gone = [free_port(), free_port()]
    process, endpoint = checked(*gone, *(one.endpoint[1] for one in good), check={"interval": "500ms", "timeout": "500ms"})
    for port in gone:
        becomes(process, port, "FAILED_ACTIVE_HC")
    statuses = [line.split()[2] for line in process.admin("/endpoints")[1].splitlines()[1:]]
    assert sorted(statuses) == ["FAILED_ACTIVE_HC"] * 2 + ["HEALTHY"] * 38
    assert answer(endpoint) == b"good"


def test_an_endpoint_that_hangs_fails_its_checks(checked, stopping):
    """P-01: a stopped process goes on taking connections, so only an answer tells."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    good = stopping(Origin(answering(b"HTTP/1.1 200 OK\r\n\r\n")))
    with listener:
        port = listener.getsockname()[1]
        process, endpoint = checked(port, good.endpoint[1], check={"type": "http"})
        becomes(process, port, "FAILED_ACTIVE_HC")
        for _ in range(4):
            assert answer(endpoint).startswith(b"HTTP/1.1 200")
    with connect(endpoint) as client:
        client.sendall(HELLO)
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client)[1] == FIN
