"""Runs every proxy that is here through the same loads, in turn, and says how they compare. Started by tools/bench."""

import argparse
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from compare import extras, machine, report, subjects
from compare.figures import Load, loads

OURS = "weir"
# Descriptors: the generator holds both ends, and so does the proxy.
IDLE_COUNT_MAX = 9000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--weir", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measured window")
    parser.add_argument("--only", default="", help="loads whose key begins with one of these words, by comma")
    parser.add_argument("--subjects", default="", help="these only, by comma")
    parser.add_argument("--congestion", default="cubic", help="TCP congestion control of all")
    parser.add_argument("--no-charts", action="store_true")
    return parser.parse_args()


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
        self.proxy_core, self.load_core = ("0", "1") if (os.cpu_count() or 1) > 1 else (None, None)
        wanted = [name for name in options.subjects.split(",") if name]
        every = subjects.every(options.weir)
        self.missing = [one.name for one in every if not one.found() and (not wanted or one.name in wanted)]
        self.subjects = [one for one in every if one.found() and (not wanted or one.name in wanted)]
        self.running: dict[str, subjects.Running] = {}
        self.values: dict[tuple[str, str], dict[str, list[float | None]]] = {}
        self.errors: dict[tuple[str, str], int] = {}
        self.saturated: dict[str, float] = {}
        self.tenths: dict[str, float] = {}

    def run_load(self, words: list[str], subject: subjects.Subject, pids: list[int], seconds: float) -> dict:
        command = [self.options.load, *words, "--to", f"127.0.0.1:{subject.port}", "--seconds", str(seconds)]
        command += ["--origin", f"{subjects.ORIGIN[0]}:{subjects.ORIGIN[1]}", "--warm-up", "0.3"]
        command += [word for pid in pids for word in ("--watch", str(pid))]
        if self.load_core is not None:
            command = ["taskset", "-c", self.load_core, *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def measure(self, load: Load, subject: subjects.Subject) -> dict:
        words = list(load.arguments)
        if load.tenth_of:
            words += ["--rate", f"{self.tenths[load.tenth_of]:.0f}"]
        others = [one for one in self.running.values() if one.subject.name != subject.name]
        for other in others:
            other.signal(signal.SIGSTOP)
        try:
            return self.run_load(words, subject, self.running[subject.name].pids(), self.options.seconds)
        finally:
            for other in others:
                other.signal(signal.SIGCONT)

    def take(self, load: Load, subject: subjects.Subject, found: dict) -> None:
        for figure in load.figures:
            value = None if subject.is_direct and figure.is_of_proxy else figure.read(found)
            values = self.values.setdefault((load.key, figure.key), {})
            values.setdefault(subject.name, []).append(value)
        key = (load.key, subject.name)
        self.errors[key] = self.errors.get(key, 0) + found["errors"]
        self.saturated[load.key] = max(self.saturated.get(load.key, 0), found["generator_cpu_share"])

    def note_tenth(self, load: Load) -> None:
        """Of what nginx reached, where it is here: a load that every subject can carry with ease."""
        by_subject = self.values[(load.key, "rate")]
        reference = next(name for name in ("nginx", OURS, *by_subject) if name in by_subject)
        self.tenths[load.key] = max(by_subject[reference][0] / 10, 1)

    def run(self, all_loads: list[Load]) -> None:
        try:
            for subject in self.subjects:
                self.running[subject.name] = subjects.Running(subject, self.work, self.proxy_core)
            for load in all_loads:
                takers = [one for one in self.subjects if load.is_bulk or not one.is_for_bulk]
                for number, subject in itertools.product(range(self.options.rounds), takers):
                    print(f"{load.key}, round {number + 1}: {subject.name}" + " " * 20, end="\r", file=sys.stderr)
                    self.take(load, subject, self.measure(load, subject))
                if any(other.tenth_of == load.key for other in all_loads):
                    self.note_tenth(load)
        finally:
            for one in self.running.values():
                one.stop()

    def series(self, all_loads: list[Load]) -> list[report.Series]:
        return [
            report.Series(load.key, load.title, figure, self.values[(load.key, figure.key)])
            for load in all_loads
            for figure in load.figures
        ]


def main() -> None:
    options = arguments()
    began = time.monotonic()
    if not machine.set_sysctl("net.ipv4.tcp_congestion_control", options.congestion):
        print(f"bench: congestion control stays {machine.sysctl('net.ipv4.tcp_congestion_control')}", file=sys.stderr)
    bench = Bench(options)
    prefixes = tuple(word for word in options.only.split(",") if word)
    all_loads = [load for load in loads(IDLE_COUNT_MAX) if not prefixes or load.key.startswith(prefixes)]
    needed = {load.tenth_of for load in all_loads if load.tenth_of} - {load.key for load in all_loads}
    all_loads = [load for load in loads(IDLE_COUNT_MAX) if load.key in needed] + all_loads
    bench.run(all_loads)
    found = bench.series(all_loads) + extras.measure(bench, prefixes)

    names = [one.name for one in bench.subjects]
    peers = [one.name for one in bench.subjects if not one.is_direct and not one.name.startswith("weir")]
    facts = machine.facts() | {
        "versions": {one.name: one.version() for one in bench.subjects},
        "not found": bench.missing,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "tenths": {key: round(value) for key, value in bench.tenths.items()},
        "errors": {f"{load} {name}": count for (load, name), count in bench.errors.items() if count},
        "generator's share of its core": {key: round(value, 2) for key, value in bench.saturated.items()},
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "machine.json").write_text(json.dumps(facts, indent=2) + "\n")
    configurations = options.out / "configurations"
    configurations.mkdir(exist_ok=True)
    for one in bench.subjects:
        if one.configuration:
            (configurations / f"{one.name}-{one.file}").write_text(one.configuration)
    report.write_rows(options.out / "figures.csv", found)
    text = report.table(found, OURS, peers, names)
    text += "\n" + json.dumps(facts, indent=2) + "\n"
    (options.out / "table.md").write_text(text)
    if not options.no_charts:
        footer = f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}, loopback"
        report.write_charts(options.out / "charts", found, names, footer)
    print(text)


main()
