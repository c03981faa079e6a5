"""What becomes of a client whose endpoint is gone, and of an endpoint whose clients are turned away."""

import socket
import time

import pytest

from harness import wire
from harness.endpoints import FIN, RST, Origin, answering, connect, exchange, read_exactly, read_to_end, reset
from harness.network import free_port
from harness.processes import eventually

pytestmark = pytest.mark.weir

HELLO = wire.openssl_hello("good.test")


def slamming(read: bool):
    """A script: RST before a byte was said, at once or when the first bytes have come."""

    def script(seen):
        if read:
            seen.read()
        reset(seen.connection)

    return script


def leaving(seen):
    """A script: FIN before a byte was said."""
    seen.read()


@pytest.fixture
def balanced(native):
    """A process with one cluster of these origins; `listener` and `cluster` are more keys of the two."""

    def start(*origins, listener=None, cluster=None):
        port = free_port()
        endpoints = [f"127.0.0.1:{origin.endpoint[1]}" for origin in origins]
        first = {"address": f"127.0.0.1:{port}", "name": "in", "routes": [{"to": {"cluster": "c"}}]}
        process = native(
            {
                "listeners": [{**first, **(listener or {})}],
                "clusters": [{"name": "c", "endpoints": endpoints, **(cluster or {})}],
                "workers": 1,
            }
        )
        return process, ("127.0.0.1", port)

    return start


@pytest.fixture
def origin(stopping):
    return lambda script: stopping(Origin(script))


def ask(endpoint) -> tuple[bytes, str]:
    """What a client that says hello and waits gets."""
    with connect(endpoint) as client:
        client.sendall(HELLO)
        answer = client.recv(100)
        client.shutdown(socket.SHUT_WR)
        rest, end = read_to_end(client)
    return answer + rest, end


@pytest.mark.parametrize("script", [slamming(False), slamming(True), leaving], ids=["rst-at-once", "rst", "fin"])
def test_an_endpoint_that_ends_before_its_first_byte_gives_way_to_the_next(origin, balanced, script):
    """S4-1."""
    bad, good = origin(script), origin(answering(b"good"))
    process, endpoint = balanced(bad, good)
    for _ in range(4):
        assert ask(endpoint) == (b"good", FIN)
    assert bad.seen
    assert all(bytes(seen.received) == HELLO for seen in good.seen)
    process.record(attempts=2, reason="finished")
    process.expect_nothing_outstanding()


def test_a_next_endpoint_gets_a_proxy_header_of_its_own(origin, balanced):
    """S4-1."""
    bad, good = origin(slamming(True)), origin(answering(b"good"))
    _, endpoint = balanced(bad, good, cluster={"send_proxy": "v1"})
    with connect(endpoint) as client:
        client.sendall(HELLO)
        assert client.recv(100) == b"good"
        host, port = client.getsockname()
    expected = f"PROXY TCP4 {host} {endpoint[0]} {port} {endpoint[1]}\r\n".encode() + HELLO
    assert bytes(good.seen[0].received) == expected


def test_an_endpoint_that_closes_early_rests_like_one_that_refuses(origin, balanced):
    """P-04."""
    bad, good = origin(leaving), origin(answering(b"good"))
    _, endpoint = balanced(bad, good)
    for _ in range(6):
        assert ask(endpoint) == (b"good", FIN)
    assert len(bad.seen) == 1


def test_the_last_endpoints_early_end_reaches_the_client_as_it_is(origin, balanced):
    """RS-06"""
    _, endpoint = balanced(origin(slamming(True)))
    with connect(endpoint) as client:
        client.sendall(HELLO)
        assert read_to_end(client) == (b"", RST)


def test_where_every_endpoint_ends_early_the_client_is_told(origin, balanced):
    process, endpoint = balanced(origin(leaving), origin(leaving), origin(leaving), cluster={"connect": {"attempts": 2}})
    with connect(endpoint) as client:
        client.sendall(HELLO)
        # The second attempt is the last, so what it says is what is passed on.
        assert read_to_end(client)[1] == FIN
    process.record(attempts=2)


def test_a_request_is_sent_to_one_endpoint_only(origin, balanced):
    """Nobody knows what the first one has done with it."""
    bad, good = origin(slamming(True)), origin(answering(b"good"))
    _, endpoint = balanced(bad, good, listener={"detect": ["http"]})
    with connect(endpoint) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
        assert read_to_end(client) == (b"", RST)
    assert not good.seen


def test_what_follows_the_hello_is_sent_to_one_endpoint_only(origin, balanced):
    heard = []

    def script(seen):
        while len(seen.received) <= len(HELLO):
            seen.read()
        heard.append(True)
        reset(seen.connection)

    _, endpoint = balanced(origin(script), other := origin(answering(b"good")))
    with connect(endpoint) as client:
        client.sendall(HELLO)
        time.sleep(0.1)
        client.sendall(b"more")
        assert read_to_end(client) == (b"", RST)
    assert heard and not other.seen


def test_it_can_be_turned_off(origin, balanced):
    bad, good = origin(slamming(True)), origin(answering(b"good"))
    _, endpoint = balanced(bad, good, cluster={"connect": {"retry_early_close": False}})
    with connect(endpoint) as client:
        client.sendall(HELLO)
        assert read_to_end(client) == (b"", RST)
    assert not good.seen


def test_a_server_that_speaks_first_is_found_behind_one_that_slams_the_door(origin, balanced):
    """S4-1."""

    def banner(seen):
        seen.connection.sendall(b"220 ready")
        seen.read_all()

    _, endpoint = balanced(origin(slamming(False)), origin(banner), listener={"detect": "none"})
    with connect(endpoint) as client:
        assert read_exactly(client, 9) == b"220 ready"


# MARK: Ejection

EJECTING = {
    "outlier_detection": {
        "consecutive_local_origin_failures": 3,
        "base_ejection_time": "1s",
        "max_ejection_percent": 100,
    }
}


def standing(process) -> dict[str, str]:
    """The status of each endpoint by its port."""
    rows = [line.split() for line in process.admin("/endpoints")[1].splitlines()[1:]]
    return {row[1].rsplit(":", 1)[1]: row[2] for row in rows}


def test_failing_endpoints_are_ejected_and_the_table_shows_it(origin, balanced):
    """S0-3, S0-2: traffic goes to the healthy member, and the other is FAILED_OUTLIER_CHECK for its time."""
    good = origin(answering(b"good"))
    gone = origin(answering(b"bad"))
    gone.stop()
    process, endpoint = balanced(gone, good, cluster=EJECTING)
    ports = [str(one.endpoint[1]) for one in (gone, good)]
    assert standing(process) == {ports[0]: "HEALTHY", ports[1]: "HEALTHY"}
    for _ in range(6):
        assert ask(endpoint) == (b"good", FIN)
    assert standing(process)[ports[0]] == "FAILED_OUTLIER_CHECK"
    metrics = process.metrics()
    assert metrics.sum("weir_endpoint_connect_attempts_total", endpoint=f"127.0.0.1:{ports[0]}") == 3
    assert metrics.sum("weir_endpoint_ejections_total") == 1
    assert metrics.sum("weir_endpoint_available", endpoint=f"127.0.0.1:{ports[0]}") == 0
    eventually(lambda: standing(process)[ports[0]] == "HEALTHY", 5, "the end of the ejection")
    eventually(lambda: "is good again" in process.output(), 5, "the line that says so")
    assert "is ejected for 1 s" in process.output()


def test_an_ejection_goes_on_over_a_reload(origin, balanced):
    """UP-05, UP-13."""
    good, gone = origin(answering(b"good")), origin(answering(b"bad"))
    gone.stop()
    cluster = {"outlier_detection": {**EJECTING["outlier_detection"], "base_ejection_time": "1h"}}
    process, endpoint = balanced(gone, good, cluster=cluster)
    for _ in range(6):
        assert ask(endpoint) == (b"good", FIN)
    process.configuration["clusters"][0]["endpoints"].append("127.0.0.1:9")
    process.change()
    assert standing(process)[str(gone.endpoint[1])] == "FAILED_OUTLIER_CHECK"


@pytest.mark.parametrize("choice, end", [("close", RST), ("keep", "open")])
def test_live_sessions_of_an_ejected_endpoint(origin, balanced, choice, end):
    """UP-07."""
    one = origin(answering(b"one"))
    process, endpoint = balanced(one, cluster={**EJECTING, "on_unhealthy": choice})
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        one.stop()
        for _ in range(3):
            with connect(endpoint) as client:
                client.sendall(HELLO)
                read_to_end(client)
        eventually(lambda: "is ejected" in process.output(), 5, "the ejection")
        assert read_to_end(live, seconds=1.0) == (b"", end)
    if choice == "close":
        process.record(reason="local_endpoint_unhealthy")


@pytest.mark.parametrize("choice, end", [("close", RST), ("keep", "open")])
def test_live_sessions_of_an_endpoint_that_a_reload_leaves_out(origin, balanced, choice, end):
    """UP-07, UP-13."""
    one, other = origin(answering(b"one")), origin(answering(b"other"))
    process, endpoint = balanced(one, cluster={"on_removed": choice})
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        process.configuration["clusters"][0]["endpoints"] = [f"127.0.0.1:{other.endpoint[1]}"]
        process.change()
        assert read_to_end(live, seconds=1.0) == (b"", end)
    assert ask(endpoint)[0] == b"other"


@pytest.mark.parametrize("choice, end", [("close", RST), ("keep", "open")])
def test_live_sessions_of_a_route_that_a_reload_leaves_out(origin, balanced, choice, end):
    one = origin(answering(b"one"))
    process, endpoint = balanced(
        one,
        listener={
            "routes": [
                {"name": "old", "match": {"server_names": ["good.test"]}, "to": {"cluster": "c"}, "on_removed": choice},
                {"name": "rest", "to": {"cluster": "c"}},
            ]
        },
    )
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        del process.configuration["listeners"][0]["routes"][0]
        process.change()
        assert read_to_end(live, seconds=1.0) == (b"", end)


# MARK: Circuit breakers


def test_an_endpoint_has_no_more_sessions_than_it_may(origin, balanced):
    """UP-03."""
    one, backup = origin(answering(b"one")), origin(answering(b"backup"))
    process, endpoint = balanced(one, backup)
    process.configuration["clusters"][0]["endpoints"] = [
        {"address": f"127.0.0.1:{one.endpoint[1]}", "max_connections": 2},
        {"address": f"127.0.0.1:{backup.endpoint[1]}", "priority": 1},
    ]
    process.change()
    held = []
    for expected in (b"one", b"one", b"backup"):
        client = connect(endpoint)
        held.append(client)
        client.sendall(HELLO)
        assert client.recv(10) == expected
    held.pop(0).close()
    eventually(lambda: len(process.records()) == 1, 5, "the end of the first")
    assert ask(endpoint)[0] == b"one"
    for client in held:
        client.close()


def test_a_full_cluster_refuses_at_once(origin, balanced):
    one = origin(answering(b"one"))
    process, endpoint = balanced(one, cluster={"limits": {"connections": 1}})
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        assert ask(endpoint)[0] == wire.alert(80)
        assert process.record(reason="local_cluster_limit")["status"] == 503
    eventually(lambda: len(process.records()) == 2, 5, "the end of the first")
    assert ask(endpoint)[0] == b"one"
    assert process.metrics().sum("weir_upstream_refused_total", limit="connections") == 1


def test_old_connections_are_ended(origin, balanced):
    one = origin(answering(b"one"))
    process, endpoint = balanced(one, cluster={"max_connection_age": "500ms"})
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        assert read_to_end(live) == (b"", RST)
    assert 0.4 <= process.record(reason="local_connection_age")["session_seconds"]


def test_nobody_is_asked_where_all_are_full(origin, balanced):
    """UP-04."""
    one = origin(answering(b"one"))
    process, endpoint = balanced(one)
    process.configuration["clusters"][0]["endpoints"] = [
        {"address": f"127.0.0.1:{one.endpoint[1]}", "max_connections": 1}
    ]
    process.configuration["clusters"][0]["balance"] = "least_connections"
    process.change()
    with connect(endpoint) as live:
        live.sendall(HELLO)
        assert live.recv(10) == b"one"
        assert exchange(endpoint, HELLO)[0] == wire.alert(80)
    process.record(reason="local_no_endpoint")
