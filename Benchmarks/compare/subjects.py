"""Who is measured: each proxy with the best fair configuration for this task that is known to us.

The task is the same for all: one listener, the server name read from the hello, one route, one upstream. Each has one
worker unless a figure asks for two.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field

from compare import machine

ORIGIN = ("127.0.0.1", 7001)
NAME = "bench.test"
STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@dataclass
class Subject:
    """One kind of proxy. `find` gives its executable, or None where it is not on this machine."""

    name: str
    port: int
    program: str
    configuration: str = ""
    file: str = ""
    command: list[str] = field(default_factory=list)
    version_command: list[str] = field(default_factory=list)
    # Only measured where bytes come in bulk: a variant of another subject that is tuned for it.
    is_for_bulk: bool = False
    # Where nothing stands between the client and the origin.
    is_direct: bool = False
    # At least, once it serves: a master listens before it has workers.
    process_count: int = 1

    def found(self) -> bool:
        return self.is_direct or shutil.which(self.program) is not None

    def version(self) -> str:
        return machine.version(*self.version_command) if self.version_command else ""


def weir(binary: str, driver: str, port: int, workers: int, origin: tuple[str, int] = ORIGIN) -> Subject:
    # Everything at its default, the access log and the metrics included; only what a drop-in's own file says.
    text = f"""
listeners:
  - name: bench
    address: 127.0.0.1:{port}
    routes:
      - match: {{ server_names: [{NAME}] }}
        to: {{ cluster: origin }}
clusters:
  - name: origin
    endpoints: ["{origin[0]}:{origin[1]}"]
workers: {workers}
admin: {{ address: 127.0.0.1:{port + 1000} }}
"""
    return Subject(
        name="weir" if driver == "uring" else f"weir-{driver}", port=port, program=binary, configuration=text,
        file="weir.yaml", command=[binary, "run", "--io", driver, "--config", "{file}"],
        version_command=[binary, "--version"],
    )


def nginx(port: int, workers: int, buffer: str | None = None) -> Subject:
    size = f"proxy_buffer_size {buffer};" if buffer else ""
    module = f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
    text = f"""{module}
user root;
daemon off;
worker_processes {workers};
pid {{directory}}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 19000; multi_accept on; }}
stream {{
    upstream origin {{ server {ORIGIN[0]}:{ORIGIN[1]}; }}
    map $ssl_preread_server_name $target {{ {NAME} origin; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        ssl_preread on;
        tcp_nodelay on;
        {size}
        proxy_pass $target;
    }}
}}
"""
    return Subject(
        name="nginx" if not buffer else f"nginx-{buffer}", port=port, program="nginx", configuration=text,
        file="nginx.conf", command=["nginx", "-p", "{directory}", "-c", "{file}", "-e", "stderr"],
        version_command=["nginx", "-v"], is_for_bulk=buffer is not None, process_count=1 + workers,
    )


def haproxy(port: int, workers: int, splices: bool = False) -> Subject:
    pipes = "tune.pipesize 1048576\n    maxpipes 100" if splices else ""
    options = "option splice-request\n    option splice-response" if splices else ""
    text = f"""global
    nbthread {workers}
    maxconn 9500
    {pipes}
defaults
    mode tcp
    {options}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend bench
    bind 127.0.0.1:{port} backlog 4096
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend origin if {{ req.ssl_sni -i {NAME} }}
backend origin
    server origin {ORIGIN[0]}:{ORIGIN[1]}
"""
    return Subject(
        name="haproxy-splice" if splices else "haproxy", port=port, program="haproxy", configuration=text,
        file="haproxy.cfg", command=["haproxy", "-db", "-f", "{file}"], version_command=["haproxy", "-v"],
        is_for_bulk=splices,
    )


def envoy(port: int, workers: int) -> Subject:
    text = f"""
static_resources:
  listeners:
    - name: bench
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      tcp_backlog_size: 4096
      listener_filters:
        - name: tls_inspector
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
      filter_chains:
        - filter_chain_match: {{ server_names: [{NAME}] }}
          filters:
            - name: tcp_proxy
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: bench
                cluster: origin
  clusters:
    - name: origin
      type: STATIC
      circuit_breakers:
        thresholds: [{{ max_connections: 100000, max_pending_requests: 100000 }}]
      load_assignment:
        cluster_name: origin
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{ socket_address: {{ address: {ORIGIN[0]}, port_value: {ORIGIN[1]} }} }}
"""
    return Subject(
        name="envoy", port=port, program="envoy", configuration=text, file="envoy.yaml",
        command=["envoy", "-c", "{file}", "--concurrency", str(workers), "--disable-hot-restart", "-l", "off"],
        version_command=["envoy", "--version"],
    )


def sniproxy(port: int) -> Subject:
    text = f"""user root
pidfile {{directory}}/sniproxy.pid
error_log {{
    filename {{directory}}/error.log
    priority error
}}
listen 127.0.0.1:{port} {{
    proto tls
    table names
}}
table names {{
    {NAME} {ORIGIN[0]}:{ORIGIN[1]}
}}
"""
    return Subject(
        name="sniproxy", port=port, program="sniproxy", configuration=text, file="sniproxy.conf",
        command=["sniproxy", "-f", "-c", "{file}"], version_command=["sniproxy", "-V"],
    )


def direct() -> Subject:
    return Subject(name="direct", port=ORIGIN[1], program="", is_direct=True)


def every(binary: str, workers: int = 1) -> list[Subject]:
    """In the order of the tables."""
    return [
        weir(binary, "uring", 7100, workers),
        weir(binary, "epoll", 7101, workers),
        nginx(7102, workers),
        haproxy(7103, workers),
        envoy(7104, workers),
        sniproxy(7105),
        nginx(7106, workers, buffer="64k"),
        haproxy(7107, workers, splices=True),
        direct(),
    ]


class Running:
    """A subject's process, and whatever it starts."""

    def __init__(self, subject: Subject, directory: pathlib.Path, core: str | None):
        self.subject = subject
        self.started_at = time.monotonic()
        self.process: subprocess.Popen | None = None
        if subject.is_direct:
            return
        place = directory / subject.name
        place.mkdir(parents=True, exist_ok=True)
        file = place / subject.file
        file.write_text(subject.configuration.replace("{directory}", str(place)))
        words = [word.replace("{file}", str(file)).replace("{directory}", str(place)) for word in subject.command]
        if core is not None:
            words = ["taskset", "-c", core, *words]
        self.errors = place / "stderr"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        self.ready_after = self._await()
        machine.eventually(lambda: len(self.pids()) >= subject.process_count, f"the processes of {subject.name}")

    def _await(self) -> float:
        """Seconds from its start until it accepts."""
        while time.monotonic() < self.started_at + 20:
            try:
                socket.create_connection(("127.0.0.1", self.subject.port), timeout=1).close()
                return time.monotonic() - self.started_at
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.001)
        self.stop()
        raise SystemExit(f"{self.subject.name} does not listen:\n{self.errors.read_text(errors='replace')}")

    def pids(self) -> list[int]:
        return machine.children(self.process.pid) if self.process else []

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        for number in (signal.SIGCONT, signal.SIGKILL):
            self.signal(number)
        self.process.wait()
