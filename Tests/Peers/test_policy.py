"""Who leaves from which address or through which gateways, and what the last hop still knows of the first."""

import subprocess

import pytest

from harness import wire
from harness.endpoints import FIN, Origin, answering, connect, read_to_end
from harness.network import free_port
from harness.processes import eventually

pytestmark = [pytest.mark.weir, pytest.mark.own_network]

OPEN = {"destinations": {"allow": ["127.0.0.0/8"]}}


@pytest.fixture
def named(names):
    """The keys by which a process asks the suite's name server."""
    names.set("good.test", "127.0.0.21")
    names.set("other.test", "127.0.0.22")
    return {**OPEN, "resolver": {"servers": [f"127.0.0.1:{names.port}"]}, "workers": 1}


def listener(port: int, **keys) -> dict:
    return {"address": f"127.0.0.1:{port}", "name": str(port), **keys}


def ask(port: int, name: str, source: str | None = None) -> bytes:
    with connect(("127.0.0.1", port), source=source) as client:
        client.sendall(wire.openssl_hello(name))
        return client.recv(100)


def saying_who(seen):
    if seen.read():
        seen.connection.sendall(seen.peer[0].encode())
        seen.read_all()


def test_clients_and_destinations_decide_about_the_source_address(native, named, stopping):
    """S1-1, S0-6: client labels, destination blocks with an exception, a fixed address for each."""
    target = free_port()
    for address in ("127.0.0.21", "127.0.0.22"):
        stopping(Origin(saying_who, address=address, port=target))
    port = free_port()
    process = native(
        {
            **named,
            "listeners": [listener(port, routes=[{"to": {"server_name": {"port": target}}}])],
            "sources": [
                {"name": "billing", "addresses": ["127.0.0.31"]},
                {"name": "rest", "addresses": ["127.0.0.32"]},
            ],
            "client_labels": [{"labels": {"app": "billing", "namespace": "prod"}, "addresses": ["127.0.0.11"]}],
            "policies": [
                {
                    "name": "billing",
                    "match": {
                        "client_labels": {"app": "billing"},
                        "destinations": ["127.0.0.0/8"],
                        "except_destinations": ["127.0.0.22"],
                    },
                    "source": "billing",
                },
                {"name": "rest", "match": {"server_names": ["*.test"]}, "source": "rest"},
            ],
        }
    )
    assert ask(port, "good.test", "127.0.0.11") == b"127.0.0.31"
    assert ask(port, "other.test", "127.0.0.11") == b"127.0.0.32"
    assert ask(port, "good.test", "127.0.0.12") == b"127.0.0.32"
    metrics = process.metrics()
    assert metrics.sum("weir_policy_sessions_total", policy="billing") == 1
    assert metrics.sum("weir_policy_sessions_total", policy="rest") == 2


def test_what_a_policy_leaves_to_the_route_no_later_policy_has(native, named, stopping):
    """S1-1: the route's own source, although a policy behind holds for everybody."""
    target, port = free_port(), free_port()
    for address in ("127.0.0.21", "127.0.0.22"):
        stopping(Origin(saying_who, address=address, port=target))
    process = native(
        {
            **named,
            "listeners": [
                listener(port, routes=[{"to": {"server_name": {"port": target, "source_addresses": ["127.0.0.33"]}}}])
            ],
            "sources": [{"name": "rest", "addresses": ["127.0.0.32"]}],
            "policies": [
                {"name": "local", "match": {"destinations": ["127.0.0.22"]}, "to": "route"},
                {"name": "rest", "source": "rest"},
            ],
        }
    )
    assert ask(port, "good.test") == b"127.0.0.32"
    assert ask(port, "other.test") == b"127.0.0.33"
    assert process.metrics().sum("weir_policy_sessions_total", policy="local") == 1


def test_gateways_take_turns_and_standbys_take_over(native, named, stopping):
    """S1-2, S1-5, PO-08, S4-2: node and gateway are the same program; the origin learns who the client was."""
    target = free_port()
    origin = stopping(Origin(answering(b"good"), address="127.0.0.21", port=target))
    gateways = {}
    for number in (1, 2, 3):
        port = free_port()
        gateways[number] = native(
            {
                **OPEN,
                "workers": 1,
                "listeners": [
                    listener(
                        port,
                        detect="none",
                        accept_proxy={"from": ["127.0.0.0/8"]},
                        routes=[
                            {
                                "to": {
                                    "proxy_destination": {
                                        "source_addresses": [f"127.0.0.4{number}"],
                                        "send_proxy": "v1",
                                    }
                                }
                            }
                        ],
                    )
                ],
            },
            name=f"gateway-{number}",
        )
        gateways[number].port = port
    port = free_port()
    node = native(
        {
            **named,
            "listeners": [listener(port, routes=[{"to": {"server_name": {"port": target}}}])],
            "clusters": [
                {
                    "name": "gateways",
                    "endpoints": [f"127.0.0.1:{one.port}" for one in gateways.values()],
                    "max_active_endpoints": 2,
                    "send_proxy": "v2",
                }
            ],
            "policies": [{"name": "out", "gateways": "gateways"}],
        },
        name="node",
    )

    def served(count: int) -> list[str]:
        origin.forget()
        for _ in range(count):
            assert ask(port, "good.test", "127.0.0.11") == b"good"
        return sorted(seen.peer[0] for seen in origin.seen)

    assert served(6) == ["127.0.0.41"] * 3 + ["127.0.0.42"] * 3
    for seen in origin.seen:
        header = bytes(seen.received).split(b"\r\n")[0].decode().split()
        assert header[:4] == ["PROXY", "TCP4", "127.0.0.11", "127.0.0.21"] and header[5] == str(target)
    gateways[2].stop()
    assert served(1) in (["127.0.0.41"], ["127.0.0.43"])
    served(1)
    assert served(6) == ["127.0.0.41"] * 3 + ["127.0.0.43"] * 3
    assert node.metrics().sum("weir_policy_sessions_total", policy="out") == 14


def test_the_guard_looks_at_the_destination_of_a_proxy_header(native):
    """T-02."""
    port = free_port()
    process = native(
        {
            "listeners": [
                listener(
                    port,
                    detect="none",
                    accept_proxy={"from": ["127.0.0.0/8"]},
                    routes=[{"to": {"proxy_destination": {}}}],
                )
            ]
        }
    )
    with connect(("127.0.0.1", port)) as client:
        client.sendall(b"PROXY TCP4 10.0.0.1 169.254.169.254 1000 80\r\n")
        assert read_to_end(client)[1] == FIN
    assert process.record(reason="local_destination_denied")["guard_rule"]


def test_a_proxy_header_without_destination_leads_nowhere(native):
    port = free_port()
    process = native(
        {
            **OPEN,
            "listeners": [
                listener(
                    port,
                    detect="none",
                    accept_proxy={"from": ["127.0.0.0/8"]},
                    routes=[{"to": {"proxy_destination": {}}}],
                )
            ],
        }
    )
    with connect(("127.0.0.1", port)) as client:
        client.sendall(b"PROXY UNKNOWN\r\n")
        read_to_end(client)
    eventually(lambda: process.record(reason="local_no_destination"), 5, "its record")


def test_connections_leave_through_an_interface(native, named, stopping):
    """S1-2: an interface instead of an address."""
    subprocess.run(["ip", "link", "add", "nowhere7", "type", "veth", "peer", "name", "nowhere8"], check=True)
    try:
        target = free_port()
        stopping(Origin(answering(b"good"), address="127.0.0.21", port=target))
        port = free_port()
        process = native(
            {
                **named,
                "listeners": [listener(port, routes=[{"to": {"server_name": {"port": target}}}])],
                "sources": [{"name": "loop", "interface": "lo"}, {"name": "nowhere", "interface": "nowhere7"}],
                "policies": [
                    {"name": "in", "match": {"clients": ["127.0.0.11"]}, "source": "loop"},
                    {"name": "out", "source": "nowhere"},
                ],
            }
        )
        assert ask(port, "good.test", "127.0.0.11") == b"good"
        assert ask(port, "good.test", "127.0.0.12") == wire.alert(80)
    finally:
        subprocess.run(["ip", "link", "delete", "nowhere7"], check=True)
