#!/usr/bin/env python3
"""An origin to try the examples with: says its name, who asks, and for whom.

    origin.py NAME ADDRESS:PORT [--tls] [--proxy]

--tls: with a certificate made on the spot. --proxy: a PROXY header (version 1) comes first, and says who asks.
"""

import http.server
import socketserver
import ssl
import subprocess
import sys
import tempfile


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.client = self.client_address[0]
        if "--proxy" in sys.argv:
            header = b""
            while not header.endswith(b"\r\n"):
                header += self.request.recv(1)
            self.client = header.split()[2].decode()
        if "--tls" in sys.argv:
            self.request = TLS.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        text = f"{NAME}: {self.client} asks for {self.headers['Host'].split(':')[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_):
        pass  # whoever connects and says nothing is a health check


def tls() -> ssl.SSLContext:
    with tempfile.NamedTemporaryFile() as pem:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch -subj /CN=example"
        subprocess.run(
            [*command.split(), "-keyout", pem.name, "-out", pem.name + ".crt"], check=True, capture_output=True
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem.name + ".crt", pem.name)
        return context


NAME, place = sys.argv[1:3]
TLS = tls() if "--tls" in sys.argv else None
address, port = place.rsplit(":", 1)
Server((address, int(port)), Answer).serve_forever()
