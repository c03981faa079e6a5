"""Cilium's egress policies as their documents give them: whose connections leave from where (S1-1, S1-2)."""

import subprocess

import pytest

from harness import wire
from harness.endpoints import Origin, connect
from harness.network import Neighbour, free_port

pytestmark = [pytest.mark.weir, pytest.mark.own_network]

PODS = """
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: { name: test, namespace: prod, labels: { app: test-app } }
    status: { podIP: 10.98.0.1 }
  - apiVersion: v1
    kind: Pod
    metadata: { name: other, namespace: prod, labels: { app: other } }
    status: { podIP: 10.98.0.2 }
  - apiVersion: v1
    kind: Pod
    metadata:
      name: monitor
      namespace: cilium-egress-gateway
      labels: { app.kubernetes.io/name: egress-gw-monitor }
    status: { podIP: 10.98.0.3 }
"""
TEST_APP, OTHER, MONITOR = "10.98.0.1", "10.98.0.2", "10.98.0.3"

SAMPLE = """
apiVersion: cilium.io/v2alpha1
kind: CiliumEgressNATPolicy
metadata:
  name: egress-sample
spec:
  egress:
    - podSelector:
      matchLabels:
        app: test-app
  destinationCIDRs:
    - 1.2.3.0/24
  egressSourceIP: 10.1.2.1
"""

GROUP_SAMPLE = """
apiVersion: cilium.io/v2alpha1
kind: CiliumEgressNATPolicy
metadata:
  name: egress-ha-sample
spec:
  egress:
    - podSelector:
        matchLabels:
          app: test-app
  destinationCIDRs:
    - 1.2.3.0/24
  egressGroups:
    - nodeSelector:
        matchLabels:
          egress-group: egress-group-1
        interface: eth1
        maxGatewayNodes: 2
"""

ZONES = """
apiVersion: cilium.io/v2alpha1
kind: CiliumEgressNATPolicy
metadata:
  name: egress-gw-nat-policy
spec:
  destinationCIDRs:
    - 10.2.0.0/16
  egress:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: egress-gw-monitor
          io.kubernetes.pod.namespace: cilium-egress-gateway
  egressGroups:
    - egressIP: 10.2.200.10
      nodeSelector:
        matchLabels:
          io.cilium/egress-gateway: 'true'
          topology.kubernetes.io/zone: us-west-2a
    - egressIP: 10.2.201.10
      nodeSelector:
        matchLabels:
          io.cilium/egress-gateway: 'true'
          topology.kubernetes.io/zone: us-west-2b
    - egressIP: 10.2.202.10
      nodeSelector:
        matchLabels:
          io.cilium/egress-gateway: 'true'
          topology.kubernetes.io/zone: us-west-2c
    - egressIP: 10.2.203.10
      nodeSelector:
        matchLabels:
          io.cilium/egress-gateway: 'true'
          topology.kubernetes.io/zone: us-west-2d
"""

OVERLAPPING = """
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: { name: everything, creationTimestamp: "2024-01-01T00:00:00Z" }
spec:
  selectors: [ { podSelector: { matchLabels: { app: test-app } } } ]
  destinationCIDRs: [ 0.0.0.0/0 ]
  egressGateway: { nodeSelector: { matchLabels: { egress: "true" } }, egressIP: 10.1.2.1 }
---
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: { name: partner, creationTimestamp: "2025-01-01T00:00:00Z" }
spec:
  selectors: [ { podSelector: { matchLabels: { app: test-app } } } ]
  destinationCIDRs: [ 1.2.3.0/24 ]
  excludedCIDRs: [ 1.2.3.128/25 ]
  egressGateway: { nodeSelector: { matchLabels: { egress: "true" } }, egressIP: 10.1.2.2 }
"""


@pytest.fixture
def addresses():
    """Gives this host more addresses, until the end of the test."""
    given = []

    def give(*wanted: str) -> None:
        for address in wanted:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
            given.append(address)

    yield give
    for address in given:
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def saying_who(seen):
    if seen.read():
        seen.connection.sendall(seen.peer[0].encode())
        seen.read_all()


def ask(port: int, name: str, source: str) -> str:
    with connect(("127.0.0.1", port), source=source) as client:
        client.sendall(wire.openssl_hello(name))
        return client.recv(100).decode()


def egress(port: int, target: int, names, **keys) -> dict:
    return {
        "workers": 1,
        "resolver": {"servers": [f"127.0.0.1:{names.port}"]},
        "listeners": [{"address": f"127.0.0.1:{port}", "routes": [{"to": {"server_name": {"port": target}}}]}],
        **keys,
    }


def test_s1_1_labelled_pods_leave_from_the_address_of_their_policy(native, names, addresses, stopping):
    """S1-1: podSelector, destinationCIDRs and egressSourceIP."""
    addresses(TEST_APP, OTHER, "10.1.2.1", "1.2.3.4", "1.2.4.4")
    target, port = free_port(), free_port()
    for name, address in (("inside.test", "1.2.3.4"), ("outside.test", "1.2.4.4")):
        names.set(name, address)
        stopping(Origin(saying_who, address=address, port=target))
    native(egress(port, target, names), beside=[PODS, SAMPLE])
    assert ask(port, "inside.test", TEST_APP) == "10.1.2.1"
    assert ask(port, "inside.test", OTHER) != "10.1.2.1"
    assert ask(port, "outside.test", TEST_APP) != "10.1.2.1"


def test_s1_1_of_overlapping_policies_the_longest_block_decides(native, names, addresses, stopping):
    """S1-1: whatever their age; what is excluded there no other policy has."""
    addresses(TEST_APP, "10.1.2.1", "10.1.2.2", "1.2.3.4", "1.2.3.200", "1.2.4.4")
    target, port = free_port(), free_port()
    for name, address in (("longest.test", "1.2.3.4"), ("excluded.test", "1.2.3.200"), ("other.test", "1.2.4.4")):
        names.set(name, address)
        stopping(Origin(saying_who, address=address, port=target))
    native(egress(port, target, names), beside=[PODS, OVERLAPPING])
    assert ask(port, "longest.test", TEST_APP) == "10.1.2.2"
    assert ask(port, "excluded.test", TEST_APP) not in ("10.1.2.1", "10.1.2.2")
    assert ask(port, "other.test", TEST_APP) == "10.1.2.1"


def test_s1_2_the_addresses_of_four_zones_take_turns(native, names, addresses, stopping):
    """S1-2, S1-5: egressGroups with an address each, in the process that is the gateway."""
    sources = [f"10.2.{zone}.10" for zone in (200, 201, 202, 203)]
    addresses(MONITOR, "10.2.5.5", *sources)
    target, port = free_port(), free_port()
    names.set("echo.test", "10.2.5.5")
    stopping(Origin(saying_who, address="10.2.5.5", port=target))
    native(egress(port, target, names, destinations={"allow": ["10.2.0.0/16"]}), beside=[PODS, ZONES])
    assert sorted(ask(port, "echo.test", MONITOR) for _ in range(8)) == sorted(sources * 2)


def test_s1_2_nodes_with_the_label_of_a_group_take_turns(native, names, addresses, stopping):
    """S1-2: node and gateways read the same policy; the gateways leave by the interface that it names."""
    addresses(TEST_APP, "10.98.1.1", "10.98.1.2", "10.98.1.3")
    outside = stopping(Neighbour("1.2.3.1", "1.2.3.4"))
    link = next(
        line.split()[1].split("@")[0]
        for line in subprocess.check_output(["ip", "-o", "address"], text=True).splitlines()
        if " 1.2.3.1/" in line
    )
    for change in (["down"], ["name", "eth1"], ["up"]):
        subprocess.run(["ip", "link", "set", "eth1" if change == ["up"] else link, *change], check=True)
    names.set("inside.test", "1.2.3.4")
    with outside.entered():
        origin = stopping(Origin(saying_who, address="1.2.3.4", port=8443))
    gateway_port = free_port()
    nodes = "\n---\n".join(
        f"""
apiVersion: v1
kind: Node
metadata: {{ name: node-{number}, labels: {{ egress-group: egress-group-{1 if number < 3 else 2} }} }}
status: {{ addresses: [ {{ type: InternalIP, address: 10.98.1.{number} }} ] }}
"""
        for number in (1, 2, 3)
    )
    gateways = [
        native(
            {
                "workers": 1,
                "listeners": [
                    {
                        "address": f"10.98.1.{number}:{gateway_port}",
                        "detect": "none",
                        "accept_proxy": {"from": ["10.98.0.0/16", "127.0.0.0/8"]},
                        "routes": [{"to": {"proxy_destination": {}}}],
                    }
                ],
                "manifests": {"node": f"node-{number}"},
            },
            name=f"gateway-{number}",
            beside=[PODS, nodes, GROUP_SAMPLE],
        )
        for number in (1, 2)
    ]
    port = free_port()
    node = native(
        egress(port, 8443, names, manifests={"gateway_port": gateway_port}),
        name="node",
        beside=[PODS, nodes, GROUP_SAMPLE],
    )
    assert [ask(port, "inside.test", TEST_APP) for _ in range(6)] == ["1.2.3.1"] * 6
    policy = "CiliumEgressNATPolicy/egress-ha-sample"
    assert node.metrics().sum("weir_policy_sessions_total", policy=policy) == 6
    for gateway in gateways:
        assert gateway.metrics().sum("weir_policy_sessions_total", policy=policy) == 3
    assert origin.seen
