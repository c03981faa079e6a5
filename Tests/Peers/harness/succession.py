"""A proxy that is replaced by another process of itself, again and again: USR2, and who serves then."""

import contextlib
import ctypes
import os
import pathlib
import signal

from harness.processes import eventually
from harness.setup import Setup
from harness.weir import Weir

PR_SET_CHILD_SUBREAPER = 36


class Succession:
    """The first process is `first`; `pid` is the one that serves now, which its pid file says.

    What `program` links to is what an upgrade starts.
    """

    def __init__(self, directory: pathlib.Path, setup: Setup, arguments: list[str] = (), **options):
        # A process whose parent has ended is ours from then on, so we can wait for it.
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self.program = directory / "bin" / "weir"
        self.program.parent.mkdir()
        self.program.symlink_to(Weir.binary)
        self.pid_file = directory / "weir.pid"
        self._known: set[int] = set()

        class FromLink(Weir):
            binary = self.program

        self.first = FromLink.start(
            directory, setup, arguments=["--pid-file", str(self.pid_file), *arguments], **options
        )
        assert self.pid == self.first.pid

    @property
    def pid(self) -> int:
        found = int(self.pid_file.read_text().split("\n")[0] or "0")
        self._known.add(found)
        return found

    def install(self, program: pathlib.Path) -> None:
        """What stands at the program's path from here on."""
        fresh = self.program.with_name("fresh")
        fresh.symlink_to(program)
        fresh.rename(self.program)

    def errors(self) -> str:
        return self.first.stderr_path.read_text(errors="replace")

    def count(self, text: str) -> int:
        return self.errors().count(text)

    def upgrade(self, seconds: float = 20) -> int:
        """Returns the process before, which may still drain, once another serves."""
        before = self.pid
        os.kill(before, signal.SIGUSR2)
        eventually(lambda: self.pid != before, seconds, "another process in the pid file")
        return before

    def await_end(self, pid: int, seconds: float = 10) -> int:
        """The exit status of a process of this succession."""
        if pid == self.first.pid:
            return self.first.wait(seconds)
        # Until its parent has ended, too, it is not ours to wait for.
        eventually(lambda: not self.is_running(pid), seconds, f"the end of process {pid}")
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            status = pathlib.Path(f"/proc/{pid}/stat").read_text().split()[-1]
            return os.waitstatus_to_exitcode(int(status))

    def is_running(self, pid: int) -> bool:
        """Not a zombie either."""
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def stop(self) -> None:
        """Ends every process that stood in the pid file."""
        with contextlib.suppress(OSError, ValueError):
            _ = self.pid
        for pid in self._known - {self.first.pid, 0}:
            if self.is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.first.stop(signal.SIGKILL)
        for pid in self._known - {self.first.pid, 0}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
