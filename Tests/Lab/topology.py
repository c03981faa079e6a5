"""The lab's network and who is in it: a client, a node with its Weir, four gateways, an origin, a name server.

    client ── node ──┬── gw1 ──┬── origin
                     ├── gw2 ──┤
                     ├── gw3 ──┤
                     └── gw4 ──┘

Every host is a network namespace of its own, on one bridge inside the caller's, which has to be a private one. What
happens to packets on the way is done in the bridge.
"""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import sys

import yaml
from exchange import Exchange
from harness.names import NameServer
from harness.network import Namespace, Switch
from harness.peers import listens
from harness.processes import Process, eventually
from harness.weir import WeirElsewhere

HERE = pathlib.Path(__file__).parent

CLIENT, NODE, ORIGIN, NAMES = "10.98.0.2", "10.98.0.1", "10.98.0.21", "10.98.0.53"
GATEWAYS = {number: f"10.98.0.1{number}" for number in (1, 2, 3, 4)}
# Who an address in an answer is.
CALLED = {address: f"gw{number}" for number, address in GATEWAYS.items()} | {NODE: "node"}
BLOCK = "10.98.0.0/24"

# Where gateways listen: for what the origin answers on ORIGIN_PORT, and for checked streams to STREAMS_PORT.
GATEWAY_PORT, GATEWAY_STREAMS_PORT = 443, 444
ORIGIN_PORT, STREAMS_PORT = 7000, 7001
# Of gateways: checks ask it whether they serve.
ADMIN_PORT = 9901
# The node's listeners: over the gateways, and to names without a gateway between.
TO_GATEWAYS, TO_NAMES = (NODE, 8001), (NODE, 8002)

_numbers = itertools.count()


def detection(active: str, rest: str = "30s", patient: bool = False) -> dict:
    """Cluster keys by which the node notices a lost gateway other than by a connect of its own that failed.

    `active`: the type of the checks; empty: none, then only `max_fails` and `fail_timeout` of the endpoints are at work. `rest`: how long an
    ejected endpoint stays away. `patient`: no deadline that a slow machine might miss.
    """
    if not active:
        return {}
    # A gateway that hangs goes on taking connections: only an answer says that it is there.
    asked = {"port": ADMIN_PORT, "path": "/readyz"} if active == "http" else {}
    return {
        "health_check": {
            "type": active,
            **asked,
            "interval": "5s" if patient else "500ms",
            "timeout": "5s" if patient else "500ms",
            "fall": 2,
            "rise": 2,
        },
        "outlier_detection": {
            "consecutive_local_origin_failures": 1,
            "base_ejection_time": rest,
            "max_ejection_percent": 100,
        },
    }


def cluster(
    active: str,
    *,
    port: int = GATEWAY_PORT,
    rest: str | None = None,
    patient: bool = False,
    connect: dict | None = None,
) -> dict:
    """The four gateways as one cluster, as `detection` has it. `connect`: other limits; empty: Weir's own."""
    endpoints = [f"{address}:{port}" for address in GATEWAYS.values()]
    if connect is None:
        connect = {"timeout": "5s" if patient else "300ms", "attempts": 4, "total": "15s" if patient else "5s"}
    found = {"name": "gateways", "endpoints": endpoints, **detection(active, rest or "30s", patient)}
    if rest:
        found["endpoints"] = [{"address": address, "max_fails": 1, "fail_timeout": rest} for address in endpoints]
    if connect:
        found["connect"] = connect
    return found


def listener(name: str, address: tuple[str, int], routes: list[dict], **more) -> dict:
    return {"name": name, "address": f"{address[0]}:{address[1]}", "detect": "none", "routes": routes, **more}


def node(gateways: dict, workers: int = 2) -> dict:
    """The node's configuration: every connection goes to one of these gateways."""
    return {
        "listeners": [listener("egress", TO_GATEWAYS, [{"to": {"cluster": gateways["name"]}}])],
        "clusters": [gateways],
        "workers": workers,
    }


class Probes(Process):
    """The probe tool at work on the client; `finish` ends it and returns what it saw."""

    def __init__(self, lab: "Lab", endpoint: tuple[str, int], *, patience: float, name: str | None = None):
        words = [f"{endpoint[0]}:{endpoint[1]}", "--patience", str(patience), *(["--name", name] if name else [])]
        super().__init__(lab.program(lab.client, "probes.py", *words), lab.directory, f"probes-{next(_numbers)}")
        self.patience = patience
        eventually(lambda: self.done(), 20, "the first probe")

    def done(self) -> list[Exchange]:
        """Those that have ended, by their ends."""
        lines = self.stdout_path.read_text().split("\n")[:-1]
        return [Exchange(*json.loads(line)) for line in lines]

    def finish(self) -> list[Exchange]:
        self.send(signal.SIGTERM)
        if self.wait(self.patience + 20) != 0:
            raise AssertionError(f"the probes ended badly: {self.stderr_path.read_text()}")
        return self.done()


class Lab:
    """Everything but the node's Weir, which each story starts with a configuration of its own."""

    def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack, *, active: bool, plain: bool = False):
        """`stack` takes it all down. `active`: `detection`. `plain`: gateways answer themselves, without a Weir."""
        self.directory, self.plain = directory, plain
        self.active = ("tcp" if plain else "http") if active else ""
        self._dropped: set[int] = set()
        self._gateways: dict[int, Process] = {}
        self._started: list[Process] = []
        mark = f"{os.getpid():x}-{next(_numbers)}"
        switch = self.switch = Switch(f"lab{mark}")
        stack.callback(switch.stop)

        def host(name: str, address: str) -> Namespace:
            return switch.host(f"{name}-{mark}", address)

        self.client, self.node_host = host("cli", CLIENT), host("nod", NODE)
        self.node_port = f"nod-{mark}"
        self.origin_host, self.names_host = host("org", ORIGIN), host("dns", NAMES)
        self.hosts = {number: host(f"gw{number}", address) for number, address in GATEWAYS.items()}
        stack.callback(self._stop_all)
        self._answerer(self.origin_host, ORIGIN, ORIGIN_PORT, "peer")
        for number in GATEWAYS:
            self.start_gateway(number)

    def program(self, host: Namespace, file: str, *words: str) -> list[str]:
        """The command line of one of the lab's own programs on `host`; it ends when we do."""
        return host.inside("setpriv", "--pdeathsig", "KILL", sys.executable, str(HERE / file), *words)

    def _answerer(self, host: Namespace, address: str, port: int, named: str) -> Process:
        words = [f"{address}:{port}", named]
        command = self.program(host, "answerer.py", *words)
        process = Process(command, self.directory, f"answerer-{next(_numbers)}")
        self._started.append(process)

        def ready():
            assert process.is_running(), process.output()
            return listens(port, process)

        eventually(ready, 20, f"{words} listens")
        return process

    def weir(self, host: Namespace, document: dict, ports: list[int], **options) -> WeirElsewhere:
        """Weir on `host`, stopped by whoever asked for it."""
        number = next(_numbers)
        path = self.directory / f"weir-{number}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        prefix = ["setpriv", "--pdeathsig", "KILL"]
        return WeirElsewhere(host, self.directory, [path], ports, name=f"weir-{number}", prefix=prefix, **options)

    # Gateways

    def start_gateway(self, number: int) -> None:
        address, host = GATEWAYS[number], self.hosts[number]
        self._until_nobody_listens(number)
        if self.plain:
            self._gateways[number] = self._answerer(host, address, GATEWAY_PORT, "self")
            return
        ways = {"answers": (GATEWAY_PORT, ORIGIN_PORT), "streams": (GATEWAY_STREAMS_PORT, STREAMS_PORT)}
        document = {
            "listeners": [
                listener(name, (address, here), [{"to": {"cluster": name}}]) for name, (here, _) in ways.items()
            ],
            "clusters": [
                # The origin is not what is looked at: it is tried again and again, and never rests.
                {
                    "name": name,
                    "endpoints": [{"address": f"{ORIGIN}:{there}", "max_fails": 0}],
                    "connect": {"timeout": "5s", "total": "15s"},
                }
                for name, (_, there) in ways.items()
            ],
            "admin": {"address": f"0.0.0.0:{ADMIN_PORT}"},
            "workers": 1,
        }
        ports = [here for here, _ in ways.values()]
        self._gateways[number] = self.weir(host, document, ports, admin_port=ADMIN_PORT)
        self._started.append(self._gateways[number])

    def kill_gateway(self, number: int) -> None:
        """Returns when it is gone, and with it the last socket that listened for it."""
        gateway = self._gateways[number]
        gateway.send(signal.SIGKILL)
        gateway.wait(20)
        self._until_nobody_listens(number)

    def _until_nobody_listens(self, number: int) -> None:
        """A ring's sockets outlive their process by a moment: the kernel takes the ring down on a thread of its own."""
        eventually(lambda: not listens(GATEWAY_PORT, self.hosts[number]), 20, f"gw{number} has ended")

    def stop_gateway(self, number: int) -> None:
        self._gateways[number].send(signal.SIGSTOP)

    def continue_gateway(self, number: int) -> None:
        self._gateways[number].send(signal.SIGCONT)

    # The network

    def drop(self, *numbers: int) -> None:
        """No packet gets to these gateways, in addition to earlier ones, and none comes from them."""
        self._dropped |= set(numbers)
        addresses = [GATEWAYS[number] for number in self._dropped]
        self.switch.rules(*(f"ip {side} {address} drop" for address in addresses for side in ("daddr", "saddr")))

    def drop_names(self) -> None:
        """No packet gets to a name server."""
        self.switch.rules("udp dport 53 drop", "tcp dport 53 drop")

    def pass_all(self) -> None:
        self._dropped.clear()
        self.switch.rules()

    # The node

    @contextlib.contextmanager
    def node(self, document: dict):
        """The node's Weir for as long as the `with` lasts; afterwards the network is as it was."""
        ports = [int(entry["address"].rpartition(":")[2]) for entry in document["listeners"]]
        process = self.weir(self.node_host, document, ports)
        try:
            yield process
        finally:
            process.stop(signal.SIGINT)
            self.pass_all()

    @contextlib.contextmanager
    def probing(self, endpoint: tuple[str, int] = TO_GATEWAYS, *, patience: float, name: str | None = None):
        process = Probes(self, endpoint, patience=patience, name=name)
        try:
            yield process
        finally:
            process.stop(signal.SIGKILL)

    @contextlib.contextmanager
    def name_server(self):
        with self.names_host.entered():
            server = NameServer(53, address=NAMES)
        try:
            yield server
        finally:
            server.stop()

    def _stop_all(self) -> None:
        for process in self._started:
            process.stop(signal.SIGKILL)  # which ends a stopped one, too
