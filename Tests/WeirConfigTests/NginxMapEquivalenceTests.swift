import Testing
import WeirConfig
import WeirModel
import WeirNet

/// Random pairs of maps, asked two ways: as nginx follows them, and as the routes made of them decide. Both must give
/// the same answer to every client.
@Suite struct NginxMapEquivalenceTests {
    @Test(arguments: 0..<300)
    func routesDecideAsTheMapsDo(seed: UInt64) throws {
        let maps = RandomMaps(seed: seed)
        let result = reading(maps.text)
        // Maps that refuse everyone leave no route, and that is an error.
        if result.configuration == nil {
            try #require(result.errors.map(\.message).allSatisfy { $0.contains("no route") })
        }
        let routes = result.configuration?.listeners[0].routes ?? []
        for name in RandomMaps.clientNames {
            for alpn in ["", "h2", "acme-tls/1"] {
                let expected = maps.answer(name: name, alpn: alpn)
                #expect(answer(routes, name: name, alpn: alpn) == expected, "\(name) \(alpn)\n\(maps.text)\n\(routes)")
            }
        }
    }

    /// By the precedence that `RouteMatch` states.
    private func answer(_ routes: [Route], name: String, alpn: String) -> String {
        var best: (rank: Int, route: Route)?
        for route in routes {
            if !route.match.alpn.isEmpty, !route.match.alpn.contains(alpn) { continue }
            guard let rank = rank(route.match.serverNames, name) else { continue }
            if best == nil || rank > best!.rank { best = (rank, route) }
        }
        switch best?.route.action {
        case .cluster(let name): return name
        case .forward: return name.isEmpty ? "refused" : "name"
        case .deny, .proxyDestination, .originalDestination, .split, nil: return "refused"
        }
    }

    private func rank(_ patterns: [ServerNamePattern], _ name: String) -> Int? {
        if patterns.isEmpty { return 0 }
        if name.isEmpty { return nil }
        return patterns.compactMap { pattern in
            switch pattern {
            case .exact(let exact): exact.description == name ? 1000 : nil
            case .wildcard(let suffix): name.hasSuffix(".\(suffix)") ? 2 + suffix.byteCount : nil
            case .any: 1
            }
        }.max()
    }
}

/// A map over names and one over protocols, each of which may refer to the other (but not both).
private struct RandomMaps {
    static let clientNames = ["", "x", "a.x", "b.a.x", "c.b.a.x", "z.x", "other.example"]

    private var names: [(key: String, value: String)] = []
    private var protocols: [(key: String, value: String)] = []
    private var namesFirst: Bool

    init(seed: UInt64) {
        var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x1234_5678_9abc_def1
        func random(_ bound: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return (state >> 11) % bound
        }
        let targets = ["10.0.0.1:1", "10.0.0.2:2", "\"\"", "$ssl_preread_server_name:443"]
        func value(_ other: String?) -> String {
            if let other, random(3) == 0 { return other }
            return targets[Int(random(UInt64(targets.count)))]
        }
        namesFirst = random(2) == 0
        for key in ["a.x", "b.a.x", "*.x", "*.b.a.x", "*.a.x", "\"\"", "default"] where random(2) == 0 {
            names.append((key, value(namesFirst ? "$by_protocol" : nil)))
        }
        for key in ["h2", "acme-tls/1", "default"] where random(2) == 0 {
            protocols.append((key, value(namesFirst ? nil : "$by_name")))
        }
    }

    var text: String {
        let lines = { (entries: [(key: String, value: String)]) in
            entries.map { "\($0.key) \($0.value);" }.joined(separator: " ")
        }
        return """
            stream {
            map $ssl_preread_server_name $by_name { hostnames; \(lines(names)) }
            map $ssl_preread_alpn_protocols $by_protocol { \(lines(protocols)) }
            server { listen 443; ssl_preread on; proxy_pass \(namesFirst ? "$by_name" : "$by_protocol"); }
            }
            """
    }

    /// As nginx: exact, longest wildcard, default, nothing.
    func answer(name: String, alpn: String) -> String {
        var value = namesFirst ? valueByName(name) : valueByProtocol(alpn)
        if value == "$by_name" {
            value = valueByName(name)
        } else if value == "$by_protocol" {
            value = valueByProtocol(alpn)
        }
        switch value {
        case "", "\"\"": return "refused"
        case "$ssl_preread_server_name:443": return name.isEmpty ? "refused" : "name"
        default: return value
        }
    }

    private func valueByName(_ name: String) -> String {
        let key = name.isEmpty ? "\"\"" : name
        if let exact = names.first(where: { $0.key == key }) { return exact.value }
        let wildcards = names.filter { $0.key.hasPrefix("*") && name.hasSuffix($0.key.dropFirst()) }
        if let longest = wildcards.max(by: { $0.key.count < $1.key.count }) { return longest.value }
        return names.first { $0.key == "default" }?.value ?? ""
    }

    private func valueByProtocol(_ alpn: String) -> String {
        (protocols.first { $0.key == alpn } ?? protocols.first { $0.key == "default" })?.value ?? ""
    }
}
