"""What both ends said about each stream, what was done to the world meanwhile, and whether the one explains the other.

A stream is good when the client got every byte and both ends, and the origin says the same. Anything else must be of a
kind that an event of its time allows. Wrong bytes are never allowed, and an end that looks complete and is not only
where an origin was killed: its own kernel sends FIN.
"""

import collections
from dataclasses import dataclass, field

# Outcomes of a stream that was not served to its end.
RESET, FIN, ALERT, TIMEOUT, REFUSED = "reset", "fin", "alert", "timeout", "refused"
TURNED_AWAY = frozenset((RESET, FIN, ALERT))


@dataclass
class Event:
    """Something that the nemesis did."""

    kind: str
    start: float
    # Open ends are closed by the nemesis.
    end: float = float("inf")
    # The origin it was done to; 0: not to one.
    origin: int = 0
    # Ports of clients whose connections were cut; ports of the proxy towards its origins, likewise.
    clients: frozenset[int] = field(default_factory=frozenset)
    proxies: frozenset[int] = field(default_factory=frozenset)
    text: str = ""

    def overlaps(self, start: float, end: float, grace: float = 0.5) -> bool:
        return start <= self.end + grace and end >= self.start


def allows(event: Event, stream: dict) -> bool:
    """Whether `event` explains how this stream ended."""
    start, end, stage, outcome = stream["start"], stream["time"], stream["stage"], stream["outcome"]
    # A connect that is told of a reset had succeeded: what refuses one is said otherwise. The session may have been over
    # before connect(2) returned.
    if stage == "connect" and outcome == RESET:
        stage = "open"
    if outcome in ("corrupted", "complete") or not event.overlaps(start, end):
        return False
    hit = event.origin and stream["origin"] == event.origin
    alone = event.origin and stream["route"] == event.origin  # nobody else could serve it
    match event.kind:
        case "origin killed":
            if stage == "live":
                return hit and outcome in (RESET, FIN)
            # A connect that is refused goes on to another origin; only what the dead one had taken is lost.
            was_taken = start <= event.start + 0.5 and outcome in TURNED_AWAY
            return stage == "open" and ((alone and outcome in TURNED_AWAY) or was_taken)
        case "origin rejects":
            if stage == "live":
                return hit and outcome == RESET
            return stage == "open" and outcome in (TURNED_AWAY if alone else (RESET,))
        case "connections cut":
            if stage == "live":
                cut = stream.get("client") in event.clients or stream.get("proxy") in event.proxies
                return cut and outcome == RESET
            return stage == "open" and outcome == RESET
        case "origin unreachable":
            return stage == "open" and alone and outcome in TURNED_AWAY
        case "loss" if stream["kind"] == "stall":
            return outcome == TIMEOUT  # the RST that ended it was lost
        case "loss":
            return (stage == "open" and outcome in TURNED_AWAY) or (stage == "connect" and outcome == TIMEOUT)
        case "few descriptors":
            return stage == "open" and outcome in TURNED_AWAY
        case "no names":
            return stage == "open" and stream["kind"] == "new name" and outcome in TURNED_AWAY
    return False  # reloads, stops, squeezes and the like are nothing that a client may see


class Ledger:
    """Takes records as they come, and keeps only those whose other half is missing."""

    # Seconds after which the other end of a stream must have spoken.
    patience = 120.0

    def __init__(self):
        self.events: list[Event] = []
        self.violations: list[str] = []
        self.streams: collections.Counter[str] = collections.Counter()
        self.failures: collections.Counter[tuple[str, str, str, str]] = collections.Counter()
        self.byte_count = 0
        self._clients: dict[int, dict] = {}
        self._origins: dict[int, dict] = {}

    def from_client(self, record: dict) -> None:
        self.streams[record["kind"]] += 1
        if record["outcome"] == "corrupted":
            self.violations.append(f"corrupted: {record['text']} ({record})")
        elif record["kind"] in ("abort", "stall"):
            if record["outcome"] != "complete":
                self._judge(record)
        elif record["stream"] in self._origins:
            self._join(record, self._origins.pop(record["stream"]))
        elif record["stage"] in ("connect", "open") and record["outcome"] != "complete":
            self._judge(record)  # no origin need have seen it
        else:
            self._clients[record["stream"]] = record

    def from_origin(self, record: dict) -> None:
        if "corrupted" in record:
            self.violations.append(f"corrupted: {record['corrupted']}")
        elif record["stream"] in self._clients:
            self._join(self._clients.pop(record["stream"]), record)
        else:
            self._origins[record["stream"]] = record

    def settle(self, now: float) -> None:
        """Judges streams of which one end has been silent for too long, and forgets old events."""
        for found, judge in ((self._clients, self._alone), (self._origins, lambda record: None)):
            for number in [n for n, record in found.items() if record["time"] < now - self.patience]:
                judge(found.pop(number))

    def finish(self) -> None:
        self.settle(float("inf"))

    def _join(self, client: dict, origin: dict) -> None:
        if client["outcome"] == "complete":
            self.byte_count += client["up"] + client["down"]
        if client["kind"] == "reset":
            if client["outcome"] != "complete":
                self._judge(client)
            elif origin["end"] != "RST" and not self._may_be_lost(client, origin["end"]):
                self.violations.append(f"a reset became {origin['end']} at the origin: {client} {origin}")
            return
        if client["outcome"] != "complete":
            self._judge(client)
            if origin["end"] == "FIN" and not origin["whole"]:
                self.violations.append(f"a cut stream looks complete at the origin: {client} {origin}")
        elif origin["end"] != "FIN" or not origin["whole"]:
            seen = client | {"outcome": RESET, "time": max(client["time"], origin["time"])}
            if not self._explained(seen):
                self.violations.append(f"complete for the client, {origin['end']} at the origin: {client} {origin}")

    def _alone(self, client: dict) -> None:
        """The origin never spoke of it."""
        if client["outcome"] != "complete":
            return self._judge(client)
        if client["kind"] == "reset":
            if self._may_be_lost(client, "timeout"):
                return
        # The client was done; what it had sent may have been on its way to the origin for a while.
        late = client | {"time": client["time"] + self.patience}
        if not self._explained(late, ("origin killed", "origin rejects"), client["origin"]):
            self.violations.append(f"complete for the client, and origin {client['origin']} never saw it: {client}")

    def _may_be_lost(self, client: dict, end: str) -> bool:
        """Whether the RST of this client need not have reached its origin. It is sent once; then the origin waits."""
        deaf = ("origin unreachable", "origin rejects", "origin killed")
        # A proxy that is stopped just then passes it on when it is let go.
        client = client | {"time": client["time"] + 2}
        if self._explained(client, ("loss",)):
            return True
        return end == "timeout" and self._explained(client, deaf, client["origin"]) is not None

    def _explained(self, stream: dict, kinds: tuple[str, ...] = (), origin: int = 0) -> Event | None:
        """The latest event that allows it; with `kinds`, the latest of these at its time, and of `origin` if given."""
        for event in reversed(self.events):
            if kinds:
                if event.kind in kinds and event.origin == origin and event.overlaps(stream["start"], stream["time"]):
                    return event
            elif allows(event, stream):
                return event
        return None

    def _judge(self, client: dict) -> None:
        if event := self._explained(client):
            self.failures[event.kind, client["kind"], client["stage"], client["outcome"]] += 1
        else:
            self.violations.append(f"nothing explains it: {client}")
