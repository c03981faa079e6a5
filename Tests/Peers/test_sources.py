"""Source addresses and their ports: what the ledger says is what the kernel has (S0-5, S0-6, S1-4, UP-12, P-13)."""

import collections
import json
import pathlib
import re
import subprocess
import time

import pytest

from harness.endpoints import EchoOrigin, Origin, connect, connect_from_outside, reset
from harness.network import Neighbour, free_port
from harness.processes import eventually
from harness.weir import Weir

pytestmark = [pytest.mark.weir, pytest.mark.own_network]

SOURCES = ["10.97.0.1", "10.97.0.2", "10.97.0.3"]
ORIGIN = "10.97.0.9"
PORTS = 100
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def neighbour():
    host = Neighbour(SOURCES[0], ORIGIN)
    for address in SOURCES[1:]:
        subprocess.run(["ip", "address", "add", f"{address}/24", "dev", _device()], check=True)
    yield host
    host.stop()


def _device() -> str:
    """The interface with the first address."""
    lines = subprocess.run(["ip", "-o", "address"], check=True, capture_output=True, text=True).stdout.splitlines()
    return next(line.split()[1] for line in lines if f" {SOURCES[0]}/" in line).split("@")[0]


@pytest.fixture
def few_ports():
    """A hundred ports towards a destination, and none of them is used again before its time."""
    settings = {"ip_local_port_range": f"61100 {61100 + PORTS - 1}", "tcp_tw_reuse": "0"}
    paths = {pathlib.Path("/proc/sys/net/ipv4", name): value for name, value in settings.items()}
    before = {path: path.read_text() for path in paths}
    for path, value in paths.items():
        path.write_text(value)
    yield
    for path, value in before.items():
        path.write_text(value)


def kernel(state: str, port: int) -> dict[str, int]:
    """Connections in `state` to the origin's port by their own address, as ss(8) counts them."""
    command = ["ss", "-Htn", "state", state, "dst", f"{ORIGIN}:{port}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(collections.Counter(line.split()[2].rsplit(":", 1)[0] for line in lines))


def ledger(process, what: str) -> dict[str, int]:
    metrics = process.metrics()
    found = {source: int(metrics.sum(f"weir_source_ports_{what}", source=source)) for source in SOURCES}
    return {source: count for source, count in found.items() if count}


def agree(process, port: int) -> None:
    """The ledger and the kernel count the same, for each address."""
    eventually(lambda: ledger(process, "in_use") == kernel("established", port), 5, "the same connections")
    eventually(lambda: ledger(process, "time_wait") == kernel("time-wait", port), 5, "the same ports in TIME_WAIT")


def test_three_addresses_are_used_up_and_come_back(native, neighbour, few_ports, stopping, figure):
    """S0-5, UP-12, P-13: three hundred connections, the next is refused at once; what is closed is free when the kernel
    says so."""
    with neighbour.entered():
        origin = stopping(EchoOrigin(address=ORIGIN))
    target, port = origin.endpoint[1], free_port()
    process = native(
        {
            "listeners": [
                {"address": f"127.0.0.1:{port}", "detect": "none", "routes": [{"to": {"cluster": "partner"}}]}
            ],
            "sources": [{"name": "public", "addresses": SOURCES}],
            "clusters": [
                {
                    "name": "partner",
                    "endpoints": [{"address": f"{ORIGIN}:{target}", "max_fails": 0}],
                    "source": "public",
                    "connect": {"attempts": 1},
                }
            ],
            "workers": 2,
        }
    )

    def client():
        found = connect_from_outside(("127.0.0.1", port))
        found.sendall(b"x")
        return found

    inside = [client() for _ in range(3 * PORTS)]
    assert all(one.recv(1) == b"x" for one in inside)
    assert ledger(process, "in_use") == dict.fromkeys(SOURCES, PORTS)
    agree(process, target)
    assert int(process.metrics().sum("weir_source_ports_headroom")) == 0
    eventually(lambda: process.output().count("source ports get scarce") == 3, 5, "a warning for each address")

    times = []
    for _ in range(20):
        started = time.monotonic()
        with client() as refused:
            assert refused.recv(1) == b""
        times.append(time.monotonic() - started)
    record = process.record(reason="local_source_exhausted")
    assert record["errno"] == "EADDRNOTAVAIL" and record["attempts"] == 0
    figure("P-13", "three addresses used up: refused, worst of 20", "< 10 ms", f"{max(times) * 1000:.1f} ms")

    # Closed by the client first: its FIN is passed on, so the kernel keeps our port. By RST: it does not.
    for one in inside[:60]:
        one.close()
    for one in inside[60:120]:
        reset(one)
    eventually(lambda: sum(ledger(process, "in_use").values()) == 180, 5, "their ends")
    assert sum(ledger(process, "time_wait").values()) == 60
    agree(process, target)
    # What is free is used.
    more = [client() for _ in range(60)]
    assert all(one.recv(1) == b"x" for one in more)
    with client() as refused:
        assert refused.recv(1) == b""
    agree(process, target)

    for one in inside[120:] + more:
        reset(one)
    eventually(lambda: ledger(process, "in_use") == {}, 5, "the ends of all")
    # The minute is the kernel's, and the same for every driver.
    if Weir.driver != "epoll" and not Weir.wrapper:
        eventually(lambda: kernel("time-wait", target) == {}, 70, "the end of TIME_WAIT")
        eventually(lambda: ledger(process, "time_wait") == {}, 5, "the same in the ledger")
        eventually(lambda: process.output().count("enough source ports again") == 3, 5, "lines that say so")
    process.expect_nothing_outstanding()


def test_a_partner_sees_the_fixed_addresses_in_turn_and_the_matrix_shows_both_ends(native, neighbour, stopping):
    """S0-6, S1-4."""

    def script(seen):
        seen.connection.sendall(seen.peer[0].encode())

    with neighbour.entered():
        origin = stopping(Origin(script, address=ORIGIN))
    target, port = origin.endpoint[1], free_port()
    process = native(
        {
            "listeners": [
                {"address": f"127.0.0.1:{port}", "detect": "none", "routes": [{"to": {"cluster": "partner"}}]}
            ],
            "sources": [{"name": "public", "addresses": [*SOURCES, "10.97.0.77"], "select": "round_robin"}],
            "clusters": [{"name": "partner", "endpoints": [f"{ORIGIN}:{target}"], "source": "public"}],
            "workers": 1,
        }
    )
    seen = collections.Counter()
    for _ in range(9):
        with connect(("127.0.0.1", port)) as client:
            seen[client.recv(100).decode()] += 1
    # The fourth is none of this machine's, and is left out once that is known.
    assert set(seen) == set(SOURCES) and all(count in (2, 3, 4) for count in seen.values())
    rows = {line.split()[0]: line for line in process.admin("/sources")[1].splitlines()[1:]}
    assert set(rows) == {*SOURCES, "10.97.0.77"}
    assert "out for" in rows["10.97.0.77"] and "Cannot assign requested address" in rows["10.97.0.77"]
    metrics = process.metrics()
    for source in SOURCES:
        good = metrics.sum(
            "weir_source_connects_total", source=source, destination=f"{ORIGIN}:{target}", result="success"
        )
        assert good == seen[source]


def test_the_dashboard_asks_for_metrics_that_there_are(native, stopping):
    """S1-4: every metric that the shipped dashboard names is exported, with the labels that it sums by."""
    dashboard = json.loads((REPOSITORY / "tools/packaging/grafana.json").read_text())
    asked = "\n".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    names = set(re.findall(r"\bweir_\w+", asked))
    assert len(names) > 10
    origin = stopping(EchoOrigin())
    port = free_port()
    process = native(
        {
            "listeners": [{"address": f"127.0.0.1:{port}", "detect": "none", "routes": [{"to": {"cluster": "c"}}]}],
            "clusters": [
                {
                    "name": "c",
                    "endpoints": [f"127.0.0.1:{origin.endpoint[1]}"],
                    "health_check": {"interval": "100ms"},
                }
            ],
        }
    )
    with connect(("127.0.0.1", port)) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        eventually(lambda: "weir_endpoint_checks_total{" in process.admin("/metrics")[1], 5, "a check")
        text = process.admin("/metrics")[1]
    for name in names:
        assert f"\n{name}{{" in text or f"\n{name} " in text, name
    for label, name in (("source", "weir_source_connects_total"), ("reason", "weir_sessions_closed_total")):
        assert re.search(rf'\n{name}{{[^}}]*{label}="', text)
    assert process.metrics().sum("weir_source_connect_seconds_total", source="any") > 0
