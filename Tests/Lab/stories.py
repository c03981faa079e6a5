"""The stories of the lab: each does one thing to the world, looks at what clients meet, and holds it to a bound.

A story is `story(lab, pace)` and returns an `Outcome`; `STORIES` has them by name, in the order of a whole run.
"""

import asyncio
import contextlib
import dataclasses
import re
import socket
import statistics
import struct
import subprocess
import time

import exchange
import topology

from harness import wire
from harness.conversations import Conversations, in_turn, listening
from harness.endpoints import FIN, RST, Origin, connect, read_exactly, read_to_end, reset
from topology import GATEWAYS, NODE, ORIGIN, TO_GATEWAYS, TO_NAMES, Lab
from verdicts import Marks, Outcome, failures, figures, served, spread

CILIUM = "Cilium EE HA egress gateway, 1 s checks"


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long and how often."""

    # Of each story that has no number of its own below.
    runs: int | None = None
    # Seconds of probing before the fault, with it, and after it.
    before: float = 1.0
    during: float = 4.0
    after: float = 1.0
    # Seconds after which a probe is given up: longer than the gap that is promised.
    patience: float = 2.0
    # Exchanges of a phase that is counted.
    counted: int = 120
    streams: int = 2000
    latencies: int = 200
    # Stories that need no deadline of the node's get long ones, so that a slow machine decides nothing.
    patient: bool = False

    def count(self, default: int) -> int:
        return self.runs or default


# For the suite of tests, where a slow machine may not decide: once, and nothing is given up that still comes.
SHORT = Pace(1, 0.5, 1.5, 0.3, patience=10, counted=60, streams=300, latencies=40, patient=True)


def asked(
    lab: Lab, count: int, endpoint=TO_GATEWAYS, *, patience: float = 20, at_once: int = 1, hellos: list[bytes] = ()
) -> list[exchange.Exchange]:
    """Exchanges from the client, one after the other or so many at once."""
    found = []

    async def one(number: int) -> None:
        hello = hellos[number] if hellos else b""
        found.append(await exchange.exchanged(endpoint, patience, hello=hello))

    with lab.client.entered():
        asyncio.run(in_turn(count, at_once, one))
    return found


# P-01, P-02: gateways are lost ----------------------------------------------------------------------


def lost(lab: Lab, pace: Pace, harm, mend=None, *, gateways: dict | None = None) -> dict:
    """One run: probes, `harm()`, `mend()`; the node is a fresh one. `gateways`: its cluster, if another."""
    with lab.node(topology.node(gateways or topology.cluster(lab.active))):
        with lab.probing(patience=pace.patience) as probes:
            begin = time.monotonic()
            time.sleep(pace.before)
            before_fault = time.monotonic()
            harm()
            fault = time.monotonic()
            time.sleep(pace.during)
            lifted = time.monotonic()
            lab.pass_all()
            if mend:
                mend()
            time.sleep(pace.after)
            end = time.monotonic()
            return figures(probes.finish(), Marks(begin, before_fault, fault, lifted, end))


def _total(runs: list[dict], name: str) -> int:
    return sum(run[name] for run in runs)


def _victims(count: int):
    """A gateway for each run, each in its turn."""
    return (1 + number % len(GATEWAYS) for number in range(count))


def _gaps(key: str, id: str, promise: str, seconds: float, peers: str, runs: list[dict]) -> Outcome:
    """Judged by the longest gap of each run."""
    gaps = [run["longest_gap_s"] for run in runs]
    for run in runs:
        run["held"] = run["longest_gap_s"] <= seconds
    failed, probes = _total(runs, "failed"), _total(runs, "probes")
    failing, slowest = (max(run[name] for run in runs) for name in ("failing_for_s", "slowest_s"))
    measured = f"gap {spread(gaps)}; {failed} of {probes} failed, for {failing:.2f} s; slowest good one {slowest:.2f} s"
    held = all(run["held"] for run in runs)
    return Outcome(key, id, f"{promise}, {len(runs)} runs", f"gap <= {seconds:g} s", measured, peers, held, runs)


def killed(lab: Lab, pace: Pace) -> Outcome:
    """P-01: one of four gateways is killed."""
    runs = []
    for victim in _victims(pace.count(20)):

        def harm(victim=victim):
            lab.kill_gateway(victim)

        def mend(victim=victim):
            lab.start_gateway(victim)

        try:
            run = lost(lab, pace, harm, mend, gateways=topology.cluster(lab.active, patient=pace.patient))
        except BaseException:
            with contextlib.suppress(AssertionError):
                mend()
            raise
        run["held"] = run["failed"] == run["failed_under_way"]
        runs.append(run | {"victim": victim})
    cut, probes = _total(runs, "failed_under_way"), _total(runs, "probes")
    failed = _total(runs, "failed") - cut
    gaps = [run["longest_gap_s"] for run in runs]
    measured = f"gap {spread(gaps)}; {failed} of {probes} failed, and {cut} that the victim held"
    held = all(run["held"] for run in runs)
    return Outcome(
        "killed",
        "P-01",
        f"one of 4 gateways killed, {len(runs)} runs",
        "0 failed",
        measured,
        f"{CILIUM}: <= 3 s",
        held,
        runs,
    )


def black_holed(lab: Lab, pace: Pace) -> Outcome:
    """P-01: nothing comes from one of four gateways any more, nor gets there."""
    runs = []
    for victim in _victims(pace.count(20)):
        runs.append(lost(lab, pace, lambda victim=victim: lab.drop(victim)) | {"victim": victim})
    return _gaps("black-holed", "P-01", "one of 4 gateways black-holed", 1.5, f"{CILIUM}: <= 3 s", runs)


def stopped(lab: Lab, pace: Pace) -> Outcome:
    """P-01: one of four gateways hangs (SIGSTOP); its kernel goes on taking connections."""
    runs = []
    for victim in _victims(pace.count(20)):

        def harm(victim=victim):
            lab.stop_gateway(victim)

        def mend(victim=victim):
            lab.continue_gateway(victim)

        try:
            runs.append(lost(lab, pace, harm, mend) | {"victim": victim})
        finally:
            mend()
    return _gaps("stopped", "P-01", "one of 4 gateways stopped", 1.5, f"{CILIUM}: <= 3 s", runs)


def three_together(lab: Lab, pace: Pace) -> Outcome:
    """P-02: three of four are black-holed at the same time."""
    runs = []
    for spared in _victims(pace.count(10)):
        victims = [number for number in GATEWAYS if number != spared]
        runs.append(lost(lab, pace, lambda victims=victims: lab.drop(*victims)) | {"victims": victims})
    return _gaps("three-together", "P-02", "three of 4 black-holed together", 1.5, f"{CILIUM}: <= 3 s", runs)


def three_in_batches(lab: Lab, pace: Pace) -> Outcome:
    """P-02: three of four are black-holed, one every 2 s."""
    runs = []
    for spared in _victims(pace.count(10)):
        victims = [number for number in GATEWAYS if number != spared]

        def harm(victims=victims):
            for number in victims:
                lab.drop(number)
                if number != victims[-1]:
                    time.sleep(2)

        runs.append(lost(lab, pace, harm) | {"victims": victims})
    return _gaps("three-in-batches", "P-02", "three of 4, one every 2 s", 3, f"{CILIUM}: <= 6 s", runs)


# P-04, P-06: what one connection meets ----------------------------------------------------------------


_REFUSE = """table inet lab {{
    chain in {{
        type filter hook input priority 0
        tcp dport {port} tcp flags & (syn | ack) == syn counter reject with tcp reset
    }}
}}
"""


@contextlib.contextmanager
def refusing(lab: Lab, number: int):
    """The gateway's host refuses connections. Yields a function that says how many it has refused so far."""
    host = lab.hosts[number]
    rules = _REFUSE.format(port=topology.GATEWAY_PORT)
    subprocess.run(host.inside("nft", "-f", "-"), input=rules, text=True, check=True)

    def count() -> int:
        return int(re.search(r"counter packets (\d+)", host.run("nft", "list", "table", "inet", "lab"))[1])

    try:
        yield count
    finally:
        host.run("nft", "delete", "table", "inet", "lab")


def refuses(lab: Lab, pace: Pace) -> Outcome:
    """P-04: an endpoint refuses; the connection that learns of it goes on to the next, and no other one tries it."""
    runs = []
    for victim, workers in zip(_victims(2 * pace.count(2)), (1, 2) * pace.count(2)):
        gateways = topology.cluster(lab.active, rest="60s", patient=True)
        gateways.pop("health_check", None)  # whose connects would be counted, too
        with lab.node(topology.node(gateways, workers)), refusing(lab, victim) as refused:
            exchanges = asked(lab, pace.counted)
            run = {
                "workers": workers,
                "exchanges": len(exchanges),
                "failed": sum(not one.is_good for one in exchanges),
                "connects_refused": refused(),
                "served": served(exchanges),
            }
        # Each worker may have to find out by itself.
        run["held"] = run["failed"] == 0 and 1 <= run["connects_refused"] <= workers
        runs.append(run)
    found = {f"{run['connects_refused']} on {run['workers']}" for run in runs}
    failed, count = _total(runs, "failed"), _total(runs, "exchanges")
    measured = f"connects refused: {', '.join(sorted(found))} worker(s); {failed} of {count} clients failed"
    return Outcome(
        "refuses",
        "P-04",
        f"an endpoint refuses, {len(runs)} runs",
        "1 connect per worker",
        measured,
        "nginx: max_fails=1, then 10 s",
        all(run["held"] for run in runs),
        runs,
    )


def all_black_holed(lab: Lab, pace: Pace) -> Outcome:
    """P-06: all four are black-holed: when is the client told?"""
    runs = []
    for _ in range(pace.count(2)):
        for name, limits, count in (("4 x 300 ms", None, 2), ("the defaults", {}, 1)):
            with lab.node(topology.node(topology.cluster(lab.active, connect=limits))):
                good = asked(lab, 4)
                lab.drop(*GATEWAYS)
                found = asked(lab, count)
                runs.append(
                    {
                        "connect": name,
                        "good_before": sum(one.is_good for one in good),
                        "seconds": [round(one.seconds, 3) for one in found],
                        "reasons": failures(found),
                        # A quarter of a second for the machine.
                        "held": all(not one.is_good and one.seconds <= 5.25 for one in found),
                    }
                )
    worst = {
        name: max(seconds for run in runs if run["connect"] == name for seconds in run["seconds"])
        for name in ("4 x 300 ms", "the defaults")
    }
    measured = "error after " + ", ".join(f"{seconds:.2f} s at worst with {name}" for name, seconds in worst.items())
    peers = "linkerd: 3 s (failfast)"
    held = all(run["held"] for run in runs)
    return Outcome("all-black-holed", "P-06", "all 4 gateways black-holed", "error <= 5 s", measured, peers, held, runs)


# P-19: names ------------------------------------------------------------------------------------------


def _named(lab: Lab, pace: Pace) -> dict:
    """The node, with a listener to whatever name a hello asks for beside the one to the gateways."""
    document = topology.node(topology.cluster(lab.active, patient=pace.patient))
    to_name = {"server_name": {"port": topology.ORIGIN_PORT}}
    named = topology.listener("names", TO_NAMES, [{"match": {"server_names": ["*"]}, "to": to_name}])
    del named["detect"]  # as it comes: hellos are read
    document["listeners"].append(named)
    document["destinations"] = {"allow": [topology.BLOCK]}
    document["resolver"] = {
        "servers": [f"{topology.NAMES}:53"],
        "ttl": {"min": "500ms", "max": "1s"},
        "stale": "60s",
        "timeout": "1500ms",
        "families": "v4",
    }
    return document


def _without_names(lab: Lab, pace: Pace, how: str) -> dict:
    new = [wire.hello(f"new-{number}.lab.test".encode()) for number in range(10)]
    with lab.name_server() as names, lab.node(_named(lab, pace)):
        names.set("known.lab.test", ORIGIN, ttl=1)
        for number in range(len(new)):
            names.set(f"new-{number}.lab.test", ORIGIN)
        with (
            lab.probing(TO_NAMES, patience=pace.patience, name="known.lab.test") as known,
            lab.probing(patience=pace.patience) as others,
        ):
            time.sleep(pace.before)
            if how == "dropped":
                lab.drop_names()
            else:
                names.stop()
            time.sleep(1.2)  # past the TTL of what is known
            unknown = asked(lab, len(new), TO_NAMES, at_once=len(new), hellos=new)
            time.sleep(pace.during)
            lab.pass_all()
            if how != "dropped":
                with lab.names_host.entered():
                    names.resume()
            known, others = known.finish(), others.finish()
        # A name that could not be resolved is asked for again at once, or soon.
        back = asked(lab, 1, TO_NAMES, hellos=new)[0]
        run = {
            "how": how,
            "known": len(known),
            "known_failed": failures(known),
            "others": len(others),
            "others_failed": failures(others),
            "new": len(unknown),
            "new_served": sum(one.is_good for one in unknown),
            "new_seconds": [round(one.seconds, 3) for one in unknown],
            "new_after": back.reason or "served",
        }
    told = not run["new_served"] and max(run["new_seconds"]) <= 2
    run["held"] = told and not run["known_failed"] and not run["others_failed"]
    return run


def _names(lab: Lab, pace: Pace, how: str, title: str) -> Outcome:
    runs = [_without_names(lab, pace, how) for _ in range(pace.count(3))]
    slow = max(max(run["new_seconds"]) for run in runs)
    known, others = _total(runs, "known"), _total(runs, "others")
    failed, others_failed = (sum(sum(run[name].values()) for run in runs) for name in ("known_failed", "others_failed"))
    measured = (
        f"{failed} of {known} known and {others_failed} of {others} others failed; new ones told after {slow:.2f} s"
    )
    bound = "0 failed; new <= 2 s"
    held = all(run["held"] for run in runs)
    return Outcome(f"names-{how}", "P-19", f"{title}, {len(runs)} runs", bound, measured, "", held, runs)


def names_dropped(lab: Lab, pace: Pace) -> Outcome:
    """P-19: nothing gets to the name server."""
    return _names(lab, pace, "dropped", "port 53 dropped")


def names_stopped(lab: Lab, pace: Pace) -> Outcome:
    """P-19: the name server has ended, and its host says so."""
    return _names(lab, pace, "stopped", "name server stopped")


# P-20: loss -------------------------------------------------------------------------------------------


async def _converse(lab: Lab, pace: Pace, conversations: Conversations) -> tuple[float, int]:
    """All streams, under loss; returns the seconds that they took and the segments that were lost."""
    if lab.plain:
        origins = [
            (lab.hosts[number], (address, topology.GATEWAY_STREAMS_PORT)) for number, address in GATEWAYS.items()
        ]
    else:
        origins = [(lab.origin_host, (ORIGIN, topology.STREAMS_PORT))]
    accepting = []
    for host, endpoint in origins:
        with host.entered():
            accepting.append(await listening(endpoint, conversations.serve))

    async def one(number: int) -> None:
        await conversations.one(lab.client, TO_GATEWAYS, number, patience=60)

    lab.switch.lose(5, lab.node_port)
    started = time.monotonic()
    await in_turn(pace.streams, 300, one)
    seconds, segments = time.monotonic() - started, lab.switch.lost_count()
    lab.pass_all()
    for task in accepting:
        task.cancel()
    await asyncio.gather(*accepting, return_exceptions=True)
    return seconds, segments


def _with_loss(lab: Lab, pace: Pace, seed: int) -> dict:
    gateways = topology.cluster(lab.active, port=topology.GATEWAY_STREAMS_PORT, patient=pace.patient)
    document = topology.node(gateways)
    document["listeners"][0]["timeouts"] = {"preamble": "30s"}
    conversations = Conversations(seed)
    with lab.node(document):
        seconds, segments = asyncio.run(_converse(lab, pace, conversations))
    return {
        "streams": pace.streams,
        "corrupted": conversations.corrupted,
        "outcomes": dict(conversations.outcomes),
        "segments_lost": segments,
        "seconds": round(seconds, 1),
        "held": not conversations.corrupted and conversations.outcomes["whole"] > 0 and segments > 0,
    }


def loss(lab: Lab, pace: Pace) -> Outcome:
    """P-20: 5 % of all segments to and from the node are lost; every byte of every stream is checked."""
    runs = [_with_loss(lab, pace, 20 + number) for number in range(pace.count(1))]
    wrong = sum(len(run["corrupted"]) for run in runs)
    whole = sum(run["outcomes"].get("whole", 0) for run in runs)
    count, segments = _total(runs, "streams"), _total(runs, "segments_lost")
    seconds = max(run["seconds"] for run in runs)
    measured = f"{wrong} corrupted of {count}; {whole} whole; {segments} segments lost; {seconds:.0f} s"
    held = all(run["held"] for run in runs)
    return Outcome("loss", "P-20", "5 % lost both ways", "0 corrupted", measured, "", held, runs)


# S1-5: balance ----------------------------------------------------------------------------------------


def unevenness(counts: dict[str, int], names: list[str]) -> int:
    """What lies between the gateway that served most and the one that served least."""
    return max(counts.get(name, 0) for name in names) - min(counts.get(name, 0) for name in names)


# Seconds that an endpoint rests.
_REST = 2


def _shares(lab: Lab, pace: Pace, victim: int, workers: int) -> dict:
    """What each gateway serves before, during and after the loss of one."""
    everyone = [f"gw{number}" for number in GATEWAYS]
    gateways = topology.cluster(lab.active, rest=f"{_REST}s", patient=True)
    with lab.node(topology.node(gateways, workers)):
        if lab.active:
            time.sleep(1.5)  # until the checks have passed
        before = served(asked(lab, pace.counted))
        lab.kill_gateway(victim)
        try:
            # Each worker finds out by a connect of its own, which counts for the one that takes it over.
            started = time.monotonic()
            learned = asked(lab, 32 * workers)
            during = served(asked(lab, pace.counted))
            # And again after each rest, which only a slow machine comes to.
            relearned = workers * int((time.monotonic() - started) / _REST)
        finally:
            lab.start_gateway(victim)
        returned = _until_back(lab, f"gw{victim}", workers)
        after = served(asked(lab, pace.counted))
    failed = 3 * pace.counted - sum(sum(phase.values()) for phase in (before, during, after))
    failed += sum(not one.is_good for one in learned)
    rest = [name for name in everyone if name != f"gw{victim}"]
    uneven = [unevenness(before, everyone), unevenness(during, rest), unevenness(after, everyone)]
    return {
        "victim": victim,
        "workers": workers,
        "before": before,
        "during": during,
        "after": after,
        "failed": failed,
        "seconds_to_return": round(returned, 1),
        "uneven_by": uneven,
        "held": failed == 0 and max(uneven) <= workers + relearned,
    }


def balance(lab: Lab, pace: Pace) -> Outcome:
    """S1-5: how four gateways share before one is killed, while it is gone, and once it is back."""
    count = pace.count(2)
    runs = [_shares(lab, pace, *pair) for pair in zip(_victims(2 * count), (1, 2) * count)]
    worst = {
        workers: [max(run["uneven_by"][phase] for run in runs if run["workers"] == workers) for phase in range(3)]
        for workers in (1, 2)
    }
    shares = "; ".join(f"{workers} worker(s) {'/'.join(map(str, found))}" for workers, found in worst.items())
    return Outcome(
        "balance",
        "S1-5",
        f"shares before/during/after a kill, {len(runs)} runs",
        "most - least <= 1 per worker",
        f"{shares}; {_total(runs, 'failed')} failed",
        f"{CILIUM}: round robin",
        all(run["held"] for run in runs),
        runs,
    )


def _until_back(lab: Lab, name: str, workers: int) -> float:
    """Seconds until every worker uses the gateway again; asks as often as it takes."""
    started = time.monotonic()
    while time.monotonic() < started + 60:
        counts = served(asked(lab, 24 * workers))
        if counts.get(name, 0) >= 5 * workers:
            return time.monotonic() - started
        time.sleep(0.2)
    raise AssertionError(f"{name} does not come back: {counts}")


# S4-3: cascade ----------------------------------------------------------------------------------------

_HOP_PORT, _LAST_PORT, _DIRECT_PORT = 8443, 7002, 7003


def _hops(lab: Lab) -> list[tuple]:
    """Host, listening address and next address of each hop."""
    places = [(lab.node_host, NODE), (lab.hosts[1], GATEWAYS[1]), (lab.hosts[2], GATEWAYS[2])]
    following = [(GATEWAYS[1], _HOP_PORT), (GATEWAYS[2], _HOP_PORT), (ORIGIN, _LAST_PORT)]
    return [(host, (address, _HOP_PORT), to) for (host, address), to in zip(places, following)]


@contextlib.contextmanager
def _cascade(lab: Lab):
    """Client, three Weirs, origin; a PROXY v2 header before every hop but the first."""
    with contextlib.ExitStack() as stack:
        previous = None
        for host, here, to in _hops(lab):
            entry = topology.listener("hop", here, [{"to": {"cluster": "next"}}])
            if previous:
                entry["accept_proxy"] = {"from": [previous]}
            following = {"name": "next", "endpoints": [f"{to[0]}:{to[1]}"], "send_proxy": "v2"}
            following["connect"] = {"timeout": "5s", "total": "15s"}
            document = {"listeners": [entry], "clusters": [following], "workers": 1}
            stack.callback(lab.weir(host, document, [_HOP_PORT]).stop)
            previous = here[0]
        yield


def _headed(seen) -> tuple[str, int]:
    """Takes a PROXY v2 header off what comes; returns the client that it names."""
    header = read_exactly(seen.connection, 16)
    body = read_exactly(seen.connection, struct.unpack("!H", header[14:])[0])
    if header[:14] != wire.SIGNATURE + bytes([wire.PROXY, wire.TCP4]):
        raise OSError(f"not the header of a TCP4 client: {header.hex()}")
    return socket.inet_ntoa(body[:4]), struct.unpack("!H", body[8:10])[0]


def _behave(seen) -> None:
    """The origin's side; the client's first four bytes say what it is to do."""
    word = read_exactly(seen.connection, 4)
    if word == b"ping":
        seen.connection.sendall(b"pong")
    elif word == b"half":
        seen.read_all()
        seen.connection.sendall(bytes(seen.received)[::-1])
    elif word == b"rst?":
        seen.connection.sendall(b"now!")
        seen.read_all()
    elif word == b"rst!":
        reset(seen.connection)


def cascade(lab: Lab, pace: Pace) -> Outcome:
    """S4-3: three Weirs one behind the other: the client's address, half-closes and resets come through all of them."""

    def last(seen):
        seen.client = _headed(seen)
        _behave(seen)

    with contextlib.ExitStack() as stack:
        with lab.origin_host.entered():
            origin = Origin(last, address=ORIGIN, port=_LAST_PORT)
            direct = Origin(_behave, address=ORIGIN, port=_DIRECT_PORT)
        stack.callback(origin.stop)
        stack.callback(direct.stop)
        stack.enter_context(_cascade(lab))
        stack.enter_context(lab.client.entered())
        run = {
            "address_kept": _address_kept(origin),
            "half_close_kept": _half_close_kept(),
            "client_reset_kept": _client_reset_kept(origin),
            "origin_reset_kept": _origin_reset_kept(),
            **_latencies(pace.latencies, origin, direct),
        }
    run["held"] = all(run[name] for name in run if name.endswith("_kept"))
    kept = sum(run[name] for name in run if name.endswith("_kept"))
    medians = f"{run['cascade_ms']:.2f} ms, direct {run['direct_ms']:.2f} ms (medians of {pace.latencies})"
    measured = f"{kept} of 4; exchange {medians}"
    return Outcome(
        "cascade",
        "S4-3",
        "three hops: address, half-close, RST both ways",
        "all 4 kept",
        measured,
        "",
        run["held"],
        [run],
    )


_FIRST_HOP = (NODE, _HOP_PORT)


def _opened(word: bytes) -> socket.socket:
    client = connect(_FIRST_HOP, seconds=20)
    client.sendall(word)
    return client


def _address_kept(origin: Origin) -> bool:
    origin.forget()
    with _opened(b"ping") as client:
        answer = read_exactly(client, 4)
        return answer == b"pong" and origin.seen[0].client == client.getsockname()


def _half_close_kept() -> bool:
    with _opened(b"half") as client:
        client.sendall(b"stressed")
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client, seconds=20) == (b"desserts", FIN)


def _client_reset_kept(origin: Origin) -> bool:
    origin.forget()
    client = _opened(b"rst?")
    read_exactly(client, 4)  # the whole way is open
    reset(client)
    return origin.seen[0].done.wait(20) and origin.seen[0].end == RST


def _origin_reset_kept() -> bool:
    with _opened(b"rst!") as client:
        return read_to_end(client, seconds=20) == (b"", RST)


def _latencies(count: int, origin: Origin, direct: Origin) -> dict:
    """Medians of whole exchanges, connect to answer; the two ways in turn, so that both meet the same machine."""
    took = {_FIRST_HOP: [], direct.endpoint: []}
    for _ in range(count):
        for endpoint, found in took.items():
            started = time.perf_counter()
            with connect(endpoint, seconds=20) as client:
                client.sendall(b"ping")
                if read_exactly(client, 4) != b"pong":
                    raise AssertionError("another answer")
                found.append(time.perf_counter() - started)
    origin.forget()
    direct.forget()
    through, straight = (statistics.median(found) * 1000 for found in took.values())
    return {"cascade_ms": round(through, 3), "direct_ms": round(straight, 3), "added_ms": round(through - straight, 3)}


STORIES = {
    "killed": killed,
    "black-holed": black_holed,
    "stopped": stopped,
    "three-together": three_together,
    "three-in-batches": three_in_batches,
    "refuses": refuses,
    "all-black-holed": all_black_holed,
    "names-dropped": names_dropped,
    "names-stopped": names_stopped,
    "loss": loss,
    "balance": balance,
    "cascade": cascade,
}


def id_of(story) -> str:
    return story.__doc__.partition(":")[0]
