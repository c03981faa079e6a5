"""New connections all the time, from a process of their own, each of which has to succeed.

A connection sends some bytes, reads them back, ends its side and reads to the end.
"""

import asyncio
import collections
import json
import subprocess
import sys
import time


class Load:
    """`clients` connections at a time to `endpoint`, whose origin echoes what was sent."""

    def __init__(self, endpoint: tuple[str, int], sent: bytes = b"x" * 64, clients: int = 8):
        arguments = [endpoint[0], str(endpoint[1]), sent.hex(), str(clients)]
        self._child = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdout.readline() == "first\n", "no connection succeeds"

    def finish(self) -> dict:
        """Ends it once every connection that was begun is over: counts of `ok` and of each way to fail, and seconds."""
        out, _ = self._child.communicate("", timeout=30)
        return json.loads(out)

    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


async def _connection(host: str, port: int, sent: bytes) -> str:
    step = "connect"
    writer = None
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(host, port)
            step = "exchange"
            writer.write(sent)
            received = await reader.readexactly(len(sent))
            writer.write_eof()
            rest = await reader.read()
            return "ok" if received == sent and not rest else "other bytes"
    except TimeoutError:
        return f"{step}: timeout"
    except (OSError, asyncio.IncompleteReadError) as failure:
        return f"{step}: {type(failure).__name__}"
    finally:
        if writer:
            writer.close()


async def _main(host: str, port: int, sent: bytes, clients: int) -> None:
    counts: collections.Counter[str] = collections.Counter()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stopping.set)
    started = time.monotonic()

    async def client() -> None:
        while not stopping.is_set():
            outcome = await _connection(host, port, sent)
            counts[outcome] += 1
            if outcome == "ok" and counts["ok"] == 1:
                print("first", flush=True)

    await asyncio.gather(*(client() for _ in range(clients)))
    print(json.dumps(counts | {"seconds": time.monotonic() - started}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), int(sys.argv[4])))
