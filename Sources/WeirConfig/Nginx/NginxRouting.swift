import WeirModel
import WeirNet

/// Where a `proxy_pass` leads.
enum NginxTarget: Hashable {
    /// An `upstream` block, or an address as it is written.
    case cluster(String)
    case serverName(DynamicForwardPort)
    /// nginx closes the connection where `proxy_pass` comes out empty.
    case refuse

    enum DynamicForwardPort: Hashable {
        case fixed(UInt16)
        case listener
    }
}

/// Turns the `proxy_pass` of a server into routes, through whatever maps it uses.
///
/// Maps are followed for every class of connection they can tell apart (each name, each wildcard, other names, no
/// name; each ALPN protocol), so that the routes decide as the maps would, however deep they refer to each other.
struct NginxRouting {
    let maps: [String: NginxMap]
    let upstreams: [String: NginxUpstream]
    let values: NginxValues

    /// One class of connections and where it goes.
    struct Rule: Hashable {
        var name: NginxMap.NameClass
        var alpn: String?
        var target: NginxTarget
        /// Where the target is written: in the `proxy_pass`, or in the map that decided.
        var position: SourcePosition
    }

    /// A variable may be defined by others; a ring of them has no value.
    private static let depthMax = 8
    /// Names times protocols; more come from no person.
    static let ruleCountMax = 200_000

    /// Rules in the order they are tried among equals; nil where an error was reported.
    func rules(_ word: NginxWord, port: UInt16) -> [Rule]? {
        guard let template = NginxTemplate(word.text) else {
            values.expected("a target in which `$` begins a variable", word)
            return nil
        }
        let (names, protocols) = mentioned(by: template)
        guard (names.count + 2) * (protocols.count + 1) <= Self.ruleCountMax else {
            values.findings.error(word.position, "the maps tell apart more than \(Self.ruleCountMax) cases")
            return nil
        }
        var rules: [Rule] = []
        for alpn in protocols.map(Optional.some) + [nil] {
            for name in names + [.anyOther, .none] {
                let situation = Situation(name: name, alpn: alpn, port: port)
                guard let (parts, last) = expand(template, word, situation, depth: 0) else { return nil }
                guard let target = target(parts, last, situation) else { return nil }
                rules.append(Rule(name: name, alpn: alpn, target: target, position: last.position))
            }
        }
        return rules
    }

    // MARK: Following variables

    private struct Situation {
        var name: NginxMap.NameClass
        var alpn: String?
        var port: UInt16
    }

    /// Every name and protocol that the maps behind `template` tell apart, each once.
    private func mentioned(by template: NginxTemplate) -> (names: [NginxMap.NameClass], protocols: [String]) {
        var names: [NginxMap.NameClass] = []
        var protocols: [String] = []
        var seenNames: Set<NginxMap.NameClass> = []
        var seenVariables: Set<String> = []
        var pending = template.variables
        while let variable = pending.popLast() {
            guard seenVariables.insert(variable).inserted, let map = maps[variable] else { continue }
            names += map.patterns.filter { seenNames.insert($0).inserted }
            switch map.source {
            case .serverName: break
            case .alpn: protocols += map.keys.filter { !$0.isEmpty && !protocols.contains($0) }
            case .text(let source): pending += source.variables
            }
            pending += map.variables
        }
        return (names, protocols)
    }

    /// `template` with maps followed; of variables only the server name and the port are left. The word returned is the
    /// one that decided, for messages.
    private func expand(
        _ template: NginxTemplate, _ word: NginxWord, _ situation: Situation, depth: Int
    ) -> (NginxTemplate, NginxWord)? {
        guard depth < Self.depthMax else {
            values.findings.error(word.position, "the variables refer to each other without end")
            return nil
        }
        var result = NginxTemplate(parts: [])
        var deciding = word
        for part in template.parts {
            guard case .variable(let name) = part else {
                result.append(part)
                continue
            }
            switch name {
            case "ssl_preread_server_name", "server_port":
                result.append(part)
            default:
                guard let map = maps[name] else {
                    reportUnknown(name, word)
                    return nil
                }
                let value: NginxMap.Value
                switch lookUp(map, situation, depth: depth) {
                case .found(let found): value = found
                case .absent: continue
                case .failed: return nil
                }
                guard let (inner, last) = expand(value.template, value.word, situation, depth: depth + 1) else {
                    return nil
                }
                for part in inner.parts { result.append(part) }
                deciding = last
            }
        }
        return (result, deciding)
    }

    private enum Lookup {
        case found(NginxMap.Value)
        /// No entry and no default: the empty text.
        case absent
        /// Reported.
        case failed

        init(_ value: NginxMap.Value?) { self = value.map { .found($0) } ?? .absent }
    }

    private func lookUp(_ map: NginxMap, _ situation: Situation, depth: Int) -> Lookup {
        switch map.source {
        case .serverName:
            return Lookup(map.value(for: situation.name))
        case .alpn:
            return Lookup(map.value(for: situation.alpn ?? ""))
        case .text(let source):
            guard let (expanded, _) = expand(source, map.sourceWord, situation, depth: depth + 1) else {
                return .failed
            }
            guard let text = expanded.writingOutPort(situation.port).literal else {
                values.findings.error(
                    map.sourceWord.position, "a `map` over the server name together with other text is not supported")
                return .failed
            }
            return Lookup(map.value(for: text))
        }
    }

    private func reportUnknown(_ name: String, _ word: NginxWord) {
        let usable = ["ssl_preread_server_name", "ssl_preread_alpn_protocols", "server_port"] + maps.keys.sorted()
        if Self.otherVariables.contains(name) || name.hasPrefix("proxy_protocol_") {
            values.findings.error(
                word.position,
                "variable \"$\(name)\" is not supported in a target; usable: "
                    + usable.map { "$\($0)" }.joined(separator: ", "))
        } else {
            values.findings.error(
                word.position,
                "unknown variable \"$\(name)\""
                    + (nearestWord(to: name, among: usable).map { "; did you mean \"$\($0)\"?" } ?? ""))
        }
    }

    /// Variables that nginx's stream has and a route cannot ask.
    private static let otherVariables: Set<String> = [
        "binary_remote_addr", "bytes_received", "bytes_sent", "connection", "hostname", "msec", "nginx_version", "pid",
        "protocol", "realpath_root", "remote_addr", "remote_port", "server_addr", "session_time",
        "ssl_preread_protocol",
        "ssl_preread_alpn_protocols", "ssl_server_name", "status", "time_iso8601", "time_local", "upstream_addr",
        "realip_remote_addr", "realip_remote_port",
    ]

    // MARK: What a target is

    private func target(_ template: NginxTemplate, _ word: NginxWord, _ situation: Situation) -> NginxTarget? {
        let parts = template.parts
        let serverName = NginxTemplate.Part.variable("ssl_preread_server_name")
        if parts == [serverName, .literal(":"), .variable("server_port")] { return .serverName(.listener) }
        if parts.count == 2, parts[0] == serverName, case .literal(let rest) = parts[1], rest.hasPrefix(":") {
            guard let port = portRange(rest.dropFirst()), port.count == 1 else {
                values.expected("a port 1...65535 after the server name", word)
                return nil
            }
            return .serverName(.fixed(port.lowerBound))
        }
        if parts == [serverName] {
            values.findings.error(word.position, "`$ssl_preread_server_name` alone names no port: append `:443`")
            return nil
        }
        guard let text = template.writingOutPort(situation.port).literal else {
            values.findings.error(
                word.position, "a target built around the server name is not supported: use the name as it is")
            return nil
        }
        if text.isEmpty { return .refuse }
        if upstreams[text.lowercased()] != nil { return .cluster(text.lowercased()) }
        var whole = word
        whole.text = text
        if !text.contains(":"), IPAddress(text) == nil, !upstreams.isEmpty || !text.contains(".") {
            values.findings.error(
                word.position,
                "there is no `upstream` \(quoted(text)), and as an address it has no port"
                    + (nearestWord(to: text, among: upstreams.keys).map { "; did you mean \(quoted($0))?" } ?? ""))
            return nil
        }
        guard let endpoint = Endpoint(nginx: whole, values) else { return nil }
        return .cluster(endpoint.description)
    }
}

extension NginxTemplate {
    /// With `$server_port` as the text it is on one listener.
    fileprivate func writingOutPort(_ port: UInt16) -> NginxTemplate {
        NginxTemplate(parts: parts.map { $0 == .variable("server_port") ? .literal("\(port)") : $0 })
    }
}
