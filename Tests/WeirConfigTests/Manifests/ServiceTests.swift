import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// What is made of the manifests in a text, before anything is routed.
func lowered(_ text: String) throws -> (lowering: ManifestLowering, findings: Findings) {
    let findings = Findings()
    let draft = ConfigurationDraft(findings)
    let source = SourceText(name: "test.conf", bytes: Array(text.utf8))
    findings.add(source)
    for document in try YAMLDocument.all(in: source) {
        if let root = document.root { draft.manifests.add(root, findings) }
    }
    let lowering = ManifestLowering(draft.manifests, draft.manifestSettings, into: draft)
    lowering.run()
    return (lowering, findings)
}

/// Services, and who serves them, as Kubernetes' own documents say.
@Suite struct ServiceTests {
    private static let service = """
        apiVersion: v1
        kind: Service
        metadata: { name: web, namespace: a }
        spec:
          selector: { app: web }
          ports: [ { name: https, port: 443, targetPort: tls }, { name: http, port: 80, targetPort: 8080 } ]

        """

    private func pod(_ name: String, _ address: String, labels: String = "app: web", more: String = "") -> String {
        """
        ---
        apiVersion: v1
        kind: Pod
        metadata: { name: \(name), namespace: a, labels: { \(labels) } }
        spec: { nodeName: n, containers: [ { name: c, image: x, ports: [ { name: tls, containerPort: 8443 } ] } ] }
        status: { podIP: \(address), podIPs: [ { ip: \(address) } ]\(more) }

        """
    }

    private func slice(_ endpoints: String, name: String = "web-1", more: String = "addressType: IPv4") -> String {
        """
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: { name: \(name), namespace: a, labels: { kubernetes.io/service-name: web } }
        \(more)
        ports: [ { name: https, port: 8443 }, { name: http, port: 8080 } ]
        endpoints: \(endpoints)

        """
    }

    private func web(_ text: String) throws -> Service {
        try #require(lowered(text).lowering.catalogue.services["web.a.svc.cluster.local"])
    }

    /// The endpoints of port 443 as a route to it would have them; `-` before those that are down.
    private func endpoints(_ text: String, port: UInt16 = 443, virtual: Bool = false) throws -> [String] {
        let (lowering, _) = try lowered(text)
        let action = lowering.clusters.action(
            host: "web", namespace: "a", port: port, usesVirtualAddress: virtual, at: .whole("test.conf"),
            report: { _ in })
        guard case .cluster(let name) = action else { return [] }
        let cluster = try #require(lowering.draft.cluster(named: name))
        return cluster.endpoints.map { ($0.isDown ? "-" : "") + $0.description }
    }

    @Test func podsThatTheSelectorSelectsServeAtTheNumbersOfTheirNamedPorts() throws {
        let text = Self.service + pod("x", "10.0.0.1") + pod("y", "10.0.0.2") + pod("z", "10.0.0.3", labels: "app: db")
        #expect(try endpoints(text) == ["10.0.0.1:8443", "10.0.0.2:8443"])
        #expect(try endpoints(text, port: 80) == ["10.0.0.1:8080", "10.0.0.2:8080"])
    }

    @Test func podsThatAreNotReadyAreLeftOut() throws {
        let unready = pod("x", "10.0.0.1", more: ", conditions: [ { type: Ready, status: 'False' } ]")
        let done = pod("z", "10.0.0.3", more: ", phase: Succeeded")
        #expect(try endpoints(Self.service + unready + done + pod("y", "10.0.0.2")) == ["10.0.0.2:8443"])
    }

    @Test func unreadyPodsServeWhereTheServicePublishesThem() throws {
        let unready = pod("x", "10.0.0.1", more: ", conditions: [ { type: Ready, status: 'False' } ]")
        let service = Self.service.replacing("spec:\n", with: "spec:\n  publishNotReadyAddresses: true\n")
        #expect(try endpoints(service + unready) == ["10.0.0.1:8443"])
    }

    @Test func aServiceOfWhichNobodyIsReadyHasEndpointsThatAreDown() throws {
        let unready = pod("x", "10.0.0.1", more: ", conditions: [ { type: Ready, status: 'False' } ]")
        #expect(try endpoints(Self.service + unready) == ["-10.0.0.1:8443"])
    }

    @Test func aPodWithoutAddressIsSaidAndPassedOver() throws {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: { name: x }\nspec: { hostNetwork: true, dnsPolicy: Default }\n"
        let (lowering, findings) = try lowered(text)
        #expect(lowering.pods.isEmpty)
        #expect(
            findings.sortedNotices() == [
                "test.conf:1: Pod default/x has no address in its status (podIP), so nothing leads to it or comes from it"
            ])
        #expect(findings.sortedDiagnostics().isEmpty)
    }

    @Test func slicesSayWhoServesWhateverPodsThereAre() throws {
        let text =
            Self.service + pod("x", "10.0.0.1")
            + slice("[ { addresses: [10.0.0.5], conditions: { ready: true } }, { addresses: [10.0.0.6] } ]")
        #expect(try endpoints(text) == ["10.0.0.5:8443", "10.0.0.6:8443"])
    }

    @Test func endpointsOfSeveralSlicesAddUpEachOnce() throws {
        let text =
            Self.service + slice("[ { addresses: [10.0.0.5] } ]")
            + slice("[ { addresses: [10.0.0.5] }, { addresses: [10.0.0.6] } ]", name: "web-2")
        #expect(try endpoints(text) == ["10.0.0.5:8443", "10.0.0.6:8443"])
    }

    @Test func endpointsThatAreAboutToEndServeWhereNobodyElseDoes() throws {
        let ending = "{ addresses: [10.0.0.5], conditions: { ready: false, serving: true, terminating: true } }"
        let silent = "{ addresses: [10.0.0.6], conditions: { ready: false, serving: false, terminating: true } }"
        #expect(try endpoints(Self.service + slice("[ \(ending), \(silent) ]")) == ["10.0.0.5:8443"])
        let ready = "{ addresses: [10.0.0.7] }"
        #expect(try endpoints(Self.service + slice("[ \(ending), \(silent), \(ready) ]")) == ["10.0.0.7:8443"])
    }

    @Test func ofTwoFamiliesThatOfTheServiceIsTaken() throws {
        let text =
            Self.service.replacing("spec:\n", with: "spec:\n  ipFamilies: [IPv6, IPv4]\n")
            + slice("[ { addresses: [10.0.0.5] } ]")
            + slice("[ { addresses: ['fd00::5'] } ]", name: "web-2", more: "addressType: IPv6")
        #expect(try endpoints(text) == ["[fd00::5]:8443"])
    }

    @Test func aSliceMayHaveNames() throws {
        let text = Self.service + slice("[ { addresses: [a.example.com] } ]", more: "addressType: FQDN")
        #expect(try endpoints(text) == ["a.example.com:8443"])
    }

    @Test func theZoneOfAnEndpointAndTheRegionOfItsNodeAreItsLocality() throws {
        let node = """
            ---
            apiVersion: v1
            kind: Node
            metadata: { name: n, labels: { topology.kubernetes.io/region: eu } }

            """
        let slice = slice("[ { addresses: [10.0.0.5], nodeName: n, zone: eu-1 } ]")
        let labels = try web(Self.service + node + slice).members.map(\.labels)
        #expect(labels == [["topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-1"]])
    }

    @Test func anEndpointHasTheLabelsOfThePodThatItRefersTo() throws {
        let pods = pod("x", "10.0.0.1", labels: "version: v1") + pod("y", "10.0.0.2", labels: "version: v2")
        let slice = slice(
            "[ { addresses: [10.0.0.9], targetRef: { kind: Pod, name: x } }, { addresses: [10.0.0.2] } ]")
        #expect(
            try web(Self.service + pods + slice).members.map(\.labels) == [["version": "v1"], ["version": "v2"]])
    }

    @Test func endpointsServeWhereThereIsNoSlice() throws {
        let endpointsObject = """
            ---
            apiVersion: v1
            kind: Endpoints
            metadata: { name: web, namespace: a }
            subsets:
              - addresses: [ { ip: 10.0.0.5, nodeName: n } ]
                notReadyAddresses: [ { ip: 10.0.0.6 } ]
                ports: [ { name: https, port: 8443, protocol: TCP } ]
              - addresses: [ { ip: 10.0.0.7 } ]
                ports: [ { name: http, port: 8080 } ]
            """
        #expect(try endpoints(Self.service + endpointsObject) == ["10.0.0.5:8443"])
        #expect(try endpoints(Self.service + endpointsObject, port: 80) == ["10.0.0.7:8080"])
    }

    @Test func endpointsOfNoServiceAreSaid() throws {
        let (_, findings) = try lowered(slice("[ { addresses: [10.0.0.5] } ]"))
        #expect(
            findings.sortedNotices() == [
                "test.conf:2: there is no document for service a/web, so nothing leads to these endpoints"
            ])
    }

    @Test func withoutMembersTheClusterAddressServes() throws {
        let text = Self.service.replacing("spec:\n", with: "spec:\n  clusterIP: 10.96.0.9\n")
        #expect(try endpoints(text) == ["10.96.0.9:443"])
    }

    @Test func withoutMembersAndAddressTheNameIsAskedFor() throws {
        #expect(try endpoints(Self.service) == ["web.a.svc.cluster.local:443"])
    }

    @Test func theNameOfAHeadlessServiceLeadsToThePortOfItsPods() throws {
        let text = Self.service.replacing("spec:\n", with: "spec:\n  clusterIP: None\n")
        #expect(try endpoints(text, port: 80) == ["web.a.svc.cluster.local:8080"])
    }

    @Test func theServiceAddressIsTakenWhereItIsAskedFor() throws {
        let text = Self.service.replacing("spec:\n", with: "spec:\n  clusterIP: 10.96.0.9\n") + pod("x", "10.0.0.1")
        #expect(try endpoints(text, virtual: true) == ["10.96.0.9:443"])
        #expect(try endpoints(Self.service + pod("x", "10.0.0.1"), virtual: true) == ["web.a.svc.cluster.local:443"])
    }

    @Test func anExternalNameStandsForTheService() throws {
        let text = """
            apiVersion: v1
            kind: Service
            metadata: { name: web, namespace: a }
            spec: { type: ExternalName, externalName: api.example.com, ports: [ { port: 443 } ] }
            """
        #expect(try endpoints(text) == ["api.example.com:443"])
    }

    @Test func anExternalNameNeedsNoPorts() throws {
        let text = """
            apiVersion: v1
            kind: Service
            metadata: { name: web, namespace: a }
            spec: { type: ExternalName, externalName: api.example.com }
            """
        #expect(try endpoints(text) == ["api.example.com:443"])
    }

    @Test func aNumberForUDPAndTCPIsThatOfTCP() throws {
        let text = """
            apiVersion: v1
            kind: Service
            metadata: { name: web, namespace: a }
            spec: { ports: [ { name: u, port: 443, protocol: UDP }, { name: t, port: 443, protocol: TCP } ] }
            """
        #expect(try web(text).port(443)?.name == "t")
    }

    @Test func sessionAffinityHashesTheClient() throws {
        let text =
            Self.service.replacing("spec:\n", with: "spec:\n  sessionAffinity: ClientIP\n") + pod("x", "10.0.0.1")
        #expect(try web(text).keepsClients)
    }

    @Test func whatAClusterWritesIntoAServiceIsNotReported() throws {
        let text = """
            apiVersion: v1
            kind: Service
            metadata: { name: web, namespace: a, creationTimestamp: "2024-01-01T00:00:00Z" }
            spec:
              allocateLoadBalancerNodePorts: true
              clusterIP: 10.96.0.9
              clusterIPs: [10.96.0.9]
              externalTrafficPolicy: Cluster
              internalTrafficPolicy: Cluster
              ipFamilies: [IPv4]
              ipFamilyPolicy: SingleStack
              ports: [ { name: https, nodePort: 31000, port: 443, protocol: TCP, targetPort: 8443 } ]
              selector: { app: web }
              sessionAffinity: None
              type: LoadBalancer
            status: { loadBalancer: {} }
            """
        #expect(try lowered(text).findings.sortedDiagnostics().map(\.description) == [])
    }

    @Test func trafficThatIsToStayOnItsNodeIsUnsupported() throws {
        let text = Self.service.replacing("spec:\n", with: "spec:\n  internalTrafficPolicy: Local\n")
        #expect(
            try lowered(text).findings.sortedDiagnostics().map(\.message) == [
                "Service a/web: spec.internalTrafficPolicy: every endpoint is used, whichever node it is on"
            ])
    }

    @Test func addressesThatAreNoneAreErrors() throws {
        let text = Self.service + slice("[ { addresses: [ten] } ]")
        #expect(
            try lowered(text).findings.sortedDiagnostics().map(\.message) == [
                "EndpointSlice a/web-1: endpoints[0].addresses: expected an IP address, found \"ten\""
            ])
    }

    @Test func internalAddressesOfANodeComeFirst() throws {
        let text = """
            apiVersion: v1
            kind: Node
            metadata: { name: n, labels: { role: egress } }
            spec: { podCIDR: 10.1.0.0/24 }
            status:
              addresses:
                - { type: ExternalIP, address: 203.0.113.1 }
                - { type: InternalIP, address: 10.0.0.1 }
                - { type: Hostname, address: n }
            """
        let node = try #require(lowered(text).lowering.nodes.first)
        #expect(node.addresses.map(\.description) == ["10.0.0.1", "203.0.113.1"])
        #expect(node.labels == ["role": "egress"])
    }

    @Test func aNamespaceIsSelectedByItsLabelsAndItsName() throws {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: { name: a, labels: { team: x } }\n"
        let (lowering, _) = try lowered(text)
        #expect(lowering.labels(ofNamespace: "a") == ["team": "x", "kubernetes.io/metadata.name": "a"])
        #expect(lowering.labels(ofNamespace: "b") == ["kubernetes.io/metadata.name": "b"])
    }
}
