import WeirModel
import WeirNet

/// The `clusters` and `sources` sections.
extension NativeWriter {
    mutating func cluster(_ cluster: Cluster) -> YAMLOutput {
        let part = Provenance.part(cluster: cluster.name)
        var section = YAMLFields()
        section.add("name", .text(cluster.name))
        section.add("endpoints", .list(cluster.endpoints.map { endpoint($0, part) }))
        section.add("balance", cluster.balance.nativeText.map { .word($0) })
        section.add("overprovisioning_factor", cluster.overprovisioningFactor.map { .word("\($0)") })
        section.add("max_active_endpoints", cluster.activeCountMax.map { .word("\($0)") })
        section.add("slow_start", duration(cluster.slowStart, part))
        section.add("outlier_detection", cluster.outlierDetection.map { outlierDetection($0, part) })
        var limits = YAMLFields()
        limits.add("connections", cluster.limits.connections.map { .word("\($0)") })
        limits.add("pending", cluster.limits.pending.map { .word("\($0)") })
        addRate(cluster.limits.rate, part, to: &limits)
        section.add("limits", limits.mapping)
        section.add("max_connection_age", duration(cluster.connectionAgeMax, part))
        section.add("on_unhealthy", liveSessions(cluster.onUnhealthy, part))
        section.add("on_removed", liveSessions(cluster.onRemoved, part))
        addUpstream(cluster.upstream, part, to: &section)
        if cluster.privateNames { section.add("private_names", .word("allow")) }
        section.add("health_check", cluster.healthCheck.map { healthCheck($0, part) })
        return YAMLOutput.mapping(section.fields).block.commented(from(part))
    }

    private mutating func endpoint(_ endpoint: Endpoint, _ part: String) -> YAMLOutput {
        let own = Endpoint(host: endpoint.host, port: endpoint.port)
        let address = YAMLOutput.text(endpoint.description)
        if endpoint == own { return address }
        var section = YAMLFields()
        section.add("address", address)
        section.add("weight", number(endpoint.weight, unless: own.weight))
        section.add("priority", number(endpoint.priority, unless: own.priority))
        section.add("down", boolean(endpoint.isDown, unless: own.isDown))
        section.add("max_fails", number(endpoint.maxFails, unless: own.maxFails))
        section.add("fail_timeout", duration(endpoint.failTimeout, part, unless: own.failTimeout))
        section.add("max_connections", endpoint.connectionsMax.map { .word("\($0)") })
        return .mapping(section.fields)
    }

    private mutating func outlierDetection(_ outliers: OutlierDetection, _ part: String) -> YAMLOutput {
        let own = OutlierDetection()
        var section = YAMLFields()
        section.add(
            "consecutive_local_origin_failures",
            number(outliers.consecutiveLocalOriginFailures, unless: own.consecutiveLocalOriginFailures))
        section.add("interval", duration(outliers.interval, part, unless: own.interval))
        section.add("base_ejection_time", duration(outliers.baseEjectionTime, part, unless: own.baseEjectionTime))
        // What the reader takes where nothing is said.
        let longest = max(own.ejectionTimeMax, outliers.baseEjectionTime)
        section.add("max_ejection_time", duration(outliers.ejectionTimeMax, part, unless: longest))
        section.add("max_ejection_percent", number(outliers.ejectionPercentMax, unless: own.ejectionPercentMax))
        section.add("min_health_percent", number(outliers.minHealthPercent, unless: own.minHealthPercent))
        return .mapping(section.fields)
    }

    private mutating func healthCheck(_ check: HealthCheck, _ part: String) -> YAMLOutput {
        let own = HealthCheck(.tcp)
        var section = YAMLFields()
        section.add("type", word(check.kind, unless: own.kind))
        section.add("interval", duration(check.interval, part, unless: own.interval))
        // What the reader takes where nothing is said.
        section.add("timeout", duration(check.timeout, part, unless: min(own.timeout, check.interval)))
        section.add("fall", number(check.fall, unless: own.fall))
        section.add("rise", number(check.rise, unless: own.rise))
        section.add("jitter", number(check.jitter, unless: own.jitter))
        section.add("port", check.port.map { .word("\($0)") })
        section.add("server_name", check.serverName.map { .text($0.description) })
        if check.path != own.path { section.add("path", .text(check.path)) }
        if check.expected != own.expected { section.add("expected", .list(check.expected.map(statuses))) }
        return .mapping(section.fields)
    }

    private func statuses(_ range: ClosedRange<Int>) -> YAMLOutput {
        .word(range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)")
    }

    // MARK: Source pools

    mutating func sourcePool(_ pool: SourcePool) -> YAMLOutput {
        var section = YAMLFields()
        section.add("name", .text(pool.name))
        if !pool.addresses.isEmpty { section.add("addresses", addresses(pool.addresses)) }
        section.add("select", pool.select.nativeText.map { .word($0) })
        section.add("interface", pool.interface.map { .text($0) })
        if pool.mark != 0 { section.add("mark", .word("\(pool.mark)")) }
        return YAMLOutput.mapping(section.fields).block.commented(from(Provenance.part(source: pool.name)))
    }
}

extension Cluster.Balance {
    /// nil: the default.
    fileprivate var nativeText: String? {
        switch self {
        case .roundRobin: nil
        case .leastConnections: "least_connections"
        case .random: "random"
        case .sourceHash: "source_hash"
        }
    }
}

extension SourcePool.Select {
    /// nil: the default.
    fileprivate var nativeText: String? {
        switch self {
        case .leastPorts: nil
        case .roundRobin: "round_robin"
        case .clientHash: "client_hash"
        case .destinationHash: "destination_hash"
        }
    }
}
