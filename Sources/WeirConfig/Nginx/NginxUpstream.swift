import WeirModel
import WeirNet

/// An `upstream` block: a cluster without the settings of the server that uses it.
struct NginxUpstream {
    var name: String
    var position: SourcePosition
    var endpoints: [Endpoint] = []
    var balance = Cluster.Balance.roundRobin
    var slowStart: Duration?

    init(_ directive: NginxDirective, _ values: NginxValues) {
        name = directive.arguments[0].text
        position = directive.arguments[0].position
        for child in directive.block ?? [] where NginxVocabulary.admits(child, at: .upstream, values.findings) {
            switch child.name {
            case "hash": readHash(child, values)
            case "least_conn": balance = .leastConnections
            case "random":
                balance = .random
                readRandom(child, values)
            default: if let endpoint = endpoint(child, values) { endpoints.append(endpoint) }
            }
        }
        if !(directive.block ?? []).contains(where: { $0.name == "server" }) {
            values.findings.error(directive.position, "upstream \(quoted(name)) has no `server`")
        }
    }

    /// `hash $remote_addr [consistent]`. Ours is always consistent, and no client's place is nginx's.
    private mutating func readHash(_ directive: NginxDirective, _ values: NginxValues) {
        let (key, method) = (directive.arguments[0], directive.arguments.dropFirst().first)
        guard ["$remote_addr", "$binary_remote_addr"].contains(key.text) else {
            values.findings.error(
                key.position, "`hash` by \(quoted(key.text)) is not supported yet; use $remote_addr")
            return
        }
        if let method, method.text != "consistent" {
            values.expected("`consistent` or nothing", method)
            return
        }
        balance = .sourceHash
    }

    /// `random [two [least_conn]]`. Weir always draws two and takes the one with fewer sessions for its weight.
    private func readRandom(_ directive: NginxDirective, _ values: NginxValues) {
        let words = directive.arguments.map(\.text)
        if words.count > 0, words[0] != "two" { return values.expected("`two` or nothing", directive.arguments[0]) }
        if words.count > 1, words[1] != "least_conn" {
            return values.expected("`least_conn` or nothing", directive.arguments[1])
        }
        if words.isEmpty {
            values.findings.notice(
                directive.position, "`random` draws two servers and takes the one with fewer sessions for its weight")
        }
    }

    private mutating func endpoint(_ directive: NginxDirective, _ values: NginxValues) -> Endpoint? {
        guard var endpoint = Endpoint(nginx: directive.arguments[0], values) else { return nil }
        let known = ["weight", "backup", "down", "max_fails", "fail_timeout", "resolve", "max_conns", "slow_start"]
        for option in directive.arguments.dropFirst() {
            let (name, value) = values.parameter(option) ?? (option.text, option)
            switch name {
            case "weight": endpoint.weight = values.integer(value, 1...65535) ?? 1
            case "backup": endpoint.priority = 1
            case "down": endpoint.isDown = true
            case "max_fails": endpoint.maxFails = values.integer(value, 0...65535) ?? 1
            case "fail_timeout": endpoint.failTimeout = values.timeAboveZero(value) ?? .seconds(10)
            case "resolve":
                values.findings.notice(
                    option.position, "\"resolve\" has no effect here: names are always resolved again")
            case "max_conns":
                if let value = values.integer(value, 0...100_000_000) {
                    endpoint.connectionsMax = value == 0 ? nil : value
                }
            case "slow_start":
                if let value = values.time(value) { slowStart = max(slowStart ?? .zero, value) }
            case "service":
                values.findings.error(option.position, "\(quoted(name)) of `server` is not supported yet")
            default:
                values.findings.error(
                    option.position,
                    "unknown parameter \(quoted(name)) of `server`\(suggestion(for: name, among: known))")
            }
        }
        return endpoint
    }
}

extension Endpoint {
    /// Reads `host:port` of an `upstream` or a `proxy_pass`; nil, and reported, for what it cannot be.
    init?(nginx word: NginxWord, _ values: NginxValues) {
        let text = word.text
        if let endpoint = Endpoint(text) {
            self = endpoint
            return
        }
        if text.hasPrefix("unix:") {
            values.findings.error(word.position, "unix sockets are not supported")
        } else if text.contains("<"), text.contains(">") {
            values.findings.error(word.position, "\(quoted(text)) holds a placeholder: put the real name in its place")
        } else if !text.contains(":") || IPAddress(text) != nil {
            values.findings.error(word.position, "\(quoted(text)) names no port: expected address:port or name:port")
        } else {
            values.expected("address:port or name:port", word)
        }
        return nil
    }
}
