"""A control group of the suite's own with a limit on memory, version 2 where the machine has it, else version 1."""

import contextlib
import itertools
import os
import pathlib

_numbers = itertools.count()


class MemoryGroup:
    """Whoever is started with `prefix` is in it. Gone with `stop()`, after its last process."""

    def __init__(self, directory: pathlib.Path, version: int, byte_count: int):
        self.directory, self.version = directory, version
        directory.mkdir()
        self._write("memory.max" if version == 2 else "memory.limit_in_bytes", byte_count)
        if version == 1:
            # Version 2 counts the buffers of sockets as well; here they have a count of their own.
            with contextlib.suppress(OSError):
                self._write("memory.kmem.tcp.limit_in_bytes", byte_count)

    @classmethod
    def make(cls, byte_count: int) -> "MemoryGroup | str":
        """The group, or why there is none."""
        refusals = []
        for mount, version in _mounts():
            directory = mount / f"weir-peers-{os.getpid()}-{next(_numbers)}"
            try:
                if version == 2 and "memory" not in (mount / "cgroup.subtree_control").read_text().split():
                    (mount / "cgroup.subtree_control").write_text("+memory")
                return cls(directory, version, byte_count)
            except OSError as failure:
                refusals.append(f"{directory}: {failure}")
                with contextlib.suppress(OSError):
                    directory.rmdir()
        return "; ".join(refusals) or "no control groups are mounted"

    @property
    def prefix(self) -> list[str]:
        """The start of a command line; exec keeps the pid."""
        return ["sh", "-c", f'echo $$ > "{self.directory}/cgroup.procs" && exec "$@"', "sh"]

    def add(self, pid: int) -> None:
        self._write("cgroup.procs", pid)

    def kills(self) -> int:
        """Processes that the kernel has killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        counts = dict(line.split() for line in (self.directory / name).read_text().splitlines())
        return int(counts["oom_kill"])

    def usage(self) -> dict[str, int]:
        """The most bytes that were in use at one time, by kind."""
        names = {
            2: {"memory": "memory.peak", "now": "memory.current"},
            1: {
                "memory": "memory.max_usage_in_bytes",
                "now": "memory.usage_in_bytes",
                "sockets": "memory.kmem.tcp.max_usage_in_bytes",
            },
        }[self.version]
        found = {}
        for kind, name in names.items():
            with contextlib.suppress(OSError):
                found[kind] = int((self.directory / name).read_text())
        return found

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.directory.rmdir()

    def _write(self, name: str, value: int) -> None:
        (self.directory / name).write_text(str(value))


def _mounts() -> list[tuple[pathlib.Path, int]]:
    found = []
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        root = pathlib.Path(where)
        if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
            found.append((root, 2))
        elif kind == "cgroup" and "memory" in options.split(","):
            found.append((root, 1))
    return found
