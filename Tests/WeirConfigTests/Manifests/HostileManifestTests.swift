import Testing
import WeirConfig

/// Manifests that nobody meant: cut, mixed up, of the wrong types. They are read or refused, and never trap.
@Suite struct HostileManifestTests {
    private static let text = """
        listeners: [ { address: 127.0.0.1:8443, manifest_port: 443, routes: [ { deny: reset } ] } ]
        ---
        apiVersion: v1
        kind: Namespace
        metadata: { name: a, labels: { team: x } }
        ---
        apiVersion: v1
        kind: Node
        metadata: { name: n, labels: { topology.kubernetes.io/region: eu } }
        status: { addresses: [ { type: InternalIP, address: 10.0.0.1 } ] }
        ---
        apiVersion: v1
        kind: Pod
        metadata: { name: x, namespace: a, labels: { app: web } }
        spec: { nodeName: n, containers: [ { ports: [ { name: tls, containerPort: 8443 } ] } ] }
        status: { podIP: 10.0.0.1, podIPs: [ { ip: 10.0.0.1 } ], conditions: [ { type: Ready, status: "True" } ] }
        ---
        apiVersion: v1
        kind: Service
        metadata: { name: web, namespace: a }
        spec:
          clusterIP: 10.96.0.9
          selector: { app: web }
          sessionAffinity: ClientIP
          ports: [ { name: https, port: 443, targetPort: tls }, { name: http, port: 80, targetPort: 8080 } ]
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: { name: web-1, namespace: a, labels: { kubernetes.io/service-name: web } }
        addressType: IPv4
        ports: [ { name: https, port: 8443 } ]
        endpoints: [ { addresses: [10.0.0.5], conditions: { ready: true }, targetRef: { kind: Pod, name: x } } ]
        ---
        apiVersion: v1
        kind: Endpoints
        metadata: { name: db, namespace: a }
        subsets: [ { addresses: [ { ip: 10.0.0.7 } ], ports: [ { port: 5432 } ] } ]
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: { name: tcp-services, namespace: ingress-nginx }
        data: { 27017: "a/web:443:PROXY:PROXY", 9000: "a/db:5432" }
        ---
        apiVersion: networking.k8s.io/v1
        kind: Ingress
        metadata:
          name: i
          namespace: a
          annotations:
            nginx.ingress.kubernetes.io/ssl-passthrough: "true"
            nginx.ingress.kubernetes.io/limit-rps: "5"
            nginx.ingress.kubernetes.io/limit-whitelist: "10.0.0.0/8,fd00::/8"
            nginx.ingress.kubernetes.io/whitelist-source-range: "10.0.0.0/24"
        spec:
          defaultBackend: { service: { name: web, port: { name: https } } }
          tls: [ { hosts: [x.test] } ]
          rules: [ { host: x.test, http: { paths: [ { path: /, backend: { serviceName: web, servicePort: 443 } } ] } } ]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: { name: g, namespace: a }
        spec:
          gatewayClassName: weir
          addresses: [ { value: 192.0.2.1 } ]
          listeners:
            - { name: tls, port: 8444, hostname: "*.test", protocol: TLS, tls: { mode: Passthrough } }
            - { name: tcp, port: 5432, protocol: TCP, allowedRoutes: { namespaces: { from: All } } }
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: TLSRoute
        metadata: { name: r, namespace: a }
        spec:
          parentRefs: [ { name: g, sectionName: tls } ]
          hostnames: [x.test, "*.y.test"]
          rules: [ { backendRefs: [ { name: web, port: 443, weight: 3 }, { name: db, namespace: b, port: 1 } ] } ]

        """

    @Test func theTextItselfIsRead() {
        let result = reading(Self.text)
        #expect(result.errorLines == [])
    }

    @Test func everyPrefixIsReadOrRefused() {
        let bytes = Array(Self.text.utf8)
        var unexplained: [Int] = []
        for end in stride(from: 0, through: bytes.count, by: 7) {
            let result = ConfigReader.read(sources: [(name: "cut", bytes: Array(bytes[..<end]))])
            if result.configuration == nil, result.errors.isEmpty { unexplained.append(end) }
        }
        #expect(unexplained == [])
    }

    /// Seeded: words take each other's places, are doubled, emptied or made something else.
    @Test(arguments: 0..<300)
    func wordsInEachOthersPlacesAreReadOrRefused(seed: UInt64) {
        var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
        func random(_ bound: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(bound))
        }
        var words = Self.text.split(separator: " ", omittingEmptySubsequences: false)
        let others: [Substring] = [
            "[]", "{}", "null", "-1", "99999999999999999999", "a/b:c:d", "::", "*", "*.", "''", "[ [ ] ]", "0", "~",
            "True",
        ]
        for _ in 0..<(1 + random(4)) {
            let place = random(words.count)
            switch random(4) {
            case 0: words[place] = words[random(words.count)]
            case 1: words[place] = others[random(others.count)]
            case 2: words.swapAt(place, random(words.count))
            default: words.remove(at: place)
            }
        }
        let result = reading(words.joined(separator: " "))
        #expect(result.configuration != nil || !result.errors.isEmpty)
    }
}
