import Testing
import WeirConfig
import WeirModel
import WeirNet
import WeirRouting

/// Converting changes no decision: a random file of nginx, or random manifests, and what is written for them are compiled,
/// and asked for random connections.
@Suite struct ConvertedDecisionTests {
    @Test(arguments: 0..<200)
    func sourceAndConvertedFileDecideAlike(seed: UInt64) throws {
        var numbers = SeededNumbers(seed)
        let text = Self.file(&numbers)
        try Self.compare(text, &numbers)
    }

    @Test(arguments: 0..<200)
    func sourceAndConvertedManifestsDecideAlike(seed: UInt64) throws {
        var numbers = SeededNumbers(seed)
        let text = Self.manifests(&numbers)
        try Self.compare(text, &numbers)
    }

    private static func compare(_ text: String, _ numbers: inout SeededNumbers) throws {
        let source = reading(text)
        let configuration = try #require(source.configuration, "\(source.errorLines)\n\(text)")
        let output = NativeWriter.write(configuration, provenance: source.provenance, head: source.remarks)
        #expect(output.problems == [])
        let converted = try #require(reading(output.text).configuration, "\(output.text)")
        let (before, after) = (table(configuration), table(converted))
        for _ in 0..<200 {
            let connection = RandomConnection(&numbers, listenerCount: configuration.listeners.count)
            let decision = connection.decision(of: before, configuration)
            #expect(connection.decision(of: after, converted) == decision, "\(connection)\n\(text)\n\(output.text)")
        }
    }

    private static func table(_ configuration: Configuration) -> RouteTable {
        var slots: [String: Int] = [:]
        for (index, listener) in configuration.listeners.enumerated() { slots[listener.name] = index }
        return RouteTable(compiling: configuration, slots: slots, generation: 1, metricIndex: { _ in 0 })
    }

    /// A Gateway and some VirtualServices, an Ingress on the same port, and a port of tcp-services.
    private static func manifests(_ numbers: inout SeededNumbers) -> String {
        func document(_ apiVersion: String, _ kind: String, _ name: String, _ spec: String) -> String {
            "---\napiVersion: \(apiVersion)\nkind: \(kind)\nmetadata: { name: \(name), namespace: n }\n\(spec)\n"
        }
        let istio = "networking.istio.io/v1"
        var text = document(
            istio, "Gateway", "gate",
            "spec: { servers: [ { port: { number: 443, name: tls, protocol: TLS }, tls: { mode: PASSTHROUGH }, "
                + "hosts: [\"*\"] } ] }")
        for (index, host) in ["one.example", "two.example"].enumerated() {
            text += document(
                istio, "ServiceEntry", "entry-\(index)",
                "spec: { hosts: [\(host)], ports: [ { number: 443, name: tls, protocol: TLS } ], resolution: STATIC, "
                    + "endpoints: [ { address: 192.0.2.\(index + 1) }, { address: 192.0.2.9, weight: 3 } ] }")
        }
        text += document(istio, "WorkloadEntry", "near", "spec: { address: 10.1.1.1, labels: { app: a } }")
        let names = ["a.x", "b.a.x", "\"*.x\"", "\"*.a.x\"", "other.example"].filter { _ in numbers.once(in: 2) }
        for (index, name) in names.enumerated() {
            let whom = numbers.one(of: ["", ", sourceLabels: { app: a }", ", destinationSubnets: [10.0.0.0/8]"])
            let (first, second) = (numbers.number(0...100), numbers.number(1...100))
            text += document(
                istio, "VirtualService", "service-\(index)",
                "spec: { hosts: [\(name)], gateways: [gate], tls: [ { match: [ { sniHosts: [\(name)]\(whom) } ], route: [ "
                    + "{ destination: { host: one.example }, weight: \(first) }, "
                    + "{ destination: { host: two.example }, weight: \(second) } ] } ] }")
        }
        text += document(
            "v1", "Service", "web",
            "spec: { clusterIP: 10.96.0.1, ports: [ { port: 443, name: https } ], sessionAffinity: "
                + "\(numbers.one(of: ["None", "ClientIP"])) }")
        text += """
            ---
            apiVersion: networking.k8s.io/v1
            kind: Ingress
            metadata:
              name: web
              namespace: n
              annotations:
                nginx.ingress.kubernetes.io/ssl-passthrough: "true"
                nginx.ingress.kubernetes.io/whitelist-source-range: \(numbers.one(of: ["10.1.0.0/16", "10.0.0.0/8,fd00::/8"]))
                nginx.ingress.kubernetes.io/limit-connections: "\(numbers.number(1...100))"
            spec:
              rules:
                - host: z.x
                  http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 443 } } } } ] }
            ---
            apiVersion: v1
            kind: ConfigMap
            metadata: { name: tcp-services, namespace: ingress-nginx }
            data: { 9000: "n/web:443" }

            """
        return text
    }

    private static func file(_ numbers: inout SeededNumbers) -> String {
        let targets = ["one", "two", "10.0.0.1:1", "name.example:2", "\"\"", "$ssl_preread_server_name:443"]
        func entries(_ keys: [String], _ targets: [String]) -> String {
            keys.filter { _ in numbers.once(in: 2) }.map { "\($0) \(numbers.one(of: targets));" }.joined(separator: " ")
        }
        let names = entries(["a.x", "b.a.x", "*.x", "*.b.a.x", "*.a.x", "\"\"", "other.example"], targets)
        let protocols = entries(["h2", "acme-tls/1"], targets + ["$by_name"])
        let rules = ["10.1.1.0/24", "10.1.0.0/16", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
            .filter { _ in numbers.once(in: 2) }
            .map { "\(numbers.one(of: ["allow", "deny"])) \($0);" }.joined(separator: " ")
        let rest = numbers.one(of: ["", "deny all;", "allow all;"])
        return """
            stream {
            map $ssl_preread_server_name $by_name { hostnames; \(names) default one; }
            map $ssl_preread_alpn_protocols $by_protocol { \(protocols) default $by_name; }
            upstream one { server 192.0.2.1:443 weight=3; server 192.0.2.2:443 backup; }
            upstream two { least_conn; server two.example:443; }
            server { listen 443; ssl_preread on; proxy_pass $by_protocol; \(rules) \(rest) }
            server { listen 444; ssl_preread on; proxy_pass $by_name; proxy_connect_timeout 3s; }
            server { listen 445; proxy_pass two; proxy_protocol on; }
            }
            """
    }
}

private struct RandomConnection: CustomStringConvertible {
    let listener: Int
    let name: String
    let client: String
    let alpn: String

    init(_ numbers: inout SeededNumbers, listenerCount: Int) {
        listener = numbers.number(0...listenerCount - 1)
        name = numbers.one(of: ["", "x", "a.x", "b.a.x", "c.b.a.x", "z.a.x", "z.x", "other.example", "c.other.example"])
        client = numbers.one(of: [
            "10.1.1.1", "10.1.2.3", "10.9.9.9", "192.0.2.7", "203.0.113.1", "2001:db8::1", "::ffff:10.1.1.1", "fd00::1",
        ])
        alpn = numbers.one(of: ["", "h2", "acme-tls/1", "http/1.1"])
    }

    var description: String { "listener \(listener), \"\(name)\" from \(client), \"\(alpn)\"" }

    /// Whether the client is let in, the route, and where it leads.
    func decision(of table: RouteTable, _ configuration: Configuration) -> String {
        var offer = ALPNOffer()
        if !alpn.isEmpty {
            let bytes = Array(alpn.utf8)
            offer.append(bytes.span)
        }
        guard let serverName = name.isEmpty ? .some(.none) : try? ServerName(name), let client = IPAddress(client)
        else {
            return "no connection"
        }
        let view = table.view
        let isLetIn = view.allowsClient(listener: listener, client)
        let route = view.route(listener: listener, name: serverName, client: client, alpn: offer)
        let action = configuration.listeners[listener].routes.first { $0.name == route.map(table.routeName) }?.action
        return "\(isLetIn) \(route.map(table.routeName) ?? "-") \(action.map { "\($0)" } ?? "-")"
    }
}
