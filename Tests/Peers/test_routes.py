"""Routes and clusters of the native format that take a network: redirected clients, private names, keepalive."""

import contextlib
import socket
import subprocess

import pytest

from harness import wire
from harness.endpoints import FIN, Origin, answering, connect, read_to_end
from harness.network import free_port
from harness.processes import eventually

pytestmark = [pytest.mark.weir, pytest.mark.own_network]


def listener(port: int, **keys) -> dict:
    return {"address": f"127.0.0.1:{port}", "name": str(port), **keys}


def ask(address: str, port: int) -> tuple[bytes, str]:
    with connect((address, port)) as client:
        client.sendall(wire.openssl_hello("good.test"))
        answer = client.recv(100)
        client.shutdown(socket.SHUT_WR)
        rest, end = read_to_end(client)
    return answer + rest, end


@contextlib.contextmanager
def redirected(address: str, port: int, to: int, but: str):
    """What goes there comes to the local port `to`, unless it comes from the address `but`."""
    match = ["-p", "tcp", "!", "-s", but, "-d", address, "--dport", str(port), "-j", "REDIRECT", "--to-ports", str(to)]
    subprocess.run(["iptables", "-t", "nat", "-A", "OUTPUT", *match], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-t", "nat", "-D", "OUTPUT", *match], check=True)


def test_s2_7_a_redirected_client_gets_where_it_wanted_to_go(native, stopping):
    """S2-7, T-07: SO_ORIGINAL_DST; whoever was not redirected is refused."""
    target, port = free_port(), free_port()
    stopping(Origin(answering(b"one"), address="127.0.0.21", port=target))
    stopping(Origin(answering(b"two"), address="127.0.0.22", port=target))
    process = native(
        {
            "destinations": {"allow": ["127.0.0.0/8"]},
            "listeners": [
                listener(
                    port,
                    routes=[
                        {"name": "closed", "match": {"destinations": ["127.0.0.23"]}, "deny": "close"},
                        {"name": "original", "to": {"original_destination": {"source_addresses": ["127.0.0.31"]}}},
                    ],
                )
            ],
        }
    )
    with contextlib.ExitStack() as rules:
        for host in (21, 22, 23):
            rules.enter_context(redirected(f"127.0.0.{host}", target, port, "127.0.0.31"))
        assert ask("127.0.0.21", target) == (b"one", FIN)
        assert ask("127.0.0.22", target) == (b"two", FIN)
        assert ask("127.0.0.23", target) == (b"", FIN)
        assert ask("127.0.0.1", port)[0] == bytes([0x15, 3, 1, 0, 2, 2, 49])
    eventually(lambda: len(process.records()) == 4, 5, "all records")
    assert process.record(reason="local_destination_denied")["guard_rule"] == "own_listener"


@pytest.fixture
def private_address():
    address = "10.77.0.1"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    yield address
    subprocess.run(["ip", "address", "delete", f"{address}/32", "dev", "lo"], check=True)


def test_private_names_are_connected_to_and_checked_where_their_cluster_allows_them(
    native, stopping, names, private_address
):
    """T-02."""
    target, open_port, closed_port = free_port(), free_port(), free_port()
    names.set("svc.test", private_address)
    stopping(Origin(answering(b"good"), address=private_address, port=target))
    cluster = {"endpoints": [f"svc.test:{target}"], "health_check": {"interval": "100ms"}}
    process = native(
        {
            "resolver": {"servers": [f"127.0.0.1:{names.port}"]},
            "listeners": [
                listener(open_port, routes=[{"to": {"cluster": "open"}}]),
                listener(closed_port, routes=[{"to": {"cluster": "closed"}}]),
            ],
            "clusters": [
                {"name": "open", "private_names": "allow", **cluster},
                {"name": "closed", **cluster},
            ],
        }
    )
    assert ask("127.0.0.1", open_port) == (b"good", FIN)
    assert ask("127.0.0.1", closed_port)[0] != b"good"

    def available(name: str) -> float:
        return process.metrics().sum("weir_endpoint_available", cluster=name)

    eventually(lambda: available("closed") == 0, 5, "the check that the guard refuses")
    assert available("open") == 1


def test_the_kernel_asks_a_quiet_endpoint_whether_it_is_there(native, stopping):
    target, port = free_port(), free_port()
    stopping(Origin(answering(b"good"), port=target))
    native(
        {
            "listeners": [listener(port, routes=[{"to": {"cluster": "c"}}])],
            "clusters": [
                {
                    "name": "c",
                    "endpoints": [f"127.0.0.1:{target}"],
                    "connect": {"keepalive": {"idle": "600s", "interval": "5s", "probes": 2}},
                }
            ],
        }
    )
    with connect(("127.0.0.1", port)) as client:
        client.sendall(wire.openssl_hello("good.test"))
        assert client.recv(10) == b"good"

        def timer() -> str:
            command = ["ss", "-tnoH", "state", "established", "dst", f"127.0.0.1:{target}"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        eventually(lambda: "timer:(keepalive,9min" in timer(), 5, "the keepalive timer")


def test_an_ipv4_client_of_all_addresses_is_announced_as_one(native, stopping):
    """PP-12: `[::]` that takes IPv4 has mapped addresses on its sockets; nobody behind it is to see them."""
    origin = stopping(Origin(answering(b"good")))
    port = free_port()
    native(
        {
            "workers": 1,
            "listeners": [
                {
                    "address": f"[::]:{port}",
                    "takes_ipv4": True,
                    "detect": "none",
                    "routes": [{"to": {"cluster": "there"}}],
                }
            ],
            "clusters": [
                {"name": "there", "endpoints": [f"{origin.endpoint[0]}:{origin.endpoint[1]}"], "send_proxy": "v1"}
            ],
        }
    )
    with connect(("127.0.0.1", port), source="127.0.0.7") as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"good"
    [seen] = origin.seen
    assert bytes(seen.received).split(b"\r\n")[0].decode().split()[:4] == ["PROXY", "TCP4", "127.0.0.7", "127.0.0.1"]
