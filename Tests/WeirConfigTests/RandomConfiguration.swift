import WeirConfig
import WeirModel
import WeirNet

/// The same numbers for the same seed.
struct SeededNumbers {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x1234_5678_9abc_def1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_f491_4f6c_dd1d
    }

    mutating func number(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int((next() >> 11) % UInt64(range.upperBound - range.lowerBound + 1))
    }

    /// True once in `count` times.
    mutating func once(in count: Int) -> Bool { number(1...count) == 1 }

    mutating func one<Value>(of values: [Value]) -> Value { values[number(0...values.count - 1)] }
}

/// A configuration without faults, any part of which may have any value that the native format can say.
struct RandomConfiguration {
    private var numbers: SeededNumbers
    private(set) var configuration = Configuration()

    init(seed: UInt64) {
        numbers = SeededNumbers(seed)
        fill()
    }

    private mutating func fill() {
        for index in 0..<numbers.number(0...3) { configuration.sources.append(sourcePool(index)) }
        for index in 0..<numbers.number(1...4) { configuration.clusters.append(cluster(index)) }
        for index in 0..<numbers.number(1...4) { configuration.listeners.append(listener(index)) }
        for index in 0..<numbers.number(0...3) { policy(index) }
        for _ in 0..<numbers.number(0...2) {
            configuration.clientLabels.append(ClientLabels(labels(), addresses: blocks(0...3)))
        }
        configuration.destinations.allow = exemptions()
        configuration.destinations.deny = exemptions()
        fillResolver()
        if numbers.once(in: 2) { configuration.workerCount = numbers.number(1...256) }
        configuration.steering = numbers.one(of: SteeringChoice.allCases)
        configuration.splice = numbers.one(of: SpliceChoice.allCases)
        configuration.congestion = numbers.one(of: CongestionChoice.allCases)
        if numbers.once(in: 2) { configuration.admin = AdminSettings(address: socketAddress(0...65535)) }
        configuration.log.access = numbers.one(of: [.standardOutput, .none, .file("/" + text()), .file(text() + "/")])
        if numbers.once(in: 2) { configuration.limits.connections = numbers.number(1...100_000_000) }
        if numbers.once(in: 2) { configuration.limits.bufferByteCount = numbers.number(1 << 20...1 << 40) }
        configuration.limits.rate = rate()
        if numbers.once(in: 2) { configuration.drainDelay = time(0) }
        if numbers.once(in: 2) { configuration.drainTimeout = time(0) }
        if numbers.once(in: 2) { configuration.upgradeTimeout = time() }
        if numbers.once(in: 4) {
            var shadow = ShadowSettings(files: [text(), "/" + text()])
            if numbers.once(in: 2) { shadow.samples = RateLimit(numbers.number(1...1000), per: .seconds(60)) }
            configuration.shadow = shadow
        }
    }

    private mutating func fillResolver() {
        guard numbers.once(in: 2) else { return }
        for _ in 0..<numbers.number(0...2) { configuration.resolver.servers.append(socketAddress(1...65535)) }
        configuration.resolver.ttlMin = time(0)
        configuration.resolver.ttlMax = configuration.resolver.ttlMin + time()
        configuration.resolver.negativeTTL = time(0)
        configuration.resolver.staleTTL = time(0)
        configuration.resolver.timeout = time()
        configuration.resolver.families = numbers.one(of: [.both, .v4Only, .v6Only])
        configuration.resolver.cacheEntryCountMax = numbers.number(1...10_000_000)
    }

    // MARK: Parts

    private mutating func sourcePool(_ index: Int) -> SourcePool {
        var pool = SourcePool(name: name(index), addresses: sourceAddresses(0...3))
        pool.select = numbers.one(of: SourcePool.Select.allCases)
        if pool.addresses.isEmpty || numbers.once(in: 2) {
            pool.interface = numbers.one(of: ["eth0", "0", "null", "~"])
        }
        if numbers.once(in: 2) { pool.mark = UInt32(numbers.number(1...Int(UInt32.max))) }
        return pool
    }

    private mutating func cluster(_ index: Int) -> Cluster {
        var cluster = Cluster(name: name(index), endpoints: [])
        for _ in 0..<numbers.number(1...3) { cluster.endpoints.append(endpoint()) }
        cluster.balance = numbers.one(of: [.roundRobin, .sourceHash, .leastConnections, .random])
        cluster.upstream = upstream()
        if numbers.once(in: 2) { cluster.overprovisioningFactor = numbers.number(100...1000) }
        if numbers.once(in: 2) { cluster.activeCountMax = numbers.number(1...65535) }
        if numbers.once(in: 2) { cluster.slowStart = time() }
        if numbers.once(in: 2) { cluster.outlierDetection = outlierDetection() }
        if numbers.once(in: 2) { cluster.limits.connections = numbers.number(1...100_000_000) }
        if numbers.once(in: 2) { cluster.limits.pending = numbers.number(1...100_000_000) }
        cluster.limits.rate = rate()
        if numbers.once(in: 2) { cluster.connectionAgeMax = time() }
        cluster.onUnhealthy = liveSessions()
        cluster.onRemoved = liveSessions()
        cluster.privateNames = numbers.once(in: 2)
        if numbers.once(in: 2) { cluster.healthCheck = healthCheck() }
        return cluster
    }

    private mutating func endpoint() -> Endpoint {
        var endpoint = Endpoint(socketAddress(1...65535))
        if numbers.once(in: 2) { endpoint.host = .name(serverName()) }
        if numbers.once(in: 2) { return endpoint }
        endpoint.weight = numbers.number(1...65535)
        endpoint.priority = numbers.number(0...255)
        endpoint.isDown = numbers.once(in: 2)
        endpoint.maxFails = numbers.number(0...65535)
        endpoint.failTimeout = time()
        if numbers.once(in: 2) { endpoint.connectionsMax = numbers.number(1...100_000_000) }
        return endpoint
    }

    private mutating func outlierDetection() -> OutlierDetection {
        var outliers = OutlierDetection()
        if numbers.once(in: 3) { return outliers }
        outliers.consecutiveLocalOriginFailures = numbers.number(0...65535)
        outliers.interval = time()
        outliers.baseEjectionTime = .milliseconds(numbers.number(1...1_000_000))
        outliers.ejectionTimeMax = max(outliers.ejectionTimeMax, outliers.baseEjectionTime)
        if numbers.once(in: 2) {
            outliers.ejectionTimeMax = outliers.baseEjectionTime + .seconds(numbers.number(0...9))
        }
        outliers.ejectionPercentMax = numbers.number(0...100)
        outliers.minHealthPercent = numbers.number(0...100)
        return outliers
    }

    private mutating func healthCheck() -> HealthCheck {
        var check = HealthCheck(numbers.one(of: HealthCheck.Kind.allCases))
        if numbers.once(in: 3) { return check }
        check.interval = .milliseconds(numbers.number(10...86_400_000))
        check.timeout = min(check.interval, numbers.once(in: 2) ? check.timeout : time())
        check.fall = numbers.number(1...100)
        check.rise = numbers.number(1...100)
        check.jitter = numbers.number(0...50)
        if numbers.once(in: 2) { check.port = UInt16(numbers.number(1...65535)) }
        if check.kind == .tls || check.kind == .http, numbers.once(in: 2) { check.serverName = serverName() }
        guard check.kind == .http else { return check }
        check.path = numbers.one(of: ["/", "/healthz", "/?a=%20&b='\"#:{[*"])
        check.expected = numbers.one(of: [[200...399], [204...204], [100...599, 404...404]])
        return check
    }

    private mutating func upstream() -> UpstreamOptions {
        var options = UpstreamOptions()
        if numbers.once(in: 3) { return options }
        options.connectTimeout = time()
        options.connectTotal = numbers.once(in: 2) ? max(options.connectTotal, options.connectTimeout) : time()
        options.attempts = numbers.number(1...8)
        options.retriesEarlyClose = numbers.once(in: 2)
        if numbers.once(in: 2) {
            options.keepalive = TCPKeepalive(
                idle: .milliseconds(numbers.number(1000...32_767_000)), interval: .seconds(numbers.number(1...32767)),
                probes: numbers.number(1...127))
        }
        if numbers.once(in: 2) { options.sendProxy = sendProxy() }
        switch numbers.number(0...2) {
        case 0: options.sourceAddresses = sourceAddresses(1...3)
        case 1 where !configuration.sources.isEmpty: options.source = numbers.one(of: configuration.sources).name
        default: break
        }
        return options
    }

    private mutating func sendProxy() -> SendProxy {
        if numbers.once(in: 3) { return SendProxy(.v1) }
        var header = SendProxy(.v2)
        if numbers.once(in: 3) { return header }
        header.authority = numbers.once(in: 2)
        header.crc32c = numbers.once(in: 2)
        header.uniqueID = numbers.once(in: 2)
        header.alpn = numbers.once(in: 2)
        header.forwardedTLVs = Set(SendProxy.ForwardedTLV.allCases.filter { _ in numbers.once(in: 2) })
        for type in [UInt8(0xe0), 0xe9, 0xef] where numbers.once(in: 2) {
            header.custom.append(SendProxy.CustomTLV(type, text()))
        }
        header.padTo = numbers.one(of: [0, 512])
        return header
    }

    private mutating func listener(_ index: Int) -> Listener {
        // The addresses differ by their ports.
        var listener = Listener(name: name(index), address: socketAddress(1 + index * 1000...999 + index * 1000))
        if numbers.once(in: 4) { listener.address.ip = .v6Any }
        if numbers.once(in: 4) { listener.name = listener.address.description }
        listener.clients = clients()
        if numbers.once(in: 2) {
            listener.acceptProxy = AcceptProxy(from: blocks(1...3))
            listener.acceptProxy?.headerByteCountMax = numbers.number(16...65535)
            listener.acceptProxy?.acceptIPv4InTCP6 = numbers.once(in: 2)
        }
        listener.detect = numbers.one(of: [[], [.tls], [.http], [.tls, .http]])
        listener.hello.byteCountMax = numbers.one(of: [512, 1000, 16384, 65536])
        listener.hello.allowECH = numbers.once(in: 2)
        if numbers.once(in: 2) { listener.timeouts.preamble = time() }
        listener.timeouts.hello = min(listener.timeouts.hello, listener.timeouts.preamble)
        if numbers.once(in: 2) { listener.timeouts.hello = min(time(), listener.timeouts.preamble) }
        if numbers.once(in: 2) { listener.timeouts.idle = time() }
        if numbers.once(in: 2) { listener.timeouts.halfClose = time() }
        if numbers.once(in: 2) { listener.timeouts.session = time() }
        if numbers.once(in: 2) { listener.limits.connections = numbers.number(1...100_000_000) }
        if numbers.once(in: 2) { listener.limits.connectionsPerClient = numbers.number(1...1_000_000) }
        listener.limits.rate = rate()
        listener.limits.ratePerClient = rate()
        listener.halfClose = numbers.once(in: 2)
        listener.backlog = numbers.number(1...65535)
        listener.takesIPv4 = listener.address.ip == .v6Any && numbers.once(in: 2)
        for index in 0..<numbers.number(1...4) { listener.routes.append(route(index, in: listener)) }
        return listener
    }

    private mutating func clients() -> ClientPolicy {
        switch numbers.number(0...4) {
        case 0: return .privateNetworks
        case 1: return .allowing(blocks(0...3))
        case 2: return .everyone
        case 3:
            let rest = numbers.one(of: [ClientPolicy.privateNetworks, .allowing(blocks(0...2)), .everyone])
            let denied = blocks(1...2).map { ClientPolicy.Rule(allow: false, block: $0) }
            return ClientPolicy(rules: denied + rest.rules, otherwiseAllow: rest.otherwiseAllow)
        default:
            let rules = blocks(0...5).map { ClientPolicy.Rule(allow: numbers.once(in: 2), block: $0) }
            return ClientPolicy(rules: rules, otherwiseAllow: numbers.once(in: 2))
        }
    }

    private mutating func route(_ index: Int, in listener: Listener) -> Route {
        var match = RouteMatch(
            serverNames: patterns(), clients: blocks(0...2), alpn: (0..<numbers.number(0...2)).map { _ in text() })
        let action: RouteAction
        match.destinations = blocks(0...2)
        if !match.destinations.isEmpty { match.exceptDestinations = blocks(0...2) }
        for _ in 0..<numbers.number(0...2) {
            let low = UInt16(numbers.number(1...65535))
            match.destinationPorts.append(low...UInt16(numbers.number(Int(low)...65535)))
        }
        switch numbers.number(0...5) {
        case 4: action = .originalDestination(upstream())
        case 5:
            let clusters = configuration.clusters.map(\.name)
            var shares = [ClusterShare(cluster: numbers.one(of: clusters), weight: numbers.number(1...1_000_000))]
            for _ in 0..<numbers.number(0...2) {
                shares.append(ClusterShare(cluster: numbers.one(of: clusters), weight: numbers.number(0...2)))
            }
            action = .split(shares)
        case 0 where !listener.detect.isEmpty || listener.acceptProxy != nil:
            // Any name for anybody has to be asked for by a pattern.
            if match.serverNames.isEmpty { match.serverNames = [.any] }
            let port = DynamicForward.Port.fixed(UInt16(numbers.number(1...65535)))
            action = .forward(DynamicForward(port: numbers.one(of: [port, .listener]), upstream: upstream()))
        case 1 where listener.acceptProxy != nil: action = .proxyDestination(upstream())
        case 2: action = .deny(numbers.one(of: [.unrecognizedName, .accessDenied, .reset, .close]))
        default: action = .cluster(numbers.one(of: configuration.clusters).name)
        }
        var route = Route(name: numbers.once(in: 3) ? "route-\(index + 1)" : name(index), match: match, action: action)
        route.onRemoved = liveSessions()
        if case .deny = action { return route }
        if numbers.once(in: 2) { route.limits.connections = numbers.number(1...100_000_000) }
        if numbers.once(in: 2) { route.limits.connectionsPerClient = numbers.number(1...1_000_000) }
        route.limits.rate = rate()
        route.limits.ratePerClient = rate()
        return route
    }

    private mutating func policy(_ index: Int) {
        var match = Policy.Match()
        match.clients = blocks(0...2)
        if numbers.once(in: 2) { match.clientLabels = labels() }
        match.serverNames = patterns()
        match.destinations = blocks(0...2)
        if !match.destinations.isEmpty { match.exceptDestinations = blocks(0...2) }
        let action: Policy.Action
        if let gateways = configuration.clusters.first(where: { $0.upstream.sendProxy != nil }), numbers.once(in: 2) {
            action = .gateways(gateways.name)
        } else if let source = configuration.sources.first {
            action = numbers.once(in: 3) ? .route : .source(source.name)
        } else {
            action = .route
        }
        configuration.policies.append(Policy(name: name(index), match: match, action: action))
    }

    // MARK: Values

    /// One that no other index has.
    private mutating func name(_ index: Int) -> String { text() + "\(index)" }

    /// 1...64 bytes that a writer may get wrong.
    private mutating func text() -> String {
        let pieces = [
            "a", "egress", "api.partner.com:443", "*", "*.x", "&a", "null", "~", "true", "No", "off", "443", "1e3",
            "0x10",
            "1:30", "1.5", "2001-12-14", "2001:db8::1", "12:30:45.6", "outbound|443||a.b", " ", "  a", "a ", "a: b",
            "a:",
            "a #b", "#a", "- a", "-", "?", "! a", "%a", "@a", "`a`", "'a'", "\"a\"", "\\", "\\n", "\n", "a\nb\n", "\t",
            "\r\n", "\u{0}", "\u{1}", "\u{7f}", "\u{85}", "\u{a0}", "\u{2028}", "\u{202e}", "\u{feff}", "\u{fffe}", "é",
            "日本", "🦊", "👩‍👩‍👧", "[a]", "{a: b}", "a,b", "|", ">", "<<", "---", "...", "=", "y",
        ]
        return numbers.once(in: 2) ? numbers.one(of: pieces) : numbers.one(of: pieces) + numbers.one(of: pieces)
    }

    /// In milliseconds, none of which the format rounds.
    private mutating func time(_ least: Int = 1) -> Duration {
        let top = numbers.one(of: [10, 2000, 100_000, 10_000_000, 1_000_000_000])
        let unit = numbers.one(of: [1, 1000])
        return .milliseconds(numbers.number(least...top) * unit)
    }

    private mutating func rate() -> RateLimit? {
        if numbers.once(in: 2) { return nil }
        let period = numbers.one(of: [Duration.seconds(1), .seconds(60), .seconds(3600)])
        let burst = numbers.once(in: 2) ? nil : numbers.number(1...1_000_000)
        return RateLimit(numbers.number(1...1_000_000), per: period, burst: burst)
    }

    private mutating func liveSessions() -> LiveSessions { numbers.one(of: [.keep, .close, .drain(time())]) }

    private mutating func labels() -> [String: String] {
        var labels: [String: String] = [:]
        for index in 0..<numbers.number(1...3) { labels[name(index)] = numbers.one(of: ["", text()]) }
        return labels
    }

    private mutating func serverName() -> ServerName {
        let name = numbers.one(of: ["api.partner.com", "a", "null", "_x.y", "xn--bcher-kva.example", "true", "1.a"])
        guard let read = try? ServerName(name) else { preconditionFailure(name) }
        return read
    }

    private mutating func patterns() -> [ServerNamePattern] {
        (0..<numbers.number(0...3)).map { _ in
            numbers.one(of: [.exact(serverName()), .wildcard(serverName()), .any])
        }
    }

    private mutating func address() -> IPAddress {
        switch numbers.number(0...3) {
        case 0: IPAddress(v6High: next(), low: next())
        case 1: IPAddress(v6High: UInt64(numbers.number(0...1)) << 48, low: next() & 0xffff)
        case 2: IPAddress(v6High: 0, low: 0xffff_0000_0000 | next() >> 32)
        default: IPAddress(v4: UInt32(next() >> 32))
        }
    }

    private mutating func next() -> UInt64 { numbers.next() }

    private mutating func sourceAddresses(_ counts: ClosedRange<Int>) -> [IPAddress] {
        (0..<numbers.number(counts)).map { index in
            numbers.once(in: 2)
                ? IPAddress(10, 0, UInt8(index), UInt8(numbers.number(1...254)))
                : IPAddress(v6High: 0x2001_0db8 << 32, low: UInt64(index) << 32 | next() >> 40)
        }
    }

    private mutating func blocks(_ counts: ClosedRange<Int>) -> [CIDR] {
        (0..<numbers.number(counts)).map { _ in
            let address = address()
            return CIDR(address, prefixLength: numbers.number(0...address.bitCount))
        }
    }

    private mutating func exemptions() -> [DestinationPolicy.Exemption] {
        blocks(0...2).map { block in
            let low = UInt16(numbers.number(1...30000))
            let ports = numbers.one(of: [nil, low...low, low...UInt16(numbers.number(30000...65535))])
            return DestinationPolicy.Exemption(block, ports: ports)
        }
    }

    private mutating func socketAddress(_ ports: ClosedRange<Int>) -> SocketAddress {
        SocketAddress(address(), port: UInt16(numbers.number(ports)))
    }
}
