"""What a proxy is asked to do, in words that every subject of the suite can be configured for."""

from dataclasses import dataclass, field

Endpoint = tuple[str, int]


@dataclass
class SendProxy:
    version: str = "v2"
    authority: bool = False
    crc32c: bool = False
    unique_id: bool = False


@dataclass
class Listen:
    name: str
    port: int
    address: str = "127.0.0.1"
    # By server name; empty where no name is read.
    routes: dict[str, Endpoint] = field(default_factory=dict)
    # Connections that no name took. With no `routes` it is where all go, without a byte being read first.
    default: Endpoint | None = None
    # Set: to the name in the hello, on this port.
    forward_port: int | None = None
    # A PROXY header is required from these peers.
    proxy_from: list[str] | None = None
    send_proxy: SendProxy | None = None
    # Seconds.
    hello_timeout: float = 5
    # From accept to an open upstream.
    preamble_timeout: float = 10
    idle_timeout: float = 60
    half_close_timeout: float = 30
    # Handshake bytes.
    hello_max: int | None = None
    # CIDR blocks; None: the subject's default.
    clients: list[str] | None = None

    @property
    def endpoint(self) -> Endpoint:
        return (self.address, self.port)

    @property
    def reads_names(self) -> bool:
        return bool(self.routes) or self.forward_port is not None


@dataclass
class Setup:
    listeners: list[Listen]
    # A DNS server.
    resolver: Endpoint | None = None
    # Addresses that a resolved name may have although they are not public.
    destinations: list[str] = field(default_factory=lambda: ["127.0.0.0/8"])
    # Addresses that it may not have, allowed or not.
    denied: list[str] = field(default_factory=list)
    workers: int = 2
    # How bulk is moved; None: the subject's default.
    splice: str | None = None
    congestion: str | None = None
    steering: str | None = None
    # Seconds that a drain goes on accepting.
    drain_delay: float = 0
    # Seconds that sessions may go on after a drain has closed the listeners.
    drain_timeout: float = 30
    # Seconds an answer is kept at least.
    ttl_min: float | None = None
    limits: dict = field(default_factory=dict)
