import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// EnvoyFilter, of the two shapes that are read (S3-3, S3-4, T-08).
@Suite struct EnvoyFilterTests {
    @Test func aProxyProtocolFilterHasItsListenerTakeHeadersFromPrivateNetworks() throws {
        let result = reading(IstioSample.headers)
        #expect(result.unsupportedLines == [])
        #expect(
            try result.listener(8443).acceptProxy
                == AcceptProxy(from: ClientPolicy.privateNetworks.rules.map(\.block)))
        #expect(result.notices(containing: "PROXY headers at port 8443 are believed from private networks"))
    }

    @Test func aFilterChainIsARouteByDestinationBeforeTheBlackHole() throws {
        let routes = try reading(IstioSample.headers).listener(8443).routes
        #expect(
            routes.map(\.name) == ["EnvoyFilter/istio-system/shoot-a/0", "VirtualService/istio-system/blackhole/tcp/0"])
        #expect(routes[0].match.destinations == [CIDR("10.1.2.3/32")!])
        #expect(routes[0].match.destinationPorts == [443...443])
        #expect(routes[0].action == .cluster("outbound|443||kube-apiserver.shoot-a.svc.cluster.local"))
        #expect(routes[1].action == .deny(.reset))
    }

    @Test func aChainOfSeveralBlocksIsARouteForEachLengthOfThem() throws {
        let wide = IstioSample.chain.replacing(
            "prefix_ranges:", with: "prefix_ranges:\n          - { address_prefix: 10.0.0.0, prefix_len: 8 }")
        let between = IstioSample.chain.replacing("shoot-a", with: "shoot-b")
            .replacing("prefix_len: 32", with: "prefix_len: 16")
        let documents = [IstioSample.blackhole, IstioSample.proxyProtocol, wide, between].joined(separator: "---\n")
        #expect(
            try reading(documents).listener(8443).routes.map(\.match.destinations) == [
                [CIDR("10.1.2.3/32")!], [CIDR("10.1.0.0/16")!], [CIDR("10.0.0.0/8")!], [],
            ])
    }

    @Test func theOrderOfTheDocumentsMeansNothing() throws {
        let backwards = [IstioSample.chain, IstioSample.proxyProtocol, IstioSample.blackhole].joined(separator: "---\n")
        #expect(try reading(backwards).listener(8443) == (try reading(IstioSample.headers).listener(8443)))
    }

    private static func chain(in namespace: String, selector: String = "") -> String {
        IstioSample.chain.replacing("namespace: istio-system", with: "namespace: \(namespace)")
            .replacing("  workloadSelector: { labels: { istio: ingressgateway } }\n", with: selector)
    }

    @Test(arguments: ["", "  workloadSelector: { labels: {} }\n"])
    func aFilterForAllProxiesOfANamespaceWithoutGatewaysIsNotApplied(selector: String) throws {
        let chain = Self.chain(in: "evil", selector: selector)
        let result = reading(documents: IstioSample.blackhole, IstioSample.proxyProtocol, chain)
        #expect(try result.listener(8443).routes.map(\.name) == ["VirtualService/istio-system/blackhole/tcp/0"])
        #expect(
            result.unsupportedLines.map {
                $0.contains("EnvoyFilter evil/shoot-a: is for the proxies of namespace evil")
            } == [true])
    }

    @Test(arguments: ["istio-system", "gates"])
    func aFilterForAllProxiesHoldsInTheRootNamespaceAndInThatOfAGateway(namespace: String) throws {
        let gateway = IstioSample.document("Gateway", "servers: []", name: "gate").replacing(
            "namespace: n", with: "namespace: gates")
        let chain = Self.chain(in: namespace)
        let result = reading(documents: gateway, IstioSample.blackhole, IstioSample.proxyProtocol, chain)
        #expect(try result.listener(8443).routes[0].name == "EnvoyFilter/\(namespace)/shoot-a/0")
        #expect(result.unsupportedLines == [])
    }

    @Test func aNativeListenerSaysWhoseHeadersAreBelieved() throws {
        let native = """
            listeners:
              - { address: "127.0.0.1:7000", manifest_port: 8443, accept_proxy: { from: [ 192.0.2.0/24 ] }, routes: [] }

            """
        let listener = try reading(documents: native, IstioSample.headers).listener(7000)
        #expect(listener.acceptProxy == AcceptProxy(from: [CIDR("192.0.2.0/24")!]))
        #expect(listener.routes.count == 2)
    }

    @Test func bothSpellingsOfAFieldAreRead() throws {
        let camel = IstioSample.headers.replacing("listener_filters", with: "listenerFilters")
            .replacing("filter_chain_match", with: "filterChainMatch").replacing(
                "destination_port", with: "destinationPort"
            )
            .replacing("prefix_ranges", with: "prefixRanges").replacing("address_prefix", with: "addressPrefix")
            .replacing("prefix_len", with: "prefixLen").replacing("typed_config", with: "typedConfig")
            .replacing("stat_prefix", with: "statPrefix")
        #expect(try reading(camel).listener(8443) == (try reading(IstioSample.headers).listener(8443)))
    }

    @Test(arguments: [
        ("applyTo: FILTER_CHAIN", "applyTo: NETWORK_FILTER", "applyTo", "ADD of NETWORK_FILTER is not read"),
        ("operation: ADD", "operation: REMOVE", "applyTo", "REMOVE of FILTER_CHAIN is not read"),
        ("operation: MERGE", "operation: ADD", "applyTo", "ADD of LISTENER is not read"),
        (
            "name: envoy.filters.network.tcp_proxy", "name: envoy.filters.network.rbac", "",
            "a chain that is not one tcp_proxy"
        ),
        (
            "name: envoy.filters.listener.proxy_protocol", "name: envoy.filters.listener.tls_inspector", "",
            "other than proxy_protocol"
        ),
        (
            "destination_port: 443", "server_names: [ a ]", "filter_chain_match.server_names",
            "is not read: the chain is left out"
        ),
        ("portNumber: 8443, name: 0.0.0.0_8443", "name: virtualOutbound", "", "a listener without portNumber"),
        (
            "portNumber: 8443, name: 0.0.0.0_8443", "portNumber: 8443, name: 0.0.0.0_8444", "listener.name",
            "no listener is called"
        ),
        (
            "portNumber: 8443, name: 0.0.0.0_8443", "portNumber: 1", "listener",
            "no document asks for a listener at port 1"
        ),
        ("context: ANY", "context: SIDECAR_INBOUND", "match.context", "has no listeners here"),
    ])
    func anyOtherPatchIsUnsupportedWithItsField(field: String, other: String, path: String, message: String) {
        let lines = reading(IstioSample.headers.replacing(field, with: other)).unsupportedLines
        #expect(!lines.isEmpty)
        #expect(
            lines.allSatisfy { $0.contains("EnvoyFilter istio-system/") && $0.contains(path) && $0.contains(message) },
            "\(lines)")
    }

    @Test func aClusterThatIsNoServiceIsReportedAndDenied() throws {
        let text = IstioSample.headers.replacing("cluster: outbound|443||kube", with: "cluster: inbound|443||kube")
        let result = reading(text)
        #expect(try result.listener(8443).routes[0].action == .deny(.reset))
        #expect(result.unsupportedLines.contains { $0.contains("typed_config.cluster: \"inbound|443||kube") })
    }

    @Test(arguments: [
        ("address_prefix: 10.1.2.3", "address_prefix: here", "expected an address"),
        ("prefix_len: 32", "prefix_len: 33", "expected a number 0...32"),
        ("destination_port: 443", "destination_port: 0", "expected a number 1...65535"),
    ])
    func aMatchThatCannotBeReadIsAnErrorAndNeverEverything(field: String, other: String, error: String) {
        let errors = reading(IstioSample.headers.replacing(field, with: other)).errorLines
        #expect(errors.contains { $0.contains(error) }, "\(errors)")
    }
}
