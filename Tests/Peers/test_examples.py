"""docs/examples: the commands in each README do what stands below them."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness.names import NameServer
from harness.peers import TLSOrigin
from harness.processes import eventually
from harness.weir import Weir

# The pages' commands name no driver.
pytestmark = [pytest.mark.weir, pytest.mark.own_network, pytest.mark.own_driver]

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "docs/examples"


class Shell:
    """A bash at the top of the repository, as its reader has one. What it starts ends with it."""

    END = "-- end of the block --"

    def __init__(self, path: pathlib.Path, **environment: str):
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=REPOSITORY,
            env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._jobs: list[int] = []
        self.run("set -m")

    def run(self, block: str) -> str:
        """What the block prints to its standard output; a minute is the most it may take."""
        watchdog = threading.Timer(60, self.stop)
        watchdog.start()
        self._process.stdin.write(f"{block}\necho; echo '{self.END}'\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line == f"{self.END}\n":
                break
            lines.append(line)
        watchdog.cancel()
        return "".join(lines).strip()

    def stop(self) -> None:
        if self._process.poll() is None:
            # Each job is a group of its own.
            self._process.stdin.write("kill -INT $(jobs -p) 2>/dev/null; wait; exit\n")
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def blocks(text: str) -> list[tuple[str, str | None]]:
    """The commands of a page, each with what it has to print: nothing is said of some."""
    found: list[tuple[str, str | None]] = []
    for language, content in re.findall(r"^```(sh|text)\n(.*?)^```$", text, re.M | re.S):
        if language == "sh":
            found.append((content.strip(), None))
        else:
            command, said = found[-1]
            assert said is None, "two outputs of one command"
            found[-1] = (command, content.strip())
    return found


def accepts(endpoint: tuple[str, int]) -> bool:
    try:
        socket.create_connection(endpoint, timeout=1).close()
    except OSError:
        return False
    return True


def play(page: pathlib.Path, shell: Shell) -> int:
    """Does what the page says, and returns how many outputs were compared."""
    compared = 0
    for command, output in blocks(page.read_text()):
        if output is None:
            shell.run(command)
            # Who is late counts as failed, and is left out for a time.
            for address, port in re.findall(r"origin.py \w+ ([\d.]+):(\d+)", command):
                eventually(lambda: accepts((address, int(port))), 10, f"{address}:{port}")
            continue
        # Weir itself may still be starting.
        eventually(lambda: shell.run(command) == output, 15, f"{command}\n{output}")
        compared += 1
    return compared


@pytest.fixture
def weir_path(tmp_path) -> pathlib.Path:
    """A directory with the `weir` under test."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "weir").symlink_to(Weir.binary)
    return directory


@pytest.fixture
def shell(weir_path, authority):
    """Examples have the same ports, so each ends before the next."""
    found = Shell(weir_path, CURL_CA_BUNDLE=str(authority.path))
    yield found
    found.stop()


STORIES = {
    "istio-egress": "S0-2, S0-3: a member that is lost takes no request with it, and the table says that it is ejected.",
    "cilium-egress": "S1-1: pods leave from the address of their policy.",
    "api-servers": "S3-1, S3-3, S3-4: by name, by the destination in a PROXY header, or refused.",
    "ingress-nginx": "S2-1, S2-3, S2-5: passed through, by host, by port, and only for who is on the list.",
}


@pytest.mark.parametrize("story", STORIES)
def test_an_example_does_what_its_page_says(story, shell):
    assert play(EXAMPLES / story / "README.md", shell) > 0


def test_the_nginx_example_reaches_the_name_in_the_hello(shell, stopping, authority, tmp_path):
    """S0-1, S0-4: the file as it stands; the client verifies the origin's certificate."""
    names = stopping(NameServer(53, "127.0.0.53"))
    outside = "93.184.215.14"
    names.set("example.com", outside)
    subprocess.run(["ip", "address", "add", f"{outside}/32", "dev", "lo"], check=True)
    try:
        stopping(TLSOrigin(tmp_path, authority, ["example.com"], address=outside, port=443))
        assert play(EXAMPLES / "nginx-egress/README.md", shell) == 2
    finally:
        subprocess.run(["ip", "address", "del", f"{outside}/32", "dev", "lo"], check=True)


def test_every_example_is_played():
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {*STORIES, "nginx-egress"}
