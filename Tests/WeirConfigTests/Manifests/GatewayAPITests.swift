import Testing
import WeirModel

@testable import WeirConfig

/// Gateways of the Gateway API and the routes that are attached to them.
@Suite struct GatewayAPITests {
    private static let tls = "{ name: tls, port: 443, protocol: TLS, tls: { mode: Passthrough } }"
    private static let tcp = "{ name: tcp, port: 5432, protocol: TCP }"

    private func gateway(_ listeners: String, more: String = "", name: String = "g") -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: { name: \(name), namespace: a }
        spec: { gatewayClassName: weir, listeners: [ \(listeners) ]\(more) }

        """
    }

    private func route(
        _ kind: String = "TLSRoute", name: String = "r", namespace: String = "a", parent: String = "{ name: g }",
        hostnames: String = "x.test", backends: String = "{ name: web, port: 443 }", version: String = "v1",
        metadata: String = ""
    ) -> String {
        let names = hostnames.isEmpty ? "" : "hostnames: [ \(hostnames) ], "
        return """
            ---
            apiVersion: gateway.networking.k8s.io/\(version)
            kind: \(kind)
            metadata: { name: \(name), namespace: \(namespace)\(metadata) }
            spec: { parentRefs: [ \(parent) ], \(names)rules: [ { backendRefs: [ \(backends) ] } ] }

            """
    }

    private static let web = "outbound|443||web.a.svc.cluster.local"
    private static let native = "listeners: [ { address: 127.0.0.1:8443, routes: [ { deny: reset } ] } ]\n"

    private func messages(_ text: String) -> [String] { reading(Self.native + text).diagnostics.map(\.message) }

    @Test(arguments: ["v1", "v1alpha2", "v1alpha3"])
    func aTLSRouteLeadsItsHostnamesToItsService(version: String) throws {
        let text = service("web") + gateway(Self.tls) + route(version: version)
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> \(Self.web)"])
        #expect(reading(text).diagnostics.map(\.message) == [])
    }

    @Test func aNameWhoseTLSWouldHaveToBeEndedIsNotTheWildcardsOfAnotherListener() throws {
        let ended =
            "{ name: e, hostname: a.test, port: 443, protocol: HTTPS, tls: { certificateRefs: [ { name: s } ] } }"
        let text = service("web") + gateway("\(Self.tls), \(ended)") + route(hostnames: "\"*.test\"")
        #expect(
            try routing(text) == [
                "port-443 TLSRoute/a/r/0 [*.test] -> \(Self.web)",
                "port-443 Gateway/a/g/e [a.test] -> unrecognizedName",
            ])
    }

    @Test func aTCPRouteTakesEveryConnection() throws {
        let text = service("web") + gateway(Self.tcp) + route("TCPRoute", hostnames: "", version: "v1alpha2")
        #expect(try routing(text) == ["port-5432 TCPRoute/a/r/0 -> \(Self.web)"])
        #expect(reading(text).configuration?.listeners[0].detect == [])
    }

    @Test func addressesOfAGatewayAreListenedOn() throws {
        let addresses = ", addresses: [ { type: IPAddress, value: 192.0.2.1 }, { value: 'fd00::1' } ]"
        let text = service("web") + gateway(Self.tls, more: addresses) + route()
        #expect(
            try routing(text) == [
                "192.0.2.1:443 TLSRoute/a/r/0 [x.test] -> \(Self.web)",
                "[fd00::1]:443 TLSRoute/a/r/0 [x.test] -> \(Self.web)",
            ])
    }

    @Test func anAddressOfAGatewayIsServedWithWhatThatGatewayLeadsOnOnly() throws {
        let other = gateway(Self.tls, more: ", addresses: [ { value: 192.0.2.1 } ]", name: "h")
        let text =
            service("web") + gateway(Self.tls) + route(hostnames: "x.example") + other
            + route(name: "s", parent: "{ name: h }")
        #expect(
            try routing(text) == [
                "port-443 TLSRoute/a/r/0 [x.example] -> \(Self.web)",
                "192.0.2.1:443 TLSRoute/a/s/0 [x.test] -> \(Self.web)",
            ])
        #expect(reading(text).diagnostics.map(\.message) == [])
    }

    @Test func aNameMayBeLedOnOtherwiseAtAnAddress() throws {
        let other = gateway(Self.tls, more: ", addresses: [ { value: 192.0.2.1 } ]", name: "h")
        let text =
            service("web") + service("new") + gateway(Self.tls) + route() + other
            + route(name: "s", parent: "{ name: h }", backends: "{ name: new, port: 443 }")
        #expect(
            try routing(text) == [
                "port-443 TLSRoute/a/r/0 [x.test] -> \(Self.web)",
                "192.0.2.1:443 TLSRoute/a/s/0 [x.test] -> outbound|443||new.a.svc.cluster.local",
            ])
    }

    @Test(arguments: ["{ type: Hostname, value: lb.test }", "{ type: NamedAddress, value: internal }"])
    func aGatewayWhoseAddressesCannotBeListenedOnIsNotServedElsewhere(address: String) {
        let text = service("web") + gateway(Self.tls, more: ", addresses: [ \(address) ]") + route()
        #expect(
            messages(text) == [
                "Gateway a/g: spec: none of its addresses is listened on: the Gateway is not served",
                "Gateway a/g: spec.addresses[0].value: only IP addresses are listened on",
                "TLSRoute a/r: spec.parentRefs[0]: Gateway a/g serves no such listener",
            ])
    }

    @Test func allAddressesAreNoneInParticular() throws {
        let text = service("web") + gateway(Self.tls, more: ", addresses: [ { value: 0.0.0.0 } ]") + route()
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> \(Self.web)"])
    }

    @Test func aRouteForEveryNameTakesNothingThatHasNone() throws {
        let text = service("web") + gateway(Self.tls) + route(hostnames: "")
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [*] -> \(Self.web)"])
        let notice = "TLSRoute a/r: spec: takes every server name: TLS without one is refused, as is what is no TLS"
        #expect(reading(text).notices(containing: notice))
    }

    @Test func ofTwoRoutesForEveryNameTheOlderHasIt() throws {
        let text =
            service("web") + gateway(Self.tls) + route(name: "a", hostnames: "") + route(name: "b", hostnames: "")
        #expect(try routing(text) == ["port-443 TLSRoute/a/a/0 [*] -> \(Self.web)"])
        #expect(
            reading(text).diagnostics.map(\.message).contains(
                "TLSRoute a/b: * is TLSRoute a/a's already, which is older"))
    }

    /// Pairs of all of them would take minutes.
    @Test(.timeLimit(.minutes(1))) func manyListenersAndRoutesTakeNoTimeForEachPairOfThem() throws {
        let count = 3000
        var text = service("web", namespace: "b")
        for number in 0..<count {
            let listener = Self.tls.replacing("port:", with: "hostname: \(number).test, port:")
            text += gateway(listener, name: "g\(number)")
            text += route(
                name: "r\(number)", parent: "{ name: g\(number) }", hostnames: "\(number).test",
                backends: "{ name: web, namespace: b, port: 443 }")
            text += """
                ---
                apiVersion: gateway.networking.k8s.io/v1beta1
                kind: ReferenceGrant
                metadata: { name: x\(number), namespace: b }
                spec:
                  from: [ { group: gateway.networking.k8s.io, kind: TLSRoute, namespace: a } ]
                  to: [ { group: "", kind: Service } ]

                """
        }
        let configuration = try #require(reading(text).configuration)
        #expect(configuration.listeners.first?.routes.count == 2 * count)
    }

    @Test func nativeListenersTakeTheRoutesOfTheirManifestPort() throws {
        let native = "listeners: [ { address: 127.0.0.1:8443, manifest_port: 443, routes: [] } ]\n"
        let addresses = ", addresses: [ { value: 192.0.2.1 }, { value: 192.0.2.2 } ]"
        let text = native + service("web") + gateway(Self.tls, more: addresses) + route()
        #expect(try routing(text) == ["127.0.0.1:8443 TLSRoute/a/r/0 [x.test] -> \(Self.web)"])
        for address in ["192.0.2.1", "192.0.2.2"] {
            let notice = "\(address) is not listened on at port 443: listener \"127.0.0.1:8443\" has its routes"
            #expect(reading(text).notices(containing: notice))
        }
    }

    @Test(arguments: [
        ("x.test", "", "x.test"), ("'*.test'", "x.test, y.example", "x.test"), ("x.test", "'*.test'", "x.test"),
        ("'*.test'", "'*.x.test'", "*.x.test"), ("'*.x.test'", "'*.test'", "*.x.test"),
    ])
    func hostnamesAreThoseOfTheListenerAndTheRoute(listener: String, route names: String, both: String) throws {
        let text =
            service("web") + gateway(Self.tls.replacing("port:", with: "hostname: \(listener), port:"))
            + route(hostnames: names)
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [\(both)] -> \(Self.web)"])
    }

    @Test func aRouteWithoutANameInCommonIsNotAttached() {
        let text =
            service("web") + gateway(Self.tls.replacing("port:", with: "hostname: '*.example', port:")) + route()
        #expect(messages(text) == ["TLSRoute a/r: spec.parentRefs[0]: none of its hostnames is one of a listener's"])
    }

    @Test func aNameBelongsToTheListenerThatNamesItBest() throws {
        let any = Self.tls.replacing("name: tls,", with: "name: any,")
        let near = Self.tls.replacing("port:", with: "hostname: '*.test', port:")
        let text =
            service("web") + gateway("\(any), \(near)")
            + route(parent: "{ name: g, sectionName: any }", hostnames: "x.test, y.example")
        #expect(
            try routing(text) == [
                "port-443 TLSRoute/a/r/0 [y.example] -> \(Self.web)",
                "port-443 Gateway/a/g/tls [*.test] -> unrecognizedName",
            ])
    }

    @Test func weightsShareTheConnections() throws {
        let backends = "{ name: web, port: 443, weight: 80 }, { name: new, port: 443, weight: 20 }"
        let text = service("web") + service("new") + gateway(Self.tls) + route(backends: backends)
        #expect(
            try routing(text) == [
                "port-443 TLSRoute/a/r/0 [x.test] -> 80 \(Self.web), 20 outbound|443||new.a.svc.cluster.local"
            ])
    }

    @Test func aBackendWithoutWeightGetsNothing() throws {
        let backends = "{ name: web, port: 443 }, { name: new, port: 443, weight: 0 }"
        let text = service("web") + service("new") + gateway(Self.tls) + route(backends: backends)
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> \(Self.web)"])
    }

    @Test func theShareOfABackendThatIsNotThereIsRefused() throws {
        let backends = "{ name: web, port: 443, weight: 1 }, { name: web, port: 9, weight: 4 }"
        let text = service("web") + gateway(Self.tls) + route(backends: backends)
        #expect(
            try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> 1 \(Self.web), 4 nobody|TLSRoute/a/r/0"])
        let nobody = reading(text).configuration?.clusters.first { $0.name.hasPrefix("nobody") }
        #expect(nobody?.endpoints.map(\.isDown) == [true])
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "TLSRoute a/r: spec.rules[0].backendRefs[1]: service a/web has no port 9: its share of connections is refused"
            ])
    }

    @Test func aServiceOfAnotherNamespaceNeedsAGrant() throws {
        let text =
            service("web", namespace: "b") + gateway(Self.tls)
            + route(backends: "{ name: web, namespace: b, port: 443 }")
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> reset"])
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "TLSRoute a/r: spec.rules[0].backendRefs[0]: no ReferenceGrant in namespace b lets it lead to service web: "
                    + "its share of connections is refused"
            ])
    }

    @Test(arguments: [
        ("TLSRoute", "a", "", true), ("TLSRoute", "a", ", name: web", true), ("TLSRoute", "a", ", name: db", false),
        ("TCPRoute", "a", "", false), ("TLSRoute", "c", "", false),
    ])
    func aGrantHoldsForTheKindsAndNamesInIt(kind: String, from: String, name: String, holds: Bool) throws {
        let grant = """
            ---
            apiVersion: gateway.networking.k8s.io/v1beta1
            kind: ReferenceGrant
            metadata: { name: x, namespace: b }
            spec:
              from: [ { group: gateway.networking.k8s.io, kind: \(kind), namespace: \(from) } ]
              to: [ { group: "", kind: Service\(name) } ]

            """
        let text =
            service("web", namespace: "b") + gateway(Self.tls) + grant
            + route(backends: "{ name: web, namespace: b, port: 443 }")
        let action = holds ? "outbound|443||web.b.svc.cluster.local" : "reset"
        #expect(try routing(text) == ["port-443 TLSRoute/a/r/0 [x.test] -> \(action)"])
    }

    @Test(arguments: [
        ("", "a", true), ("", "b", false), ("namespaces: { from: All }", "b", true),
        ("namespaces: { from: None }", "a", false),
        ("namespaces: { from: Selector, selector: { matchLabels: { team: x } } }", "b", true),
        ("namespaces: { from: Selector, selector: { matchLabels: { team: y } } }", "b", false),
        ("kinds: [ { kind: TCPRoute } ]", "a", false), ("kinds: [ { kind: TLSRoute } ]", "a", true),
    ])
    func allowedRoutesSayWhoIsAttached(allowed: String, namespace: String, isAttached: Bool) {
        let labels = "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: b, labels: { team: x } }\n"
        let listener = Self.tls.replacing("port:", with: "allowedRoutes: { \(allowed) }, port:")
        let text =
            labels + service("web", namespace: namespace) + gateway(listener)
            + route(namespace: namespace, parent: "{ name: g, namespace: a }")
        #expect(
            messages(text)
                == (isAttached
                    ? [] : ["TLSRoute \(namespace)/r: spec.parentRefs[0]: `allowedRoutes` there let it in nowhere"]))
    }

    @Test(arguments: [
        ("{ name: h }", "there is no Gateway a/h"),
        ("{ name: g, sectionName: x }", "Gateway a/g serves no such listener"),
        ("{ name: g, port: 8443 }", "Gateway a/g serves no such listener"),
        ("{ name: g, sectionName: tcp }", "no listener there has the protocol of a TLSRoute"),
        ("{ name: web, kind: Service, group: '' }", "only a Gateway is attached to"),
    ])
    func aParentThatTakesNoSuchRouteIsReported(parent: String, message: String) {
        let text = service("web") + gateway("\(Self.tls), \(Self.tcp)") + route(parent: parent)
        #expect(messages(text) == ["TLSRoute a/r: spec.parentRefs[0]: \(message)"])
    }

    @Test(arguments: [
        ("{ name: x, port: 80, protocol: HTTP }", "listeners[0].protocol: only TLS and TCP are served, not HTTP"),
        ("{ name: x, port: 53, protocol: UDP }", "listeners[0].protocol: UDP is not carried yet"),
        (
            "{ name: x, port: 443, protocol: HTTPS, tls: { certificateRefs: [ { name: c } ] } }",
            "listeners[0]: TLS is never ended here: only `mode: Passthrough` is served"
        ),
        (
            "{ name: x, port: 443, protocol: TLS, tls: { mode: Terminate, certificateRefs: [ { name: c } ] } }",
            "listeners[0]: TLS is never ended here: only `mode: Passthrough` is served"
        ),
    ])
    func aListenerThatCannotBeServedIsReported(listener: String, message: String) {
        #expect(messages(gateway(listener)) == ["Gateway a/g: spec.\(message)"])
    }

    @Test func listenersThatCannotBeToldApartAreNotServed() {
        let text = gateway("\(Self.tls), \(Self.tls.replacing("name: tls", with: "name: again"))")
        #expect(
            messages(text) == [
                "Gateway a/g: listener \"tls\" cannot be told from \"again\": neither is served",
                "Gateway a/g: listener \"again\" cannot be told from \"tls\": neither is served",
            ])
    }

    @Test func ofTwoRoutesForANameTheOlderHasIt() throws {
        let text =
            service("web") + gateway(Self.tls)
            + route(name: "a", metadata: ", creationTimestamp: '2024-02-02T00:00:00Z'")
            + route(name: "b", hostnames: "x.test, y.test", metadata: ", creationTimestamp: '2024-01-01T00:00:00Z'")
        #expect(try routing(text) == ["port-443 TLSRoute/a/b/0 [x.test y.test] -> \(Self.web)"])
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "TLSRoute a/a: x.test is TLSRoute a/b's already, which is older"
            ])
    }

    @Test func ofTwoRoutesOfOneAgeTheFirstByNameHasIt() throws {
        let text = service("web") + gateway(Self.tls) + route(name: "b") + route(name: "a")
        #expect(try routing(text) == ["port-443 TLSRoute/a/a/0 [x.test] -> \(Self.web)"])
    }

    @Test func aUDPRouteIsNotDoneYet() {
        #expect(
            messages(route("UDPRoute", hostnames: "", version: "v1alpha2")) == [
                "UDPRoute a/r: UDP is not carried yet: the document has no effect"
            ])
    }

    @Test func aKindThatIsNotReadIsUnsupported() {
        #expect(
            messages(route("HTTPRoute")) == [
                "HTTPRoute a/r: this kind of gateway.networking.k8s.io is not supported; the document has no effect"
            ])
    }
}
