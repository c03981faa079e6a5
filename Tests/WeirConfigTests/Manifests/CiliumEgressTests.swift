import Testing
import WeirModel
import WeirNet
import WeirRouting

@testable import WeirConfig

@Suite("S1-1, S1-2: Cilium's egress policies") struct CiliumEgressTests {
    private static let native = """
        listeners: [ { address: 127.0.0.1:8443, routes: [ { to: { server_name: { port: 443 } } } ] } ]
        client_labels:
          - { labels: { app: test-app, io.kubernetes.pod.namespace: prod }, addresses: [10.0.1.0/24, 10.0.9.9] }
          - { labels: { app: other }, addresses: [10.0.2.0/24] }

        """
    private static let nodes = """
        ---
        apiVersion: v1
        kind: Node
        metadata: { name: one, labels: { egress-group: egress-group-1 } }
        status: { addresses: [ { type: InternalIP, address: 10.1.0.1 } ] }
        ---
        apiVersion: v1
        kind: Node
        metadata: { name: two, labels: { egress-group: egress-group-1 } }
        status: { addresses: [ { type: InternalIP, address: 10.1.0.2 } ] }
        ---
        apiVersion: v1
        kind: Node
        metadata: { name: three }
        status: { addresses: [ { type: InternalIP, address: 10.1.0.3 } ] }

        """

    private func policy(_ kind: String, _ spec: String, native: String = native) -> ConfigResult {
        let version = kind == "CiliumEgressNATPolicy" ? "v2alpha1" : "v2"
        return reading(
            """
            \(native)---
            apiVersion: cilium.io/\(version)
            kind: \(kind)
            metadata: { name: out }
            spec: { \(spec) }
            """)
    }

    private static let clients = "{ podSelector: { matchLabels: { app: test-app } } }"

    @Test func aPolicyGivesTheClientsAndDestinationsThatItSelectsItsAddress() throws {
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ \(Self.clients) ], destinationCIDRs: [1.2.3.0/24], egressSourceIP: 10.1.2.1")
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        let name = "CiliumEgressNATPolicy/out"
        #expect(configuration.policies.map(\.name) == [name])
        #expect(configuration.policies.first?.action == .source(name))
        #expect(configuration.policies.first?.match.clients.map(\.description) == ["10.0.1.0/24", "10.0.9.9/32"])
        #expect(configuration.policies.first?.match.destinations.map(\.description) == ["1.2.3.0/24"])
        #expect(configuration.sources.map(\.addresses) == [[IPAddress(10, 1, 2, 1)]])
        #expect(result.unsupportedLines == [])
    }

    /// As the document of S1 has it.
    @Test func labelsBesideAnEmptySelectorAreTakenAsItsOwn() {
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ { podSelector: , matchLabels: { app: test-app } } ], destinationCIDRs: [1.2.3.0/24], "
                + "egressSourceIP: 10.1.2.1")
        #expect(result.configuration?.policies.first?.match.clients.count == 2)
        #expect(result.notices(containing: "stands beside `podSelector`"))
    }

    @Test func aPolicyThatSelectsNobodyIsLeftOutAndSaid() {
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ { podSelector: { matchLabels: { app: nobody } } } ], destinationCIDRs: [1.2.3.0/24], "
                + "egressSourceIP: 10.1.2.1")
        #expect(result.configuration?.policies == [])
        #expect(result.notices(containing: "no pod, and no entry of `client_labels`, is selected"))
    }

    @Test(arguments: [
        ("{ podSelector: { matchExpressions: [ { key: app, operator: In, values: [other, x] } ] } }", ["10.0.2.0/24"]),
        (
            "{ podSelector: { matchExpressions: [ { key: app, operator: NotIn, values: [test-app] } ] } }",
            ["10.0.2.0/24"]
        ),
        (
            "{ podSelector: { matchExpressions: [ { key: io.kubernetes.pod.namespace, operator: Exists } ] } }",
            ["10.0.1.0/24", "10.0.9.9/32"]
        ),
        (
            "{ podSelector: { matchExpressions: [ { key: io.kubernetes.pod.namespace, operator: DoesNotExist } ] } }",
            ["10.0.2.0/24"]
        ),
        ("{ podSelector: { matchLabels: { \"k8s:app\": other } } }", ["10.0.2.0/24"]),
        ("{ podSelector: {} }", ["10.0.1.0/24", "10.0.9.9/32", "10.0.2.0/24"]),
        (
            "{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: prod } } }",
            ["10.0.1.0/24", "10.0.9.9/32"]
        ),
        (
            "{ podSelector: { matchLabels: { io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: prod } } }",
            ["10.0.1.0/24", "10.0.9.9/32"]
        ),
    ])
    func aSelectorSelects(rule: String, clients: [String]) {
        let result = policy(
            "CiliumEgressNATPolicy", "egress: [ \(rule) ], destinationCIDRs: [0.0.0.0/0], egressSourceIP: 10.1.2.1")
        #expect(result.configuration?.policies.first?.match.clients.map(\.description) == clients)
    }

    /// Its address may be another pod's by now.
    @Test(arguments: ["phase: Succeeded, podIP: 10.5.5.5", "phase: Failed, podIP: 10.5.5.5"])
    func aPodThatHasEndedIsNobody(status: String) {
        #expect(clients(ofPod: "{}", status) == nil)
    }

    @Test func aPodOnTheNetworkOfItsNodeIsNotSelected() {
        #expect(clients(ofPod: "{ hostNetwork: true }", "podIP: 10.5.5.5") == nil)
    }

    private func clients(ofPod spec: String, _ status: String) -> [CIDR]? {
        let pod = """
            apiVersion: v1
            kind: Pod
            metadata: { name: a, labels: { app: test-app } }
            spec: \(spec)
            status: { \(status) }

            """
        let listeners = Self.native.prefix { $0 != "\n" } + "\n---\n"
        return policy(
            "CiliumEgressNATPolicy",
            "egress: [ \(Self.clients) ], destinationCIDRs: [1.2.3.0/24], egressSourceIP: 10.1.2.1",
            native: listeners + pod
        ).configuration?.policies.first?.match.clients
    }

    @Test func aLabelWithoutValueSelectsTheEmptyOne() {
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ { podSelector: { matchLabels: { app: } } } ], destinationCIDRs: [1.2.3.0/24], "
                + "egressSourceIP: 10.1.2.1")
        #expect(result.configuration?.policies == [])
    }

    @Test func withoutAnyNodeOfItsGroupsWhatAPolicySelectsIsRefused() throws {
        let result = policy(
            "CiliumEgressNATPolicy",
            "destinationCIDRs: [1.2.3.0/24], egress: [ \(Self.clients) ], egressGroups: [ { nodeSelector: { "
                + "matchLabels: { egress-group: none } } } ]",
            native: "\(Self.native)manifests: { gateway_port: 7443 }\n\(Self.nodes)")
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(configuration.policies.first?.action == .gateways("CiliumEgressNATPolicy/out"))
        #expect(configuration.clusters.first?.endpoints.map(\.isDown) == [true])
    }

    @Test func podsAreSelectedByTheirDocuments() {
        let pod = """
            apiVersion: v1
            kind: Pod
            metadata: { name: a, namespace: prod, labels: { app: test-app } }
            spec: { nodeName: one }
            status: { podIP: 10.5.5.5, podIPs: [ { ip: 10.5.5.5 }, { ip: "fd00::5" } ] }

            """
        let listeners = Self.native.prefix { $0 != "\n" } + "\n---\n"
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ \(Self.clients) ], destinationCIDRs: [1.2.3.0/24], egressSourceIP: 10.1.2.1",
            native: listeners + pod)
        #expect(
            result.configuration?.policies.first?.match.clients.map(\.description) == ["10.5.5.5/32", "fd00::5/128"])
    }

    @Test func theAddressesOfItsGroupsTakeTurnsAtTheGateway() {
        let result = policy(
            "CiliumEgressNATPolicy",
            """
            destinationCIDRs: [10.2.0.0/16], egress: [ \(Self.clients) ], egressGroups: [
            { egressIP: 10.2.200.10, nodeSelector: { matchLabels: { zone: a } } },
            { egressIP: 10.2.201.10, nodeSelector: { matchLabels: { zone: b } } } ]
            """)
        #expect(
            result.configuration?.sources.first?.addresses == [IPAddress(10, 2, 200, 10), IPAddress(10, 2, 201, 10)])
        #expect(result.configuration?.sources.first?.select == .roundRobin)
        #expect(result.unsupportedLines == [])
    }

    @Test func aGatewayThatKnowsItsNodeHasTheAddressesOfThat() {
        let result = policy(
            "CiliumEgressNATPolicy",
            """
            destinationCIDRs: [10.2.0.0/16], egress: [ \(Self.clients) ], egressGroups: [
            { egressIP: 10.2.200.10, nodeSelector: { matchLabels: { egress-group: egress-group-1 } } },
            { egressIP: 10.2.201.10, nodeSelector: { matchLabels: { zone: b } } } ]
            """, native: "\(Self.native)manifests: { node: two }\n\(Self.nodes)")
        #expect(result.configuration?.sources.first?.addresses == [IPAddress(10, 2, 200, 10)])
    }

    @Test func aNodeThatIsNoGatewayIsSaidToBeNone() {
        let result = policy(
            "CiliumEgressNATPolicy",
            "destinationCIDRs: [10.2.0.0/16], egress: [ \(Self.clients) ], egressGroups: [ { egressIP: 10.2.200.10, "
                + "nodeSelector: { matchLabels: { egress-group: egress-group-1 } } } ]",
            native: "\(Self.native)manifests: { node: three }\n\(Self.nodes)")
        #expect(result.configuration?.policies.map(\.action) == [.route])
        #expect(result.notices(containing: "node \"three\" is none of its gateways"))
    }

    @Test func withoutAddressAndInterfaceWhatAPolicySelectsLeavesAsItsRouteSays() {
        let result = policy(
            "CiliumEgressGatewayPolicy",
            "selectors: [ \(Self.clients) ], destinationCIDRs: [0.0.0.0/0], egressGateway: { nodeSelector: { "
                + "matchLabels: { a: b } } }")
        #expect(result.configuration?.policies.map(\.action) == [.route])
        #expect(result.notices(containing: "neither address nor interface is said"))
    }

    /// As the document of S1 has it: interface and cap inside the selector.
    @Test func withAGatewayPortTheNodesOfItsGroupsAreACluster() throws {
        let result = policy(
            "CiliumEgressNATPolicy",
            """
            destinationCIDRs: [1.2.3.0/24], egress: [ \(Self.clients) ], egressGroups: [ { nodeSelector: {
            matchLabels: { egress-group: egress-group-1 }, interface: eth1, maxGatewayNodes: 2 } } ]
            """, native: "\(Self.native)manifests: { gateway_port: 7443 }\n\(Self.nodes)")
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        let cluster = try #require(configuration.clusters.first)
        #expect(configuration.policies.first?.action == .gateways(cluster.name))
        #expect(cluster.endpoints.map(\.description) == ["10.1.0.1:7443", "10.1.0.2:7443"])
        #expect(cluster.activeCountMax == 2)
        #expect(cluster.upstream.sendProxy == SendProxy(.v2))
        #expect(cluster.healthCheck?.kind == .tcp)
        #expect(result.unsupportedLines == [])
    }

    @Test func withoutAGatewayPortTheInterfaceIsThisMachines() {
        let result = policy(
            "CiliumEgressNATPolicy",
            """
            destinationCIDRs: [1.2.3.0/24], egress: [ \(Self.clients) ], egressGroups: [ { nodeSelector: {
            matchLabels: { egress-group: egress-group-1 }, interface: eth1, maxGatewayNodes: 2 } } ]
            """)
        #expect(result.configuration?.sources.first?.interface == "eth1")
        #expect(result.configuration?.sources.first?.addresses == [])
        #expect(result.notices(containing: "maxGatewayNodes has an effect where connections are handed on"))
    }

    @Test func whatAPolicyExcludesIsLeftToTheRoute() throws {
        let result = policy(
            "CiliumEgressGatewayPolicy",
            """
            selectors: [ \(Self.clients) ], destinationCIDRs: [0.0.0.0/0], excludedCIDRs: [10.0.0.0/8],
            egressGateway: { nodeSelector: { matchLabels: { a: b } }, egressIP: 10.1.2.1 }
            """)
        let name = "CiliumEgressGatewayPolicy/out"
        let policies = try #require(result.configuration?.policies, "\(result.diagnostics)")
        #expect(policies.map(\.name) == ["\(name)/excluded", name])
        #expect(policies.map(\.action) == [.route, .source(name)])
        #expect(
            policies.map(\.match.destinations) == [
                [try #require(CIDR("10.0.0.0/8"))], [try #require(CIDR("0.0.0.0/0"))],
            ])
        #expect(Set(policies.map(\.match.clients)).count == 1)
        #expect(result.unsupportedLines == [])
    }

    // MARK: Overlapping policies

    /// Each a name, what it says of destinations, and the address that it leaves from.
    private func policies(_ all: [(name: String, destinations: String, address: String)]) -> ConfigResult {
        let documents = all.map { one in
            """
            ---
            apiVersion: cilium.io/v2
            kind: CiliumEgressGatewayPolicy
            metadata: { name: \(one.name) }
            spec: { selectors: [ \(Self.clients) ], \(one.destinations), egressGateway: {
              nodeSelector: { matchLabels: { a: b } }, egressIP: \(one.address) } }

            """
        }
        return reading(Self.native + documents.joined())
    }

    /// What a connection of the selected clients leaves from: an address, or `route`.
    private func way(_ configuration: Configuration, to destination: String) throws -> String {
        var configuration = configuration
        configuration.listeners = []
        let table = RouteTable(compiling: configuration, slots: [:], generation: 1, metricIndex: { _ in 0 })
        let (client, destination) = (IPAddress(10, 0, 1, 9), try #require(IPAddress(destination)))
        let found = withExtendedLifetime(table) {
            table.view.policy(client: client, name: .none, destination: destination)
        }
        guard let found else { return "none" }
        guard case .source(let name) = configuration.policies[found].action else { return "route" }
        let pool = try #require(configuration.sources.first { $0.name == name })
        return try #require(pool.addresses.first).description
    }

    @Test(arguments: [
        ("203.0.113.5", "192.0.2.20"), ("203.0.113.77", "192.0.2.30"), ("198.51.100.1", "192.0.2.10"),
    ])
    func theLongestDestinationDecidesWhateverTheAge(destination: String, address: String) throws {
        let result = policies([
            ("a", "destinationCIDRs: [0.0.0.0/0, 2001:db8::/32]", "192.0.2.10"),
            ("b", "destinationCIDRs: [203.0.113.0/24]", "192.0.2.20"),
            ("c", "destinationCIDRs: [203.0.113.77/32]", "192.0.2.30"),
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: destination) == address)
    }

    @Test(arguments: [("10.1.2.3", "192.0.2.20"), ("10.2.2.3", "route"), ("198.51.100.1", "192.0.2.10")])
    func anExclusionBeatsShorterDestinationsAndLosesToLongerOnes(destination: String, expected: String) throws {
        let result = policies([
            ("a", "destinationCIDRs: [0.0.0.0/0]", "192.0.2.10"),
            ("b", "destinationCIDRs: [10.1.0.0/16], excludedCIDRs: [10.0.0.0/8]", "192.0.2.20"),
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: destination) == expected)
    }

    @Test func ofTheSameBlockInBothListsOfAPolicyTheExclusionHolds() throws {
        let result = policies([
            ("a", "destinationCIDRs: [10.0.0.0/8], excludedCIDRs: [10.0.0.0/8]", "192.0.2.10")
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: "10.0.0.1") == "route")
    }

    @Test func aPolicyOfSeveralLengthsHasANameForEach() throws {
        let result = policies([
            (
                "a",
                "destinationCIDRs: [192.0.2.0/24, 198.51.0.0/16, 203.0.113.0/24], "
                    + "excludedCIDRs: [192.0.2.128/25, 192.0.2.7]", "192.0.2.10"
            )
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        let name = "CiliumEgressGatewayPolicy/a"
        #expect(
            configuration.policies.map(\.name) == [
                "\(name)/excluded/32", "\(name)/excluded/25", "\(name)/24", "\(name)/16",
            ])
        #expect(configuration.sources.map(\.name) == [name])
    }

    @Test func lengthsAreComparedAcrossBothKinds() throws {
        let gateway = """
            ---
            apiVersion: cilium.io/v2
            kind: CiliumEgressGatewayPolicy
            metadata: { name: long }
            spec:
              selectors: [ \(Self.clients) ]
              destinationCIDRs: [203.0.113.0/24]
              egressGateway: { nodeSelector: {}, egressIP: 192.0.2.20 }

            """
        let result = policy(
            "CiliumEgressNATPolicy",
            "egress: [ \(Self.clients) ], destinationCIDRs: [0.0.0.0/0], egressSourceIP: 192.0.2.10",
            native: Self.native + gateway)
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: "203.0.113.5") == "192.0.2.20")
    }

    @Test func whatTheKernelChoosesIsNotLeftToTheNextPolicy() throws {
        let result = policies([
            ("a", "destinationCIDRs: [203.0.113.0/24]", "~"), ("b", "destinationCIDRs: [0.0.0.0/0]", "192.0.2.20"),
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: "203.0.113.5") == "route")
    }

    @Test func theOlderOfTwoWithTheSameBlockHoldsAndThatIsSaid() throws {
        let result = policies([
            ("a", "destinationCIDRs: [0.0.0.0/0, 203.0.113.0/24]", "192.0.2.10"),
            ("b", "destinationCIDRs: [0.0.0.0/0, 203.0.113.0/24]", "192.0.2.20"),
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics)")
        #expect(try way(configuration, to: "203.0.113.5") == "192.0.2.10")
        #expect(result.notices.filter { $0.contains("CiliumEgressGatewayPolicy/a has") }.count == 1)
    }

    @Test func twoThatExcludeTheSameBlockAreNoQuestion() {
        let result = policies([
            ("a", "destinationCIDRs: [192.0.2.0/24], excludedCIDRs: [10.0.0.0/8]", "192.0.2.10"),
            ("b", "destinationCIDRs: [203.0.113.0/24], excludedCIDRs: [10.0.0.0/8]", "192.0.2.20"),
        ])
        #expect(result.configuration?.policies.count == 4)
        #expect(!result.notices(containing: "10.0.0.0/8"))
    }

    @Test func aPodKeepsItsGatewayAmongSeveral() {
        let result = policy(
            "CiliumEgressGatewayPolicy",
            """
            selectors: [ \(Self.clients) ], destinationCIDRs: [0.0.0.0/0], egressGateways: [
            { nodeSelector: { matchLabels: { a: b } }, egressIP: 10.1.2.1 },
            { nodeSelector: { matchLabels: { a: c } }, egressIP: 10.1.2.2 } ]
            """)
        #expect(result.configuration?.sources.first?.select == .clientHash)
        #expect(result.configuration?.sources.first?.addresses.count == 2)
    }

    /// Ones whose nodes, pods and policies are multiplied with each other take hours.
    @Test(.timeLimit(.minutes(1))) func aLargeClusterWithManyPoliciesIsReadQuickly() {
        var text = Self.native
        for number in 0..<2000 {
            text += """
                ---
                { apiVersion: v1, kind: Node, metadata: { name: n\(number), labels: { a: b } } }
                ---
                apiVersion: v1
                kind: Pod
                metadata: { name: p\(number), namespace: s\(number % 20), labels: { app: test-app } }
                spec: { nodeName: n\(number) }
                status: { podIP: 10.5.\(number / 250).\(number % 250) }

                """
        }
        for number in 0..<300 {
            text += """
                ---
                apiVersion: cilium.io/v2
                kind: CiliumEgressGatewayPolicy
                metadata: { name: e\(number) }
                spec:
                  selectors: [ { podSelector: { matchLabels: { io.kubernetes.pod.namespace: s\(number % 20) } } } ]
                  destinationCIDRs: [ 203.0.\(number / 250).\(number % 250) ]
                  egressGateway: { nodeSelector: { matchLabels: { a: b } }, egressIP: 192.0.2.1 }

                """
        }
        let result = reading(text)
        #expect(result.configuration?.policies.count == 300)
        #expect(result.configuration?.policies.last?.match.clients.count == 100)
    }

    @Test(arguments: [
        ("egress: [ {} ], destinationCIDRs: [1.2.3.0/24], egressSourceIP: 10.1.2.1", "a rule has `podSelector`"),
        ("egress: [ { podSelector: {} } ], egressSourceIP: 10.1.2.1", "spec.destinationCIDRs: is missing"),
        ("egress: [ { podSelector: {} } ], destinationCIDRs: [x], egressSourceIP: 10.1.2.1", "found \"x\""),
        ("egress: [ { podSelector: {} } ], destinationCIDRs: [1.2.3.0/24]", "neither an egress address nor a gateway"),
        (
            "egress: [ { podSelector: {} } ], destinationCIDRs: [1.2.3.0/24], egressSourceIP: x",
            "expected an IP address, found \"x\""
        ),
        (
            "egress: [ { podSelector: {} } ], destinationCIDRs: [1.2.3.0/24], egressGroups: [ { interface: \"a b\" } ]",
            "expected the name of an interface"
        ),
    ])
    func aPolicyThatCannotBeMeantIsAnError(spec: String, error: String) {
        let result = policy("CiliumEgressNATPolicy", spec)
        #expect(result.configuration == nil)
        #expect(result.errorLines.contains { $0.contains(error) }, "\(result.errorLines)")
    }
}
