"""Which I/O driver runs, and what is said about it: io_uring where it works, epoll where it is forbidden or does not do.

U-01, U-02, U-03. Each case makes io_uring unusable in one way, from outside; the process must serve all the same, name the
cause once, and end with status 4 where it was told to have nothing but io_uring.
"""

import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

from harness import seccomp, vocabulary, wire
from harness.endpoints import FIN, Origin, answering, exchange
from harness.injection import failing
from harness.network import free_port, with_file
from harness.setup import Listen, Setup
from harness.weir import Weir, text

pytestmark = [pytest.mark.weir, pytest.mark.own_driver, pytest.mark.usefixtures("without_leak_check")]

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# What we ship, and what Podman gives a container that asks for nothing (Debian: golang-github-containers-common).
OURS = REPOSITORY / "docs/seccomp/weir.json"
ENGINES = pathlib.Path("/usr/share/containers/seccomp.json")

KERNEL = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
SYSCTL = "/proc/sys/kernel/io_uring_disabled"
IORING_REGISTER_ENABLE_RINGS = 12

# The probe's ring has fewer entries; a worker's has 1024 where nothing is short.
WORKER_ENTRIES = 128


class Cause:
    """One way in which io_uring does not do, and what is to be said of it."""

    def __init__(self, name: str, reason: str, words: str, prefix):
        self.name, self.reason, self.words = name, reason, words
        # From a directory of its own to the start of a command line.
        self.prefix = prefix


def injected(error: str, reason: str, words: str, *, call: str = "io_uring_setup", container: bool = False) -> Cause:
    name = f"{call} {error}" + (" in a container" if container else "")
    return Cause(name, reason, words, lambda directory: failing(call, error, seccomp=container))


def sysctl(value: int, words: str) -> Cause:
    """What a host with this setting looks like; the setting itself belongs to the whole machine."""

    def prefix(directory: pathlib.Path) -> list[str]:
        (directory / "disabled").write_text(f"{value}\n")
        (directory / "group").write_text("4711\n")
        return [
            *with_file(SYSCTL, directory / "disabled"),
            *with_file("/proc/sys/kernel/io_uring_group", directory / "group"),
            *failing("io_uring_setup", "EPERM"),
            # Neither a member of the group nor CAP_SYS_ADMIN, for whom 1 is as good as 0.
            *("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
        ]

    return Cause(f"kernel.io_uring_disabled {value}", "forbidden_sysctl", words, prefix)


def filtered(name: str, change) -> Cause:
    """Under the engine's profile with a change."""

    def prefix(directory: pathlib.Path) -> list[str]:
        return seccomp.under(change(engine_profile()), directory / "profile.json")

    return Cause(name, "forbidden_seccomp", "the seccomp filter", prefix)


def engine_profile() -> dict:
    assert ENGINES.exists(), "apt-get install golang-github-containers-common"
    return seccomp.resolved(json.loads(ENGINES.read_text()))


def answering_io_uring(action: str, **rule):
    return lambda profile: seccomp.with_rule(profile, seccomp.IO_URING, action, **rule)


def refusing_workers(error: int):
    """Small rings may be made, and so the probe goes well."""
    many = [{"index": 0, "value": WORKER_ENTRIES, "op": "SCMP_CMP_GE"}]
    few = [{"index": 0, "value": WORKER_ENTRIES, "op": "SCMP_CMP_LT"}]

    def change(profile: dict) -> dict:
        found = answering_io_uring("SCMP_ACT_ALLOW")(profile)
        found = seccomp.with_rule(found, ("io_uring_setup",), "SCMP_ACT_ERRNO", errnoRet=error, args=many)
        found["syscalls"].append({"names": ["io_uring_setup"], "action": "SCMP_ACT_ALLOW", "args": few})
        return found

    return change


def refusing_to_enable(profile: dict) -> dict:
    """Rings may be made and not used: the probe's is enabled from the start, a worker's by its thread."""
    enabling = {"index": 1, "value": IORING_REGISTER_ENABLE_RINGS}
    found = answering_io_uring("SCMP_ACT_ALLOW")(profile)
    found = seccomp.with_rule(
        found, ("io_uring_register",), "SCMP_ACT_ERRNO", errnoRet=errno.EPERM, args=[enabling | {"op": "SCMP_CMP_EQ"}]
    )
    found["syscalls"].append(
        {"names": ["io_uring_register"], "action": "SCMP_ACT_ALLOW", "args": [enabling | {"op": "SCMP_CMP_NE"}]}
    )
    return found


def of_workers(error: int, reason: str, words: str) -> Cause:
    cause = filtered(f"a worker's io_uring_setup {errno.errorcode[error]}", refusing_workers(error))
    cause.reason, cause.words = reason, words
    return cause


CAUSES = [
    # Docker and containerd, Podman, and filters that kill.
    injected("EPERM", "forbidden_seccomp", "the seccomp filter", container=True),
    injected("ENOSYS", "forbidden_seccomp", "the seccomp filter", container=True),
    filtered("Podman's default profile", lambda profile: profile),
    filtered("Docker's answer", answering_io_uring("SCMP_ACT_ERRNO", errnoRet=errno.EPERM)),
    filtered("filter that traps", answering_io_uring("SCMP_ACT_TRAP")),
    filtered("filter that kills the thread", answering_io_uring("SCMP_ACT_KILL_THREAD")),
    filtered("filter that kills the process", answering_io_uring("SCMP_ACT_KILL_PROCESS")),
    filtered(
        "filter that kills at io_uring_enter",
        lambda profile: seccomp.with_rule(
            answering_io_uring("SCMP_ACT_ALLOW")(profile), ("io_uring_enter",), "SCMP_ACT_KILL_PROCESS"
        ),
    ),
    sysctl(2, "kernel.io_uring_disabled is 2"),
    sysctl(1, "kernel.io_uring_disabled is 1 and kernel.io_uring_group is 4711"),
    injected("EPERM", "denied", "a security module forbids it"),
    injected("EACCES", "denied", "a security module forbids it"),
    injected("ENOSYS", "unsupported", "has no io_uring"),
    injected("EINVAL", "unsupported", "lacks what Linux 6.1 brought"),
    injected("ENOMEM", "memlock", "locked memory is limited to"),
    injected("EMFILE", "descriptors", "descriptors"),
    injected("ENFILE", "descriptors", "descriptors"),
    # The ring is made and does not do what the driver needs.
    injected("EINVAL", "unsupported", "does not do: buffer ring", call="io_uring_register"),
    injected("EPERM", "denied", "io_uring_register", call="io_uring_register"),
    injected("EPERM", "denied", "io_uring_enter", call="io_uring_enter"),
    injected("ENOMEM", "memlock", "io_uring_enter", call="io_uring_enter"),
    # The probe goes well, and a worker's ring does not.
    of_workers(errno.EPERM, "forbidden_seccomp", "the seccomp filter"),
    of_workers(errno.ENOMEM, "memlock", "locked memory is limited to"),
    of_workers(errno.EMFILE, "descriptors", "descriptors"),
    filtered("a worker's ring that is not enabled", refusing_to_enable),
]

everyone = pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)


@pytest.fixture(scope="module")
def origin(stopping):
    return stopping(Origin(answering(b"A")))


@pytest.fixture
def weir(tmp_path, origin):
    """Starts Weir with one listener, and stops it after the test."""
    started = []

    def start(prefix: list[str] = (), driver: str = "auto", **options) -> Weir:
        listen = Listen("driver", free_port(), routes={"good.test": origin.endpoint})
        process = Weir.start(
            tmp_path, Setup([listen], **options), prefix=prefix, arguments=["--io", driver], name=f"weir{len(started)}"
        )
        started.append((process, listen))
        return process

    def serves() -> bool:
        """Fifty connections, so that every worker has some."""
        endpoint = started[-1][1].endpoint
        return all(exchange(endpoint, wire.hello(b"good.test")) == (b"A", FIN) for _ in range(50))

    start.serves = serves
    yield start
    for process, _ in started:
        process.stop()


def said(process: Weir, words: str) -> list[str]:
    return [line for line in process.stderr_path.read_text().splitlines() if words in line]


def expect_driver(process: Weir, driver: str, reason: str) -> None:
    metrics = process.metrics()
    [labels] = [labels for name, labels, value in metrics.samples if name == vocabulary.DRIVER]
    assert labels == {"driver": driver, "reason": reason}
    assert metrics.lint() == ""
    [banner] = said(process, " workers")
    assert f": {driver}" in banner


def ending(prefix: list[str], *arguments: str) -> subprocess.CompletedProcess:
    """Of a command that ends by itself."""
    command = [*prefix, str(Weir.binary), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@everyone
def test_it_falls_back_and_says_why_in_one_line(weir, ring, tmp_path, cause):
    process = weir(cause.prefix(tmp_path))
    assert weir.serves()
    expect_driver(process, "epoll", cause.reason)
    [line] = said(process, "epoll instead of io_uring: ")
    assert cause.words in line
    assert f"Linux {os.uname().release}" in line and "locked memory" in line and "seccomp" in line
    assert pathlib.Path(SYSCTL).exists() == ("kernel.io_uring_disabled" in line)
    assert "; " in line, "no remedy"
    process.expect_nothing_outstanding()


@everyone
def test_without_a_choice_it_ends_with_status_4_and_the_remedy(ring, tmp_path, cause):
    path = tmp_path / "weir.yaml"
    path.write_text(text(Setup([Listen("driver", free_port(), default=("127.0.0.1", 9))])))
    done = ending(cause.prefix(tmp_path), "run", "--io", "uring", "--config", str(path), "--admin", "off")
    assert done.returncode == 4, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "no I/O driver" in line]
    assert cause.words in line and "; " in line


@everyone
def test_the_doctor_says_beforehand_what_would_be_chosen(ring, tmp_path, cause):
    done = ending(cause.prefix(tmp_path), "doctor")
    assert done.returncode == 0, done.stderr
    [driver] = [line for line in done.stdout.splitlines() if line.startswith("driver ")]
    if cause.name == "a worker's ring that is not enabled":
        return  # it makes the rings and starts none
    assert driver.split()[1] == "epoll"
    assert cause.words in done.stdout and "fix: " in done.stdout
    assert ending(cause.prefix(tmp_path), "doctor", "--io", "uring").returncode == 4
    assert ending(cause.prefix(tmp_path), "doctor", "--io", "epoll").returncode == 0


def test_io_uring_is_the_choice_where_it_works(weir, ring):
    process = weir()
    assert weir.serves()
    expect_driver(process, "uring", "available")
    assert said(process, "instead of") == []
    done = ending([], "doctor")
    assert done.returncode == 0
    assert any(line.split() == ["driver", "uring"] for line in done.stdout.splitlines()), done.stdout


def test_io_uring_is_had_on_request(weir, ring):
    process = weir(driver="uring")
    assert weir.serves()
    expect_driver(process, "uring", "requested")


def test_epoll_on_request_does_not_touch_io_uring(weir, tmp_path):
    """For hardened sites: not even a probe."""
    log = tmp_path / "calls"
    process = weir(["strace", "-D", "-f", "-qq", "-o", str(log), "-e", "trace=/^io_uring", "--"], driver="epoll")
    assert weir.serves()
    expect_driver(process, "epoll", "requested")
    assert said(process, "instead of") == []
    assert log.read_text() == ""


def test_rings_are_smaller_where_memory_is_short(weir, ring, tmp_path):
    """U-03: all workers get what fits, and one line says what would help."""

    def change(profile: dict) -> dict:
        # A submission queue of 1024 entries finds no memory; one of 512, with 2048 completions, does.
        found = refusing_workers(errno.ENOMEM)(profile)
        for rule in found["syscalls"]:
            if rule["names"] == ["io_uring_setup"]:
                rule["args"] = [rule["args"][0] | {"value": 1024}]
        return found

    process = weir(seccomp.under(change(engine_profile()), tmp_path / "profile.json"), limits={"connections": 500})
    assert weir.serves()
    expect_driver(process, "uring", "available")
    [line] = said(process, "instead of")
    assert "completion queues of 2048 entries instead of 4096" in line and "LimitMEMLOCK" in line


@pytest.mark.skipif(KERNEL < (6, 14), reason="this kernel does not count rings as locked memory")
@pytest.mark.parametrize("kib, driver, reason", [(1024, "uring", "available"), (48, "epoll", "memlock")])
def test_little_lockable_memory_makes_rings_smaller_or_falls_back(weir, ring, kib, driver, reason):
    """U-03, by the kernel's own account, which leaves out who has CAP_IPC_LOCK."""
    limit = f"--memlock={kib << 10}:{kib << 10}"
    process = weir(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", limit])
    assert weir.serves()
    expect_driver(process, driver, reason)
    [line] = said(process, "instead of")
    assert f"locked memory is limited to {kib} KiB" in line


# The profile that we ship --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> dict:
    return json.loads(OURS.read_text())


def test_our_profile_lets_io_uring_work(weir, ring, ours, tmp_path):
    process = weir(seccomp.under(ours, tmp_path / "profile.json"))
    assert weir.serves()
    expect_driver(process, "uring", "available")
    process.config.write_text(process.config.read_text())
    process.reload()
    assert weir.serves()


def test_our_profile_without_io_uring_lets_epoll_work(weir, ours, tmp_path):
    process = weir(seccomp.under(seccomp.without(ours, *seccomp.IO_URING), tmp_path / "profile.json"))
    assert weir.serves()
    expect_driver(process, "epoll", "forbidden_seccomp")


def test_an_engines_profile_with_the_three_calls_lets_io_uring_work(weir, ring, tmp_path):
    """The other way that the documentation tells."""
    profile = answering_io_uring("SCMP_ACT_ALLOW")(engine_profile())
    process = weir(seccomp.under(profile, tmp_path / "profile.json"))
    assert weir.serves()
    expect_driver(process, "uring", "available")


def test_our_profile_allows_nothing_else_that_an_engines_does_not(ours):
    """Only plain rules and words of OCI's format, too: containerd ignores Docker's conditions and would apply them all."""
    allowed = {
        name for rule in engine_profile()["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }
    names = [name for rule in ours["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]]
    newer = {"fchmodat2", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self"}
    assert set(names) - allowed <= {*seccomp.IO_URING, *newer}
    assert set(seccomp.IO_URING) <= set(names)
    words = {"comment", "names", "action", "errnoRet", "args"}
    assert all(set(rule) <= words for rule in ours["syscalls"])
    assert set(ours) == {"defaultAction", "defaultErrnoRet", "syscalls"}


def test_our_profile_keeps_a_container_in(ours, tmp_path):
    """No new namespace, no mount, no raw or other sockets; a shell and its tools work."""
    prefix = seccomp.under(ours, tmp_path / "profile.json")
    for command in (["unshare", "--net", "true"], ["mount", "-t", "tmpfs", "none", str(tmp_path)]):
        assert subprocess.run([*prefix, *command], capture_output=True).returncode != 0
    program = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    done = subprocess.run([*prefix, sys.executable, "-c", program], capture_output=True, text=True)
    assert os.strerror(errno.ENOSYS) in done.stderr
    done = subprocess.run([*prefix, "sh", "-c", "ls / | head -n 1; id -u"], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 2, "")


@pytest.mark.exact
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a container, which needs root here")
@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_in_a_container_of_runc(ring, tmp_path, ours, driver):
    """The runtime below Docker, containerd and Podman loads our profile, or its own engine's."""
    profile = ours if driver == "uring" else engine_profile()
    root = tmp_path / "root"
    shared = ("usr", "lib", "lib64", "etc", "dev")
    for name in (*shared, "proc", "bin"):
        (root / name).mkdir(parents=True)
    (root / "bin/weir").touch()
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    for source, destination in ((f"/{name}", f"/{name}") for name in shared):
        mounts.append({"destination": destination, "source": source, "options": ["rbind", "ro"]})
    mounts.append({"destination": "/bin/weir", "source": str(Weir.binary), "options": ["bind", "ro"]})
    capabilities = sorted(seccomp.CAPABILITIES)
    specification = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/weir", "doctor"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": {name: capabilities for name in ("bounding", "effective", "permitted")},
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": name} for name in ("pid", "ipc", "mount")], "seccomp": profile},
    }
    (tmp_path / "config.json").write_text(json.dumps(specification))
    name = f"weir-test-{os.getpid()}-{driver}"
    command = ["runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("driver ")]
    assert line.split()[1] == driver
