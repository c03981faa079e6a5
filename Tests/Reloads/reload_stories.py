"""What happens during many reloads, told twice: under load with a small file, and with a file of many routes."""

import contextlib
import dataclasses
import json
import pathlib
import statistics
import subprocess
import time
from typing import NamedTuple

from harness import vocabulary
from harness.network import free_port
from harness.processes import eventually
from harness.weir import Metrics, Weir
from reload_traffic import Role

# Connections that the kernel gave up or reset: a full or vanished queue, and every segment with RST.
COUNTERS = (
    "TcpOutRsts",
    "TcpExtListenOverflows",
    "TcpExtListenDrops",
    "TcpExtTCPReqQFullDrop",
    "TcpExtTCPReqQFullDoCookies",
)
# After a write, before asking whether it is in force: most often it is by then, so one question is enough.
SOON = 0.025
DONE = "weir: configuration reloaded"
TAKEN_OVER = "weir_config_last_success_timestamp_seconds"
TOOK = "weir_config_last_reload_seconds"


@dataclasses.dataclass(frozen=True)
class Pace:
    """How much of everything; what is promised, unless said otherwise."""

    # P-07.
    reloads: int = 1000
    seconds_between: float = 0.1
    rate: float = 500
    idle: int = 500
    bulk: int = 50
    # P-09.
    routes: int = 10_000
    large_reloads: int = 10_000
    probe_rate: float = 50
    # Seconds of the same traffic without a reload, before and after.
    calm: float = 15


# For the black-box tests: a few seconds in all.
SHORT = Pace(
    reloads=30, seconds_between=0.05, rate=50, idle=20, bulk=4, routes=500, large_reloads=20, probe_rate=20, calm=0.5
)


class Row(NamedTuple):
    id: str
    promise: str
    aim: str
    measured: str
    # None: measured, not judged.
    held: bool | None


class Phases(NamedTuple):
    """Times on the clock of the traffic: its begin, the first reload, the end of the last, the end."""

    begin: float
    first: float
    last: float
    end: float


def paced(start: float, count: int, every: float):
    """So many moments, each when it comes."""
    for index in range(count):
        due = start + index * every
        time.sleep(max(0, due - time.monotonic()))
        yield due


def counters() -> dict[str, int]:
    """Of this network namespace."""
    done = subprocess.run(["nstat", "-asz", *COUNTERS], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    return {row[0]: int(row[1]) for row in rows}


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def latencies(id: str, what: str, samples: list[list[float]], phases: Phases) -> Row:
    """p99 before, during and after the reloads. Judged with room for a machine whose speed drifts."""
    found = []
    for start, end in ((phases.begin, phases.first), (phases.first, phases.last), (phases.last, phases.end)):
        found.append([seconds for due, seconds in samples if start <= due < end])
    before, during, after = (percentile(values, 0.99) for values in found)
    calm = max(before, after)
    texts = ", ".join(
        f"{milliseconds(percentile(values, 0.5))} / {milliseconds(percentile(values, 0.99))}" for values in found
    )
    promise = f"{what}: p50 / p99 before, during, after"
    return Row(id, promise, "p99 as without", texts, during <= 1.5 * calm + 0.001)


def visible(id: str, delays: list[float], what: str) -> Row:
    """From the last write until every worker used what was written."""
    found = (statistics.median(delays), percentile(delays, 0.99), max(delays))
    text = ", ".join(map(milliseconds, found))
    promise = f"{what}: from the last write to all workers, p50, p99, most of {len(delays)}"
    return Row(id, promise, "<= 100 ms", text, percentile(delays, 0.99) <= 0.1)


def document(listen: int, origin: list, *, number: int, routes: int = 0, other: int | None = None) -> str:
    """A configuration; `number` changes a route of the listener that everybody uses."""
    _, port = origin
    target = {"cluster": "origin"}
    listener = {
        "name": "main",
        "address": f"127.0.0.1:{listen}",
        "routes": [
            *({"match": {"server_names": [f"host-{index}.test"]}, "to": target} for index in range(routes)),
            {"name": f"round {number}", "match": {"server_names": [f"round-{number}.test"]}, "deny": "close"},
            {"name": "main", "match": {"server_names": ["main.test"]}, "to": target},
        ],
    }
    listeners = [listener]
    if other:
        address = f"127.0.0.1:{other}"
        listeners.append({"name": "other", "address": address, "detect": "none", "routes": [{"to": target}]})
    cluster = {"name": "origin", "endpoints": [f"127.0.0.{index}:{port}" for index in range(1, 9)]}
    return json.dumps(
        {"listeners": listeners, "clusters": [cluster], "workers": 2, "log": {"access": "off"}}, separators=(",", ":")
    )


def swap(path: pathlib.Path, content: str) -> float:
    """Replaces the file by a rename; when that was, by the wall clock."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(content)
    new.rename(path)
    return time.time()


def started(stack: contextlib.ExitStack, *arguments: object) -> Role:
    """A role that ends with the stack."""
    role = Role(*arguments)
    stack.callback(role.stop)
    return role


def failures(*found: dict) -> dict[str, int]:
    """Everything but success, of all roles."""
    return {
        key: count
        for one in found
        for key, count in one["outcomes"].items()
        if key != "ok" and not key.endswith(": ok")
    }


def under_load(directory: pathlib.Path, pace: Pace) -> list[Row]:
    """P-07: many reloads, one every 100 ms, under new, idle and long connections."""
    with contextlib.ExitStack() as stack:
        origin = started(stack, "origin", "0.0.0.0:0").ready
        port, other = free_port(), free_port()
        file = directory / "under-load.yaml"
        file.write_text(document(port, origin, number=0, other=other))
        process = Weir(directory, [file], [port, other], name="under-load")
        stack.callback(process.stop)
        before = counters()
        held = started(stack, "held", f"127.0.0.1:{port}", pace.idle, pace.bulk)
        assert held.ready, "the idle and long connections did not come about"
        load = started(stack, "load", f"127.0.0.1:{port}", pace.rate)

        def calm() -> None:
            """All that is done around a reload, but for the reload: this machine's cores are few."""
            for _ in paced(time.monotonic(), round(pace.calm / pace.seconds_between), pace.seconds_between):
                swap(directory / "elsewhere.yaml", document(port, origin, number=0, other=other))
                time.sleep(SOON)
                reloaded(process, 0)

        begin = time.monotonic()
        calm()
        first, delays, late = time.monotonic(), [], 0
        for number, due in enumerate(paced(first, pace.reloads, pace.seconds_between), 1):
            late = max(late, time.monotonic() - due)
            written = swap(file, document(port, origin, number=number, other=other if number % 5 else None))
            time.sleep(SOON)
            metrics: Metrics = eventually(lambda n=number: reloaded(process, n), 10, f"reload {number}")
            delays.append(metrics.sum(TAKEN_OVER) - written)
        last = time.monotonic()
        calm()
        found = [load.finish(), held.finish()]
        phases = Phases(begin, first, last, time.monotonic())
        process.expect_nothing_outstanding()
        after = counters()
        failed = process.reload_count("failed")
    change = {name: after[name] - before[name] for name in before if after[name] != before[name]}
    wrong = failures(*found)
    new, streamed = found[0]["outcomes"].get("ok", 0), found[1]["bytes"] >> 20
    story = f"{pace.reloads} reloads in {last - first:.0f} s"
    story += f"; {new} new connections, {pace.idle} idle, {streamed} MiB in {pace.bulk} streams"
    return [
        Row("P-07", f"{story}: refused, reset, closed, corrupted", "0", str(wrong or 0), not wrong),
        Row("P-07", "segments with RST, connections dropped from a queue", "0", str(change or 0), not change),
        Row("P-07", "reloads that failed", "0", f"{failed:.0f}", failed == 0),
        visible("P-07", delays, "small file"),
        latencies("P-07", "new connection and its answer", found[0]["opened"], phases),
        latencies("P-07", "request on a connection that stays", found[0]["asked"], phases),
        Row("P-07", "how late this tool was at worst", "", milliseconds(late), None),
    ]


def reloaded(process: Weir, number: int) -> Metrics | None:
    metrics = process.metrics()
    return metrics if metrics.sum(vocabulary.RELOADS, result="ok") >= number else None


def large_file(directory: pathlib.Path, pace: Pace) -> list[Row]:
    """P-09: a file of many routes, reloaded again and again."""
    with contextlib.ExitStack() as stack:
        origin = started(stack, "origin", "0.0.0.0:0").ready
        port = free_port()
        for number in (0, 1):
            (directory / f"large-{number}.yaml").write_text(document(port, origin, number=number, routes=pace.routes))
        link = directory / "large.yaml"
        link.symlink_to("large-0.yaml")
        process = Weir(directory, [link], [port], name="large")
        stack.callback(process.stop)
        load = started(stack, "load", f"127.0.0.1:{port}", pace.probe_rate)
        begin = time.monotonic()
        time.sleep(pace.calm)
        first, sizes, delays, times = time.monotonic(), [], [], []
        with open(process.stderr_path, "rb") as lines:
            for number in range(1, pace.large_reloads + 1):
                (directory / ".large.yaml").symlink_to(f"large-{number % 2}.yaml")
                (directory / ".large.yaml").rename(link)
                written = time.time()
                said = b""

                def done() -> bool:
                    nonlocal said
                    said += lines.read()
                    assert b"not reloaded" not in said, said
                    return DONE.encode() in said

                eventually(done, 60, f"reload {number}")
                sizes.append(process.resident_bytes())
                # The page has a line per route, so it is not asked for every time.
                if number % max(1, pace.large_reloads // 100) == 0:
                    metrics = process.metrics()
                    delays.append(metrics.sum(TAKEN_OVER) - written)
                    times.append(metrics.sum(TOOK))
        last = time.monotonic()
        time.sleep(pace.calm)
        found = load.finish()
        phases = Phases(begin, first, last, time.monotonic())
        process.expect_nothing_outstanding()
    tenth = max(1, len(sizes) // 10)
    early, late = statistics.median(sizes[tenth : 2 * tenth] or sizes), statistics.median(sizes[-tenth:])
    drift = late / early - 1
    wrong = failures(found)
    new = found["outcomes"].get("ok", 0)
    memory = f"{drift:+.2%} ({early / 1e6:.1f} to {late / 1e6:.1f} MB, most {max(sizes) / 1e6:.1f})"
    size = f"{pace.routes:,} routes"
    story = f"{pace.large_reloads} reloads of {size} in {last - first:.0f} s"
    whole = "reading, checking, compiling, until all workers use it, median"
    return [
        Row("P-09", f"{story}: drift of RSS from the second to the last tenth", "< 2 %", memory, drift < 0.02),
        Row("P-09", f"{new} new connections meanwhile: failed", "0", str(wrong or 0), not wrong),
        visible("P-09", delays, size),
        Row("P-09", f"{size}: {whole}", "", milliseconds(statistics.median(times)), None),
        latencies("P-09", "new connection and its answer", found["opened"], phases),
        latencies("P-09", "request on a connection that stays", found["asked"], phases),
    ]


STORIES = {"under-load": under_load, "large-file": large_file}


def id_of(story) -> str:
    return story.__doc__.partition(":")[0]
