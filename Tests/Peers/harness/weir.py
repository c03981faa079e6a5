"""The proxy under test: its configuration, its process, and what it says about itself."""

import json
import pathlib
import re
import signal
import subprocess
import urllib.error
import urllib.request

import yaml

from harness import vocabulary
from harness.network import free_port
from harness.processes import Process, eventually
from harness.setup import Listen, Setup


def _block(endpoint) -> str:
    return f"[{endpoint[0]}]:{endpoint[1]}" if ":" in endpoint[0] else f"{endpoint[0]}:{endpoint[1]}"


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms"


def native(setup: Setup) -> dict:
    """The setup in Weir's own format."""
    clusters: dict[str, dict] = {}
    listeners = []
    for listen in setup.listeners:
        listeners.append(_listener(listen, clusters))
    document = {
        "listeners": listeners,
        "clusters": list(clusters.values()),
        "workers": setup.workers,
        "drain": {"delay": _seconds(setup.drain_delay), "timeout": _seconds(setup.drain_timeout)},
    }
    if not clusters:
        del document["clusters"]
    if setup.limits:
        document["limits"] = setup.limits
    if setup.splice:
        document["splice"] = setup.splice
    if setup.congestion:
        document["congestion"] = setup.congestion
    if setup.steering:
        document["steering"] = setup.steering
    return document | guard(setup)


def text(setup: Setup) -> str:
    return yaml.safe_dump(native(setup), sort_keys=False)


def guard(setup: Setup) -> dict:
    """What an nginx file has no word for: where names may point, and whom to ask."""
    document: dict = {}
    if setup.destinations or setup.denied:
        lists = {"allow": setup.destinations, "deny": setup.denied}
        document["destinations"] = {key: blocks for key, blocks in lists.items() if blocks}
    if setup.resolver:
        document["resolver"] = {"servers": [_block(setup.resolver)]}
        if setup.ttl_min is not None:
            document["resolver"]["ttl"] = {"min": _seconds(setup.ttl_min)}
    return document


def _listener(listen: Listen, clusters: dict[str, dict]) -> dict:
    upstream = {}
    if listen.send_proxy:
        options = {"version": listen.send_proxy.version}
        options |= {key: True for key in ("authority", "crc32c", "unique_id") if getattr(listen.send_proxy, key)}
        upstream["send_proxy"] = options

    def cluster(endpoint) -> dict:
        name = f"{listen.name} {_block(endpoint)}"
        clusters[name] = {"name": name, "endpoints": [_block(endpoint)], **upstream}
        return {"cluster": name}

    routes = [{"match": {"server_names": [name]}, "to": cluster(to)} for name, to in listen.routes.items()]
    if listen.forward_port is not None:
        forward = {"port": listen.forward_port, **upstream}
        routes.append({"match": {"server_names": ["*"]}, "to": {"server_name": forward}})
    if listen.default:
        routes.append({"to": cluster(listen.default)})
    found = {
        "name": listen.name,
        "address": _block(listen.endpoint),
        "timeouts": {
            "preamble": _seconds(listen.preamble_timeout),
            "hello": _seconds(listen.hello_timeout),
            "idle": _seconds(listen.idle_timeout),
            "half_close": _seconds(listen.half_close_timeout),
        },
        "routes": routes,
    }
    if not listen.reads_names:
        found["detect"] = "none"
    if listen.hello_max:
        found["hello"] = {"max_size": listen.hello_max}
    if listen.proxy_from is not None:
        found["accept_proxy"] = {"from": listen.proxy_from}
    if listen.clients is not None:
        found["clients"] = {"allow": listen.clients}
    return found


def check(directory: pathlib.Path, *texts: str) -> subprocess.CompletedProcess:
    """`weir check` on these files, given as text."""
    files = []
    for index, text in enumerate(texts):
        path = directory / f"check-{index}.yaml"
        path.write_text(text)
        files += ["--config", str(path)]
    return subprocess.run([str(Weir.binary), "check", *files], capture_output=True, text=True, timeout=10)


class Metrics:
    """One scrape: samples by name and labels."""

    _sample = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
    _label = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text: str):
        self.text = text
        self.samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                match = self._sample.match(line)
                assert match, f"not a sample: {line!r}"
                labels = dict(self._label.findall(match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def lint(self) -> str:
        """What promtool finds wrong with it; empty when nothing is."""
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=self.text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return f"{done.stdout}exit status {done.returncode}" if done.returncode or done.stdout else ""

    def has(self, name: str) -> bool:
        return any(sample[0] == name for sample in self.samples)

    def sum(self, name: str, **labels: str) -> float:
        """Over every sample of `name` with these labels; a name that is not exposed at all fails."""
        assert self.has(name), f"{name} is not exposed"
        return sum(
            value
            for found, have, value in self.samples
            if found == name and all(have.get(key) == wanted for key, wanted in labels.items())
        )


class Weir(Process):
    """`weir run` with these files; `admin` is on a free port unless the arguments say otherwise."""

    # From the command line of the suite.
    binary: pathlib.Path
    # `--io` of every process that a test does not give another.
    driver = "auto"
    # The start of every command line, such as a tracer's.
    wrapper: list[str] = []
    config: pathlib.Path  # the one file of a process that `start` made

    def __init__(
        self,
        directory: pathlib.Path,
        files: list[pathlib.Path],
        ports: list[int],
        *,
        arguments: list[str] = (),
        prefix: list[str] = (),
        inside=None,
        name: str = "weir",
        admin_port: int | None = None,
        pass_fds: tuple[int, ...] = (),
    ):
        self.root = directory / name
        self.root.mkdir()
        self.admin_port = admin_port or free_port()
        command = [*prefix, *self.wrapper, str(self.binary), "run"]
        if "--io" not in arguments:
            command += ["--io", self.driver]
        for path in files:
            command += ["--config", str(path)]
        if admin_port is None:
            command += ["--admin", f"127.0.0.1:{self.admin_port}"]
        command += arguments
        super().__init__(inside(*command) if inside else command, self.root, "weir", pass_fds=pass_fds)
        self.ports = ports
        try:
            eventually(self._is_ready, 10, f"ready: {command}")
        except AssertionError as failure:
            self.stop()
            raise AssertionError(f"{failure}\n{self.output()}") from None

    @classmethod
    def start(cls, directory: pathlib.Path, setup: Setup, name: str = "weir", **options) -> "Weir":
        path = directory / f"{name}.yaml"
        path.write_text(text(setup))
        process = cls(directory, [path], [listen.port for listen in setup.listeners], name=name, **options)
        process.config = path
        return process

    def _is_ready(self) -> bool:
        assert self.is_running(), f"weir ended with {self.wait()}"
        from harness.peers import listens

        return all(listens(port, self) for port in self.ports) and self.admin("/readyz")[0] == 200

    # Admin endpoint

    def admin(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 when nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", headers={"Connection": "close"})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> Metrics:
        status, text = self.admin("/metrics")
        assert status == 200, f"/metrics: {status}"
        return Metrics(text)

    def expect_nothing_outstanding(self, seconds: float = 5.0) -> None:
        """No session, buffer or block is in use any more."""
        names = vocabulary.OUTSTANDING
        figures = {}

        def all_zero():
            metrics = self.metrics()
            figures.update({name: metrics.sum(name) for name in names})
            return not any(figures.values())

        try:
            eventually(all_zero, seconds)
        except AssertionError:
            raise AssertionError(f"still outstanding after {seconds} s: {figures}") from None

    # Access log

    def log_lines(self) -> list[str]:
        """Every complete line so far."""
        return self.stdout_path.read_text(errors="surrogateescape").split("\n")[:-1]

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.log_lines() if line.startswith("{")]

    def record(self, after: int = 0, seconds: float = 5.0, **fields) -> dict:
        """The first record after the first `after` ones whose fields have these values."""

        def found():
            for record in self.records()[after:]:
                if all(record.get(key) == value for key, value in fields.items()):
                    return record

        return eventually(found, seconds, f"a log record with {fields} in {self.stdout_path}")

    # Signals

    def reload(self) -> None:
        """HUP, and waits until the new configuration is in use."""
        before = self.reload_count()
        self.send(signal.SIGHUP)
        eventually(lambda: self.reload_count() > before, 5, "a reload")

    def reload_count(self, result: str = "ok") -> float:
        return self.metrics().sum(vocabulary.RELOADS, result=result)


class WeirElsewhere(Weir):
    """Weir on another host of the suite, asked from there."""

    def __init__(self, host, *arguments, **options):
        self.host = host
        super().__init__(*arguments, inside=host.inside, **options)

    @classmethod
    def start(cls, host, directory: pathlib.Path, setup: Setup, name: str = "weir", **options) -> "WeirElsewhere":
        path = directory / f"{name}.yaml"
        path.write_text(text(setup))
        process = cls(host, directory, [path], [listen.port for listen in setup.listeners], name=name, **options)
        process.config = path
        return process

    def admin(self, path: str) -> tuple[int, str]:
        with self.host.entered():
            return super().admin(path)
