import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

// The decision as a person would tell it.

extension Explanation {
    /// Lines, each with its end. Names are quoted and escaped.
    package var text: String {
        var lines = ["listener \(listener.name.quoted) at \(listener.address): \(listener.why)"]
        lines += client.lines
        if !serverName.isNone { lines.append("  server name \(serverName)") }
        if !alpn.isEmpty { lines.append("  ALPN \(alpn.map(\.quoted).joined(separator: ", "))") }
        lines += routeLines
        if let target { lines += target.lines }
        if !limits.isEmpty { lines += ["limits"] + limits.map { "  \($0.line)" } }
        if !notes.isEmpty { lines += ["notes"] + notes.map { "  \($0)" } }
        lines.append("verdict: \(verdict)")
        return lines.map { $0 + "\n" }.joined()
    }

    /// Of those that failed, and of those that come later.
    private static let candidateCountMax = 10

    private var routeLines: [String] {
        if candidates.isEmpty, otherNameCount == 0 { return [] }
        var lines = ["routes"]
        let failing = candidates.filter { if case .failing = $0.outcome { true } else { false } }
        lines += Self.lines(failing)
        lines += candidates.filter { $0.outcome == .taken }.map { "  \($0.line)" }
        lines += Self.lines(candidates.filter { $0.outcome == .shadowed })
        for other in otherNames {
            lines.append("  \(other.route.quoted): for \(other.patterns.listed())")
        }
        let rest = otherNameCount - otherNames.count
        if rest > 0 { lines.append("  and \(rest) more for other server names") }
        return lines
    }

    private static func lines(_ candidates: [Candidate]) -> [String] {
        var lines = candidates.prefix(candidateCountMax).map { "  \($0.line)" }
        if candidates.count > candidateCountMax {
            lines.append("  and \(candidates.count - candidateCountMax) more alike")
        }
        return lines
    }
}

extension Explanation.ClientPart {
    fileprivate var lines: [String] {
        var lines: [String] = []
        switch header {
        case .none: break
        case .accepted(let block):
            lines.append("  PROXY header from \(peer): believed, as the peer is in \(block)")
        case .believed: lines.append("  PROXY header: taken for believed")
        case .untrusted(let blocks):
            lines.append("  peer \(peer): refused, as only \(blocks.map(\.description).listed()) may connect here")
        case .refused(let block, let why):
            lines.append("  PROXY header from \(peer), which is in \(block): refused: \(why)")
        case .missing(let block):
            lines.append("  peer \(peer): refused, as a PROXY header is required of \(block)")
        case .notTaken: lines.append("  PROXY header: the listener takes none")
        }
        guard let admission else { return lines }
        let rule = admission.rule.map { "in \($0)" } ?? "in no rule of the listener's clients"
        lines.append("  client \(address): \(admission.isAllowed ? "let in" : "refused"), \(rule)")
        if let destination { lines.append("  asks for \(destination)") }
        return lines
    }
}

extension Explanation.Candidate {
    fileprivate var line: String {
        let matches = pattern.map { $0 == "*" ? "any server name matches" : "server name matches \($0)" }
        switch outcome {
        case .taken: return "\(route.quoted): \(matches ?? "asks for no server name"): takes it"
        case .shadowed: return "\(route.quoted): \(matches ?? "asks for no server name"), and comes later"
        case .failing(_, let why): return "\(route.quoted): \(matches.map { $0 + ", but " } ?? "")\(why)"
        }
    }
}

extension Explanation.Target {
    fileprivate var lines: [String] {
        var lines: [String] = []
        switch kind {
        case .deny: lines.append("denied\(denial.map { ": \($0.word)" } ?? "")")
        case .cluster: break
        case .split: lines.append("to one of \(clusters.count) clusters, drawn by weight")
        case .originalDestination:
            lines.append("to where the client was redirected from" + (destination.map { ": \($0.text)" } ?? ""))
        case .serverName: lines.append("to the server name" + (destination.map { ": \($0.text)" } ?? ""))
        case .proxyDestination:
            lines.append("to the destination of the PROXY header" + (destination.map { ": \($0.text)" } ?? ""))
        }
        if let destination { lines += destination.lines(indent: "  ") }
        if let policy {
            for one in policy.passed { lines.append("  policy \(one.name.quoted): \(one.why)") }
            let way = policy.cluster.map { ": through cluster \($0.quoted)" }
            lines.append(
                "  policy \(policy.name.quoted): decides" + (way ?? (policy.leavesAsRoute ? ": as the route says" : ""))
            )
        }
        if let source { lines.append("  source: \(source.text)") }
        for cluster in clusters {
            let share = cluster.percentText.map { ", \($0) %" } ?? ""
            lines.append("cluster \(cluster.name.quoted), \(cluster.balance)\(share)")
            lines += cluster.endpoints.flatMap(\.lines)
            if let preferred = cluster.preferred { lines.append("  this client's, while all are good: \(preferred)") }
            lines.append("  source: \(cluster.source.text)")
        }
        return lines
    }
}

extension Explanation.ClusterPart {
    /// To a hundredth.
    var percentText: String? {
        guard let percent else { return nil }
        let hundredths = Int((percent * 100).rounded())
        if hundredths % 100 == 0 { return String(hundredths / 100) }
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }
}

extension Explanation.EndpointPart {
    fileprivate var lines: [String] {
        var line = "  endpoint \(name.printable): weight \(weight), priority \(priority)"
        if isDown { line += ", down" }
        if let health { line += ", \(health.printable)" }
        return [line] + destination.lines(indent: "    ")
    }
}

extension Explanation.Destination {
    fileprivate func lines(indent: String) -> [String] {
        switch source {
        case .notAsked: ["\(indent)\(host): not resolved"]
        case .failed(let status): ["\(indent)\(host): no address: \(status.label)"]
        case .written, .header, .original, .answered:
            addresses.map { address in
                let family = address.hasSource ? "" : "; not used, as no source address is \(address.familyName)"
                return "\(indent)\(address.ip): \(address.guard.text)\(family)"
            } + (source == .answered(isStale: true) ? ["\(indent)stale: no name server answers"] : [])
        }
    }
}

extension Explanation.Address {
    fileprivate var familyName: String { ip.unmapped.family == .v4 ? "IPv4" : "IPv6" }
}

extension Explanation.Address.Guard {
    var text: String {
        switch self {
        case .allowed(.isPublic): "allowed: public"
        case .allowed(.isWritten): "allowed: the configuration has it"
        case .allowed(.exempted(let block)): "allowed: in destinations.allow \(block)"
        case .allowed(.isPrivateName): "allowed: private, as the cluster's names may be (private_names)"
        case .denied(let rule, nil): "denied: \(rule.label)"
        case .denied(let rule, let block?): "denied: \(rule.label), \(block)"
        }
    }
}

extension Explanation.Source {
    fileprivate var text: String {
        switch self {
        case .kernel: return "as the kernel chooses"
        case .addresses(let all): return all.map(\.description).listed(atMost: 8)
        case .pool(let pool):
            var text = "pool \(pool.name.quoted)"
            if !pool.addresses.isEmpty {
                text += ", \(pool.select.word): \(pool.addresses.map(\.description).listed(atMost: 8))"
            }
            if let interface = pool.interface { text += ", interface \(interface.quoted)" }
            if pool.mark != 0 { text += ", mark \(pool.mark)" }
            return text
        }
    }
}

extension Explanation.Limit {
    fileprivate var line: String { "\(scope)\(subject.map { " \($0.quoted)" } ?? ""): \(name) \(value)" }
}

extension Denial {
    /// As native YAML has it.
    var word: String {
        switch self {
        case .unrecognizedName: "unrecognized_name"
        case .accessDenied: "access_denied"
        case .reset: "reset"
        case .close: "close"
        }
    }
}

extension SourcePool.Select {
    /// As native YAML has it.
    var word: String {
        switch self {
        case .leastPorts: "least_ports"
        case .roundRobin: "round_robin"
        case .clientHash: "client_hash"
        case .destinationHash: "destination_hash"
        }
    }
}
