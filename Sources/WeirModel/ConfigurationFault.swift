import WeirNet

/// A contradiction inside a configuration that no single value shows: a missing cluster, a repeated name.
public struct ConfigurationFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The part at fault, in words a reader finds in the file: `listener "egress"`.
    public var part: String
    /// What is wrong and what was expected.
    public var message: String

    public init(part: String, message: String) {
        self.part = part
        self.message = message
    }

    public var description: String { "\(part): \(message)" }
}

extension Configuration {
    /// Every fault, in the order of the configuration; empty when it can be compiled and run.
    public func faults() -> [ConfigurationFault] {
        var found = FaultList()
        checkSources(&found)
        checkClusters(&found)
        checkListeners(&found)
        checkPolicies(&found)
        if resolver.ttlMin > resolver.ttlMax {
            found.add("resolver", "the least TTL, \(resolver.ttlMin), is above the greatest, \(resolver.ttlMax)")
        }
        found.addUnlessPositive(resolver.timeout, "resolver", "timeout")
        if let workerCount, !(1...256).contains(workerCount) {
            found.add("workers", "\(workerCount) is not in 1...256")
        }
        if let connections = limits.connections, connections < 1 {
            found.add("limits", "connections \(connections) lets nobody in")
        }
        limits.rate.check("limits", "rate", &found)
        return found.faults
    }

    /// What runs, but may not be meant: each listener through which anybody may reach any name, each policy for nobody.
    public func warnings() -> [ConfigurationFault] {
        var found = FaultList()
        for listener in listeners where listener.clients.admitsPublicAddresses {
            // By index: a copy of each route costs more than the question.
            for index in listener.routes.indices
            where listener.routes[index].forwardsAnyName && listener.routes[index].match.admitsPublicAddresses {
                found.add(
                    "listener \"\(listener.name)\", route \"\(listener.routes[index].name)\"",
                    "is an open proxy: clients with public addresses may reach any name")
            }
        }
        return found.faults + idlePolicies()
    }

    private func checkSources(_ found: inout FaultList) {
        var names: Set<String> = []
        for pool in sources {
            let part = "source \"\(pool.name)\""
            if !names.insert(pool.name).inserted { found.add(part, "this name is used twice") }
            pool.check(part, &found)
        }
    }

    private func checkClusters(_ found: inout FaultList) {
        let sourceNames = Set(sources.map(\.name))
        var names: Set<String> = []
        for cluster in clusters {
            let part = "cluster \"\(cluster.name)\""
            if cluster.name.isEmpty { found.add(part, "has no name") }
            if !names.insert(cluster.name).inserted { found.add(part, "this name is used twice") }
            if cluster.endpoints.isEmpty { found.add(part, "has no endpoint") }
            for endpoint in cluster.endpoints {
                if !(1...65535).contains(endpoint.weight) {
                    found.add(part, "weight \(endpoint.weight) is not in 1...65535")
                }
                if endpoint.port == 0 { found.add(part, "port 0 cannot be connected to") }
                if endpoint.priority < 0 { found.add(part, "priority \(endpoint.priority) is below 0") }
                if endpoint.maxFails < 0 { found.add(part, "max_fails \(endpoint.maxFails) is below 0") }
                if let connections = endpoint.connectionsMax, connections < 1 {
                    found.add(part, "max_connections \(connections) lets nobody through")
                }
            }
            cluster.checkChoice(part, &found)
            cluster.upstream.check(part, sourceNames, &found)
            cluster.healthCheck?.check(part, &found)
        }
    }

    private func checkListeners(_ found: inout FaultList) {
        if listeners.count > Self.listenerCountMax {
            found.add("listeners", "there are \(listeners.count), more than \(Self.listenerCountMax)")
        }
        let limitedCount = listeners.reduce(0) { $0 + $1.routes.count { $0.limits.isAny } }
        if limitedCount > Self.limitedRouteCountMax {
            found.add("listeners", "\(limitedCount) routes have limits, more than \(Self.limitedRouteCountMax)")
        }
        let clusterNames = Set(clusters.map(\.name))
        let sourceNames = Set(sources.map(\.name))
        var names: Set<String> = []
        var addresses: Set<String> = []
        for listener in listeners {
            let part = "listener \"\(listener.name)\""
            if listener.name.isEmpty { found.add(part, "has no name") }
            if !names.insert(listener.name).inserted { found.add(part, "this name is used twice") }
            for address in listener.addresses where address.port != 0 {
                if addresses.insert(address.description).inserted { continue }
                found.add(part, "\(address) is listened on twice")
            }
            listener.checkSettings(part, &found)
            if listener.routes.isEmpty { found.add(part, "has no route, so every client would be refused") }
            var routeNames: Set<String> = []
            routeNames.reserveCapacity(listener.routes.count)
            for index in listener.routes.indices {
                found.name("\(part), route \"\(listener.routes[index].name)\"") { part, found in
                    let isNew = routeNames.insert(listener.routes[index].name).inserted
                    if !isNew { found.add(part, "this name is used twice") }
                    listener.routes[index].check(part, in: listener, clusterNames, sourceNames, &found)
                }
            }
        }
    }
}

/// The faults found so far.
struct FaultList {
    private(set) var faults: [ConfigurationFault] = []

    mutating func add(_ part: String, _ message: String) {
        faults.append(ConfigurationFault(part: part, message: message))
    }

    /// What `check` finds gets the name of its part. That is made only then: of 10,000 parts hardly one has a fault.
    mutating func name(_ part: @autoclosure () -> String, of check: (_ part: String, inout FaultList) -> Void) {
        let first = faults.count
        check("", &self)
        if faults.count == first { return }
        let part = part()
        for index in first..<faults.count { faults[index].part = part }
    }

    mutating func addUnlessPositive(_ duration: Duration?, _ part: String, _ name: String) {
        if let duration, duration <= .zero { add(part, "the \(name) of \(duration) is over before it begins") }
    }
}

extension Cluster {
    /// What decides about the choice of an endpoint.
    func checkChoice(_ part: String, _ found: inout FaultList) {
        if let overprovisioningFactor, !(100...1000).contains(overprovisioningFactor) {
            found.add(part, "overprovisioning_factor \(overprovisioningFactor) is not in 100...1000")
        }
        if let activeCountMax, activeCountMax < 1 {
            found.add(part, "max_active_endpoints \(activeCountMax) lets nobody serve")
        }
        found.addUnlessPositive(slowStart, part, "slow_start")
        found.addUnlessPositive(connectionAgeMax, part, "max_connection_age")
        onUnhealthy.check(part, "on_unhealthy", &found)
        onRemoved.check(part, "on_removed", &found)
        if let connections = limits.connections, connections < 1 {
            found.add(part, "connections \(connections) lets nobody through")
        }
        if let pending = limits.pending, pending < 1 { found.add(part, "pending \(pending) lets nobody through") }
        limits.rate.check(part, "rate", &found)
        guard let outliers = outlierDetection else { return }
        if outliers.consecutiveLocalOriginFailures < 0 {
            found.add(part, "consecutive_local_origin_failures is below 0")
        }
        found.addUnlessPositive(outliers.interval, part, "interval")
        found.addUnlessPositive(outliers.baseEjectionTime, part, "base_ejection_time")
        if outliers.ejectionTimeMax > .seconds(86400 * 365) {
            found.add(part, "max_ejection_time is more than a year")
        }
        if outliers.ejectionTimeMax < outliers.baseEjectionTime {
            found.add(part, "max_ejection_time is below base_ejection_time")
        }
        for (name, percent) in [
            ("max_ejection_percent", outliers.ejectionPercentMax), ("min_health_percent", outliers.minHealthPercent),
        ] where !(0...100).contains(percent) {
            found.add(part, "\(name) \(percent) is not in 0...100")
        }
    }
}

extension Listener {
    func checkSettings(_ part: String, _ found: inout FaultList) {
        if let acceptProxy {
            if acceptProxy.from.isEmpty { found.add(part, "accept_proxy trusts nobody: list the peers in `from`") }
            if !(16...65535).contains(acceptProxy.headerByteCountMax) {
                found.add(part, "a PROXY header limit is 16...65535 bytes")
            }
        }
        if !(512...65536).contains(hello.byteCountMax) { found.add(part, "a hello limit is 512...65536 bytes") }
        found.addUnlessPositive(timeouts.preamble, part, "preamble timeout")
        found.addUnlessPositive(timeouts.hello, part, "hello timeout")
        found.addUnlessPositive(timeouts.idle, part, "idle timeout")
        found.addUnlessPositive(timeouts.halfClose, part, "half_close timeout")
        found.addUnlessPositive(timeouts.session, part, "session timeout")
        if let connections = limits.connections, connections < 1 {
            found.add(part, "connections \(connections) lets nobody in")
        }
        if let connections = limits.connectionsPerClient, !(1...1_000_000).contains(connections) {
            found.add(part, "connections per client, \(connections), is not in 1...1000000")
        }
        limits.rate.check(part, "rate", &found)
        limits.ratePerClient.check(part, "rate per client", &found)
    }
}

extension Route {
    /// Whether it takes connections to whatever name the client says, to where that name resolves.
    var forwardsAnyName: Bool {
        guard case .forward = action else { return false }
        return match.serverNames.isEmpty || match.serverNames.contains(.any)
    }

    func check(
        _ part: String, in listener: Listener, _ clusterNames: Set<String>, _ sourceNames: Set<String>,
        _ found: inout FaultList
    ) {
        for name in match.alpn where !(1...255).contains(name.utf8.count) {
            found.add(part, "an ALPN protocol has 1...255 bytes, this one \(name.utf8.count)")
        }
        match.checkDestinations(part, &found)
        limits.check(part, &found)
        if case .deny = action, limits.isAny { found.add(part, "denies whoever comes, so its limits have no effect") }
        onRemoved.check(part, "on_removed", &found)
        switch action {
        case .cluster(let name) where !clusterNames.contains(name):
            found.add(part, "there is no cluster \"\(name)\"")
        case .split(let shares):
            Self.check(shares, part, clusterNames, &found)
        case .forward(let forward):
            // A PROXY header may name the server where nothing else is read.
            if listener.detect.isEmpty, listener.acceptProxy == nil {
                found.add(part, "forwards to the server name, but the listener detects none")
            }
            if forward.port == .fixed(0) { found.add(part, "port 0 cannot be connected to") }
            // An open proxy has to be asked for twice: by the clients and by the names.
            if match.serverNames.isEmpty, match.admitsPublicAddresses, listener.clients.admitsPublicAddresses {
                found.add(
                    part,
                    "forwards any name for clients with public addresses: say `server_names: [\"*\"]` if that is meant")
            }
            forward.upstream.check(part, sourceNames, &found)
        case .proxyDestination(let upstream):
            if listener.acceptProxy == nil {
                found.add(part, "goes where the PROXY header says, but the listener has no accept_proxy")
            }
            upstream.check(part, sourceNames, &found)
        case .originalDestination(let upstream):
            upstream.check(part, sourceNames, &found)
        case .cluster, .deny:
            break
        }
    }

    private static func check(
        _ shares: [ClusterShare], _ part: String, _ clusterNames: Set<String>, _ found: inout FaultList
    ) {
        for share in shares {
            if !clusterNames.contains(share.cluster) { found.add(part, "there is no cluster \"\(share.cluster)\"") }
            if !ClusterShare.weightRange.contains(share.weight) {
                found.add(part, "weight \(share.weight) is not in 0...\(ClusterShare.weightRange.upperBound)")
            }
        }
        if shares.allSatisfy({ $0.weight == 0 }) { found.add(part, "has no cluster with a weight above 0") }
    }
}

extension RouteMatch {
    func checkDestinations(_ part: String, _ found: inout FaultList) {
        if destinations.isEmpty, !exceptDestinations.isEmpty {
            found.add(part, "excepts destinations of none: list the `destinations`")
        }
        for ports in destinationPorts where ports.lowerBound == 0 {
            found.add(part, "port 0 cannot be connected to")
        }
    }
}

extension RouteLimits {
    func check(_ part: String, _ found: inout FaultList) {
        if let connections, connections < 1 { found.add(part, "connections \(connections) lets nobody through") }
        if let connectionsPerClient, !(1...1_000_000).contains(connectionsPerClient) {
            found.add(part, "connections per client, \(connectionsPerClient), is not in 1...1000000")
        }
        rate.check(part, "rate", &found)
        ratePerClient.check(part, "rate per client", &found)
    }
}

extension LiveSessions {
    func check(_ part: String, _ name: String, _ found: inout FaultList) {
        if case .drain(let time) = self, time <= .zero {
            found.add(part, "\(name) drains for \(time), which is over before it begins")
        }
    }
}

extension TCPKeepalive {
    func check(_ part: String, _ found: inout FaultList) {
        for (name, time) in [("idle", idle), ("interval", interval)] where !Self.timeRange.contains(time) {
            found.add(part, "a keepalive's \(name), \(time), is not in 1 s...32767 s")
        }
        if !Self.probesRange.contains(probes) { found.add(part, "a keepalive's probes, \(probes), are not in 1...127") }
    }
}

extension UpstreamOptions {
    func check(_ part: String, _ sourceNames: Set<String>, _ found: inout FaultList) {
        if !(1...8).contains(attempts) { found.add(part, "attempts \(attempts) is not in 1...8") }
        found.addUnlessPositive(connectTimeout, part, "connect timeout")
        found.addUnlessPositive(connectTotal, part, "connect total")
        if let source {
            if !sourceNames.contains(source) { found.add(part, "there is no source \"\(source)\"") }
            if !sourceAddresses.isEmpty { found.add(part, "has both a source and source addresses") }
        }
        SourcePool.check(sourceAddresses, part, &found)
        sendProxy?.check(part, &found)
        keepalive?.check(part, &found)
    }
}

extension SendProxy {
    func check(_ part: String, _ found: inout FaultList) {
        if version == .v1, needsV2 { found.add(part, "asks of a PROXY v1 header what only v2 has") }
        if custom.count > Self.customCountMax {
            found.add(part, "has \(custom.count) custom TLVs; \(Self.customCountMax) are the most")
        }
        for (index, tlv) in custom.enumerated() {
            if !CustomTLV.typeRange.contains(tlv.type) { found.add(part, "a custom TLV's type is not in 0xE0...0xEF") }
            if custom[..<index].contains(where: { $0.type == tlv.type }) { found.add(part, "has a custom TLV twice") }
            if !(1...CustomTLV.byteCountMax).contains(tlv.text.utf8.count) {
                found.add(part, "a custom TLV has 1...\(CustomTLV.byteCountMax) bytes, this one \(tlv.text.utf8.count)")
            }
        }
        if !(0...Self.padToMax).contains(padTo) { found.add(part, "a header is padded to 0...\(Self.padToMax) bytes") }
    }
}

extension RouteMatch {
    var admitsPublicAddresses: Bool {
        clients.isEmpty || ClientPolicy.allowing(clients).admitsPublicAddresses
    }
}

extension ClientPolicy {
    /// Whether some address outside private space may connect. May answer true where several narrower denials together
    /// leave none.
    var admitsPublicAddresses: Bool {
        for family in [IPAddress.Family.v4, .v6] where admitsPublicAddresses(of: family) { return true }
        return false
    }

    private func admitsPublicAddresses(of family: IPAddress.Family) -> Bool {
        for rule in rules {
            let block = rule.block.unmapped
            guard block.base.family == family else { continue }
            if rule.allow, !Self.isPrivate(block) { return true }
            if block.prefixLength == 0 { return false }
        }
        return otherwiseAllow
    }

    private static func isPrivate(_ block: CIDR) -> Bool {
        let linkLocalAndShared = [
            CIDR(IPAddress(169, 254, 0, 0), prefixLength: 16),
            CIDR(IPAddress(100, 64, 0, 0), prefixLength: 10),
            CIDR(IPAddress(v6High: 0xfe80 << 48, low: 0), prefixLength: 10),
        ]
        return (privateNetworks.rules.map(\.block) + linkLocalAndShared).contains {
            $0.prefixLength <= block.prefixLength && $0.contains(block.base)
        }
    }
}
