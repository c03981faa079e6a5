"""The suite's own network: a namespace in which every port and address is ours."""

import contextlib
import ctypes
import itertools
import os
import re
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


class Namespace:
    """Another host: a network namespace of its own, gone when its holder is."""

    def __init__(self):
        # Ends with its input, so also when we are killed.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.pid = self._holder.pid
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.pid}/ns/net") == own:  # until unshare(1) has done its work
            assert self._holder.poll() is None, "unshare ended"
        self.run("ip", "link", "set", "lo", "up")

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` on the other host; exec keeps the pid."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def run(self, *command: str, check: bool = True) -> str:
        """Runs `command` on the other host to its end, and returns what it printed."""
        done = subprocess.run(self.inside(*command), check=check, stdout=subprocess.PIPE, text=True)
        return done.stdout

    @contextlib.contextmanager
    def entered(self):
        """Sockets that this thread makes inside the `with` are the other host's."""
        with open("/proc/thread-self/ns/net") as back, open(f"/proc/{self.pid}/ns/net") as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(back.fileno())

    def stop(self) -> None:
        self._holder.stdin.close()
        self._holder.wait()


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Neighbour(Namespace):
    """A host behind a veth pair: `here` and the first of `there` are the two ends' addresses, all of them /24."""

    _names = itertools.count()

    def __init__(self, here: str, *there: str):
        super().__init__()
        near = f"peer{next(self._names)}"
        for command in (
            ["ip", "link", "add", near, "type", "veth", "peer", "name", "far", "netns", str(self.pid)],
            ["ip", "address", "add", f"{here}/24", "dev", near],
            ["ip", "link", "set", near, "up"],
            *(self.inside("ip", "address", "add", f"{address}/24", "dev", "far") for address in there),
            self.inside("ip", "link", "set", "far", "up"),
        ):
            subprocess.run(command, check=True)


class Switch:
    """Several hosts on one bridge, which is in the caller's own namespace, out of the way of all of them.

    What is done to packets on the way (`rules`) is done in the bridge, so that no host knows of it.
    """

    def __init__(self, name: str = "switch"):
        self.name = name
        self.hosts: dict[str, Namespace] = {}
        subprocess.run(["ip", "link", "add", "name", name, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)

    def host(self, name: str, *addresses: str) -> Namespace:
        """Another host, on a port of the bridge that has its name; the addresses are /24."""
        host = self.hosts[name] = Namespace()
        for command in (
            ["ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid)],
            ["ip", "link", "set", name, "master", self.name, "up"],
            *(host.inside("ip", "address", "add", f"{address}/24", "dev", "eth0") for address in addresses),
            host.inside("ip", "link", "set", "eth0", "up"),
        ):
            subprocess.run(command, check=True)
        return host

    def rules(self, *rules: str) -> None:
        """Each is an nftables rule that every packet between two hosts meets; none: everything passes again."""
        text = "table bridge weather\ndelete table bridge weather\n"
        if rules:
            lines = "\n".join(rules)
            text += f"table bridge weather {{\nchain way {{\ntype filter hook forward priority 0\n{lines}\n}}\n}}\n"
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    def lose(self, percent: int, host: str) -> None:
        """Drops so many of all TCP segments to and from `host`, at random."""
        chance = f"ip protocol tcp numgen random mod 100 < {percent} counter drop"
        self.rules(f'iifname "{host}" {chance}', f'oifname "{host}" {chance}')

    def lost_count(self) -> int:
        """Segments that `lose` has dropped so far; 0 once there are other rules."""
        done = subprocess.run(["nft", "list", "ruleset"], check=True, stdout=subprocess.PIPE, text=True)
        return sum(int(count) for count in re.findall(r"counter packets (\d+) bytes \d+ drop", done.stdout))

    def stop(self) -> None:
        for host in self.hosts.values():
            host.stop()
        subprocess.run(["ip", "link", "delete", self.name], check=False)
