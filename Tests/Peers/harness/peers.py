"""The independent servers: nginx and haproxy as stand-ins for the proxy under test, and on either side of it."""

import hashlib
import pathlib
import re

from harness.certificates import Authority
from harness.endpoints import connect
from harness.network import free_port
from harness.processes import Process, eventually
from harness.setup import Endpoint, Listen, Setup

STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def accepts(endpoint: Endpoint) -> bool:
    try:
        connect(endpoint, seconds=1).close()
        return True
    except OSError:
        return False


def listens(port: int, process: Process | None = None) -> bool:
    """Whether someone listens on `port`, found out without connecting to it: a connection would be counted.

    Looks from inside the network that `process` is in.
    """
    where = f"/proc/{process.pid}/net" if process else "/proc/self/net"
    pattern = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
    try:
        return any(pattern.search(pathlib.Path(where, table).read_text()) for table in ("tcp", "tcp6"))
    except OSError:
        return False  # the process has ended; who waits for it looks at that, too


class Nginx(Process):
    """nginx with this text as its configuration; `prefix` lines for one process and its files go on top."""

    def __init__(self, directory: pathlib.Path, text: str, ports: list[int], name: str = "nginx", inside=None):
        root = directory / name
        root.mkdir()
        head = ["daemon off;", "master_process off;", "error_log stderr warn;", f"pid {root}/pid;"]
        if "stream" in text and STREAM_MODULE.exists():
            head.append(f"load_module {STREAM_MODULE};")
        if "events" not in text:
            head.append("events { worker_connections 8192; }")
        (root / "nginx.conf").write_text("\n".join(head) + "\n" + text)
        command = ["nginx", "-p", str(root), "-c", str(root / "nginx.conf"), "-e", "stderr"]
        super().__init__(inside(*command) if inside else command, root, "nginx")
        _until_listening(self, ports)


class Haproxy(Process):
    def __init__(self, directory: pathlib.Path, text: str, ports: list[int], name: str = "haproxy"):
        root = directory / name
        root.mkdir()
        (root / "haproxy.cfg").write_text("global\n    maxconn 8192\n    hard-stop-after 1s\n" + text)
        super().__init__(["haproxy", "-db", "-f", str(root / "haproxy.cfg")], root, "haproxy")
        _until_listening(self, ports)


def _until_listening(process: Process, ports: list[int]) -> None:
    def ready():
        assert process.is_running(), process.output()
        return all(listens(port, process) for port in ports)

    try:
        eventually(ready, 10, f"listening on {ports}: {process.command}")
    except AssertionError:
        process.stop()
        raise


class TLSOrigin:
    """HTTPS for several names, HTTP/1.1 and h2, TLS 1.2 and 1.3, each name with a certificate of its own.

    Every answer has headers that say which name and protocols the origin saw.
    """

    BODY = bytes(range(256)) * 8192  # 2 MiB, at /body
    BODY_DIGEST = hashlib.sha256(BODY).hexdigest()

    def __init__(
        self,
        directory: pathlib.Path,
        authority: Authority,
        names: list[str],
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        tag: str = "origin",
        inside=None,
    ):
        self.tag = tag
        self.endpoint: Endpoint = (address, port or free_port())
        files = directory / f"{tag}-files"
        files.mkdir()
        (files / "body").write_bytes(self.BODY)
        listen = f"[{address}]" if ":" in address else address
        servers = ""
        for index, name in enumerate(names):
            default = " default_server" if index == 0 else ""
            servers += f"""
    server {{
        listen {listen}:{self.endpoint[1]} ssl http2{default};
        server_name {name};
        location = / {{ return 200 "hello\n"; }}
        ssl_certificate {authority.leaf(name)};
        ssl_certificate_key {authority.leaf(name)};
    }}"""
        self.process = Nginx(
            directory,
            f"""user root;
http {{
    access_log off;
    client_body_temp_path {files}/body-temp; proxy_temp_path {files}/p; fastcgi_temp_path {files}/f;
    uwsgi_temp_path {files}/u; scgi_temp_path {files}/s;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:{tag}:1m;
    ssl_early_data on;
    ssl_client_certificate {authority.path};
    ssl_verify_client optional;
    root {files};
    default_type application/octet-stream;
    add_header X-Origin {tag};
    add_header X-Server-Name $ssl_server_name;
    add_header X-Protocol $server_protocol;
    add_header X-TLS $ssl_protocol;
    add_header X-Resumed $ssl_session_reused;
    add_header X-Client $ssl_client_s_dn;
    add_header X-Peer $remote_addr;
{servers}
}}
""",
            [self.endpoint[1]],
            name=tag,
            inside=inside,
        )

    def stop(self) -> None:
        self.process.stop()


# Stand-ins for the proxy under test ---------------------------------------------------------------


def _host_port(endpoint: Endpoint) -> str:
    return f"[{endpoint[0]}]:{endpoint[1]}" if ":" in endpoint[0] else f"{endpoint[0]}:{endpoint[1]}"


def nginx_stream(setup: Setup) -> str:
    """The setup for nginx's stream module; it decides nothing about who may connect or where names may point."""
    parts = []
    if setup.resolver:
        parts.append(f"    resolver {_host_port(setup.resolver)} ipv6=off valid=1s;")
    for listen in setup.listeners:
        proxy = " proxy_protocol" if listen.proxy_from is not None else ""
        lines = [f"listen {_host_port(listen.endpoint)}{proxy} backlog=4096;"]
        target = _host_port(listen.default) if listen.default else ""
        if listen.reads_names:
            lines += ["ssl_preread on;", f"preread_timeout {listen.hello_timeout}s;"]
        if listen.hello_max:
            lines.append(f"preread_buffer_size {listen.hello_max + 1024};")
        if listen.forward_port is not None:
            target = f"$ssl_preread_server_name:{listen.forward_port}"
        elif listen.routes:
            pairs = "".join(f"        {name} {_host_port(to)};\n" for name, to in listen.routes.items())
            default = f"        default {target};\n" if target else ""
            variable = "$" + re.sub(r"\W", "_", listen.name)
            parts.append(f"    map $ssl_preread_server_name {variable} {{\n{pairs}{default}    }}")
            target = variable
        if listen.send_proxy:
            lines.append("proxy_protocol on;")
        lines += [
            f"proxy_pass {target};",
            "proxy_half_close on;",
            f"proxy_timeout {listen.idle_timeout}s;",
            f"proxy_protocol_timeout {listen.hello_timeout}s;",
        ]
        lines += [f"set_real_ip_from {block};" for block in listen.proxy_from or []]
        if listen.clients is not None:
            lines += [f"allow {block};" for block in listen.clients] + ["deny all;"]
        parts.append("    server {\n        " + "\n        ".join(lines) + "\n    }")
    return "user root;\nstream {\n" + "\n".join(parts) + "\n}\n"


def haproxy_tcp(setup: Setup) -> str:
    """The setup for HAProxy in TCP mode; it has no dynamic forward here."""
    text = "defaults\n    mode tcp\n    timeout connect 2s\n"
    for listen in setup.listeners:
        assert listen.forward_port is None, "HAProxy stands in for routes only"
        bind = f"bind {_host_port(listen.endpoint)} backlog 4096" + (" accept-proxy" if listen.proxy_from else "")
        lines = [
            bind,
            f"timeout client {listen.idle_timeout}s",
            f"timeout server {listen.idle_timeout}s",
            f"timeout client-fin {listen.half_close_timeout}s",
            f"timeout server-fin {listen.half_close_timeout}s",
        ]
        if listen.reads_names:
            lines += [
                f"tcp-request inspect-delay {int(listen.hello_timeout * 1000)}ms",
                "tcp-request content accept if { req.ssl_hello_type 1 }",
            ]
        if listen.clients is not None:
            lines.append(f"tcp-request connection reject unless {{ src {' '.join(listen.clients)} }}")
        backends = ""
        for index, (name, to) in enumerate(listen.routes.items()):
            lines.append(f"use_backend {listen.name}-{index} if {{ req.ssl_sni -i {name} }}")
            backends += f"backend {listen.name}-{index}\n    server s {_host_port(to)}{_send_proxy(listen)}\n"
            backends += f"    timeout server {listen.idle_timeout}s\n"
        if listen.default:
            lines.append(f"default_backend {listen.name}-default")
            backends += (
                f"backend {listen.name}-default\n    server s {_host_port(listen.default)}{_send_proxy(listen)}\n"
            )
            backends += f"    timeout server {listen.idle_timeout}s\n"
        text += f"frontend {listen.name}\n    " + "\n    ".join(lines) + "\n" + backends
    return text


def _send_proxy(listen: Listen) -> str:
    options = listen.send_proxy
    if options is None:
        return ""
    if options.version == "v1":
        return " send-proxy"
    extra = [
        word
        for word, wanted in (
            ("crc32c", options.crc32c),
            ("authority", options.authority),
            ("unique-id", options.unique_id),
        )
        if wanted
    ]
    return " send-proxy-v2" + (f" proxy-v2-options {','.join(extra)}" if extra else "")
