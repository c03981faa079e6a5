"""A child process with its output in files, ended by its pid and by nothing else."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time


def eventually(condition, seconds: float = 5.0, what: str = ""):
    """Polls until `condition()` is truthy and returns its value; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class Process:
    def __init__(self, command: list[str], directory: pathlib.Path, name: str, **popen):
        self.command = [str(word) for word in command]
        self.stdout_path = directory / f"{name}.out"
        self.stderr_path = directory / f"{name}.err"
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self._child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=directory, **popen
            )
        self.pid = self._child.pid

    def output(self) -> str:
        return self.stdout_path.read_text(errors="replace") + self.stderr_path.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._child.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def wait(self, seconds: float = 5.0) -> int:
        return self._child.wait(seconds)

    def stop(self, first: signal.Signals = signal.SIGTERM, seconds: float = 3.0) -> int:
        """Ends the process, by force if it does not go by itself; returns its exit status."""
        if self._child.poll() is None:
            self._child.send_signal(first)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
        return self._child.wait()

    def descriptors(self) -> list[str]:
        """What each open descriptor is (`socket:[…]`, `anon_inode:[…]`, a path)."""
        found = []
        for entry in os.scandir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(entry.path))
            except FileNotFoundError:
                pass  # closed while we looked
        return found

    def thread_names(self) -> list[str]:
        """Of every thread, without a number at its end; `iou-wrk` are those that io_uring starts for itself."""
        found = []
        for path in pathlib.Path(f"/proc/{self.pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                found.append(path.read_text().strip().rstrip("0123456789").rstrip("-"))
        return found

    def socket_count(self) -> int:
        return sum(target.startswith("socket:") for target in self.descriptors())

    def idle_socket_count(self) -> int:
        """The fewest sockets seen in 0.1 s: a question to its admin endpoint may still be closing."""
        counts = []
        for _ in range(5):
            counts.append(self.socket_count())
            time.sleep(0.02)
        return min(counts)

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
