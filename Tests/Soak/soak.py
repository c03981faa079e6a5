"""Checked traffic through the proxy, on a small network of its own, while a nemesis works against both.

`tools/soak` is how to run it; docs/TESTING.md says what it does and how to read the end.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Tests/Peers"))

import protocol
import yaml
from harness import figures, network, vocabulary
from harness.certificates import Authority
from harness.names import NameServer
from harness.processes import Process, eventually
from harness.wallclock import WallClock
from harness.weir import Metrics, WeirElsewhere
from ledger import Ledger
from nemesis import MemoryGroup, Operator, Weather

HERE = pathlib.Path(__file__).parent
# Of the machine, by the proxy, both ends and this process together.
LOAD = 0.6
# Seconds without a byte after which the proxy ends a session: one whose RST was lost on the way ends so.
IDLE = 20
# Below this a slope says nothing: one buffer that is used for the first time is megabytes per hour.
SLOPE_MINUTES = 20
# That a process has at most (Capacity).
PIPES = 64
# tcp_fin_timeout, and some.
ORPHAN_SECONDS = 65


class Child(Process):
    """A part of the soak: reads orders, ends when its input does, and writes a record per line."""

    def __init__(self, command: list[str], directory: pathlib.Path, name: str, take):
        self.stderr_path = directory / f"{name}.err"
        with open(self.stderr_path, "ab") as errors:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                cwd=directory,
            )
        self.pid = self._child.pid
        self._take = take
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stdout:
            if line.endswith("\n"):  # a process that is killed may leave half a line
                self._take(json.loads(line))

    def order(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()
        self._reader.join()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()

    def finish(self, seconds: float) -> int:
        """Waits for its own end."""
        status = self._child.wait(seconds)
        self._reader.join()
        return status


class Soak:
    def __init__(self, options, directory: pathlib.Path, stack: contextlib.ExitStack):
        self.options, self.directory = options, directory
        self.seed = options.seed
        self.ledger = Ledger()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self.origins: dict[int, Child] = {}
        self._ready: dict[int, threading.Event] = {}
        self._rotated_lines = 0
        # Records of the proxy's own about failures that nothing explained.
        self.evidence: list[str] = []
        self.samples: list[dict] = []

        refused = network.enter_private_network()
        if refused:
            raise SystemExit(f"soak: no network namespace of its own ({refused})")
        self.switch = network.Switch()
        stack.callback(self.switch.stop)
        host = self.switch.host
        self.client_host = host("cli", *protocol.CLIENTS)
        self.proxy_host = host("px", protocol.PROXY)
        self.names_host = host("dns", protocol.NAMES)
        self.hosts = {number: host(f"be{number}", address) for number, address in protocol.ORIGINS.items()}

        self.authority = Authority(directory)
        self.certificate = self.authority.leaf(protocol.SECURE_NAME)
        with self.names_host.entered():
            self.names = NameServer(53, address=protocol.NAMES)
        stack.callback(self.names.pause)
        for number, address in protocol.ORIGINS.items():
            self.names.set(protocol.forward_name(number), address, ttl=1)
            self.names.set_below(f"be{number}.new.test", address)
            self.start_origin(number)
            stack.callback(lambda number=number: self.origins[number].kill())

        self.log = directory / "access.log"
        config = directory / "weir.yaml"
        self._dice = random.Random(self.seed)
        config.write_text(self._text(self._dice))
        arguments = ["--io", options.io, "--log", str(self.log)]
        ports = list(range(protocol.TO_PLAIN, protocol.TO_FORWARD + 1))
        WeirElsewhere.binary = options.weir.resolve()
        self.clock = WallClock(directory)
        prefix = ["setpriv", "--pdeathsig", "INT", *self.clock.prefix]
        self.proxy = WeirElsewhere(self.proxy_host, directory, [config], ports, arguments=arguments, prefix=prefix)
        self.proxy.config = config
        stack.callback(self.proxy.stop, signal.SIGINT)
        self.memory = MemoryGroup.create(self.proxy.pid)
        if self.memory:
            # Called after the proxy has ended.
            stack.callback(self.memory.remove)
            stack.callback(self.proxy.stop, signal.SIGINT)

    # The world

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:8.2f}  {text}", flush=True)

    def start_origin(self, number: int) -> None:
        self._ready[number] = threading.Event()
        command = [sys.executable, HERE / "origin.py", str(number), str(self.seed), str(self.certificate)]
        self.origins[number] = Child(
            self.hosts[number].inside(*map(str, command)), self.directory, f"be{number}", self._from_origin
        )
        if not self._ready[number].wait(20):
            raise AssertionError(f"be{number} did not start: {self.origins[number].stderr_path.read_text()}")

    def _from_origin(self, record: dict) -> None:
        if "ready" in record:
            self._ready[record["ready"]].set()
            return
        with self._lock:
            self.ledger.from_origin(record)

    def _from_client(self, record: dict) -> None:
        with self._lock:
            self.ledger.from_client(record)

    def configure(self, dice) -> None:
        """Another configuration that serves the same traffic."""
        new = self.proxy.config.with_suffix(".new")
        new.write_text(self._text(dice))
        new.rename(self.proxy.config)

    def _text(self, dice) -> str:
        everyone = [f"{address}:{protocol.PLAIN}" for address in protocol.ORIGINS.values()]
        dice.shuffle(everyone)

        def cluster(name: str, port: int, **more) -> dict:
            endpoints = [address.replace(str(protocol.PLAIN), str(port)) for address in everyone]
            # Every origin is tried: none rests, so that the loss of one is nobody's failure.
            return {
                "name": name,
                "endpoints": [{"address": address, "max_fails": 0} for address in endpoints],
                "connect": {"timeout": "2s", "attempts": 4, "total": "8s"},
                **more,
            }

        def listener(name: str, port: int, routes: list, **more) -> dict:
            return {
                "name": name,
                "address": f"{protocol.PROXY}:{port}",
                "routes": routes,
                "timeouts": {"preamble": "12s", "hello": "5s", "idle": f"{IDLE}s", "half_close": f"{IDLE}s"},
                **more,
            }

        alone = [
            {
                "name": f"be{number}",
                "endpoints": [{"address": f"{address}:{protocol.NAMED}", "max_fails": 0}],
                "connect": {"timeout": "2s", "attempts": 3, "total": "5s"},
            }
            for number, address in protocol.ORIGINS.items()
        ]
        named = [
            {"match": {"server_names": [protocol.fixed_name(number)]}, "to": {"cluster": f"be{number}"}}
            for number in protocol.ORIGINS
        ]
        dice.shuffle(named)
        extra = [
            {"match": {"server_names": [f"unused-{index}.soak.test"]}, "to": {"cluster": "plain"}}
            for index in range(dice.randint(0, 300))
        ]
        listeners = [
            listener("plain", protocol.TO_PLAIN, [{"to": {"cluster": "plain"}}], detect="none"),
            listener("named", protocol.TO_NAMED, named + extra),
            listener(
                "secure",
                protocol.TO_SECURE,
                [{"match": {"server_names": [protocol.SECURE_NAME]}, "to": {"cluster": "secure"}}, *extra],
            ),
            listener("headed-v1", protocol.TO_HEADED_V1, [{"to": {"cluster": "headed-v1"}}], detect="none"),
            listener(
                "headed-v2",
                protocol.TO_HEADED_V2,
                [{"to": {"cluster": "headed-v2"}}],
                detect="none",
                accept_proxy={"from": ["10.99.0.0/24"]},
            ),
            listener(
                "forward",
                protocol.TO_FORWARD,
                [{"match": {"server_names": ["*"]}, "to": {"server_name": {"port": protocol.NAMED}}}],
            ),
        ]
        if dice.random() < 0.5:
            listeners.append(listener("now and then", 8100, [{"to": {"cluster": "plain"}}], detect="none"))
        return yaml.safe_dump(
            {
                "listeners": listeners,
                "clusters": [
                    cluster("plain", protocol.PLAIN),
                    cluster("secure", protocol.SECURE),
                    cluster("headed-v1", protocol.HEADED, send_proxy="v1"),
                    cluster("headed-v2", protocol.HEADED, send_proxy=dice.choice(("v2", "v1"))),
                    *alone,
                ],
                "workers": 2,
                "drain": {"timeout": "20s"},
                "destinations": {"allow": ["10.99.0.0/24"]},
                "resolver": {
                    "servers": [f"{protocol.NAMES}:53"],
                    "ttl": {"min": "1s", "max": "5s"},
                    "stale": "60s",
                    "timeout": "2s",
                    "families": "v4",
                    "cache_entries": 100,
                },
                "limits": {"connections": 2000, "buffer_memory": "4MiB"},
            },
            sort_keys=False,
        )

    def rotate(self) -> None:
        """Moves the access log away, and counts and forgets it once the new one is there."""
        old = self.log.with_suffix(".1")
        self.log.rename(old)
        self.proxy.send(signal.SIGUSR1)
        eventually(self.log.exists, 10, "a new access log")
        self._forget(old)
        old.unlink()

    def _forget(self, log: pathlib.Path) -> None:
        """Keeps the proxy's records of clients whose failure nothing explained, and the number of the others."""
        found = (re.search(r"'client': (\d+)", violation) for violation in self.ledger.violations)
        ports = [f':{match[1]}"'.encode() for match in found if match]
        for line in log.read_bytes().splitlines():
            self._rotated_lines += 1
            if any(port in line for port in ports):
                self.evidence.append(line.decode())

    def record_count(self) -> int:
        return self._rotated_lines + self.log.read_bytes().count(b"\n")

    # A run

    def run(self) -> list[str]:
        """Everything; returns the promises that were broken."""
        before, first = self._rest(), self.proxy.config.read_text()
        command = [sys.executable, HERE / "traffic.py", str(self.seed), str(self.authority.path)]
        self.traffic = Child(
            self.client_host.inside(*map(str, command)), self.directory, "clients", self._from_client
        )
        nemeses = [Weather(self, random.Random(self.seed + 1)), Operator(self, random.Random(self.seed + 2))]
        try:
            for nemesis in nemeses:
                nemesis.start()
            self._watch(self.options.minutes * 60, nemeses)
            for nemesis in nemeses:
                nemesis.stop()
            self.say("no new streams")
            self.traffic.order("stop")
            self.traffic.finish(100)
            eventually(self._is_empty, IDLE + 15, "every session has ended")
            self.proxy.config.write_text(first)
            self.proxy.reload()
        except AssertionError as failure:
            self.ledger.violations.append(str(failure))
        except subprocess.TimeoutExpired:
            self.ledger.violations.append("clients did not come to their end within 100 s")
        finally:
            for nemesis in nemeses:
                nemesis.stopping.set()
            self.traffic.kill()
        time.sleep(1)
        with self._lock:
            self.ledger.finish()
        return self._report(before, nemeses)

    def _watch(self, seconds: float, nemeses) -> None:
        pause, cpu, then = 0.3, self._cpu(), time.monotonic()
        end = then + seconds
        while (now := time.monotonic()) < end:
            time.sleep(min(1, end - now))
            if not self.proxy.is_running():
                raise AssertionError(f"the proxy ended: {self.proxy.wait()}\n{self.proxy.output()[-4000:]}")
            if not self.traffic.is_running():
                raise AssertionError(f"the clients ended: {self.traffic.stderr_path.read_text()[-4000:]}")
            for nemesis in nemeses:
                if nemesis.failure:
                    raise AssertionError(f"{type(nemesis).__name__}: {nemesis.failure!r}")
            self._sample()
            with self._lock:
                self.ledger.settle(time.monotonic())
                if len(self.ledger.violations) > 20:
                    raise AssertionError("enough")
            # What is used of the machine decides how long clients rest.
            used, now = self._cpu(), time.monotonic()
            share = (used - cpu) / (now - then) / os.cpu_count()
            if now - then > 2:
                pause = min(5, max(0.02, pause * min(2, max(0.5, share / LOAD))))
                self.traffic.order(f"pause {pause:.3f}")
                cpu, then = used, now
                if self.samples:
                    self.samples[-1]["load"] = share

    def _cpu(self) -> float:
        total = time.process_time()
        for process in (self.proxy, self.traffic, *self.origins.values()):
            with contextlib.suppress(OSError):
                total += process.cpu_seconds()
        return total

    def _metrics(self) -> Metrics | None:
        """None while nobody answers: stopped, or without a descriptor to accept with."""
        status, text = self.proxy.admin("/metrics")
        return Metrics(text) if status == 200 else None

    def _sample(self) -> None:
        with contextlib.suppress(OSError):
            self.samples.append({"time": time.monotonic(), "resident": self.proxy.resident_bytes()})
        if metrics := self._metrics():
            self.samples[-1] |= {
                "sessions": metrics.sum("weir_sessions_open"),
                "buffers": metrics.sum("weir_buffers_outstanding"),
            }

    def _is_empty(self) -> bool:
        metrics = self._metrics()
        return metrics is not None and all(metrics.sum(name) == 0 for name in vocabulary.OUTSTANDING)

    def _rest(self) -> dict:
        """What the proxy holds when nobody uses it: descriptors by kind, and what waits in its rings."""
        kinds = collections.Counter(
            target if not target.startswith(("socket:", "pipe:", "/")) else target.partition(":")[0]
            for target in self.proxy.descriptors()
        )
        rings = 0
        for entry in os.scandir(f"/proc/{self.proxy.pid}/fdinfo"):
            text = pathlib.Path(entry.path).read_text()
            if "PollList:" in text:
                rings += text.count("  op=")
        return {"descriptors": kinds, "rings": rings}

    def _settled(self, before: dict) -> dict:
        """The same once the proxy's own questions (DNS, this soak's scrapes) are over."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: self._rest()["descriptors"].total() <= before["descriptors"].total(), 10)
        return self._rest()

    def _in_state(self, state: str) -> int:
        return len(self.proxy_host.run("ss", "-tanH", "state", state).splitlines())

    def _helper_threads(self) -> int:
        return self.proxy.thread_names().count("iou-wrk")

    # The end

    def _report(self, before: dict, nemeses) -> list[str]:
        broken: list[str] = []

        def promise(identifier: str, text: str, target: str, measured: object, holds: bool) -> None:
            figures.figure(identifier, text, target, f"{measured}{'' if holds else '   <-- BROKEN'}")
            if not holds:
                broken.append(f"{text}: {measured}, promised {target}")

        ledger = self.ledger
        print("\nstreams by kind:", dict(ledger.streams))
        print("events:", dict(collections.Counter(event.kind for event in ledger.events)))
        print("failures, each with the event that explains it (event, kind of stream, stage, outcome):")
        for (event, kind, stage, outcome), count in sorted(ledger.failures.items()):
            print(f"  {count:6}  {event:<20} {kind:<10} {stage:<8} {outcome}")
        loads = [sample["load"] for sample in self.samples if "load" in sample]
        if loads:
            print(f"load: {sum(loads) / len(loads):.0%} of the machine; busiest: {self._most('sessions')} sessions, "
                  f"{self._most('buffers')} buffers in use")  # fmt: skip

        total = sum(ledger.streams.values())
        promise("P-14", "streams checked", "> 0", f"{total}, {ledger.byte_count >> 20} MiB", total > 0)
        wrong = sum("corrupted" in violation for violation in ledger.violations)
        promise("P-20", "streams with a byte that is not theirs", "0", wrong, wrong == 0)
        others = len(ledger.violations) - wrong
        promise("P-14", "failures that nothing explains", "0", others, others == 0)
        if self.proxy.is_running():
            self._report_rest(promise, before)
            self.proxy.send(signal.SIGTERM)
            try:
                status = self.proxy.wait(15)
            except subprocess.TimeoutExpired:
                status = "still running after 15 s"
            promise("P-18", "exit status after TERM", "0", status, status == 0)
        else:
            promise("P-14", "the proxy runs to the end", "yes", f"it ended with {self.proxy.wait()}", False)
        print()
        for line in figures.lines():
            print(line)
        self._forget(self.log)
        print(f"monotonic clock at the start: {self._started:.3f}")
        for violation in ledger.violations:
            print("violation:", violation)
        for record in self.evidence:
            print("its session, or another of that port:", record)
        return broken

    def _most(self, name: str) -> int:
        return int(max((sample.get(name, 0) for sample in self.samples), default=0))

    def _report_rest(self, promise, before: dict) -> None:
        metrics = eventually(self._metrics, 10, "metrics")
        after = self._settled(before)
        for text, name in (
            ("sessions", "weir_sessions_open"),
            ("session slots of listeners", vocabulary.SESSIONS_ACTIVE),
            ("slots of opening sessions", "weir_sessions_opening"),
            ("relay buffers in use", "weir_buffers_outstanding"),
            ("preamble blocks in use", "weir_preamble_blocks_outstanding"),
            ("completion queue overflows", "weir_driver_completion_overflows_total"),
            ("log records dropped", "weir_log_records_dropped_total"),
        ):
            promise("P-14", text, "0", int(metrics.sum(name)), metrics.sum(name) == 0)
        more = {kind: count for kind, count in (after["descriptors"] - before["descriptors"]).items()}
        # Pipes are kept for the next bulk, two descriptors each; none may hold bytes then, or be anybody's.
        kept = more.pop("pipe", 0)
        promise("P-14", "descriptors of pipes kept", f"<= {2 * PIPES}", kept, kept <= 2 * PIPES)
        pumps = metrics.sum("weir_pumps_active")
        promise("P-14", "directions that are pumped", "0", int(pumps), pumps == 0)
        count = after["descriptors"].total()
        promise("P-14", "descriptors more than at the start", "none", more or f"none, {count} open", not more)
        polls = after["rings"] - before["rings"]
        promise("P-14", "operations in the rings more than at the start", "0", polls, polls <= 0)
        for state in ("close-wait", "fin-wait-1", "fin-wait-2", "last-ack", "closing"):
            # One that nobody holds stays for a minute where the other end was cut off (tcp_fin_timeout).
            deadline = time.monotonic() + ORPHAN_SECONDS
            while (count := self._in_state(state)) and time.monotonic() < deadline:
                time.sleep(1)
            promise("P-14", f"sockets in {state.upper()}", "0", count, count == 0)
        promise("P-14", "iou-wrk threads", "0", self._helper_threads(), self._helper_threads() == 0)
        opened, closed = metrics.sum(vocabulary.SESSIONS_OPENED), metrics.sum(vocabulary.SESSIONS_CLOSED)
        accepted, records = metrics.sum(vocabulary.ACCEPTED), self.record_count()
        promise("P-14", "accepted and closed", "equal", f"{accepted:.0f} {closed:.0f}", accepted == closed)
        promise("P-14", "sessions and log records", "equal", f"{opened:.0f} {records}", opened == records)
        reloads = f"{metrics.sum(vocabulary.RELOADS, result='ok'):.0f} taken, " \
                  f"{metrics.sum(vocabulary.RELOADS, result='failed'):.0f} refused"  # fmt: skip
        figures.figure("P-07", "reloads", "", reloads)
        starved = metrics.sum("weir_buffers_starved_total")
        figures.figure("P-12", "receives that waited for a buffer", "", f"{starved:.0f}")
        self._report_memory(promise)

    def _report_memory(self, promise) -> None:
        """The slope of a straight line through the samples behind the first third, by least squares."""
        settled = self.samples[len(self.samples) // 3 :]
        if len(settled) < 10:
            return
        times = [sample["time"] / 3600 for sample in settled]
        sizes = [sample["resident"] / (1 << 20) for sample in settled]
        time_mean, size_mean = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((t - time_mean) ** 2 for t in times)
        slope = sum((t - time_mean) * (s - size_mean) for t, s in zip(times, sizes)) / spread
        text = f"{slope:+.2f} MiB/h over {(times[-1] - times[0]) * 60:.0f} min; {sizes[0]:.1f} -> {sizes[-1]:.1f} MiB"
        if self.options.minutes >= SLOPE_MINUTES:
            promise("P-14", "slope of the resident size", "< 1 MiB/h", text, slope < 1)
        else:
            growth = sizes[-1] - sizes[0]
            figures.figure("P-14", "slope of the resident size", f"(judged from {SLOPE_MINUTES} min on)", text)
            promise("P-14", "growth of the resident size", "< 8 MiB", f"{growth:+.1f} MiB", growth < 8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=5, help="of load (default: 5)")
    parser.add_argument("--io", choices=("auto", "uring", "epoll"), default="uring", help="the proxy's driver")
    parser.add_argument("--seed", type=int, help="of sizes, kinds and the nemesis (default: another each time)")
    parser.add_argument("--weir", type=pathlib.Path, default=REPOSITORY / ".build/release/weir")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int(time.time())
    print(f"soak: {options.minutes:g} min, driver {options.io}, seed {options.seed}", flush=True)

    def interrupted(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-soak-"))
    try:
        with contextlib.ExitStack() as stack:
            broken = Soak(options, directory, stack).run()
    except KeyboardInterrupt:
        print("soak: interrupted", flush=True)
        return 130
    print(f"files: {directory}")
    print("soak: good" if not broken else f"soak: {len(broken)} broken promises, seed {options.seed}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
