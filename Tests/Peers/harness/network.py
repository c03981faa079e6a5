"""The suite's own network: a namespace in which every port and address is ours."""

import ctypes
import itertools
import os
import socket
import subprocess

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# Below the ephemeral range (32768...), so that no outgoing connection can sit on a port picked here.
_ports = itertools.cycle(range(20000, 32000))


def enter_private_network() -> str | None:
    """Moves this process, and so everything it starts, into a new network namespace.

    Must run before any thread exists. Returns None when it worked, else why it did not; the suite then shares the
    machine's network and leaves out the tests marked `own_network`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    if flags & CLONE_NEWUSER:
        for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return None


def add_address(address: str) -> None:
    """Puts `address` on this namespace's loopback interface; once is as good as twice."""
    prefix = 128 if ":" in address else 32
    command = ["ip", "address", "replace", f"{address}/{prefix}", "dev", "lo"]
    if ":" in address:
        command.append("nodad")
    subprocess.run(command, check=True, capture_output=True)


def free_port() -> int:
    """A port that nobody listens on, on any address, of either family."""
    for port in _ports:
        try:
            for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((any_address, port))
            return port
        except OSError:
            continue
    raise AssertionError("unreachable: the cycle does not end")


def with_file(path: str, replacement) -> list[str]:
    """The start of a command line whose process finds `replacement` at `path`; exec keeps the pid."""
    return ["unshare", "--mount", "sh", "-c", f'mount --bind "{replacement}" "{path}" && exec "$@"', "sh"]


class Neighbour:
    """Another host: a network namespace of its own behind a veth pair, gone when its holder is.

    `here` and the first of `there` are the two ends' addresses, all of them /24.
    """

    _names = itertools.count()

    def __init__(self, here: str, *there: str):
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self.pid = self._holder.pid
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.pid}/ns/net") == own:  # until unshare(1) has done its work
            assert self._holder.poll() is None, "unshare ended"
        near = f"peer{next(self._names)}"
        for command in (
            ["ip", "link", "add", near, "type", "veth", "peer", "name", "far", "netns", str(self.pid)],
            ["ip", "address", "add", f"{here}/24", "dev", near],
            ["ip", "link", "set", near, "up"],
            self.inside("ip", "link", "set", "lo", "up"),
            *(self.inside("ip", "address", "add", f"{address}/24", "dev", "far") for address in there),
            self.inside("ip", "link", "set", "far", "up"),
        ):
            subprocess.run(command, check=True)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` on the other host; exec keeps the pid."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def stop(self) -> None:
        self._holder.kill()
        self._holder.wait()
