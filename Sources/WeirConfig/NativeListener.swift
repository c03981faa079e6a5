import WeirModel
import WeirNet

/// The `listeners` section.
extension NativeReader {
    private static let listenerKeys = [
        "name", "address", "clients", "accept_proxy", "detect", "hello", "timeouts", "limits", "half_close", "backlog",
        "routes",
    ]

    func readListener(_ node: YAMLNode) {
        guard let section = section(node, "a listener", keys: Self.listenerKeys) else { return }
        guard let addressNode = section["address"] else {
            return findings.error(node.position, "a listener has no `address`")
        }
        guard let address = socketAddress(addressNode) else { return }
        let name = section["name"].flatMap { text($0, "a name") } ?? address.description
        var listener = Listener(name: name, address: address)
        if let clients = section["clients"].flatMap(clientPolicy) { listener.clients = clients }
        if let node = section["accept_proxy"] { listener.acceptProxy = acceptProxy(node) }
        if let node = section["detect"] { listener.detect = detected(node) }
        if let node = section["hello"] { readHello(node, &listener.hello) }
        if let node = section["timeouts"] { readTimeouts(node, &listener.timeouts) }
        if let node = section["limits"] { readLimits(node, &listener.limits) }
        if let value = section["half_close"].flatMap(boolean) { listener.halfClose = value }
        if let value = section["backlog"].flatMap({ integer($0, 1...65535) }) { listener.backlog = value }
        if let node = section["routes"] {
            for (index, route) in (list(node, of: "routes") ?? []).enumerated() {
                readRoute(route, index, into: &listener)
            }
        }
        draft.add(listener, at: (section["name"] ?? addressNode).position)
    }

    private func clientPolicy(_ node: YAMLNode) -> ClientPolicy? {
        guard let clients = section(node, "clients", keys: ["allow", "deny"]) else { return nil }
        var policy = ClientPolicy.privateNetworks
        if let allow = clients["allow"] {
            if case .scalar("all", _) = allow.content {
                policy = .everyone
            } else {
                guard let blocks = items(allow, of: "blocks of addresses, or all", block) else { return nil }
                policy = .allowing(blocks)
            }
        }
        if let deny = clients["deny"], let blocks = items(deny, of: "blocks of addresses", block) {
            policy.rules = blocks.map { ClientPolicy.Rule(allow: false, block: $0) } + policy.rules
        }
        return policy
    }

    private func acceptProxy(_ node: YAMLNode) -> AcceptProxy? {
        let keys = ["from", "max_header", "accept_ipv4_in_tcp6"]
        guard let section = section(node, "accept_proxy", keys: keys) else { return nil }
        // T-08: whose header is believed is never a default.
        guard let from = section["from"] else {
            findings.error(
                node.position, "accept_proxy trusts nobody: list the peers whose header is believed in `from`")
            return nil
        }
        guard let blocks = items(from, of: "blocks of addresses", block) else { return nil }
        guard !blocks.isEmpty else {
            if from.isEmptyCollection { expected("at least one block of addresses", from) }
            return nil
        }
        var acceptProxy = AcceptProxy(from: blocks)
        if let value = section["max_header"].flatMap({ byteCount($0, 16...65535) }) {
            acceptProxy.headerByteCountMax = value
        }
        if let value = section["accept_ipv4_in_tcp6"].flatMap(boolean) { acceptProxy.acceptIPv4InTCP6 = value }
        return acceptProxy
    }

    private func detected(_ node: YAMLNode) -> Set<DetectedProtocol> {
        if case .scalar("none", _) = node.content { return [] }
        let choices: [(String, DetectedProtocol)] = [("tls", .tls), ("http", .http)]
        return Set(items(node, of: "protocols (tls, http), or none") { word($0, choices) } ?? [])
    }

    private func readHello(_ node: YAMLNode, _ hello: inout HelloPolicy) {
        guard let section = section(node, "hello", keys: ["max_size", "ech"]) else { return }
        if let value = section["max_size"].flatMap({ byteCount($0, 512...65536) }) { hello.byteCountMax = value }
        if let value = section["ech"].flatMap({ word($0, [("allow", true), ("deny", false)]) }) {
            hello.allowECH = value
        }
    }

    private func readTimeouts(_ node: YAMLNode, _ timeouts: inout ListenerTimeouts) {
        let keys = ["preamble", "hello", "idle", "half_close", "session"]
        guard let section = section(node, "timeouts", keys: keys) else { return }
        if let value = section["preamble"].flatMap({ duration($0) }) {
            timeouts.preamble = value
            timeouts.hello = min(timeouts.hello, value)
        }
        if let node = section["hello"], let value = duration(node) {
            timeouts.hello = value
            if value > timeouts.preamble {
                findings.error(
                    node.position, "the hello timeout is longer than the preamble timeout, which contains it")
            }
        }
        if let value = section["idle"].flatMap({ duration($0) }) { timeouts.idle = value }
        if let value = section["half_close"].flatMap({ duration($0) }) { timeouts.halfClose = value }
        if let node = section["session"] {
            if case .scalar("off", _) = node.content {
                timeouts.session = nil
            } else if let value = duration(node) {
                timeouts.session = value
            }
        }
    }

    private func readLimits(_ node: YAMLNode, _ limits: inout ListenerLimits) {
        guard let section = section(node, "limits", keys: ["connections", "rate", "burst", "per_client"]) else {
            return
        }
        if let value = section["connections"].flatMap({ integer($0, 1...100_000_000) }) { limits.connections = value }
        if let value = rate(section) { limits.rate = value }
        guard let node = section["per_client"] else { return }
        guard let perClient = self.section(node, "limits.per_client", keys: ["connections", "rate", "burst"]) else {
            return
        }
        if let value = perClient["connections"].flatMap({ integer($0, 1...1_000_000) }) {
            limits.connectionsPerClient = value
        }
        if let value = rate(perClient) { limits.ratePerClient = value }
    }
}
