import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// Where documents listen that want other addresses of one port, and what happens where documents of two kinds want the
/// same one.
@Suite struct PlaceTests {
    /// A Gateway of Istio and a VirtualService that leads its host on.
    private func istio(
        _ name: String, bind: String = "", host: String, mode: String = "PASSTHROUGH", to destination: String = "there"
    ) -> String {
        let place = bind.isEmpty ? "" : "bind: \(bind), "
        return """
            ---
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: { name: \(name), namespace: n }
            spec:
              servers:
                - { \(place)port: { number: 443, protocol: TLS }, tls: { mode: \(mode) }, hosts: [ "\(host)" ] }
            ---
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            metadata: { name: \(name), namespace: n }
            spec:
              hosts: [ "\(host)" ]
              gateways: [ \(name) ]
              tls:
                - match: [ { sniHosts: [ "\(host)" ] } ]
                  route: [ { destination: { host: \(destination).example.com, port: { number: 443 } } } ]

            """
    }

    /// Hosts outside of the mesh.
    private let entry = """
        ---
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: { name: out, namespace: n }
        spec:
          hosts: [ here.example.com, there.example.com ]
          ports: [ { number: 443, protocol: TLS } ]
          resolution: DNS

        """

    private func ingress(_ host: String) -> String {
        """
        ---
        apiVersion: networking.k8s.io/v1
        kind: Ingress
        metadata: { name: i, namespace: a, annotations: { nginx.ingress.kubernetes.io/ssl-passthrough: "true" } }
        spec:
          ingressClassName: nginx
          rules:
            - host: "\(host)"
              http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 443 } } } } ] }

        """
    }

    private func gateway(_ hostnames: String..., more: String = "") -> String {
        let listeners = hostnames.enumerated().map { number, name in
            "{ name: l\(number), hostname: '\(name)', port: 443, protocol: TLS, tls: { mode: Passthrough } }"
        }
        return """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: { name: g, namespace: a }
            spec: { gatewayClassName: weir, listeners: [ \(listeners.joined(separator: ", ")) ]\(more) }

            """
    }

    private func route(_ hostname: String) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: TLSRoute
        metadata: { name: r, namespace: a }
        spec:
          parentRefs: [ { name: g } ]
          hostnames: [ '\(hostname)' ]
          rules: [ { backendRefs: [ { name: web, port: 443 } ] } ]

        """
    }

    private static let web = "outbound|443||web.a.svc.cluster.local"
    private static let here = "outbound|443||here.example.com"
    private static let there = "outbound|443||there.example.com"

    private func unsupported(_ text: String) -> [String] {
        reading(text).unsupportedLines.map { String($0.drop { $0 != " " }.dropFirst()) }
    }

    // MARK: Addresses

    @Test func whatIsBoundToAnAddressIsServedNowhereElse() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
            + istio("public", host: "www.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [www.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [admin.example.com] -> \(Self.there)",
            ])
    }

    @Test func aNameLeadsElsewhereAtTheAddressThatAGatewayIsBoundTo() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "www.example.com", to: "here")
            + istio("public", host: "www.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [www.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [www.example.com] -> \(Self.here)",
            ])
    }

    @Test func theAddressOfAllManifestsIsOnePlaceWhoeverAsksForIt() throws {
        let text =
            "manifests: { address: 127.0.0.1 }\n" + entry
            + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
            + istio("public", host: "www.example.com")
        let listeners = try #require(reading(text).configuration).listeners
        #expect(listeners.map(\.address.description) == ["127.0.0.1:443"])
        #expect(listeners.first?.routes.count == 2)
    }

    /// With another Gateway at the address, from which no route leads, as without one.
    @Test(arguments: [false, true])
    func aNameThatCannotBeServedAtAnAddressIsServedAtTheOthers(hasNeighbour: Bool) throws {
        let idle = """
            ---
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: { name: idle, namespace: n }
            spec:
              servers:
                - bind: 127.0.0.1
                  port: { number: 443, protocol: TLS }
                  tls: { mode: PASSTHROUGH }
                  hosts: [ idle.example.com ]

            """
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com", mode: "SIMPLE")
            + istio("public", host: "*.example.com") + (hasNeighbour ? idle : "")
        let routes = try reading(text).listener(443).routes
        #expect(routes.map(\.name) == ["VirtualService/n/public/tls/0", "Gateway/n/internal/0/admin.example.com"])
        #expect(routes.last?.action == .deny(.unrecognizedName))
        #expect(routes.last?.match.destinations.map(\.description) == ["127.0.0.1/32"])
    }

    @Test func aNameThatCannotBeServedIsRefusedWhereItsAddressIsListenedOn() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "*.example.com")
            + istio("ended", bind: "127.0.0.1", host: "admin.example.com", mode: "SIMPLE")
            + istio("public", host: "*.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [*.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [*.example.com] -> \(Self.there)",
                "127.0.0.1:443 Gateway/n/ended/0/admin.example.com [admin.example.com] -> unrecognizedName",
            ])
    }

    @Test func aNameThatCannotBeServedAtTwoAddressesIsRefusedAtBoth() throws {
        let gateway = """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: { name: g, namespace: a }
            spec:
              gatewayClassName: weir
              addresses: [ { value: 192.0.2.1 }, { value: 192.0.2.2 } ]
              listeners: [ { name: ended, hostname: admin.example.com, port: 443, protocol: HTTPS, tls: {} } ]

            """
        let result = reading(entry + istio("public", host: "*.example.com") + gateway)
        #expect(result.errorLines.isEmpty)
        let routes = try result.listener(443).routes.dropFirst()
        #expect(routes.map(\.match.destinations).map { $0.map(\.description) } == [["192.0.2.1/32"], ["192.0.2.2/32"]])
    }

    @Test func aNativeListenerGathersWhatOneServiceSaysDifferentlyAtTwoAddresses() throws {
        let native = "listeners: [ { address: '127.0.0.1:8443', manifest_port: 443, routes: [] } ]\n"
        let gateways = [("one", "127.0.0.2"), ("two", "127.0.0.3")].map { name, address in
            """
            ---
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: { name: \(name), namespace: n }
            spec:
              servers:
                - bind: \(address)
                  port: { number: 443, protocol: TLS }
                  tls: { mode: PASSTHROUGH }
                  hosts: [ \(name).example.com ]

            """
        }.joined()
        let service = """
            ---
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            metadata: { name: both, namespace: n }
            spec:
              hosts: [ one.example.com, two.example.com ]
              gateways: [ one, two ]
              tls:
                - match: [ { sniHosts: [ one.example.com, two.example.com ] } ]
                  route: [ { destination: { host: there.example.com, port: { number: 443 } } } ]

            """
        let result = reading(native + entry + gateways + service)
        #expect(result.errorLines.isEmpty)
        let names = try #require(result.configuration).listeners[0].routes.flatMap { $0.match.serverNames.map(\.text) }
        #expect(names.sorted() == ["one.example.com", "two.example.com"])
    }

    @Test func routesOfTheMeshAreNotServedAtThePortOfAGatewayThatIsNot() throws {
        let mesh = """
            ---
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            metadata: { name: m, namespace: n }
            spec:
              hosts: [ there.example.com ]
              tls:
                - match: [ { port: 443, sniHosts: [ there.example.com ] } ]
                  route: [ { destination: { host: there.example.com, port: { number: 443 } } } ]

            """
        let nowhere = gateway("a.test", more: ", addresses: [ { type: Hostname, value: lb.test } ]")
        let other = istio("public", host: "www.example.com").replacing(
            "number: 443, protocol", with: "number: 444, protocol")
        #expect(try routing(entry + other + nowhere + mesh).allSatisfy { !$0.contains("VirtualService/n/m") })
    }

    @Test func aNativeListenerOnAllAddressesLeavesAnAddressToItsGateway() throws {
        let native = "listeners: [ { address: '0.0.0.0:443', routes: [ { deny: reset } ] } ]\n"
        let text = native + entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
        let listeners = try #require(reading(text).configuration).listeners
        #expect(listeners.map(\.address.description) == ["0.0.0.0:443", "127.0.0.1:443"])
    }

    @Test func aNativeListenerAtTheVeryAddressIsInTheWay() {
        let native = "listeners: [ { address: '127.0.0.1:443', routes: [ { deny: reset } ] } ]\n"
        let text = native + entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
        let message = "listener \"127.0.0.1:443\" has port 443 at 127.0.0.1 already; `manifest_port: 443` there takes"
        #expect(reading(text).errorLines.contains { $0.contains(message) })
    }

    @Test func whereANativeListenerGathersAddressesALaterRouteForANameIsReported() {
        let native = "listeners: [ { address: '127.0.0.1:8443', manifest_port: 443, routes: [] } ]\n"
        let text =
            native + entry + istio("internal", bind: "127.0.0.1", host: "www.example.com", to: "here")
            + istio("public", host: "www.example.com")
        #expect(
            unsupported(text) == [
                "VirtualService/n/internal/tls/0: \"www.example.com\" at port 443 is "
                    + "VirtualService/n/public/tls/0's already"
            ])
    }

    // MARK: Kinds

    @Test func aNameOfAnIngressIsNoTLSRoutes() {
        let text = service("web") + ingress("x.test") + gateway("x.test") + route("x.test")
        #expect(
            unsupported(text) == [
                "TLSRoute/a/r/0: \"x.test\" at port 443 is Ingress/a/i/x.test's already"
            ])
    }

    @Test func aNameThatAGatewayKeepsToItselfIsNoVirtualServices() {
        let text =
            service("web") + entry + gateway("*.ex.com", "a.ex.com") + route("a.ex.com")
            + istio("public", host: "*.ex.com")
        #expect(
            unsupported(text) == [
                "VirtualService/n/public/tls/0: \"*.ex.com\" at port 443 is Gateway/a/g/l0's already"
            ])
    }

    @Test func aPortOfAConfigMapIsNoTCPRoutes() {
        let text =
            service("web") + """
                ---
                apiVersion: v1
                kind: ConfigMap
                metadata: { name: tcp-services, namespace: a }
                data: { "5432": "a/web:443" }
                ---
                apiVersion: gateway.networking.k8s.io/v1
                kind: Gateway
                metadata: { name: g, namespace: a }
                spec: { gatewayClassName: weir, listeners: [ { name: tcp, port: 5432, protocol: TCP } ] }
                ---
                apiVersion: gateway.networking.k8s.io/v1alpha2
                kind: TCPRoute
                metadata: { name: r, namespace: a }
                spec: { parentRefs: [ { name: g } ], rules: [ { backendRefs: [ { name: web, port: 443 } ] } ] }

                """
        #expect(
            unsupported(text) == [
                "TCPRoute/a/r/0: port 5432 is ConfigMap/a/tcp-services/5432's already"
            ])
    }

    @Test func otherNamesAtTheSamePortAreNobodysLoss() {
        let text =
            service("web") + entry + ingress("x.test") + gateway("y.test") + route("y.test")
            + istio("public", host: "z.test")
        #expect(unsupported(text) == [])
    }

    @Test func aNameAtAnotherAddressIsNobodysLoss() {
        let text =
            service("web") + ingress("x.test") + gateway("x.test", more: ", addresses: [ { value: 192.0.2.1 } ]")
            + route("x.test")
        #expect(unsupported(text) == [])
    }
}
