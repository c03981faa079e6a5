"""The library product from a package outside the tree: no other package comes along, and it proxies."""

import pathlib
import subprocess

import pytest

from harness import wire
from harness.endpoints import EchoOrigin, connect, read_exactly

TREE = pathlib.Path(__file__).resolve().parents[2]

PACKAGE = """// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "embedder",
    dependencies: [.package(name: "weir", path: "{tree}", traits: [])],
    targets: [.executableTarget(name: "embedder", dependencies: [.product(name: "Weir", package: "weir")])]
)
"""

# The lines of the README's section for Swift developers, with a wait where the test would be.
PROGRAM = """import Glibc
import Weir

var configuration = Configuration.egressDefault(address: SocketAddress(.v4Loopback, port: 0), admin: nil)
let origin = Endpoint(host: .address(.v4Loopback), port: UInt16(CommandLine.arguments[1])!)
configuration.clusters = [Cluster(name: "origin", endpoints: [origin])]
configuration.listeners[0].routes = [Route(name: "origin", action: .cluster("origin"))]
configuration.log.access = .none
let proxy = try Proxy.start(configuration)
print(proxy.listeners[0].address.port)
fflush(nil)
_ = readLine()
proxy.stop()
print("stopped")
"""


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    home = tmp_path_factory.mktemp("embedder")
    (home / "Package.swift").write_text(PACKAGE.format(tree=TREE))
    (home / "Sources/embedder").mkdir(parents=True)
    (home / "Sources/embedder/main.swift").write_text(PROGRAM)
    # Its own build directory, kept between runs because a first build takes a minute.
    scratch = TREE / ".build/embedding"
    command = ["swift", "build", "--package-path", str(home), "--scratch-path", str(scratch)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return scratch


@pytest.mark.weir
def test_no_other_package_comes_along(embedder):
    checkouts = embedder / "checkouts"
    assert not checkouts.exists() or not list(checkouts.iterdir())


@pytest.mark.weir
def test_the_library_needs_only_liburing_and_cares_beside_the_system(embedder):
    linked = subprocess.run(["ldd", str(embedder / "debug/embedder")], capture_output=True, text=True).stdout
    # The Swift toolchain's own libraries come with any Swift program; Foundation would not.
    lines = [line for line in linked.splitlines() if line.strip() and "/swift/linux/" not in line]
    names = {line.split()[0].split("/")[-1].split(".so")[0] for line in lines}
    system = {"linux-vdso", "libc", "libm", "libgcc_s", "libstdc++", "ld-linux-x86-64"}
    assert names - system == {"liburing", "libcares"}
    assert "Foundation" not in linked


@pytest.mark.weir
def test_ten_lines_start_a_proxy_on_a_free_port(embedder, stopping):
    echo = stopping(EchoOrigin())
    process = subprocess.Popen(
        [str(embedder / "debug/embedder"), str(echo.endpoint[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(process.stdout.readline())
        hello = wire.hello(b"any.test")
        with connect(("127.0.0.1", port)) as client:
            client.sendall(hello)
            assert read_exactly(client, len(hello)) == hello
        output, _ = process.communicate("\n", timeout=30)
        assert (output, process.returncode) == ("stopped\n", 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
