"""Steps the wall clock of one process while it runs; its monotonic clock goes on as it does."""

import mmap
import pathlib
import shutil
import struct
import subprocess

_SOURCE = pathlib.Path(__file__).with_name("wallclock.c")


class WallClock:
    """Of a process that is started with `prefix`: a library in front of libc's clock_gettime(2) adds `step`."""

    def __init__(self, directory: pathlib.Path):
        compiler = next(filter(None, map(shutil.which, ("cc", "clang", "gcc"))))
        library, shared = directory / "wallclock.so", directory / "wallclock.step"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE)], check=True)
        shared.write_bytes(bytes(8))
        with open(shared, "r+b") as file:
            self._seconds = mmap.mmap(file.fileno(), 8)
        self.prefix = ["env", f"LD_PRELOAD={library}", f"WALL_CLOCK_STEP={shared}"]

    def step(self, seconds: int) -> None:
        """From now on its wall clock is so far ahead of ours."""
        self._seconds[:] = struct.pack("q", seconds)
