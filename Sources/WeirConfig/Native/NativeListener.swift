import WeirModel
import WeirNet

/// The `listeners` section.
extension NativeReader {
    func readListener(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.listener) else { return }
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
        if let node = section["takes_ipv4"], let value = boolean(node) {
            if value, address.ip != .v6Any {
                findings.error(node.position, "only a listener on [::] can take IPv4 connections too")
            }
            listener.takesIPv4 = value
        }
        if let node = section["routes"] {
            for (index, route) in (list(node, of: "routes") ?? []).enumerated() {
                readRoute(route, index, into: &listener)
            }
        }
        guard draft.add(listener, at: (section["name"] ?? addressNode).position) else { return }
        if let node = section["manifest_port"], let port = integer(node, 1...65535) {
            let index = draft.configuration.listeners.count - 1
            draft.manifestSettings.listeners[UInt16(port), default: []].append((index, node.position))
        }
    }

    func clientPolicy(_ node: YAMLNode) -> ClientPolicy? {
        guard let clients = section(node, NativeSchema.clients) else { return nil }
        if let rules = clients["rules"] {
            for key in ["allow", "deny"] {
                if let other = clients[key] {
                    findings.error(other.position, "clients have either `rules`, or `allow` and `deny`")
                }
            }
            return clientRules(rules)
        }
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

    /// `[ { deny: 10.1.0.0/16 }, { allow: 10.0.0.0/8 } ]`: the first that holds the client decides; `all` only stands last.
    /// Whom none holds is refused.
    private func clientRules(_ node: YAMLNode) -> ClientPolicy? {
        var policy = ClientPolicy(rules: [], otherwiseAllow: false)
        guard let rules = list(node, of: "rules such as { allow: 10.0.0.0/8 }") else { return nil }
        for (index, rule) in rules.enumerated() {
            guard let section = section(rule, NativeSchema.clientRule) else { continue }
            let allow = section["allow"] != nil
            guard let who = section["allow"] ?? section["deny"], !(allow && section["deny"] != nil)
            else {
                findings.error(rule.position, "a rule has either `allow` or `deny`")
                continue
            }
            if case .scalar("all", _) = who.content {
                policy.otherwiseAllow = allow
                if index < rules.count - 1 {
                    findings.error(who.position, "no rule is asked behind one for `all`")
                }
            } else if let block = block(who) {
                policy.rules.append(ClientPolicy.Rule(allow: allow, block: block))
            }
        }
        return policy
    }

    private func acceptProxy(_ node: YAMLNode) -> AcceptProxy? {
        guard let section = section(node, NativeSchema.acceptProxy) else { return nil }
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
        guard let section = section(node, NativeSchema.hello) else { return }
        if let value = section["max_size"].flatMap({ byteCount($0, 512...65536) }) { hello.byteCountMax = value }
        if let value = section["ech"].flatMap({ word($0, [("allow", true), ("deny", false)]) }) {
            hello.allowECH = value
        }
    }

    private func readTimeouts(_ node: YAMLNode, _ timeouts: inout ListenerTimeouts) {
        guard let section = section(node, NativeSchema.timeouts) else { return }
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
        let read = routeLimits(node)
        limits.connections = read.connections
        limits.rate = read.rate
        limits.connectionsPerClient = read.connectionsPerClient
        limits.ratePerClient = read.ratePerClient
    }
}
