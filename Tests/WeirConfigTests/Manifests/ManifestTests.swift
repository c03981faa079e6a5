import Testing
import WeirModel

@testable import WeirConfig

/// What holds for manifests of every kind.
@Suite struct ManifestTests {
    private static let native = "listeners: [ { address: 127.0.0.1:8443, routes: [ { deny: reset } ] } ]\n"
    private static let node = "apiVersion: v1\nkind: Node\nmetadata: { name: a }\n"

    @Test func nativeSectionsAndManifestsShareAFile() {
        let result = reading("\(Self.native)---\n\(Self.node)---\nworkers: 3\n")
        #expect(result.errorLines == [])
        #expect(result.configuration?.workerCount == 3)
        #expect(result.configuration?.listeners.count == 1)
    }

    @Test func aFieldThatNobodyReadsIsReportedWithItsPlace() {
        let result = reading("\(Self.native)---\n\(Self.node)colour: red\n")
        #expect(result.unsupportedLines == ["6:1 Node a: colour: has no effect: it is not known here"])
        #expect(result.configuration != nil)
    }

    @Test func strictReadingTakesNoSuchField() {
        let text = "\(Self.native)---\n\(Self.node)colour: red\n"
        let result = ConfigReader.read(texts: [(name: "a.yaml", text: text)], strict: true)
        #expect(result.errorLines == ["6:1 Node a: colour: has no effect: it is not known here"])
        #expect(result.configuration == nil)
    }

    @Test func whatKubernetesWritesItselfIsNotReported() {
        let text = """
            \(Self.native)---
            apiVersion: v1
            kind: Node
            metadata: { name: a, uid: "1", creationTimestamp: null, managedFields: [ { manager: kubectl } ] }
            status: { phase: Running }
            """
        #expect(reading(text).unsupportedLines == [])
    }

    @Test func theItemsOfAListAreDocuments() {
        let text = """
            \(Self.native)---
            apiVersion: v1
            kind: List
            items:
              - { apiVersion: v1, kind: Node, metadata: { name: a }, colour: red }
              - { apiVersion: v1, kind: Node, metadata: { name: b }, colour: blue }
            """
        #expect(
            reading(text).unsupportedLines == [
                "6:58 Node a: colour: has no effect: it is not known here",
                "7:58 Node b: colour: has no effect: it is not known here",
            ])
    }

    @Test func oneNameForTwoObjectsOfAKindIsAnError() {
        let result = reading("\(Self.native)---\n\(Self.node)---\n\(Self.node)")
        #expect(result.errorLines == ["7:1 Node a is already defined at test.conf:3:1"])
    }

    @Test func oneNameInTwoNamespacesIsNone() {
        func service(_ namespace: String) -> String {
            """
            ---
            apiVersion: v1
            kind: Service
            metadata: { name: web, namespace: \(namespace) }
            spec: { ports: [ { port: 443 } ] }

            """
        }
        #expect(reading(Self.native + service("a") + service("b")).errorLines == [])
    }

    @Test func kindsThatAskNothingOfAProxyAreSaidOnce() {
        let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: { name: NAME }\n"
        let text = Self.native + secret.replacing("NAME", with: "a") + secret.replacing("NAME", with: "b")
        let result = reading(text)
        #expect(
            result.notices == [
                "test.conf:3: Secret asks nothing of a proxy: 2 documents, this the first of them, passed over"
            ])
        #expect(result.unsupportedLines == [])
    }

    @Test func anUnknownKindOfAGroupAboutProxiesIsUnsupported() {
        let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: a, namespace: b }\n"
        #expect(
            reading(Self.native + "---\n" + text).unsupportedLines == [
                "3:1 Sidecar b/a: this kind of networking.istio.io is not supported; the document has no effect"
            ])
    }

    @Test(arguments: [
        ("apiVersion: v1\nmetadata: { name: a }", "3:1 a manifest has `apiVersion` and `kind`"),
        ("apiVersion: v1\nkind: Node", "3:1 Node: metadata.name is missing"),
        ("apiVersion: v1\nkind: Node\nmetadata: [a]", "5:11 metadata: expected a mapping, found a list"),
        ("apiVersion: v1\nkind: Node\nmetadata: { name: [a] }", "5:19 metadata.name: expected text, found a list"),
    ])
    func aDocumentThatCannotBeNamedIsAnError(text: String, error: String) {
        #expect(reading(Self.native + "---\n" + text + "\n").errorLines.contains(error))
    }

    @Test func ofARepeatedKeyTheLastHoldsAndThatIsSaid() {
        let result = reading("\(Self.native)---\n\(Self.node)colour: red\ncolour: blue\n")
        #expect(result.notices == ["test.conf:7: key \"colour\" repeats line 6; the last one holds"])
        #expect(result.unsupportedLines == ["7:1 Node a: colour: has no effect: it is not known here"])
    }

    @Test func aListenerForManifestsThatAskForNoneIsWarnedAbout() {
        let text = """
            listeners: [ { address: "127.0.0.1:8443", manifest_port: 443, routes: [ { deny: reset } ] } ]
            """
        #expect(reading(text).warningLines == ["1:58 no manifest asks for a listener on port 443"])
    }

    @Test(arguments: [
        ("0s", Duration.zero), ("0", .zero), ("1.5s", .milliseconds(1500)), ("500ms", .milliseconds(500)),
        ("1h30m", .seconds(5400)), ("10us", .microseconds(10)),
    ])
    func aDurationIsReadAsGoWritesIt(text: String, duration: Duration) {
        #expect(goDuration(text) == duration)
    }

    @Test(arguments: ["", "5", "s", "-1s", "1 s", "1d", ".s", "1.2.3s", "99999999999h"])
    func whatGoWouldNotReadIsNoDuration(text: String) {
        #expect(goDuration(text) == nil)
    }

    @Test(arguments: [
        ("web", "a", "web.a.svc.cluster.local"), ("web.b.svc", "a", "web.b.svc.cluster.local"),
        ("web.b.svc.cluster.local", "a", "web.b.svc.cluster.local"), ("WWW.Example.COM", "a", "www.example.com"),
        ("example.com", "a", "example.com"),
    ])
    func aHostIsQualifiedByItsNamespace(host: String, namespace: String, qualified: String) {
        #expect(ServiceCatalogue(clusterDomain: "cluster.local").qualified(host, namespace: namespace) == qualified)
    }
}
