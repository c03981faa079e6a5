#!/usr/bin/env python3
"""Writes the first flight of real TLS clients to Corpora/client-hello/captured-CLIENT-....bin.

    python3 Tests/Fuzz/capture.py [--only TEXT] [DIRECTORY]

A listener on loopback takes one connection per client, reads until the ClientHello is whole, writes what came and hangs
up. Every client is told to reach `good.test`, those marked `no-sni` an address. Clients that are not installed are named
and left out. curl-cffi (PyPI) brings the hellos of browsers; Chromium and Firefox are Debian's.
"""

import argparse
import importlib.util
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

NAME = "good.test"
IMPERSONATIONS = [
    "chrome99", "chrome99_android", "chrome110", "chrome116", "chrome120", "chrome124", "chrome131", "chrome131_android",
    "chrome133a", "chrome136", "chrome142", "edge99", "edge101", "safari153", "safari155", "safari170", "safari172_ios",
    "safari180", "safari184", "safari184_ios", "safari260", "firefox133", "firefox135", "firefox144", "tor145",
]  # fmt: skip


def is_whole(flight: bytes) -> bool:
    """Whether the records hold a handshake message to its end."""
    message, index = b"", 0
    while index + 5 <= len(flight):
        length = int.from_bytes(flight[index + 3 : index + 5], "big")
        message += flight[index + 5 : index + 5 + length]
        index += 5 + length
    return len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big")


def first_flight(start) -> bytes:
    """What the client that `start(port)` runs sends before it has heard a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        client = threading.Thread(target=start, args=(listener.getsockname()[1],), daemon=True)
        client.start()
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                flight = b""
                try:
                    while not is_whole(flight):
                        piece = connection.recv(65536)
                        if not piece:
                            break
                        flight += piece
                except TimeoutError:
                    pass
            # Browsers open connections that they never use, and some for other protocols.
            if flight[:1] == b"\x16" and is_whole(flight):
                client.join(20)
                return flight


def run(*command, timeout=20):
    subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout,
    )  # fmt: skip


def version(*command) -> str:
    output = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"\d+(\.\d+)+", output.stdout + output.stderr)
    return found.group(0) if found else "unknown"


def python_client(port, alpn=(), name=NAME):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            context.wrap_socket(plain, server_hostname=name)
    except OSError:
        pass


def curl_cffi_client(port, browser):
    from curl_cffi import CurlOpt, requests

    try:
        resolve = {CurlOpt.RESOLVE: [f"{NAME}:{port}:127.0.0.1"]}
        with requests.Session(impersonate=browser, verify=False, curl_options=resolve) as session:
            session.get(f"https://{NAME}:{port}/", timeout=5)
    except requests.RequestsError:
        pass


def browser_client(command, port):
    """A browser stays after its page has failed: it is ended when its hello is in."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(word).format(port=port, profile=profile) for word in command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()


def clients():
    """Pairs of a file name and what runs the client, or a file name and None where it is not installed."""
    if shutil.which("openssl"):
        label = f"openssl-{version('openssl', 'version')}"
        for suffix, words in {
            "tls13": [], "tls13-alpn-h2": ["-alpn", "h2,http/1.1"], "tls13-no-tls12": ["-tls1_3"], "tls12": ["-tls1_2"],
            "tls13-acme": ["-alpn", "acme-tls/1"], "tls13-all-ciphers": ["-cipher", "ALL:@SECLEVEL=0"],
            "tls13-small-records": ["-max_send_frag", "512"], "tls13-status-request": ["-status"],
        }.items():  # fmt: skip
            base = ["openssl", "s_client", "-servername", NAME]
            yield f"{label}-{suffix}", lambda port, w=base + words: run(*w, "-connect", f"127.0.0.1:{port}")
        base = ["openssl", "s_client", "-noservername"]
        yield f"{label}-tls13-no-sni", lambda port, w=base: run(*w, "-connect", f"127.0.0.1:{port}")
    if shutil.which("gnutls-cli"):
        label = f"gnutls-{version('gnutls-cli', '--version')}"
        for suffix, words in {
            "tls13": [], "tls12": ["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"],
            "tls13-alpn-h2": ["--alpn", "h2", "--alpn", "http/1.1"], "tls13-ocsp": ["--ocsp"],
            "tls10": ["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.0"],
        }.items():  # fmt: skip
            base = ["gnutls-cli", "--insecure", "--sni-hostname", NAME, *words, "127.0.0.1", "-p"]
            yield f"{label}-{suffix}", lambda port, w=base: run(*w, port)
    if shutil.which("curl"):
        label = f"curl-{version('curl', '--version')}"
        for suffix, words in {"h2": [], "http11": ["--http1.1"], "tls12": ["--tls-max", "1.2"]}.items():
            base = ["curl", "-sk", "-m", "5", *words, f"https://{NAME}/", "--connect-to"]
            yield f"{label}-{suffix}", lambda port, w=base: run(*w, f"::127.0.0.1:{port}")
        base = ["curl", "-sk", "-m", "5"]
        yield f"{label}-no-sni", lambda port, w=base: run(*w, f"https://127.0.0.1:{port}/")
    label = f"python-{sys.version_info.major}.{sys.version_info.minor}"
    yield f"{label}-ssl", python_client
    yield f"{label}-ssl-alpn-http11", lambda port: python_client(port, alpn=["http/1.1"])
    if shutil.which("node"):
        script = (
            f"require('tls').connect({{host:'127.0.0.1',port:+process.argv[1],servername:'{NAME}',"
            "ALPNProtocols:['h2','http/1.1']}).on('error',()=>{})"
        )
        yield f"node-{version('node', '--version')}", lambda port: run("node", "-e", script, port)
    if shutil.which("socat"):
        words = f"OPENSSL:127.0.0.1:{{}},snihost={NAME},verify=0"
        yield f"socat-{version('socat', '-V')}", lambda port: run("socat", "-T", "2", "-", words.format(port))
    if importlib.util.find_spec("curl_cffi"):
        for browser in IMPERSONATIONS:
            yield f"curl-cffi-{browser}", lambda port, b=browser: curl_cffi_client(port, b)
    for program in ["chromium", "chromium-browser", "google-chrome"]:
        if shutil.which(program):
            command = [
                program, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir={profile}",
                f"--host-resolver-rules=MAP {NAME} 127.0.0.1:{{port}}", "--ignore-certificate-errors", f"https://{NAME}/",
            ]  # fmt: skip
            yield f"{program}-{version(program, '--version')}", lambda port, c=command: browser_client(c, port)
    for program in ["firefox-esr", "firefox"]:
        # Debian's firefox-esr has both names.
        if shutil.which(program) and (program == "firefox-esr" or not shutil.which("firefox-esr")):
            def firefox(port, program=program):
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                    pathlib.Path(profile, "user.js").write_text(
                        'user_pref("network.dns.forceResolve", "127.0.0.1");\n'
                        'user_pref("network.connectivity-service.enabled", false);\n'
                        'user_pref("network.captive-portal-service.enabled", false);\n'
                    )
                    browser_client(
                        [program, "--headless", "--profile", profile, f"https://{NAME}:{{port}}/"], port
                    )

            yield f"{program}-{version(program, '--version')}", firefox


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the clients whose name holds this text")
    default = pathlib.Path(__file__).parent / "Corpora" / "client-hello"
    parser.add_argument("directory", nargs="?", type=pathlib.Path, default=default)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, start in clients():
        if arguments.only not in name:
            continue
        try:
            flight = first_flight(start)
        except Exception as error:
            failed += 1
            print(f"{name}: nothing captured: {error!r}", file=sys.stderr)
            continue
        (arguments.directory / f"captured-{name}.bin").write_bytes(flight)
        print(f"{name}: {len(flight)} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
