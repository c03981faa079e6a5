import WeirModel

/// What of a cluster decides which endpoint serves, and how many it serves.
extension NativeReader {
    func readChoice(_ section: NativeSection, into cluster: inout Cluster) {
        if let balance = section["balance"] {
            let choices: [(String, Cluster.Balance)] = [
                ("round_robin", .roundRobin), ("least_connections", .leastConnections), ("random", .random),
                ("source_hash", .sourceHash), ("maglev", .sourceHash),
            ]
            if let value = word(balance, choices) { cluster.balance = value }
        }
        if let node = section["overprovisioning_factor"] { cluster.overprovisioningFactor = integer(node, 100...1000) }
        if let node = section["max_active_endpoints"] { cluster.activeCountMax = integer(node, 1...65535) }
        if let node = section["slow_start"] { cluster.slowStart = duration(node) }
        if let node = section["outlier_detection"] { cluster.outlierDetection = outlierDetection(node) }
        if let node = section["limits"] { readLimits(node, &cluster.limits) }
        if let node = section["max_connection_age"] { cluster.connectionAgeMax = duration(node) }
        if let value = section["on_unhealthy"].flatMap(liveSessions) { cluster.onUnhealthy = value }
        if let value = section["on_removed"].flatMap(liveSessions) { cluster.onRemoved = value }
    }

    /// `keep`, `close` or `{ drain: 30s }`.
    func liveSessions(_ node: YAMLNode) -> LiveSessions? {
        let choices: [(String, LiveSessions)] = [("keep", .keep), ("close", .close)]
        switch node.content {
        case .mapping:
            guard let section = section(node, NativeSchema.drainOfSessions) else { return nil }
            return section["drain"].flatMap { duration($0) }.map { .drain($0) }
        case .scalar("drain", _):
            findings.error(node.position, "say for how long: { drain: 30s }")
            return nil
        default:
            return word(node, choices)
        }
    }

    private func outlierDetection(_ node: YAMLNode) -> OutlierDetection? {
        guard let section = section(node, NativeSchema.outlierDetection) else { return nil }
        var outliers = OutlierDetection()
        if let value = section["consecutive_local_origin_failures"].flatMap({ integer($0, 0...65535) }) {
            outliers.consecutiveLocalOriginFailures = value
        }
        if let value = section["interval"].flatMap({ duration($0) }) { outliers.interval = value }
        if let value = section["base_ejection_time"].flatMap({ duration($0) }) {
            outliers.baseEjectionTime = value
            // The default of the cap must not cut short the one ejection that was asked for.
            outliers.ejectionTimeMax = max(outliers.ejectionTimeMax, value)
        }
        if let value = section["max_ejection_time"].flatMap({ duration($0) }) { outliers.ejectionTimeMax = value }
        if let value = section["max_ejection_percent"].flatMap({ integer($0, 0...100) }) {
            outliers.ejectionPercentMax = value
        }
        if let value = section["min_health_percent"].flatMap({ integer($0, 0...100) }) {
            outliers.minHealthPercent = value
        }
        return outliers
    }

    private func readLimits(_ node: YAMLNode, _ limits: inout ClusterLimits) {
        guard let section = section(node, NativeSchema.clusterLimits) else { return }
        limits.connections = section["connections"].flatMap { integer($0, 1...100_000_000) }
        limits.pending = section["pending"].flatMap { integer($0, 1...100_000_000) }
        limits.rate = rate(section)
    }
}
