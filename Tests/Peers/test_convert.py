"""`weir convert` and `weir schema`: what is written runs as what was read does, and the schema takes what check takes."""

import json
import pathlib
import re
import subprocess
import textwrap

import jsonschema
import pytest
import yaml

from harness import weir
from harness.network import free_port
from harness.peers import TLSOrigin
from harness.setup import Listen, SendProxy, Setup
from harness.weir import Weir

pytestmark = pytest.mark.weir

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SEEDS = pathlib.Path(__file__).parent / "seeds"

NGINX = """\
user www-data;
stream {{
    map $ssl_preread_server_name $backend {{
        hostnames;
        left.test    left;
        *.right.test right;
    }}
    upstream left {{ server 127.0.0.1:{left}; }}
    upstream right {{ server 127.0.0.1:{closed}; server 127.0.0.1:{right} backup; }}
    server {{
        listen 127.0.0.1:{port};
        ssl_preread on;
        proxy_pass $backend;
        allow 127.0.0.1;
        deny 127.0.0.0/8;
        allow 10.0.0.0/8;
    }}
}}
"""


def run(*arguments, **options) -> subprocess.CompletedProcess:
    command = [str(Weir.binary), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, **options)


# convert ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origins(directory, authority, stopping):
    return [
        stopping(TLSOrigin(directory, authority, [name], tag=tag))
        for tag, name in (("left", "left.test"), ("right", "www.right.test"))
    ]


def origin_of(name: str, port: int, authority, source: str = "127.0.0.1") -> str:
    """The tag of the origin that answers; "none" where the connection is refused."""
    done = subprocess.run(
        ["curl", "-sS", "-m", "10", "--cacert", str(authority.path), "--interface", source]
        + ["-o", "/dev/null", "-D", "-", "--connect-to", f"::127.0.0.1:{port}", f"https://{name}/"],
        capture_output=True,
        text=True,
    )
    found = re.search(r"x-origin: (\w+)", done.stdout.lower())
    return found[1] if found else "none"


def test_what_is_written_for_an_nginx_file_runs_as_that_file_does(tmp_path, origins, authority):
    """UP-06: routes by name, a spare server, and who may connect."""
    answers = []
    for format in ("nginx", "native"):
        port = free_port()
        source = tmp_path / f"{format}.conf"
        source.write_text(
            NGINX.format(port=port, left=origins[0].endpoint[1], right=origins[1].endpoint[1], closed=free_port())
        )
        file = source
        if format == "native":
            file = tmp_path / "weir.yaml"
            done = run("convert", source, "--to", "native", "--output", file)
            assert (done.returncode, done.stdout) == (0, "")
            assert f'{source}:1:1: "user" has no effect here' in done.stderr
            assert f'#   {source}:1:1: "user" has no effect here' in file.read_text()
            assert f"# from {source}:5:22" in file.read_text()
        process = Weir(tmp_path, [file], [port], name=format)
        try:
            answers.append(
                [
                    origin_of(name, port, authority, client)
                    for name in ("left.test", "www.right.test", "right.test", "other.test")
                    for client in ("127.0.0.1", "127.0.0.2")
                ]
            )
        finally:
            process.stop()
    assert answers[0] == ["left", "none", "right", "none", "none", "none", "none", "none"]
    assert answers[1] == answers[0]


def test_writing_what_was_written_changes_nothing(tmp_path):
    first = run("convert", SEEDS / "000-egress.conf", "--to", "native")
    assert first.returncode == 0
    file = tmp_path / "once.yaml"
    file.write_text(first.stdout)
    second = run("convert", file, "--to", "native")
    assert second.returncode == 0
    assert yaml.safe_load(second.stdout) == yaml.safe_load(first.stdout)


def test_a_file_with_an_error_leaves_the_output_as_it_is(tmp_path):
    source, output = tmp_path / "bad.yaml", tmp_path / "out.yaml"
    source.write_text("listeners: [{ adress: 127.0.0.1:1 }]\n")
    output.write_text("before\n")
    done = run("convert", source, "--to", "native", "--output", output)
    assert done.returncode == 1
    assert f'{source}:1:15: error: unknown key "adress" in a listener; did you mean "address"?' in done.stderr
    assert output.read_text() == "before\n"


def test_what_the_native_format_cannot_say_is_an_error(tmp_path):
    source = tmp_path / "nginx.conf"
    source.write_text("stream { access_log access.log; server { listen 1; proxy_pass 127.0.0.1:2; } }\n")
    done = run("convert", source, "--to", "native")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'cannot say a path without a slash, "access.log"' in done.stderr


def test_an_output_that_cannot_be_written_ends_with_status_3(tmp_path):
    done = run("convert", SEEDS / "000-egress.conf", "--to", "native", "--output", tmp_path / "absent" / "out.yaml")
    assert done.returncode == 3
    assert "No such file or directory" in done.stderr


# schema -------------------------------------------------------------------------------------------


class CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read: `off` and `no` are texts."""

    yaml_implicit_resolvers = {}


CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), "tTfF")
CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^([-+]?[0-9]+|0x[0-9a-fA-F]+)$"), "-+0123456789"
)
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?$"), "-+0123456789"
)


def as_json(value):
    """Keys are texts in JSON."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def load(text: str):
    return as_json(yaml.load(text, CoreLoader))


@pytest.fixture(scope="module")
def schema() -> dict:
    done = run("schema")
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def findings(validator, text: str) -> list[str]:
    found = validator.iter_errors(load(text))
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def test_every_key_has_a_description_and_no_other_key_is_allowed(schema):
    mappings = [schema, *schema["$defs"].values()]
    assert len(mappings) > 25
    for mapping in mappings:
        assert mapping["additionalProperties"] is False
        for key, value in mapping["properties"].items():
            assert value["description"], key


def fenced(path: pathlib.Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def in_swift(path: pathlib.Path) -> list[str]:
    """Texts over many lines, without what is put together when the test runs."""
    texts = re.findall(r'"""\n(.*?)\n *"""', path.read_text(), re.DOTALL)
    return [textwrap.dedent(text).replace('\\"', '"') for text in texts if "\\(" not in text]


def setups() -> list[str]:
    return [
        weir.text(
            Setup(
                [
                    Listen("a", 1, routes={"a.test": ("127.0.0.1", 2)}, forward_port=3, clients=["::/0"]),
                    Listen("b", 4, default=("::1", 5), proxy_from=["10.0.0.0/8"], send_proxy=SendProxy(crc32c=True)),
                ],
                resolver=("127.0.0.1", 6),
                splice="off",
                limits={"connections": 7},
                ttl_min=0,
            )
        )
    ]


def is_native(text: str) -> bool:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(value, dict) and "listeners" in value


def test_the_schema_takes_what_check_takes(validator, tmp_path):
    """Every example of the documents, and every file of the tests, that `weir check` accepts."""
    texts = [text for path in sorted(REPOSITORY.glob("docs/**/*.md")) for text in fenced(path)]
    texts += [path.read_text() for path in sorted(REPOSITORY.glob("docs/examples/**/*.yaml"))]
    texts += [text for path in sorted(REPOSITORY.glob("Tests/WeirConfigTests/*.swift")) for text in in_swift(path)]
    texts += setups()
    accepted = 0
    for text in filter(is_native, texts):
        if weir.check(tmp_path, text).returncode == 0:
            accepted += 1
            assert findings(validator, text) == [], text
    assert accepted > 10


@pytest.mark.parametrize("seed", sorted(path.name for path in SEEDS.glob("*.conf")))
def test_the_schema_takes_what_convert_writes(validator, tmp_path, seed):
    source = tmp_path / seed
    source.write_text((SEEDS / seed).read_text().replace("<external-domain>", "garden.example"))
    done = run("convert", source, "--to", "native")
    assert done.returncode == 0
    assert findings(validator, done.stdout) == []


LISTENER = "listeners: [{{ address: 127.0.0.1:1, {}routes: [{{ {} }}] }}]"


@pytest.mark.parametrize(
    "text",
    [
        "listners: []",
        "workers: 0",
        "workers: 257",
        "workers: many",
        "steering: cpus",
        "drain: { timeout: 5 }",
        "upgrade: { timeout: 0s }",
        "resolver: { ttl: { min: 1s, maximum: 2s } }",
        "limits: { burst: 5 }",
        "limits: { buffer_memory: 16KB }",
        "admin: {}",
        "log: { access: stdot }",
        "destinations: { allow: [10.0.0.0] , deny: 10.0.0.0/8 }",
        "clusters: [{ name: a }]",
        "clusters: [{ name: a, endpoints: [] }]",
        "clusters: [{ name: a, endpoints: [host] }]",
        "clusters: [{ name: a, endpoints: [{ address: 'a:1', weight: 0 }] }]",
        "clusters: [{ name: a, endpoints: ['a:1'], send_proxy: v3 }]",
        "clusters: [{ name: a, endpoints: ['a:1'], send_proxy: { custom: { 0xDF: x } } }]",
        "clusters: [{ name: a, endpoints: ['a:1'], source: b, source_addresses: [10.0.0.1] }]",
        "clusters: [{ name: a, endpoints: ['a:1'], health_check: { fall: 101 } }]",
        "sources: [{ name: a }]",
        "policies: [{ source: a, gateways: b }]",
        "client_labels: [{ labels: {}, addresses: [] }]",
        LISTENER.format("adress: x, ", "deny: close"),
        LISTENER.format("half_close: yes, ", "deny: close"),
        LISTENER.format("limits: { rate: 500 }, ", "deny: close"),
        LISTENER.format("clients: { rules: [], allow: all }, ", "deny: close"),
        LISTENER.format("clients: { rules: [{ allow: all, deny: all }] }, ", "deny: close"),
        LISTENER.format("accept_proxy: { from: [] }, ", "deny: close"),
        LISTENER.format("timeouts: { idle: }, ", "deny: close"),
        LISTENER.format("", "deny: no"),
        LISTENER.format("", "name: a"),
        LISTENER.format("", "to: { cluster: a }, deny: close"),
        LISTENER.format("", "to: {}"),
        LISTENER.format("", "to: { server_name: {} }"),
        LISTENER.format("", "to: { server_name: { port: 0 } }"),
        LISTENER.format("", "match: { server_names: [] }, deny: close"),
        LISTENER.format("", "match: { server_names: ['a*.x'] }, deny: close"),
    ],
)
def test_slips_are_refused_by_the_schema_and_by_check(validator, tmp_path, text):
    assert findings(validator, text) != []
    assert weir.check(tmp_path, text).returncode == 1
