"""Limits per client, and who is counted where."""

import pytest

from harness.endpoints import EchoOrigin, connect, read_to_end
from harness.network import free_port
from harness.processes import eventually

pytestmark = pytest.mark.weir


@pytest.fixture
def echo(stopping):
    return stopping(EchoOrigin()).endpoint[1]


def listener(port: int, cluster: str, **keys) -> dict:
    return {
        "address": f"127.0.0.1:{port}",
        "name": f"to-{cluster}-{port}",
        "detect": "none",
        "routes": [{"to": {"cluster": cluster}}],
        **keys,
    }


def lives(port: int, source: str = "127.0.0.1"):
    """A session that is answered; None where it was turned away."""
    try:
        client = connect(("127.0.0.1", port), source=source)
    except ConnectionResetError:  # taken and reset before connect(2) was looked at
        return None
    try:
        client.sendall(b"x")
        if client.recv(1) == b"x":
            return client
    except OSError:
        pass
    client.close()
    return None


def test_a_client_is_limited_per_listener_and_what_it_gives_back_it_may_have_again(native, echo):
    """UP-10: rejected in the same zone, passed in another, released on close."""
    one, other = free_port(), free_port()
    process = native(
        {
            "listeners": [
                listener(one, "c", limits={"per_client": {"connections": 1}}),
                listener(other, "c", limits={"per_client": {"connections": 1}}),
            ],
            "clusters": [{"name": "c", "endpoints": [f"127.0.0.1:{echo}"]}],
        }
    )
    first = lives(one)
    assert first and lives(one) is None
    second = lives(other)
    assert second
    assert (third := lives(one, "127.0.0.2"))
    first.close()
    eventually(lambda: len([r for r in process.records() if r["reason"] == "finished"]) == 1, 5, "its end")
    again = lives(one)
    assert again
    for client in (second, third, again):
        client.close()


def test_a_chain_of_proxies_counts_the_client_and_not_the_proxy(native, echo):
    """UP-10, S4-2: through a proxy chain."""
    inner, outer = free_port(), free_port()
    native(
        {
            "listeners": [
                listener(
                    inner,
                    "c",
                    accept_proxy={"from": ["127.0.0.0/8"]},
                    limits={"per_client": {"connections": 1}},
                )
            ],
            "clusters": [{"name": "c", "endpoints": [f"127.0.0.1:{echo}"]}],
        },
        name="inner",
    )
    native(
        {
            "listeners": [listener(outer, "next")],
            "clusters": [{"name": "next", "endpoints": [f"127.0.0.1:{inner}"], "send_proxy": "v2"}],
        },
        name="outer",
    )
    one = lives(outer, "127.0.0.11")
    assert one and lives(outer, "127.0.0.11") is None
    other = lives(outer, "127.0.0.12")
    assert other
    one.close()
    other.close()


def test_a_session_stays_with_the_listener_that_took_it(native, echo):
    """UP-14: its listener goes, another comes; each counts its own, and nobody counts below zero."""
    old, new, constant = free_port(), free_port(), free_port()
    process = native(
        {
            "listeners": [listener(old, "c"), listener(constant, "c")],
            "clusters": [{"name": "c", "endpoints": [f"127.0.0.1:{echo}"]}],
        }
    )
    live = lives(old)
    assert live
    process.configuration["listeners"][0] = listener(new, "c")
    process.change()
    other = lives(new)
    assert other

    def active(port: int) -> int:
        return int(process.metrics().sum("weir_sessions_active", listener=f"to-c-{port}"))

    assert (active(old), active(new)) == (1, 1)
    live.close()
    eventually(lambda: active(old) == 0, 5, "the end of the old one's")
    assert active(new) == 1
    other.close()
    eventually(lambda: active(new) == 0, 5, "the end of the new one's")
    assert process.metrics().sum("weir_sessions_open") == 0


def test_how_full_it_is_can_be_scaled_by_and_who_is_scaled_in_loses_nothing(native, echo):
    """S0-7."""
    port = free_port()
    process = native(
        {
            "listeners": [listener(port, "c")],
            "clusters": [{"name": "c", "endpoints": [f"127.0.0.1:{echo}"]}],
            "limits": {"connections": 8},
            "drain": {"delay": "1s", "timeout": "20s"},
        }
    )
    clients = [lives(port) for _ in range(2)]
    metrics = process.metrics()
    assert metrics.sum("weir_sessions_open") / metrics.sum("weir_sessions_limit") == 0.25
    process.send(15)
    eventually(lambda: process.admin("/readyz")[0] == 503, 5, "readiness is gone")
    # Who has not heard of it yet is served.
    clients.append(lives(port))
    assert all(clients)
    for client in clients:
        client.sendall(b"last")
        client.shutdown(1)
        assert read_to_end(client)[0] == b"last"
    assert process.wait(20) == 0
