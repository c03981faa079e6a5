"""What it was measured on."""

import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Callable

SYSCTLS = [
    "net.ipv4.tcp_congestion_control",
    "net.core.default_qdisc",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_tw_reuse",
    "fs.pipe-max-size",
    "fs.pipe-user-pages-soft",
]


def sysctl(name: str) -> str:
    try:
        return pathlib.Path("/proc/sys", name.replace(".", "/")).read_text().strip()
    except OSError:
        return "not there"


def set_sysctl(name: str, value: str) -> bool:
    try:
        pathlib.Path("/proc/sys", name.replace(".", "/")).write_text(value)
        return True
    except OSError:
        return False


def processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def memory_gib() -> float:
    found = re.search(r"^MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) / (1 << 20) if found else 0


def slab_bytes() -> int:
    """Kernel objects, sockets among them; of the whole machine."""
    found = re.search(r"^Slab:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def facts() -> dict:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib(), 1),
        "kernel": platform.release(),
        "sysctl": {name: sysctl(name) for name in SYSCTLS},
    }


def version(*command: str) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+\.\d+[\w.\-]*", run.stdout + run.stderr)
    return found.group(0) if found else "unknown"


def children(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for directory in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in directory.read_text().split():
                found += children(int(child))
        except OSError:
            continue
    return found


def tracer(pid: int) -> int:
    """Who traces it; 0: nobody."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come about in {seconds:.0f} s")
        time.sleep(0.005)
