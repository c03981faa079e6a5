import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// Gateway (S3-1): where it listens.
@Suite struct IstioGatewayTests {
    private static func gateway(_ server: String) -> String {
        IstioSample.document("Gateway", "selector: { istio: ingressgateway }\nservers: [ \(server) ]", name: "gate")
    }

    private static let server = "{ port: { number: 443, protocol: TLS }, tls: { mode: PASSTHROUGH }, hosts: [ \"*\" ] }"

    private static func service(_ host: String = "a.example.com", namespace: String = "n") -> String {
        let spec = """
            hosts: [ \(host) ]
            gateways: [ n/gate ]
            tls: [ { match: [ { sniHosts: [ \(host) ] } ], route: [ { destination: { host: there.example.com } } ] } ]
            """
        return IstioSample.document("VirtualService", spec).replacing("namespace: n", with: "namespace: \(namespace)")
    }

    @Test func aServerListensOnItsPortOnAllAddressesAndReadsHellos() throws {
        let result = reading(documents: Self.gateway(Self.server), Self.service(), IstioSample.entry())
        let listeners = try result.accepted().listeners
        #expect(listeners.map(\.address) == [SocketAddress(.v6Any, port: 443)])
        #expect(listeners.map(\.takesIPv4) == [true])
        #expect(listeners.map(\.detect) == [[.tls]])
        #expect(listeners.map(\.clients) == [.privateNetworks])
    }

    @Test func aNameWhoseTLSWouldHaveToBeEndedIsNotTheWildcardsOfAnotherServer() throws {
        let ended = "{ port: { number: 443, protocol: HTTPS }, tls: { mode: SIMPLE }, hosts: [ a.example.com ] }"
        let documents = Self.gateway("\(Self.server), \(ended)")
        let result = reading(documents: documents, Self.service("\"*.example.com\""), IstioSample.entry())
        let listener = try #require(try result.accepted().listeners.first)
        #expect(listener.routes.map { $0.match.serverNames.map(\.text) } == [["*.example.com"], ["a.example.com"]])
        #expect(listener.routes.last?.action == .deny(.unrecognizedName))
    }

    @Test func bindIsTheAddressListenedOn() throws {
        let server = Self.server.replacing("{ port:", with: "{ bind: 127.0.0.9, port:")
        let listener = try reading(documents: Self.gateway(server), Self.service(), IstioSample.entry()).listener(443)
        #expect(listener.address == SocketAddress(IPAddress("127.0.0.9")!, port: 443))
    }

    @Test func aGatewayOfAnotherWorkloadIsPassedOver() {
        let own = "manifests: { workload_labels: { istio: egressgateway } }\n"
        let result = reading(documents: own, Self.gateway(Self.server), Self.service(), IstioSample.entry())
        #expect(result.notices(containing: "Gateway n/gate: selects other workloads than this one"))
        #expect(result.errorLines == ["0:0 nothing is listened on: a configuration has at least one listener"])
        #expect(result.unsupportedLines == [])
    }

    @Test func aGatewayThatSelectsThisWorkloadIsServed() throws {
        let own = "manifests: { workload_labels: { istio: ingressgateway, app: a } }\n"
        let result = reading(documents: own, Self.gateway(Self.server), Self.service(), IstioSample.entry())
        #expect(try result.listener(443).routes.count == 1)
    }

    @Test func aServerTakesVirtualServicesOfTheNamespaceItNames() throws {
        let gateway = Self.gateway(Self.server.replacing("\"*\"", with: "m/*.example.com"))
        let result = reading(documents: gateway, Self.service(namespace: "m"), IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.name) == ["VirtualService/m/a/tls/0"])
    }

    @Test func aServerTakesNoVirtualServiceOfAnotherNamespace() {
        let gateway = Self.gateway(Self.server.replacing("\"*\"", with: "./*.example.com"))
        let result = reading(documents: gateway, Self.service(namespace: "m"), IstioSample.entry())
        let text = "there is no port at which it would be listened for"
        #expect(result.unsupportedLines.contains { $0.contains(text) })
    }

    @Test func ofAWildcardOnlyTheNamesThatTheGatewayExposesAreServed() throws {
        let gateway = Self.gateway(Self.server.replacing("\"*\"", with: "b.example.com, \"*.org\""))
        let result = reading(documents: gateway, Self.service("\"*.example.com\""), IstioSample.entry())
        #expect(try result.listener(443).routes[0].match.serverNames == [.exact(ServerName("b.example.com"))])
    }

    @Test func aServerWithoutRoutesIsNotListenedOn() {
        let native = "listeners: [ { address: 127.0.0.1:1, routes: [ { deny: reset } ] } ]\n"
        let result = reading(documents: native, Self.gateway(Self.server))
        #expect(result.configuration?.listeners.count == 1)
        #expect(result.notices(containing: "port 443 is not listened on: no route leads from it"))
    }

    @Test(arguments: [
        ("TLS", "tls: { mode: SIMPLE }", "tls.mode: SIMPLE would end TLS here"),
        ("HTTPS", "tls: { mode: MUTUAL }", "tls.mode: MUTUAL would end TLS here"),
        ("TLS", "tls: { mode: AUTO_PASSTHROUGH }", "tls.mode: AUTO_PASSTHROUGH leads to other clusters"),
        ("TCP", "tls: { mode: SIMPLE }", "tls.mode: SIMPLE would end TLS here"),
        ("TLS", "name: a", "has no tls.mode"),
        ("HTTP", "name: a", "port.protocol: HTTP: HTTP is not routed"),
        ("UDP", "name: a", "port.protocol: UDP is not known"),
    ])
    func whatWouldHaveToBeDecryptedIsUnsupported(transport: String, field: String, message: String) {
        let server = "{ port: { number: 443, protocol: \(transport) }, \(field), hosts: [ \"*\" ] }"
        let lines = reading(documents: Self.gateway(server)).unsupportedLines
        #expect(lines.count == 1)
        #expect(lines.first?.contains("Gateway n/gate: spec.servers[0]") ?? false)
        #expect(lines.first?.contains(message) ?? false, "\(lines)")
    }

    @Test func settingsOfTLSThatIsPassedOnAreSaidToHaveNoEffect() {
        let server = Self.server.replacing("PASSTHROUGH", with: "PASSTHROUGH, credentialName: a")
        let lines = reading(documents: Self.gateway(server), Self.service(), IstioSample.entry()).unsupportedLines
        #expect(lines.map { $0.hasSuffix("tls.credentialName: has no effect: TLS is passed on as it comes") } == [true])
    }

    @Test func anUnknownGatewayIsReported() {
        let lines = reading(documents: Self.service(), IstioSample.entry()).unsupportedLines
        #expect(lines.contains { $0.contains("no document describes Gateway n/gate") })
    }

    // MARK: The mesh beside a Gateway

    private static let left = "routes of the mesh are never at a gateway, and one has port 443"

    /// A VirtualService of the mesh in namespace `m`.
    private static let ofTheMesh = IstioSample.route(to: "{ host: there.example.com }").replacing(
        "namespace: n", with: "namespace: m")

    @Test func aRouteOfTheMeshDoesNotGetRoundTheHostsOfAGateway() throws {
        let gateway = Self.gateway(Self.server.replacing("\"*\"", with: "./b.example.com"))
        let result = reading(
            documents: gateway, Self.service("b.example.com"), Self.ofTheMesh, IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.match.serverNames) == [[.exact(ServerName("b.example.com"))]])
        #expect(result.unsupportedLines.map { $0.contains("VirtualService m/a: spec.tls[0]: \(Self.left)") } == [true])
    }

    @Test func anEgressGatewayServesItsMatchAndNotThatOfTheMesh() throws {
        let spec = """
            hosts: [ a.example.com ]
            gateways: [ mesh, gate ]
            tls:
            - match: [ { gateways: [ mesh ], port: 443, sniHosts: [ a.example.com ] } ]
              route: [ { destination: { host: istio-egressgateway.istio-system.svc.cluster.local } } ]
            - match: [ { gateways: [ gate ], port: 443, sniHosts: [ a.example.com ] } ]
              route: [ { destination: { host: there.example.com } } ]
            """
        let result = reading(
            documents: Self.gateway(Self.server), IstioSample.document("VirtualService", spec), IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.action) == [.cluster("outbound|443||there.example.com")])
        #expect(result.unsupportedLines.map { $0.contains(Self.left) } == [true])
    }

    @Test(arguments: [
        "{ port: { number: 443, protocol: HTTPS }, tls: { mode: SIMPLE }, hosts: [ b.example.com ] }",
        "{ bind: 127.0.0.9, port: { number: 443, protocol: TLS }, tls: { mode: PASSTHROUGH }, hosts: [ \"*\" ] }",
    ])
    func aServerThatIsNotListenedOnEverywhereKeepsTheMeshFromItsPortToo(server: String) {
        let native = "listeners: [ { address: 127.0.0.1:1, routes: [ { deny: reset } ] } ]\n"
        let result = reading(documents: native, Self.gateway(server), Self.ofTheMesh, IstioSample.entry())
        #expect(result.configuration?.listeners.map(\.address.port) == [1])
        #expect(result.unsupportedLines.contains { $0.contains(Self.left) })
    }

    @Test(arguments: [
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: { name: gate, namespace: n }
        spec: { listeners: [ { name: a, port: 443, protocol: HTTPS, tls: { mode: Terminate } } ] }

        """,
        """
        apiVersion: networking.k8s.io/v1
        kind: Ingress
        metadata: { name: web, namespace: n, annotations: { nginx.ingress.kubernetes.io/ssl-passthrough: "true" } }
        spec:
          rules:
            - host: b.example.com
              http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 443 } } } } ] }

        """,
    ])
    func gatewaysOfOtherKindsKeepTheMeshFromTheirPortsToo(document: String) {
        let result = reading(documents: document, Self.ofTheMesh, IstioSample.entry())
        #expect(result.unsupportedLines.contains { $0.contains(Self.left) })
        let routes = result.configuration?.listeners.flatMap(\.routes) ?? []
        #expect(!routes.contains { $0.name.hasPrefix("VirtualService") })
    }

    @Test func aGatewayAtAnotherPortIsNotInTheWayOfTheMesh() throws {
        let gateway = Self.gateway(Self.server.replacing("443", with: "8443"))
        let result = reading(documents: gateway, Self.ofTheMesh, IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.name) == ["VirtualService/m/a/tls/0"])
        #expect(result.unsupportedLines == [])
    }
}
