"""Answers probes, a process of its own: `answerer.py ADDRESS:PORT self|peer`.

Each answer names an address: its own (`self`, a gateway that is the end of the way), or the one that it was called
from (`peer`, an origin behind gateways that each call from their own).
"""

import asyncio
import sys

import exchange


class Answerer(asyncio.Protocol):
    # Whose address an answer names: `sockname` or `peername`.
    named = "sockname"

    def connection_made(self, transport):
        self._transport = transport
        self._received = b""

    def data_received(self, data):
        self._received += data
        request = exchange.without_hello(self._received)
        if len(request) == exchange.REQUEST:
            address = self._transport.get_extra_info(self.named)[0]
            self._transport.write(exchange.answer(request, address))
            self._transport.close()


async def main(endpoint: str, named: str) -> None:
    Answerer.named = {"self": "sockname", "peer": "peername"}[named]
    address, _, port = endpoint.rpartition(":")
    server = await asyncio.get_running_loop().create_server(Answerer, address, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
