"""A DNS server whose answers a test changes while it runs."""

import collections
import ipaddress
import logging
import threading

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSError
from dnslib.server import BaseResolver, DNSServer

logging.getLogger("dnslib").setLevel(logging.CRITICAL)


class _Quiet:
    def __getattr__(self, _):
        return lambda *arguments: None


class NameServer(BaseResolver):
    """Answers A, AAAA and CNAME over UDP and TCP on `address`:`port`; what it was not told is NXDOMAIN."""

    def __init__(self, port: int, address: str = "127.0.0.1"):
        self.address, self.port = address, port
        self._lock = threading.Lock()
        self._answers: dict[str, list[tuple[str, int]]] = {}
        self._domains: dict[str, list[tuple[str, int]]] = {}
        # Questions by (name, type).
        self.questions: collections.Counter[tuple[str, str]] = collections.Counter()
        # Hears questions and says nothing. (`pause` is another outage: the port is closed, which the asker is told.)
        self.silent = False
        self._servers: list[DNSServer] = []
        self.resume()

    def set(self, name: str, *values: str, ttl: int = 60) -> None:
        """From now on `name` is `values`: addresses of either family, or one other name. None: it has no address."""
        with self._lock:
            self._answers[name.lower()] = [(value, ttl) for value in values]

    def set_below(self, domain: str, value: str, ttl: int = 60) -> None:
        """From now on every name below `domain` that was not told otherwise is `value`."""
        with self._lock:
            self._domains[domain.lower()] = [(value, ttl)]

    def resolve(self, request, handler):
        reply = request.reply()
        question = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        with self._lock:
            self.questions[question, kind] += 1
            if self.silent:
                raise DNSError("silent")  # the library drops the question
            name = question
            while (answers := self._known(name)) is not None:
                alias = None
                for value, ttl in answers:
                    try:
                        address = ipaddress.ip_address(value)
                    except ValueError:
                        alias = value
                        reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(value), ttl=ttl))
                        continue
                    if kind == "A" and address.version == 4:
                        reply.add_answer(RR(name, QTYPE.A, rdata=A(value), ttl=ttl))
                    elif kind == "AAAA" and address.version == 6:
                        reply.add_answer(RR(name, QTYPE.AAAA, rdata=AAAA(address.exploded), ttl=ttl))
                if alias is None:
                    return reply
                name = alias.lower()
            reply.header.rcode = RCODE.NXDOMAIN
        return reply

    def _known(self, name: str) -> list[tuple[str, int]] | None:
        return self._answers.get(name, self._domains.get(name.partition(".")[2]))

    def pause(self) -> None:
        """An outage: the port is closed until `resume()`."""
        for server in self._servers:
            server.stop()
            server.server.server_close()
        self._servers = []

    def resume(self) -> None:
        for tcp in (False, True):
            server = DNSServer(self, address=self.address, port=self.port, tcp=tcp, logger=_Quiet())
            server.start_thread()
            self._servers.append(server)

    stop = pause
