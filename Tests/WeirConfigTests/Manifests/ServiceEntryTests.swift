import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// ServiceEntry and WorkloadEntry (S0-2).
@Suite struct ServiceEntryTests {
    private static let route = IstioSample.route(to: "{ host: there.example.com, port: { number: 443 } }")

    private static func entry(_ spec: String) -> String {
        IstioSample.document("ServiceEntry", "hosts: [ there.example.com ]\n\(spec)", name: "there")
    }

    private static let ports = "ports: [ { number: 443, name: tls, protocol: TLS } ]"

    /// What the service's cluster is made of, as `host:port`.
    private func endpoints(_ spec: String, _ others: String...) throws -> [String] {
        let text = ([Self.route, Self.entry(spec)] + others).joined(separator: "---\n")
        return try reading(text).cluster("outbound|443||there.example.com").endpoints.map(\.description)
    }

    @Test func aWorkloadSelectorTakesTheWorkloadEntriesOfItsNamespace() throws {
        let result = reading(IstioSample.egress)
        #expect(result.unsupportedLines == [])
        let cluster = try result.cluster("outbound|443||egress.mydomain.internal")
        #expect(cluster.endpoints.map(\.description) == ["192.0.2.1:443", "192.0.2.2:443"])
    }

    @Test func aWorkloadEntryOfAnotherNamespaceIsNotSelected() throws {
        let spec = "\(Self.ports)\nresolution: STATIC\nworkloadSelector: { labels: { app: a } }"
        let here = IstioSample.document("WorkloadEntry", "address: 192.0.2.1\nlabels: { app: a }")
        let there = here.replacing("namespace: n", with: "namespace: m").replacing("192.0.2.1", with: "192.0.2.2")
        #expect(try endpoints(spec, here, there) == ["192.0.2.1:443"])
    }

    @Test func labelsOfAWorkloadEntryAreThoseOfItsSpecAndOfTheObjectWhichGoFirst() throws {
        let entry = IstioSample.document("WorkloadEntry", "address: 192.0.2.1\nlabels: { app: a, tier: old }")
            .replacing(
                "namespace: n", with: "namespace: n, labels: { tier: new }")
        func spec(_ tier: String) -> String {
            "\(Self.ports)\nresolution: STATIC\nworkloadSelector: { labels: { app: a, tier: \(tier) } }"
        }
        #expect(try endpoints(spec("new"), entry) == ["192.0.2.1:443"])
        #expect(
            reading(documents: Self.entry(spec("old")), entry).unsupportedLines.contains {
                $0.contains("has the labels of workloadSelector")
            })
    }

    @Test func aSelectorThatMeansNobodyIsReported() {
        let spec = "\(Self.ports)\nresolution: STATIC\nworkloadSelector: { labels: { app: a } }"
        let text = "no WorkloadEntry and no Pod of namespace n has the labels of workloadSelector"
        #expect(reading(documents: Self.entry(spec)).unsupportedLines.contains { $0.contains(text) })
    }

    @Test(arguments: ["STATIC", "DNS"])
    func whereASelectorMeansNobodyConnectionsAreRefusedAndDoNotGoToTheAddressOfTheEntry(resolution: String) throws {
        let spec = """
            \(Self.ports)
            resolution: \(resolution)
            addresses: [ 169.254.169.254 ]
            workloadSelector: { labels: { app: a } }
            """
        let result = reading(documents: Self.route, Self.entry(spec))
        #expect(try result.listener(443).routes.map(\.action) == [.deny(.reset)])
        #expect(result.unsupportedLines.contains { $0.contains("nobody serves port 443 of \"there.example.com\"") })
    }

    @Test func withResolutionStaticTheEndpointsAreTheAddressesWritten() throws {
        let spec =
            "\(Self.ports)\nresolution: STATIC\nendpoints: [ { address: 192.0.2.1 }, { address: \"2001:db8::1\" } ]"
        #expect(try endpoints(spec) == ["192.0.2.1:443", "[2001:db8::1]:443"])
    }

    @Test func anEndpointServesAPortWhereItsPortsSaySo() throws {
        let spec = "\(Self.ports)\nresolution: STATIC\nendpoints: [ { address: 192.0.2.1, ports: { tls: 8443 } } ]"
        #expect(try endpoints(spec) == ["192.0.2.1:8443"])
    }

    @Test func theTargetPortIsWhereEndpointsServe() throws {
        let spec = """
            ports: [ { number: 443, name: tls, protocol: TLS, targetPort: 9443 } ]
            resolution: STATIC
            endpoints: [ { address: 192.0.2.1 } ]
            """
        #expect(try endpoints(spec) == ["192.0.2.1:9443"])
    }

    @Test(arguments: ["DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])
    func withoutEndpointsTheHostItselfIsAskedFor(resolution: String) throws {
        #expect(try endpoints("\(Self.ports)\nresolution: \(resolution)") == ["there.example.com:443"])
    }

    @Test func withResolutionDNSTheNamesOfTheEndpointsAreAskedFor() throws {
        let spec =
            "\(Self.ports)\nresolution: DNS\nendpoints: [ { address: one.example.org }, { address: two.example.org } ]"
        #expect(try endpoints(spec) == ["one.example.org:443", "two.example.org:443"])
    }

    @Test func weightsOfEndpointsAreTheirs() throws {
        let spec =
            "\(Self.ports)\nresolution: STATIC\nendpoints: [ { address: 192.0.2.1, weight: 3 }, { address: 192.0.2.2 } ]"
        let cluster = try reading(documents: Self.route, Self.entry(spec)).cluster("outbound|443||there.example.com")
        #expect(cluster.endpoints.map(\.weight) == [3, 1])
    }

    @Test func aWildcardWithDynamicDNSLeadsToTheNameInTheHello() throws {
        let entry = IstioSample.document(
            "ServiceEntry", "hosts: [ \"*.example.com\" ]\n\(Self.ports)\nresolution: DYNAMIC_DNS", name: "there")
        let route = IstioSample.route(to: "{ host: \"*.example.com\", port: { number: 443 } }")
        let listener = try reading(documents: route, entry).listener(443)
        #expect(listener.routes.map(\.action) == [.forward(DynamicForward(port: .fixed(443)))])
    }

    @Test func aWildcardWithResolutionDNSAndNoEndpointsIsAnError() {
        let entry = IstioSample.document("ServiceEntry", "hosts: [ \"*.example.com\" ]\n\(Self.ports)\nresolution: DNS")
        let errors = reading(documents: entry).errorLines
        #expect(errors.contains { $0.contains("resolution DNS cannot ask for wildcard \"*.example.com\"") })
    }

    @Test func withResolutionNoneTheNameInTheHelloIsAskedFor() throws {
        let result = reading(documents: Self.route, Self.entry("\(Self.ports)\nresolution: NONE"))
        #expect(try result.listener(443).routes.map(\.action) == [.forward(DynamicForward(port: .fixed(443)))])
        #expect(result.notices(containing: "the name in the hello is asked for anew"))
    }

    @Test func withResolutionNoneWhatHasNoNameGoesWhereItWasRedirectedFrom() throws {
        let entry = Self.entry("ports: [ { number: 5432, name: db, protocol: TCP } ]\nresolution: NONE")
        let spec = "hosts: [ there.example.com ]\ntcp: [ { route: [ { destination: { host: there.example.com } } ] } ]"
        let result = reading(documents: entry, IstioSample.document("VirtualService", spec))
        #expect(try result.listener(5432).routes.map(\.action) == [.originalDestination(UpstreamOptions())])
    }

    @Test func withResolutionNoneAndOneAddressItIsThatAddress() throws {
        #expect(try endpoints("\(Self.ports)\nresolution: NONE\naddresses: [ 192.0.2.7/32 ]") == ["192.0.2.7:443"])
    }

    @Test func namesOfServicesOfTheMeshMayBePrivate() throws {
        let spec = "\(Self.ports)\nresolution: DNS\nlocation: MESH_INTERNAL"
        let result = reading(documents: Self.route, Self.entry(spec))
        #expect(try result.cluster("outbound|443||there.example.com").privateNames)
    }

    @Test func namesOfServicesOutsideTheMeshAreGuarded() throws {
        let result = reading(documents: Self.route, Self.entry("\(Self.ports)\nresolution: DNS"))
        #expect(try !result.cluster("outbound|443||there.example.com").privateNames)
    }

    @Test func unixDomainSocketsAreUnsupported() {
        let spec =
            "\(Self.ports)\nresolution: STATIC\nendpoints: [ { address: \"unix:///run/a\" }, { address: 192.0.2.1 } ]"
        #expect(
            reading(documents: Self.route, Self.entry(spec)).unsupportedLines.contains {
                $0.hasSuffix("spec.endpoints[0].address: Unix-domain sockets are not supported")
            })
    }

    @Test func alternativeNamesOfCertificatesAreSaidToBeTheClientsMatter() {
        let result = reading(
            documents: Self.route, Self.entry("\(Self.ports)\nresolution: DNS\nsubjectAltNames: [ a ]"))
        #expect(result.notices(containing: "subjectAltNames are not compared"))
        #expect(result.unsupportedLines == [])
    }

    /// Wherever they stand.
    @Test func ofTwoDescriptionsOfAHostTheOldestHolds() throws {
        func entry(_ name: String, _ address: String, _ created: String) -> String {
            IstioSample.entry(name: name).replacing("192.0.2.9", with: address).replacing(
                "namespace: n", with: "namespace: n, creationTimestamp: \"\(created)\"")
        }
        let documents = [
            Self.route, entry("a", "192.0.2.8", "2026-02-01T00:00:00Z"),
            entry("b", "192.0.2.9", "2026-01-01T00:00:00Z"),
        ]
        let result = reading(documents.joined(separator: "---\n"))
        #expect(
            try result.cluster("outbound|443||there.example.com").endpoints.map(\.description) == ["192.0.2.9:443"])
        #expect(result.notices(containing: "\"there.example.com\" is already described at"))
    }

    @Test(arguments: [
        ("\(ports)\nresolution: MAYBE", "spec.resolution: expected one of NONE, STATIC, DNS"),
        ("\(ports)\nlocation: HERE", "spec.location: expected MESH_EXTERNAL or MESH_INTERNAL"),
        ("\(ports)\naddresses: [ a ]", "spec.addresses: expected an address or a block"),
        ("ports: [ { number: 0, protocol: TLS } ]", "spec.ports[0].number: expected a number 1...65535"),
        ("\(ports)\nresolution: STATIC\nendpoints: [ { address: a.b } ]", "resolution STATIC asks for addresses"),
        ("\(ports)\nresolution: NONE\nendpoints: [ { address: 1.2.3.4 } ]", "have no meaning with resolution NONE"),
        ("\(ports)\nendpoints: [ { address: \"a b\" } ]", "endpoints[0].address: expected an address or a host"),
    ])
    func whatIstioWouldNotTakeIsAnError(spec: String, error: String) {
        let errors = reading(documents: Self.entry(spec)).errorLines
        #expect(errors.contains { $0.contains(error) }, "\(errors)")
    }

    // MARK: Destinations without members

    private static let wildcard = IstioSample.document(
        "ServiceEntry",
        "hosts: [ \"*.example.com\" ]\n\(ports.replacing("TLS", with: "TLS, targetPort: 8443"))\nresolution: DYNAMIC_DNS",
        name: "there")

    private static func rule(_ policy: String) -> String {
        IstioSample.document("DestinationRule", "host: \"*.example.com\"\ntrafficPolicy: { \(policy) }")
    }

    @Test func theConnectionsOfAHostWithoutMembersAreBoundedAtItsRoute() throws {
        let route = IstioSample.route(to: "{ host: \"*.example.com\", port: { number: 443 } }")
        let policy = "connectionPool: { tcp: { maxConnections: 7, connectTimeout: 2s } }"
        let result = reading(documents: route, Self.wildcard, Self.rule(policy))
        #expect(try result.listener(443).routes.map(\.limits.connections) == [7])
        #expect(result.unsupportedLines == [])
    }

    @Test(arguments: [
        ("outlierDetection: {}", "outlierDetection"),
        ("loadBalancer: { simple: RANDOM }", "loadBalancer"),
        ("connectionPool: { tcp: { maxConnectionDuration: 1h } }", "connectionPool.tcp.maxConnectionDuration"),
        ("connectionPool: { http: { http1MaxPendingRequests: 1 } }", "connectionPool.http.http1MaxPendingRequests"),
    ])
    func whatAHostWithoutMembersCannotHaveIsReportedWithItsField(policy: String, field: String) {
        let route = IstioSample.route(to: "{ host: \"*.example.com\", port: { number: 443 } }")
        let lines = reading(documents: route, Self.wildcard, Self.rule(policy)).unsupportedLines
        let text = "DestinationRule n/a: spec.trafficPolicy.\(field): has no effect on \"*.example.com\""
        #expect(lines.map { $0.contains(text) } == [true], "\(lines)")
    }

    @Test(arguments: ["DYNAMIC_DNS", "NONE"])
    func aSubsetOfAHostWithoutMembersIsReportedAndDenied(resolution: String) throws {
        let route = IstioSample.route(to: "{ host: \"*.example.com\", subset: v1, port: { number: 443 } }")
        let entry = Self.wildcard.replacing("DYNAMIC_DNS", with: resolution)
        let rule = IstioSample.document(
            "DestinationRule", "host: \"*.example.com\"\nsubsets: [ { name: v1, labels: { version: v1 } } ]")
        let result = reading(documents: route, entry, rule)
        #expect(try result.listener(443).routes.map(\.action) == [.deny(.reset)])
        #expect(result.unsupportedLines.contains { $0.contains("so nobody is in subset \"v1\" of it") })
    }

    @Test func aChainToAWildcardReadsNoNameAndIsReportedAndDenied() throws {
        let chain = IstioSample.chain.replacing("kube-apiserver.shoot-a.svc.cluster.local", with: "*.example.com")
        let result = reading(documents: IstioSample.blackhole, chain, Self.wildcard)
        #expect(try result.listener(8443).routes.map(\.action) == [.deny(.reset), .deny(.reset)])
        #expect(
            result.unsupportedLines.contains { $0.contains("\"*.example.com\" is whatever name the client asks for") })
    }
}
