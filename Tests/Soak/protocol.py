"""What the two ends of a checked stream say to each other, through the proxy."""

import enum
import struct
from typing import NamedTuple

from harness import wire

# Where origins listen; each has these on its own address.
PLAIN, NAMED, HEADED, SECURE = 7000, 7001, 7002, 7003
ORIGINS = {1: "10.99.0.11", 2: "10.99.0.12", 3: "10.99.0.13", 4: "10.99.0.14"}
CLIENTS = ("10.99.0.2", "10.99.0.3")
PROXY = "10.99.0.1"
NAMES = "10.99.0.53"

# The proxy's listeners.
TO_PLAIN, TO_NAMED, TO_SECURE, TO_HEADED_V1, TO_HEADED_V2, TO_FORWARD = range(8001, 8007)
SECURE_NAME = "tls.soak.test"


def fixed_name(origin: int) -> str:
    """The server name that a route gives to one origin alone."""
    return f"be{origin}.soak.test"


def forward_name(origin: int) -> str:
    """A name that DNS gives to one origin."""
    return f"be{origin}.names.test"


def new_name(origin: int, stream: int) -> str:
    """A name that nobody asked for before."""
    return f"n{stream}.be{origin}.new.test"


class Plan(enum.IntEnum):
    """Who speaks when."""

    AT_ONCE = 0  # both directions at the same time
    AFTER_THE_END = 1  # the origin answers once the client has ended its side
    FIRST_TO_END = 2  # the origin sends everything and ends its side, then reads
    PINGS = 3  # the origin answers as many bytes as came, each time
    SLOW_ORIGIN = 4  # as AT_ONCE; the origin reads slowly


class Opening(NamedTuple):
    """What the client sends first (behind a hello or a PROXY header)."""

    stream: int
    up: int
    down: int
    plan: Plan

    _format = struct.Struct("!4sQQQB3x")
    size = _format.size

    def pack(self) -> bytes:
        return self._format.pack(b"SOAK", *self)

    @classmethod
    def unpack(cls, content: bytes) -> "Opening":
        mark, stream, up, down, plan = cls._format.unpack(content)
        if mark != b"SOAK":
            raise ValueError(f"not the beginning of a stream: {content[:16].hex()}")
        return cls(stream, up, down, Plan(plan))


class Greeting(NamedTuple):
    """What the origin answers first: who it is, the proxy's port, and the client that a PROXY header named."""

    origin: int
    proxy_port: int
    client: bytes
    client_port: int

    _format = struct.Struct("!4sBxH4sHxx")
    size = _format.size

    def pack(self) -> bytes:
        return self._format.pack(b"weir", *self)

    @classmethod
    def unpack(cls, content: bytes) -> "Greeting":
        mark, *fields = cls._format.unpack(content)
        if mark != b"weir":
            raise ValueError(f"not a greeting: {content[:16].hex()}")
        return cls(*fields)


def hello(name: str) -> bytes:
    return wire.hello(name.encode())


def pieces(dice, most: int):
    """Lengths for one send after the other."""
    while True:
        yield min(most, dice.choice((1, 100, 1400, 4096, 16384, 65536, 65536, 65536)))
