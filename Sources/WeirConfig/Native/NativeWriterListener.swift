import WeirModel
import WeirNet

/// The `listeners` section.
extension NativeWriter {
    mutating func listener(_ listener: Listener) -> YAMLOutput {
        let own = Listener(name: "", address: listener.address)
        let part = Provenance.part(listener: listener.name)
        var section = YAMLFields()
        if listener.name != listener.address.description { section.add("name", .text(listener.name)) }
        section.add("address", .text(listener.address.description))
        section.add("clients", clients(listener.clients))
        section.add("accept_proxy", listener.acceptProxy.map { acceptProxy($0) })
        section.add("detect", detect(listener.detect))
        var hello = YAMLFields()
        if listener.hello.byteCountMax != own.hello.byteCountMax {
            hello.add("max_size", size(listener.hello.byteCountMax))
        }
        if !listener.hello.allowECH { hello.add("ech", .word("deny")) }
        section.add("hello", hello.mapping)
        section.add("timeouts", timeouts(listener.timeouts, part))
        section.add("limits", limits(listener.limits, part))
        section.add("half_close", boolean(listener.halfClose, unless: own.halfClose))
        section.add("backlog", number(listener.backlog, unless: own.backlog))
        section.add("takes_ipv4", boolean(listener.takesIPv4, unless: own.takesIPv4))
        var routes: [YAMLOutput] = []
        for (index, route) in listener.routes.enumerated() {
            routes.append(self.route(route, index, in: listener.name))
        }
        section.add("routes", routes)
        return YAMLOutput.mapping(section.fields).block.commented(from(part))
    }

    /// In the words of `allow` and `deny` where these can say it, else rule by rule.
    private func clients(_ policy: ClientPolicy) -> YAMLOutput? {
        if policy == .privateNetworks { return nil }
        let denied = policy.rules.prefix { !$0.allow }
        let others = policy.rules.dropFirst(denied.count)
        var section = YAMLFields()
        if policy.otherwiseAllow, others.isEmpty {
            section.add("allow", .word("all"))
        } else if !policy.otherwiseAllow, Array(others) == ClientPolicy.privateNetworks.rules {
            // The default.
        } else if !policy.otherwiseAllow, others.allSatisfy(\.allow) {
            section.add("allow", blocks(others.map(\.block)))
        } else {
            var rules = policy.rules.map { rule in YAMLOutput.mapping([rule.field]) }
            if policy.otherwiseAllow { rules.append(.mapping([.init(key: "allow", value: .word("all"))])) }
            return .mapping([.init(key: "rules", value: .list(rules))])
        }
        if !denied.isEmpty { section.add("deny", blocks(denied.map(\.block))) }
        return section.mapping
    }

    private func acceptProxy(_ accept: AcceptProxy) -> YAMLOutput {
        let own = AcceptProxy(from: [])
        var section = YAMLFields()
        section.add("from", blocks(accept.from))
        if accept.headerByteCountMax != own.headerByteCountMax {
            section.add("max_header", size(accept.headerByteCountMax))
        }
        section.add("accept_ipv4_in_tcp6", boolean(accept.acceptIPv4InTCP6, unless: own.acceptIPv4InTCP6))
        return .mapping(section.fields)
    }

    private func detect(_ protocols: Set<DetectedProtocol>) -> YAMLOutput? {
        if protocols == [.tls] { return nil }
        if protocols.isEmpty { return .word("none") }
        let words = [(DetectedProtocol.tls, "tls"), (.http, "http")]
        return .list(words.filter { protocols.contains($0.0) }.map { .word($0.1) })
    }

    private mutating func timeouts(_ timeouts: ListenerTimeouts, _ part: String) -> YAMLOutput? {
        let own = ListenerTimeouts()
        var section = YAMLFields()
        section.add("preamble", duration(timeouts.preamble, part, unless: own.preamble))
        // What the reader takes where nothing is said.
        let hello = timeouts.preamble == own.preamble ? own.hello : min(own.hello, timeouts.preamble)
        section.add("hello", duration(timeouts.hello, part, unless: hello))
        section.add("idle", duration(timeouts.idle, part, unless: own.idle))
        section.add("half_close", duration(timeouts.halfClose, part, unless: own.halfClose))
        section.add("session", duration(timeouts.session, part))
        return section.mapping
    }

    mutating func limits(_ limits: ListenerLimits, _ part: String) -> YAMLOutput? {
        var section = YAMLFields()
        section.add("connections", limits.connections.map { .word("\($0)") })
        addRate(limits.rate, part, to: &section)
        var perClient = YAMLFields()
        perClient.add("connections", limits.connectionsPerClient.map { .word("\($0)") })
        addRate(limits.ratePerClient, part, to: &perClient)
        section.add("per_client", perClient.mapping)
        return section.mapping
    }
}

extension ClientPolicy.Rule {
    fileprivate var field: YAMLOutput.Field { .init(key: allow ? "allow" : "deny", value: .text("\(block)")) }
}
