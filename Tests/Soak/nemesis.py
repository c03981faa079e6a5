"""What is done to the proxy and to its world while it works; the dice say what, when, and to whom.

Two run beside each other: `Weather` does things to origins, names and the network; `Operator` to the proxy itself.
Each event is in the ledger from before it begins.
"""

import contextlib
import os
import pathlib
import re
import resource
import signal
import subprocess
import threading
import time

import protocol
from ledger import Event


class Nemesis(threading.Thread):
    # Seconds between two events.
    rest = (1.0, 4.0)

    def __init__(self, soak, dice):
        super().__init__(daemon=True)
        self.soak, self.dice = soak, dice
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.done: dict[str, int] = {}

    def deeds(self) -> dict:
        raise NotImplementedError

    def run(self) -> None:
        deeds = self.deeds()
        try:
            while not self.stopping.wait(self.dice.uniform(*self.rest)):
                name = self.dice.choice(list(deeds))
                deeds[name](name)
                self.done[name] = self.done.get(name, 0) + 1
        except BaseException as failure:
            self.failure = failure
            raise

    def stop(self) -> None:
        """Returns when what is under way has been put right again."""
        self.stopping.set()
        self.join()

    @contextlib.contextmanager
    def event(self, kind: str, **fields):
        event = Event(kind, time.monotonic(), **fields)
        self.soak.ledger.events.append(event)
        self.soak.say(f"{kind} {fields.get('text', '')}{f' be{event.origin}' if event.origin else ''}")
        try:
            yield event
        finally:
            event.end = time.monotonic()

    def wait(self, least: float, most: float) -> None:
        self.stopping.wait(self.dice.uniform(least, most))


class Weather(Nemesis):
    def deeds(self) -> dict:
        return {
            "origin killed": self._kill,
            "origin stopped": self._stop_origin,
            "origin rejects": self._reject,
            "origin unreachable": self._unreachable,
            "connections cut": self._cut,
            "loss": self._lose,
            "no names": self._no_names,
            "small windows": self._small_windows,
        }

    def _some_origin(self) -> int:
        return self.dice.randint(1, 4)

    def _kill(self, kind: str) -> None:
        number = self._some_origin()
        with self.event(kind, origin=number):
            self.soak.origins[number].kill()
            self.wait(0.1, 3)
            self.soak.start_origin(number)

    def _stop_origin(self, kind: str) -> None:
        number = self._some_origin()
        with self.event(kind, origin=number):
            self.soak.origins[number].send(signal.SIGSTOP)
            try:
                self.wait(0.2, 3)
            finally:
                self.soak.origins[number].send(signal.SIGCONT)

    def _reject(self, kind: str) -> None:
        """Every segment to the origin is answered with RST, by its own host."""
        number = self._some_origin()
        host = self.soak.hosts[number]
        rules = """table inet weather {
            chain in {
                type filter hook input priority 0
                iifname != "lo" meta l4proto tcp reject with tcp reset
            }
        }
        """
        with self.event(kind, origin=number):
            subprocess.run(host.inside("nft", "-f", "-"), input=rules, text=True, check=True)
            try:
                self.wait(0.1, 1.5)
            finally:
                host.run("nft", "delete", "table", "inet", "weather")

    def _unreachable(self, kind: str) -> None:
        number = self._some_origin()
        address = protocol.ORIGINS[number]
        with self.event(kind, origin=number):
            self.soak.switch.rules(f"ip daddr {address} drop", f"ip saddr {address} drop")
            try:
                self.wait(0.5, 4)
            finally:
                self.soak.switch.rules()

    def _cut(self, kind: str) -> None:
        """`ss -K`: a third of the proxy's connections with clients, or with one origin, are gone: both ends hear RST."""
        number = self.dice.choice((0, 0, 1, 2, 3, 4))
        address = protocol.ORIGINS[number] if number else self.dice.choice(protocol.CLIENTS)
        found = self.soak.proxy_host.run("ss", "-tnH", "state", "established", "dst", address)
        pairs = re.findall(r"\S+:(\d+)\s+\S+:(\d+)\s*$", found, re.MULTILINE)
        chosen = [pair for pair in pairs if self.dice.random() < 0.33]
        ours, theirs = ({int(pair[side]) for pair in chosen} for side in (0, 1))
        near, far = (ours, set()) if number else (set(), theirs)
        with self.event(
            kind, origin=number, proxies=frozenset(near), clients=frozenset(far), text=f"{len(chosen)} of {len(pairs)}"
        ):
            side = "sport" if number else "dport"
            for start in range(0, len(chosen), 50):
                ports = [f":{pair[0 if number else 1]}" for pair in chosen[start : start + 50]]
                terms = " or ".join(f"{side} = {port}" for port in ports)
                self.soak.proxy_host.run("ss", "-K", "-tnH", f"dst {address} and ( {terms} )")

    def _lose(self, kind: str) -> None:
        """P-20: 5 % of all segments to and from the proxy."""
        with self.event(kind):
            self.soak.switch.lose(5, "px")
            try:
                self.wait(2, 6)
            finally:
                self.soak.switch.rules()

    def _no_names(self, kind: str) -> None:
        """P-19: the name server hears nothing, or its port is closed."""
        names = self.soak.names
        silent = self.dice.random() < 0.5
        with self.event(kind, text="(silent)" if silent else "(port closed)"):
            if silent:
                names.silent = True
            else:
                names.pause()
            try:
                self.wait(1, 6)
            finally:
                if silent:
                    names.silent = False
                else:
                    with self.soak.names_host.entered():
                        names.resume()
                self.stopping.wait(1)

    def _small_windows(self, kind: str) -> None:
        """Small socket buffers on the proxy's host, for connections that begin now."""
        host = self.soak.proxy_host
        before = {name: host.run("sysctl", "-n", f"net.ipv4.{name}").strip() for name in ("tcp_rmem", "tcp_wmem")}
        with self.event(kind):
            try:
                for name in before:
                    host.run("sysctl", "-q", "-w", f"net.ipv4.{name}=4096 16384 32768")
                self.wait(1, 4)
            finally:
                for name, value in before.items():
                    host.run("sysctl", "-q", "-w", f"net.ipv4.{name}={value}")


class Operator(Nemesis):
    def deeds(self) -> dict:
        found = {
            "reload": self._reload,
            "several reloads": self._reloads,
            "bad reload": self._bad_reload,
            "log rotated": self._rotate,
            "proxy stopped": self._stop_proxy,
            "few descriptors": self._few_descriptors,
            "clock stepped": self._step_clock,
        }
        if self.soak.memory:
            found["little memory"] = self._little_memory
        return found

    def _reload(self, kind: str) -> None:
        with self.event(kind):
            self.soak.configure(self.dice)
            self.soak.proxy.reload()

    def _reloads(self, kind: str) -> None:
        with self.event(kind):
            for _ in range(self.dice.randint(5, 20)):
                self.soak.configure(self.dice)
                self.soak.proxy.send(signal.SIGHUP)
                time.sleep(0.02)

    def _bad_reload(self, kind: str) -> None:
        with self.event(kind):
            good = self.soak.proxy.config.read_text()
            failed = self.soak.proxy.reload_count("failed")
            self.soak.proxy.config.write_text("listeners:\n  - nonsense: 1\n")
            self.soak.proxy.send(signal.SIGHUP)
            deadline = time.monotonic() + 10
            while self.soak.proxy.reload_count("failed") == failed:
                if time.monotonic() > deadline:
                    self.soak.ledger.violations.append("a bad file was not refused within 10 s")
                    break
                time.sleep(0.05)
            self.soak.proxy.config.write_text(good)
            self.soak.proxy.reload()

    def _rotate(self, kind: str) -> None:
        with self.event(kind):
            self.soak.rotate()

    def _stop_proxy(self, kind: str) -> None:
        """For less than the shortest of its limits that a client could run into."""
        with self.event(kind):
            self.soak.proxy.send(signal.SIGSTOP)
            try:
                self.wait(0.1, 1.2)
            finally:
                self.soak.proxy.send(signal.SIGCONT)

    def _few_descriptors(self, kind: str) -> None:
        """T-12, P-11: no more of them than are open, or a few."""
        pid = self.soak.proxy.pid
        spare = self.dice.choice((0, 1, 5, 30))
        open_now = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        with self.event(kind, text=f"({spare} spare)"):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(open_now + 1 + spare, hard), hard))
            try:
                self.wait(0.5, 2.5)
            finally:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
                self.stopping.wait(0.6)  # accepting goes on by itself within half a second

    def _step_clock(self, kind: str) -> None:
        """P-21: the wall clock alone, for good until the next step."""
        hours = self.dice.randint(-3, 3)
        with self.event(kind, text=f"({hours:+} h)"):
            self.soak.clock.step(hours * 3600)
            self.wait(0.5, 2)

    def _little_memory(self, kind: str) -> None:
        with self.event(kind, text=self.soak.memory.kind):
            self.soak.memory.squeeze()
            try:
                self.wait(1, 4)
            finally:
                self.soak.memory.release()


class MemoryGroup:
    """A control group for the proxy alone, where this machine lets us make one; None from `create` where not.

    Version 2: `memory.high`, below what is in use. Version 1 has no such thing; there the memory of TCP sockets is
    limited.
    """

    def __init__(self, path: pathlib.Path, file: str, kind: str, usage: str):
        self._path, self._file, self._usage, self.kind = path, path / file, path / usage, kind
        self._open = self._file.read_text().strip()

    @classmethod
    def create(cls, pid: int) -> "MemoryGroup | None":
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            for root in _group_roots(controllers):
                path = pathlib.Path(root + own) / f"weir-soak-{os.getpid()}"
                try:
                    path.mkdir()
                except OSError:
                    continue
                try:
                    if (path / "memory.high").exists():
                        group = cls(path, "memory.high", "memory.high", "memory.current")
                    else:
                        tcp = "memory.kmem.tcp.limit_in_bytes"
                        (path / tcp).write_text(str(1 << 40))  # from the first write on, it is counted
                        group = cls(path, tcp, "memory of sockets", "memory.kmem.tcp.usage_in_bytes")
                    (path / "cgroup.procs").write_text(str(pid))
                    return group
                except OSError:
                    path.rmdir()
        return None

    def squeeze(self) -> None:
        """Version 1 takes no limit below what is in use."""
        for tenths in (7, 9, 11, 15, 20, 30):
            used = int(self._usage.read_text())
            with contextlib.suppress(OSError):
                self._file.write_text(str(max(used * tenths // 10, 1 << 16)))
                return

    def release(self) -> None:
        self._file.write_text(self._open)

    def remove(self) -> None:
        """When nothing is in it any more."""
        deadline = time.monotonic() + 5
        while self._path.exists():
            try:
                self._path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _group_roots(controllers: str) -> list[str]:
    if controllers == "":
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    return ["/sys/fs/cgroup/memory"] if "memory" in controllers.split(",") else []
