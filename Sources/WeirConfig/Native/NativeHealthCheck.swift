import WeirModel
import WeirNet

/// `health_check` of a cluster.
extension NativeReader {
    /// Keys that only some kinds look at, and these kinds.
    private static let keysOfKinds: [(key: String, kinds: [HealthCheck.Kind], words: String)] = [
        ("server_name", [.tls, .http], "tls or http"), ("path", [.http], "http"), ("expected", [.http], "http"),
    ]

    func healthCheck(_ node: YAMLNode) -> HealthCheck? {
        guard let section = section(node, NativeSchema.healthCheck) else { return nil }
        var check = HealthCheck(.tcp)
        if let node = section["type"] {
            guard let kind = word(node, HealthCheck.Kind.allCases.map({ ($0.rawValue, $0) })) else { return nil }
            check.kind = kind
        }
        readTimes(section, &check)
        if let value = section["fall"].flatMap({ integer($0, HealthCheck.countRange) }) { check.fall = value }
        if let value = section["rise"].flatMap({ integer($0, HealthCheck.countRange) }) { check.rise = value }
        if let value = section["jitter"].flatMap({ integer($0, HealthCheck.jitterRange) }) { check.jitter = value }
        check.port = section["port"].flatMap(port)
        for (key, kinds, words) in Self.keysOfKinds where !kinds.contains(check.kind) {
            if let node = section[key] {
                findings.error(node.position, "\(quoted(key)) has no effect: it is for `type: \(words)`")
            }
        }
        check.serverName = section["server_name"].flatMap(serverName)
        if let value = section["path"].flatMap(path) { check.path = value }
        if let node = section["expected"], let ranges = items(node, of: "statuses such as 200 or 200-299", statuses) {
            if node.isEmptyCollection { expected("at least one status", node) }
            if !ranges.isEmpty { check.expected = ranges }
        }
        return check
    }

    private func readTimes(_ section: NativeSection, _ check: inout HealthCheck) {
        if let node = section["interval"], let value = duration(node) {
            if HealthCheck.intervalRange.contains(value) {
                check.interval = value
            } else {
                expected("an interval of 10ms...1d", node)
            }
        }
        // The default must not be longer than the interval that was asked for.
        check.timeout = min(check.timeout, check.interval)
        if let node = section["timeout"], let value = duration(node) {
            if value <= check.interval {
                check.timeout = value
            } else {
                findings.error(node.position, "a health check's timeout cannot be longer than its interval")
            }
        }
    }

    private func serverName(_ node: YAMLNode) -> ServerName? {
        guard let text = text(node, "a server name") else { return nil }
        do throws(ServerName.Refusal) {
            return try ServerName(text)
        } catch {
            findings.error(node.position, "\(quoted(text)) is no server name: \(error.explanation)")
            return nil
        }
    }

    private func path(_ node: YAMLNode) -> String? {
        guard let text = text(node, "a path such as /healthz") else { return nil }
        guard HealthCheck.isPath(text) else {
            expected("a path: a `/` and at most 1023 visible ASCII characters", node)
            return nil
        }
        return text
    }

    /// `200` or `200-299`.
    private func statuses(_ node: YAMLNode) -> ClosedRange<Int>? {
        if case .scalar(let text, _) = node.content {
            let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { decimal($0) }
            if let low = ends[0], let high = ends[ends.count - 1], ends.count <= 2, low <= high,
                HealthCheck.statusRange.contains(low), HealthCheck.statusRange.contains(high)
            {
                return low...high
            }
        }
        expected("a status 100...599, or a range such as 200-299", node)
        return nil
    }
}
