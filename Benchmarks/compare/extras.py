"""Figures that no load's report holds: memory of idle connections, system calls, start, a second worker."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

from compare import machine, report, subjects
from compare.figures import Figure, cpu_seconds

IDLE_CONNECTIONS = 9000
ROUNDS = 3

RESIDENT = Figure("resident", "resident memory each", "bytes", lambda _: None, is_of_proxy=True)
KERNEL = Figure("kernel", "kernel memory each", "bytes", lambda _: None, is_of_proxy=True)
CALLS = Figure("calls", "system calls each", "", lambda _: None, is_of_proxy=True)
START = Figure("start", "start until it accepts", "ms", lambda _: None, is_of_proxy=True)
HERD_PROCESSES = 11
HERD_CPU = Figure("cpu", "CPU of all while nothing is sent", "% of a core", lambda _: None, is_of_proxy=True)
HERD_SESSIONS = Figure("sessions", "sessions", "", lambda _: None, is_cost=False, is_of_proxy=True)
SECOND_WORKER = Figure("cpu2", "CPU each with two workers over one", "", lambda _: None, is_of_proxy=True)


def measure(bench, prefixes: tuple[str, ...]) -> list[report.Series]:
    proxies = [one for one in bench.subjects if not one.is_direct and not one.is_for_bulk]
    parts = {"idle": idle, "calls": calls, "start": start, "workers": workers, "herd": herd}
    found: list[report.Series] = []
    for key, part in parts.items():
        # The herd takes a minute and most of the memory: only where it is named.
        if key.startswith(prefixes) if prefixes else key != "herd":
            found += part(bench, proxies)
    return found


def idle(bench, proxies: list[subjects.Subject]) -> list[report.Series]:
    """A fresh process each time; the kernel's part is what the same herd costs beyond going to the origin directly."""
    resident: dict[str, list[float | None]] = {}
    kernel: dict[str, list[float | None]] = {}
    # Not all at once: what a burst of openings takes for a moment stays resident, and would be counted as theirs.
    words = ["messages", "--concurrency", str(IDLE_CONNECTIONS), "--rate", "0", "--open-rate", "2500"]
    for _ in range(ROUNDS):
        alone = _slab_of(lambda: bench.run_load(words, subjects.direct(), [], 1))
        for subject in proxies:
            running = subjects.Running(subject, bench.work, bench.proxy_core)
            try:
                pids = running.pids()
                reports: list[dict] = []

                def herd(subject=subject, pids=pids, reports=reports) -> None:
                    reports.append(bench.run_load(words, subject, pids, 1))

                through = _slab_of(herd)
                costs = reports[0]["watched"]
                grown = sum(cost["resident_bytes_after"] - cost["resident_bytes_before"] for cost in costs)
                resident.setdefault(subject.name, []).append(grown / IDLE_CONNECTIONS)
                kernel.setdefault(subject.name, []).append((through - alone) / IDLE_CONNECTIONS)
            finally:
                running.stop()
    title = f"{IDLE_CONNECTIONS} idle connections"
    return [report.Series("idle", title, RESIDENT, resident), report.Series("idle", title, KERNEL, kernel)]


def herd(bench, proxies: list[subjects.Subject]) -> list[report.Series]:
    """Ours alone: as many idle sessions as there can be in each of several processes, whose descriptors are limited."""
    driver = {"weir": "uring", "weir-epoll": "epoll"}
    resident: dict[str, list[float | None]] = {}
    cpu: dict[str, list[float | None]] = {}
    sessions: dict[str, list[float | None]] = {}
    for name in [one.name for one in proxies if one.name in driver]:
        running, loads = [], []
        try:
            for number in range(HERD_PROCESSES):
                origin = (subjects.ORIGIN[0], subjects.ORIGIN[1] + 500 + number)
                subject = subjects.weir(bench.options.weir, driver[name], 7600 + number, 1, origin)
                subject.name = f"{name}-{number}"
                running.append(subjects.Running(subject, bench.work, None))
                words = ["messages", "--concurrency", str(IDLE_CONNECTIONS + 100), "--rate", "0", "--open-rate", "250"]
                words += ["--to", f"127.0.0.1:{subject.port}", "--origin", f"{origin[0]}:{origin[1]}"]
                words += ["--seconds", "10", "--warm-up", "10", "--watch", str(running[-1].process.pid)]
                loads.append(subprocess.Popen([bench.options.load, *words], stdout=subprocess.PIPE))
            reports = [json.loads(load.communicate(timeout=180)[0]) for load in loads]
        finally:
            for load in loads:
                load.kill()
            for one in running:
                one.stop()
        costs = [cost for found in reports for cost in found["watched"]]
        count = sum(found["open"] for found in reports)
        grown = sum(cost["resident_bytes_after"] - cost["resident_bytes_before"] for cost in costs)
        sessions[name] = [count]
        resident[name] = [grown / count]
        cpu[name] = [100 * sum(cost["cpu_seconds"] for cost in costs) / reports[0]["seconds"]]
    title = f"idle sessions, in {HERD_PROCESSES} processes"
    return [
        report.Series("herd", title, HERD_SESSIONS, sessions), report.Series("herd", title, RESIDENT, resident),
        report.Series("herd", title, HERD_CPU, cpu),
    ]


def _slab_of(herd) -> float:
    """The most that the kernel's objects grew while `herd` ran."""
    before = machine.slab_bytes()
    most = before
    thread = threading.Thread(target=herd)
    thread.start()
    while thread.is_alive():
        most = max(most, machine.slab_bytes())
        time.sleep(0.05)
    thread.join()
    return most - before


def calls(bench, proxies: list[subjects.Subject]) -> list[report.Series]:
    """Counted by strace, which slows the subject down, so that its batches grow."""
    found: dict[str, list[float | None]] = {}
    if shutil.which("strace") is None:
        return []
    for subject in proxies:
        running = subjects.Running(subject, bench.work, bench.proxy_core)
        try:
            output = pathlib.Path(bench.work, f"strace-{subject.name}")
            words = ["strace", "-f", "-c", "-q", "-o", str(output)]
            pids = running.pids()
            words += [word for pid in pids for word in ("-p", str(pid))]
            tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
            machine.eventually(lambda pids=pids: all(map(machine.tracer, pids)), f"strace of {subject.name}")
            seen = bench.run_load(["connections", "--concurrency", "128"], subject, [], 3)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
            total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", output.read_text(), re.MULTILINE)
            # The warm-up was traced as well, and those that were cut off at the end.
            connections = seen["operations_in_all"] + 128 / 2
            found[subject.name] = [int(total.group(1)) / connections if total and connections else None]
        finally:
            running.stop()
    return [report.Series("calls", "short connections, 128 at once", CALLS, found)]


def start(bench, proxies: list[subjects.Subject]) -> list[report.Series]:
    found: dict[str, list[float | None]] = {}
    for _ in range(bench.options.rounds):
        for subject in proxies:
            running = subjects.Running(subject, bench.work, bench.proxy_core)
            found.setdefault(subject.name, []).append(running.ready_after * 1000)
            running.stop()
    return [report.Series("start", "start", START, found)]


def workers(bench, proxies: list[subjects.Subject]) -> list[report.Series]:
    """Short connections; nobody is pinned, as two workers need both cores."""
    found: dict[str, list[float | None]] = {}
    words = ["connections", "--concurrency", "128"]
    names = {one.name for one in proxies} - {"sniproxy"}
    one_each = [one for one in subjects.every(bench.options.weir, 1) if one.name in names]
    two_each = {one.name: one for one in subjects.every(bench.options.weir, 2)}
    load_core, bench.load_core = bench.load_core, None
    try:
        for _ in range(ROUNDS):
            for subject in one_each:
                costs = []
                for variant in (subject, two_each[subject.name]):
                    running = subjects.Running(variant, bench.work, None)
                    try:
                        seen = bench.run_load(words, variant, running.pids(), bench.options.seconds)
                        costs.append(cpu_seconds(seen) / seen["operations"])
                    finally:
                        running.stop()
                found.setdefault(subject.name, []).append(costs[1] / costs[0])
    finally:
        bench.load_core = load_core
    return [report.Series("workers", "a second worker", SECOND_WORKER, found)]
