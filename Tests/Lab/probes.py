"""A probe every 50 ms, each an exchange of its own that waits for no other; a process of its own.

`probes.py ADDRESS:PORT --every SECONDS --patience SECONDS [--name SERVER_NAME]` writes an Exchange as a list in JSON
per line, at its end. On TERM it begins no more, waits for those that are under way, and ends.
"""

import argparse
import asyncio
import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Peers"))

from exchange import exchanged
from harness import wire


async def probe(options: argparse.Namespace) -> None:
    address, _, port = options.endpoint.rpartition(":")
    hello = wire.hello(options.name.encode()) if options.name else b""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def one(due: float) -> None:
        done = await exchanged((address, int(port)), options.patience, hello=hello, due=due)
        print(json.dumps(done), flush=True)

    due = time.monotonic()
    async with asyncio.TaskGroup() as running:
        while not stopping.is_set():
            running.create_task(one(due))
            due += options.every
            try:
                async with asyncio.timeout(max(0, due - time.monotonic())):
                    await stopping.wait()
            except TimeoutError:
                pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("--every", type=float, default=0.05)
    parser.add_argument("--patience", type=float, default=3)
    parser.add_argument("--name")
    asyncio.run(probe(parser.parse_args()))
