"""System calls that fail because we say so."""

import pathlib


def failing(call: str, error: str, *, seccomp: bool = False, log: pathlib.Path | None = None) -> list[str]:
    """The start of a command line whose process has `call` answered with `error`, on every thread; it keeps the pid.

    strace stops the process at that call only where `seccomp` is true, which costs nothing else, but then the process
    finds itself under a seccomp filter, strace's own. `log`: where the calls are written.
    """
    command = ["strace", "-D", "-f", "-qq", "-o", str(log or "/dev/null")]
    if seccomp:
        command.append("--seccomp-bpf")
    return [*command, "-e", f"trace={call}", "-e", f"inject={call}:error={error}", "--"]
