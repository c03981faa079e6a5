import WeirModel
import WeirNet

/// How a host is connected to, as a DestinationRule says it: for all its ports, a subset or one port.
struct TrafficPolicy {
    struct LoadBalancer {
        let fields: ManifestFields
        /// Istio's default where nothing is said.
        var balance = Cluster.Balance.leastConnections
        var slowStart: Duration?
        /// Labels that a member has to have, one after the other, to be preferred: the more of them the better.
        var preferred: [(label: String, value: String)] = []
        /// Where `preferred` was read.
        var locality: ManifestFields?
    }

    struct ConnectionPool {
        var connectionsMax: Int?
        var pendingMax: Int?
        var connectTimeout: Duration?
        var keepalive: TCPKeepalive?
        var ageMax: Duration?
        /// Zero: never.
        var idle: Duration?
        let tcp: ManifestFields?
        let http: ManifestFields?
    }

    var loadBalancer: LoadBalancer?
    var connectionPool: ConnectionPool?
    var outliers: (detection: OutlierDetection, fields: ManifestFields)?
    var sendProxy: SendProxy?
    /// What holds at a port instead of all the rest.
    var ports: [UInt16: TrafficPolicy] = [:]

    /// This policy at a port, with what `narrower`, the policy of a subset, says instead.
    func merged(with narrower: TrafficPolicy?, port: UInt16) -> TrafficPolicy {
        var merged = ports[port] ?? self
        guard let narrower else { return merged }
        if let own = narrower.ports[port] { return own }
        merged.loadBalancer = narrower.loadBalancer ?? merged.loadBalancer
        merged.connectionPool = narrower.connectionPool ?? merged.connectionPool
        merged.outliers = narrower.outliers ?? merged.outliers
        merged.sendProxy = narrower.sendProxy ?? merged.sendProxy
        return merged
    }

    func apply(to cluster: inout Cluster, _ service: Service?) {
        if let loadBalancer {
            cluster.balance = loadBalancer.balance
        } else if cluster.balance == .roundRobin {
            // Istio's default where a rule speaks of the host and says nothing of balancing.
            cluster.balance = .leastConnections
        }
        cluster.slowStart = loadBalancer?.slowStart
        if let loadBalancer, !loadBalancer.preferred.isEmpty, let service {
            prioritize(&cluster, service, loadBalancer)
        }
        cluster.outlierDetection = outliers?.detection
        cluster.limits.connections = connectionPool?.connectionsMax
        cluster.limits.pending = connectionPool?.pendingMax
        cluster.connectionAgeMax = connectionPool?.ageMax
        if let timeout = connectionPool?.connectTimeout {
            cluster.upstream.connectTimeout = timeout
            cluster.upstream.connectTotal = max(cluster.upstream.connectTotal, timeout)
        }
        cluster.upstream.keepalive = connectionPool?.keepalive
        cluster.upstream.sendProxy = sendProxy
    }

    private func prioritize(_ cluster: inout Cluster, _ service: Service, _ loadBalancer: LoadBalancer) {
        if outliers != nil { return cluster.prioritize(by: loadBalancer.preferred, service) }
        guard let locality = loadBalancer.locality else { return }
        locality.say(
            locality.position(of: "failoverPriority"),
            "failoverPriority holds beside outlierDetection only, as in Istio: no endpoint goes before another")
    }

    /// Says what of it means nothing to a host without endpoints of its own: where its connections go, clients say.
    func reportWhatNeedsEndpoints(_ host: String) {
        let message = "has no effect on \(quoted(host)): it has no endpoints of its own, its clients say where they go"
        if let fields = loadBalancer?.fields { fields.unsupported(at: fields.position, message) }
        if let fields = outliers?.fields { fields.unsupported(at: fields.position, message) }
        connectionPool?.tcp?.unsupported("maxConnectionDuration", message)
        connectionPool?.http?.unsupported("http1MaxPendingRequests", message)
    }
}

extension Cluster {
    /// Puts endpoints into groups of priority by how many of the labels, in their order, their members have.
    fileprivate mutating func prioritize(by preferred: [(label: String, value: String)], _ service: Service) {
        for index in endpoints.indices {
            let labels = service.members.first { $0.host == endpoints[index].host }?.labels ?? [:]
            let matching = preferred.prefix { labels[$0.label] == $0.value }.count
            endpoints[index].priority = preferred.count - matching
        }
        // The groups are numbered without holes, as Istio numbers them.
        let used = Set(endpoints.map(\.priority)).sorted()
        for index in endpoints.indices { endpoints[index].priority = used.firstIndex(of: endpoints[index].priority)! }
    }
}

// MARK: Reading

extension TrafficPolicy {
    /// `own`: the labels of the workload that this process is; nil where nobody says.
    init(_ fields: ManifestFields, own: [String: String]?) {
        loadBalancer = fields.fields("loadBalancer").map { LoadBalancer($0, own: own) }
        connectionPool = fields.fields("connectionPool").map { ConnectionPool($0) }
        outliers = fields.fields("outlierDetection").map { (OutlierDetection(istio: $0), $0) }
        sendProxy = Self.sendProxy(fields)
        Self.checkTLS(fields)
        fields.unsupported("tunnel", "tunnels through HTTP CONNECT are not supported")
        fields.unsupported("retryBudget", "nothing is retried that has an HTTP request's meaning")
        for settings in fields.list("portLevelSettings") {
            guard let port = settings.fields("port")?.port("number") else {
                settings.error(settings.position, "port", "settings of a port have port.number")
                continue
            }
            ports[port] = TrafficPolicy(settings, own: own)
        }
    }

    private static func sendProxy(_ fields: ManifestFields) -> SendProxy? {
        guard let section = fields.fields("proxyProtocol") else { return nil }
        guard let version = section.text("version") else { return SendProxy(.v1) }
        switch version.value {
        case "V1": return SendProxy(.v1)
        case "V2": return SendProxy(.v2)
        default:
            section.error(version.position, "version", "expected V1 or V2, found \(quoted(version.value))")
            return nil
        }
    }

    private static func checkTLS(_ fields: ManifestFields) {
        guard let section = fields.fields("tls") else { return }
        let mode = section.text("mode")
        if let mode, mode.value != "DISABLE" {
            section.unsupported(
                "mode", "\(mode.value) would have the proxy begin TLS itself: bytes are passed on as they come")
        }
        section.passOver()
    }
}

extension TrafficPolicy.LoadBalancer {
    init(_ fields: ManifestFields, own: [String: String]?) {
        self.fields = fields
        readSimple(fields)
        readHash(fields)
        readWarmup(fields)
        if let locality = fields.fields("localityLbSetting") { readLocality(locality, own) }
    }

    private mutating func readSimple(_ fields: ManifestFields) {
        guard let word = fields.text("simple") else { return }
        switch word.value {
        case "ROUND_ROBIN": balance = .roundRobin
        case "LEAST_REQUEST", "LEAST_CONN", "UNSPECIFIED": balance = .leastConnections
        case "RANDOM": balance = .random
        case "PASSTHROUGH":
            fields.unsupported("simple", "PASSTHROUGH, to wherever the client was going, is not supported")
        default:
            fields.error(
                word.position, "simple",
                "expected ROUND_ROBIN, LEAST_REQUEST, RANDOM or PASSTHROUGH, found \(quoted(word.value))")
        }
    }

    private mutating func readWarmup(_ fields: ManifestFields) {
        guard fields.has("warmup") || fields.has("warmupDurationSecs") else { return }
        guard !fields.has("simple") || balance == .roundRobin else {
            for key in ["warmup", "warmupDurationSecs"] { fields.unsupported(key, "holds for ROUND_ROBIN only") }
            return
        }
        slowStart = fields.duration("warmupDurationSecs")
        if let warmup = fields.fields("warmup") {
            slowStart = warmup.duration("duration")
            warmup.unsupported("minimumPercent", "an endpoint begins with a tenth of its share")
            warmup.unsupported("aggression", "a share grows evenly")
        }
        if slowStart == .zero { slowStart = nil }
        // Of the two that Istio warms up with, the one that can.
        balance = .roundRobin
    }

    private mutating func readHash(_ fields: ManifestFields) {
        guard let hash = fields.fields("consistentHash") else { return }
        for key in ["httpHeaderName", "httpCookie", "httpQueryParameterName"] {
            hash.unsupported(key, "what is encrypted cannot be hashed: useSourceIp can")
        }
        // How large the table is makes no difference that anybody would see.
        hash.passOver("minimumRingSize", "ringHash", "maglev")
        if hash.boolean("useSourceIp") ?? false { balance = .sourceHash }
    }

    private mutating func readLocality(_ fields: ManifestFields, _ own: [String: String]?) {
        guard fields.boolean("enabled") ?? true else { return fields.passOver() }
        locality = fields
        let reason = "where this process is, nobody says: failoverPriority can be done"
        for key in ["distribute", "failover"] { fields.unsupported(key, reason) }
        for text in fields.texts("failoverPriority") {
            let parts = text.value.split(separator: "=", maxSplits: 1).map(String.init)
            if parts.count == 2 {
                preferred.append((parts[0], parts[1]))
            } else if let value = own?[text.value] {
                preferred.append((text.value, value))
            } else {
                fields.unsupported(
                    at: text.position,
                    "failoverPriority \(quoted(text.value)) compares with a label of this process, "
                        + "which `manifests.workload_labels` has not"
                )
            }
        }
    }
}

extension TrafficPolicy.ConnectionPool {
    init(_ fields: ManifestFields) {
        tcp = fields.fields("tcp")
        http = fields.fields("http")
        if let tcp {
            connectionsMax = tcp.integer("maxConnections", 0...Int(Int32.max)).flatMap { $0 == 0 ? nil : $0 }
            connectTimeout = Self.positive("connectTimeout", tcp)
            ageMax = Self.positive("maxConnectionDuration", tcp)
            idle = tcp.duration("idleTimeout")
            keepalive = tcp.fields("tcpKeepalive").map { TCPKeepalive(istio: $0) }
        }
        if let http { readHTTP(http) }
    }

    /// Of what is about requests, Envoy bounds by this one the connects that wait, TCP or not.
    private mutating func readHTTP(_ http: ManifestFields) {
        pendingMax = http.integer("http1MaxPendingRequests", 0...Int(Int32.max)).flatMap { $0 == 0 ? nil : $0 }
        for key in http.keys where key != "http1MaxPendingRequests" {
            http.unsupported(key, "is about HTTP requests, which a proxy that does not decrypt does not see")
        }
    }

    private static func positive(_ key: String, _ fields: ManifestFields) -> Duration? {
        guard let time = fields.duration(key) else { return nil }
        guard time >= .milliseconds(1) else {
            fields.error(fields.position(of: key), key, "is at least 1ms")
            return nil
        }
        return time
    }
}

extension TCPKeepalive {
    fileprivate init(istio fields: ManifestFields) {
        self.init()
        if let probes = fields.integer("probes", 0...Int(UInt32.max)), probes > 0 {
            self.probes = min(probes, Self.probesRange.upperBound)
        }
        func time(_ key: String) -> Duration? {
            fields.duration(key).flatMap { time in
                time == .zero ? nil : min(max(time, Self.timeRange.lowerBound), Self.timeRange.upperBound)
            }
        }
        idle = time("time") ?? idle
        interval = time("interval") ?? interval
    }
}

extension OutlierDetection {
    /// Failures to connect count as Envoy counts them: as gateway errors and 5xx, unless local failures are split off.
    fileprivate init(istio fields: ManifestFields) {
        self.init()
        func count(_ key: String) -> Int? { fields.integer(key, 0...Int(UInt32.max)) }
        func time(_ key: String, _ otherwise: Duration) -> Duration {
            guard let time = fields.duration(key) else { return otherwise }
            guard time < .milliseconds(1) else { return time }
            fields.error(fields.position(of: key), key, "is at least 1ms")
            return otherwise
        }
        let isSplit = fields.boolean("splitExternalLocalOriginErrors") ?? false
        let local = count("consecutiveLocalOriginFailures")
        let gateway = count("consecutiveGatewayErrors") ?? 0
        // What it was called before 2020.
        let errors = count("consecutive5xxErrors") ?? count("consecutiveErrors") ?? 5
        if isSplit {
            consecutiveLocalOriginFailures = local ?? 5
        } else {
            // 0 turns one of them off.
            consecutiveLocalOriginFailures = [gateway, errors].filter { $0 > 0 }.min() ?? 0
        }
        interval = time("interval", interval)
        baseEjectionTime = time("baseEjectionTime", baseEjectionTime)
        ejectionTimeMax = max(ejectionTimeMax, baseEjectionTime)
        ejectionPercentMax = fields.integer("maxEjectionPercent", 0...100) ?? ejectionPercentMax
        minHealthPercent = fields.integer("minHealthPercent", 0...100) ?? minHealthPercent
    }
}
