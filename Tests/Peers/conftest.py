"""Fixtures of the peer suite. What it is and how to run it: README.md."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import conformance, figures, network
from harness.certificates import Authority
from harness.injection import failing
from harness.names import NameServer
from harness.peers import Haproxy, Nginx, haproxy_tcp, nginx_stream
from harness.weir import Weir

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    group = parser.getgroup("peers")
    group.addoption(
        "--subject",
        choices=("weir", "nginx", "haproxy"),
        default="weir",
        help="the proxy under test; nginx and haproxy show that the harness itself is right",
    )
    group.addoption(
        "--weir", type=pathlib.Path, default=REPOSITORY / ".build/release/weir", help="the binary under test"
    )
    group.addoption(
        "--io",
        choices=("auto", "uring", "epoll"),
        default="auto",
        help="the I/O driver of every weir that a test does not give another",
    )
    group.addoption(
        "--inject",
        metavar="ERROR",
        help="under strace, which answers io_uring_setup with this error (EPERM): what is left is the fallback",
    )
    group.addoption("--bulk", type=int, default=1 << 30, help="bytes each way in the bulk test (default: 1 GiB)")
    group.addoption("--half-closes", type=int, default=10_000, help="exchanges of P-17 (default: 10,000)")
    group.addoption("--lossy-streams", type=int, default=2000, help="streams of P-20 (default: 2,000)")
    group.addoption(
        "--report",
        type=pathlib.Path,
        default=REPOSITORY / ".build/peers",
        help="directory for the conformance table and the figures",
    )


def pytest_configure(config):
    config.stash[REFUSED] = network.enter_private_network()
    config.stash[TABLE] = {}
    Weir.binary = config.getoption("--weir").resolve()
    Weir.driver = config.getoption("--io")
    if config.getoption("--inject"):
        Weir.wrapper = failing("io_uring_setup", config.getoption("--inject"), seccomp=True)
    if config.getoption("--subject") == "weir" and not Weir.binary.exists() and not config.option.collectonly:
        raise pytest.UsageError(f"{Weir.binary} does not exist: `swift build -c release`, or pass --weir=PATH")


REFUSED = pytest.StashKey[str | None]()
TABLE = pytest.StashKey[dict]()


def pytest_collection_modifyitems(config, items):
    refused = config.stash[REFUSED]
    kept, left_out = [], []
    for item in items:
        unfit = "own_driver" if config.getoption("--inject") else None
        if config.getoption("--subject") != "weir":
            unfit = "weir"
        (left_out if unfit and item.get_closest_marker(unfit) else kept).append(item)
        if refused and item.get_closest_marker("own_network"):
            item.add_marker(pytest.mark.skip(reason=f"no network namespace of its own ({refused})"))
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_terminal_summary(terminalreporter, config):
    subject = run_name(config)
    directory = config.getoption("--report")
    lines = conformance.table(directory, subject, config.stash[TABLE]) if config.stash[TABLE] else []
    for title, lines in (("conformance table", lines), ("figures", figures.lines())):
        if not lines:
            continue
        terminalreporter.section(f"{title}, {subject}")
        for line in lines:
            terminalreporter.write_line(line)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{title.replace(' ', '-')}-{subject}.txt").write_text("\n".join(lines) + "\n")


def run_name(config) -> str:
    """What a run's files and JUnit names are called by: `weir-uring`, `weir-injected-EPERM`, `nginx`."""
    subject = config.getoption("--subject")
    if subject != "weir":
        return subject
    injected = config.getoption("--inject")
    return f"weir-injected-{injected}" if injected else f"weir-{config.getoption('--io')}"


@pytest.fixture
def native(tmp_path, stopping):
    """Starts processes from configurations in Weir's own format. `change` of one writes its configuration anew and reloads.

    `beside`: manifests, each a file of its own.
    """

    def start(configuration: dict, name: str = "weir", beside: list[str] = (), **options) -> Weir:
        file = tmp_path / f"{name}.yaml"
        files = [file]
        for number, text in enumerate(beside):
            files.append(tmp_path / f"{name}-manifest-{number}.yaml")
            files[-1].write_text(text)
        # JSON is YAML.
        file.write_text(json.dumps(configuration))
        ports = [int(listener["address"].rsplit(":", 1)[1]) for listener in configuration["listeners"]]
        process = stopping(Weir(tmp_path, files, ports, name=name, **options))
        process.configuration = configuration

        def change() -> None:
            file.write_text(json.dumps(configuration))
            process.reload()

        process.change = change
        return process

    return start


@pytest.fixture(scope="session")
def ring():
    """For tests of what only a ring has: skips them where this machine lets nobody have one."""
    done = subprocess.run([Weir.binary, "doctor", "--io", "uring"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("io_uring does not work here; `weir doctor` says why")


@pytest.fixture
def without_leak_check(monkeypatch):
    """For processes under a tracer or a strict filter: the leak sanitizer cannot look there, and ends them with status 1."""
    monkeypatch.setenv("LSAN_OPTIONS", "detect_leaks=0")


@pytest.fixture(scope="session")
def subject_name(request) -> str:
    return request.config.getoption("--subject")


@pytest.fixture(scope="session")
def table(request) -> dict[str, conformance.Line]:
    """Lines for the conformance table at the end of the run, by their vector."""
    return request.config.stash[TABLE]


@pytest.fixture(scope="session")
def figure():
    """`figure(id, promise, target, measured)`: a row of the table at the end of the run."""
    return figures.figure


@pytest.fixture(scope="module")
def directory(tmp_path_factory, request) -> pathlib.Path:
    """Files of one module's processes."""
    return tmp_path_factory.mktemp(request.module.__name__)


@pytest.fixture
def readable_for_all():
    """A directory whose files every user may read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def names():
    server = NameServer(network.free_port())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stopping():
    """Call with anything that has `stop()`; it is stopped after the module, last one first. Returns its argument."""
    started = []

    def register(thing):
        started.append(thing)
        return thing

    yield register
    for thing in reversed(started):
        thing.stop()


@pytest.fixture(scope="module")
def proxy(directory, subject_name, stopping):
    """Starts the subject with a `Setup`; `proxy(setup)` returns its process."""

    def start(setup, name="proxy", **options):
        ports = [listen.port for listen in setup.listeners]
        if subject_name == "weir":
            return stopping(Weir.start(directory, setup, name=name, **options))
        if subject_name == "nginx":
            return stopping(Nginx(directory, nginx_stream(setup), ports, name=name))
        return stopping(Haproxy(directory, haproxy_tcp(setup), ports, name=name))

    return start


def pytest_report_header(config):
    missing = [
        tool
        for tool in (
            "curl",
            "openssl",
            "gnutls-cli",
            "nginx",
            "haproxy",
            "dnsmasq",
            "promtool",
            "ip",
            "nsenter",
            "prlimit",
            "setpriv",
            "strace",
            "runc",
            "nft",
        )
        if not shutil.which(tool)
    ]
    network_line = config.stash[REFUSED] or "own namespace"
    return [f"subject: {run_name(config)}, network: {network_line}, tools missing: {missing or 'none'}"]
