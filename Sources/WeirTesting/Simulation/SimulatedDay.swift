import Glibc
import WeirModel
import WeirNet
import WeirUpstream
import WeirWire

/// What a client finds at the end of its session.
enum SimulatedOutcome: Hashable {
    case relayed
    case alert(TLSAlert)
    /// A status line of HTTP/1.1.
    case http(Int)
    /// FIN without a byte.
    case end
    /// RST without a byte.
    case reset
}

/// What a seed has chosen: the configuration, who lives where, the names, the faults, the orders in between.
struct SimulatedDay {
    enum Host {
        case live(ClosedRange<UInt64>)
        case refusing
        case unreachable
        case silent
        case resetting
        /// Any of the others, each time anew.
        case moody
    }

    struct Name {
        var delay: ClosedRange<UInt64>
        /// nil: never.
        var answer: Answer?
        /// Told apart from what the connects add.
        var outcomes: Set<SimulatedOutcome>
        /// Some of its addresses may not be connected to.
        var isGuarded = false
    }

    enum Order {
        case reload
        case removeListener
        case addListener
        case jump(UInt64)
        /// Checks say something of some endpoint.
        case check
        /// The live sessions of an endpoint, or of a route, end.
        case endEndpoint
        case endRoute
        case drain
        case endSessions
        case stop
    }

    private(set) var random: SimulatedRandom
    /// Added to a client's number it owns the client's bytes.
    let contentOwner: UInt64
    private(set) var faults: SimulatedFaults
    private(set) var sizes = SimulatedProxy.Sizes()
    private(set) var configuration = Configuration()
    private(set) var hosts: [SocketAddress: Host] = [:]
    /// PROXY headers that hosts are sent.
    private(set) var headers: [SocketAddress: SendProxy] = [:]
    private(set) var names: [ServerName: Name] = [:]
    /// Names that the dynamic forward of a listener takes.
    private(set) var forwardNames: [String] = []
    /// What may come of each cluster.
    private(set) var clusterOutcomes: [String: Set<SimulatedOutcome>] = [:]
    private(set) var orders: [(at: UInt64, order: Order)] = []
    private(set) var sessionCount = 0
    /// Clients come within so many nanoseconds.
    private(set) var spread: UInt64 = 0
    private(set) var descriptorLimit = Int.max
    /// Some far ends may be unhealthy; per thousand.
    private(set) var unhealthy = 0

    private(set) var answersTwice = false
    /// Far ends that reset whoever they have accepted; per thousand.
    private(set) var slamming = 0

    static let peers = CIDR(IPAddress(10, 1, 0, 0), prefixLength: 16)

    init(seed: UInt64) {
        random = SimulatedRandom(seed: seed)
        contentOwner = seed << 16
        faults = random.chance(100) ? SimulatedFaults() : SimulatedFaults(random: &random)
        sessionCount = random.between(4, 24)
        spread = random.pick([0, 5_000_000, 100_000_000, 1_000_000_000])
        unhealthy = random.pick([0, 0, 100, 300, 600])
        slamming = random.pick([0, 0, 0, 0, 0, 100, 300])
        chooseSizes()
        addClusters()
        addNames()
        addListeners()
        addOrders()
        precondition(configuration.faults().isEmpty, "\(configuration.faults())")
    }

    private mutating func chooseSizes() {
        sizes.largeBufferCount = random.pick([2, 4, 8, 32, 64])
        sizes.bufferRingCount = random.pick([2, 8, 64])
        sizes.blockCount = random.chance(100) ? random.between(1, 6) : 512
        sizes.sessionCapacity = random.chance(100) ? random.between(2, 6) : 64
        sizes.sessionCountMax = sizes.sessionCapacity
        sizes.answerCapacity = random.pick([4, 64])
        sizes.workerCount = random.chance(250) ? random.between(2, 3) : 1
        // Small, or no direction would ever prove to be bulk.
        sizes.bulkByteCount = random.pick([1, 16, 256, 4096, .max])
        sizes.bulkReceiveCount = UInt8(random.pick([1, 2, 8]))
        answersTwice = random.chance(100)
        if random.chance(100) { descriptorLimit = random.between(6, 20) }
        if random.chance(100) { clientLimit = random.between(1, 10) }
        if random.chance(50) {
            configuration.limits.rate = RateLimit(random.between(1, 20), burst: random.between(1, 12))
        }
    }

    /// Clusters, endpoints and routes take so few sessions that some may be refused for it.
    private(set) var hasBreakers = false

    /// Something is so scarce that sessions may be refused for it.
    var isCrowded: Bool {
        sizes.blockCount < 128 || sizes.sessionCapacity < 32 || descriptorLimit < .max
            || configuration.limits.rate != nil
            || configuration.listeners.contains { $0.limits.connections != nil || $0.limits.rate != nil }
    }
    /// Clients may wait to be accepted, for want of descriptors or memory.
    var mayPauseAccepting: Bool { descriptorLimit < .max || faults.noDescriptor > 0 || faults.noMemory > 0 }
    /// Clients share an address, and a listener takes so many sessions of it; nil: each has its own.
    private(set) var clientLimit: Int?

    // MARK: Clusters

    private mutating func address(_ octets: (UInt8, UInt8, UInt8), _ index: Int, port: UInt16 = 443) -> SocketAddress {
        SocketAddress(IPAddress(octets.0, octets.1, octets.2, UInt8(index + 1)), port: port)
    }

    private mutating func liveHost() -> Host { .live(50_000...UInt64(random.pick([100_000, 5_000_000, 60_000_000]))) }

    private mutating func deadHost() -> Host { random.pick([.refusing, .unreachable, .silent, .resetting, .moody]) }

    private mutating func options() -> UpstreamOptions {
        var options = UpstreamOptions()
        options.connectTimeout = .milliseconds(random.pick([200, 500]))
        options.connectTotal = .milliseconds(1500)
        options.attempts = random.between(1, 4)
        switch random.below(4) {
        case 0: options.sendProxy = SendProxy(.v1)
        case 1:
            var header = SendProxy(.v2)
            header.authority = random.chance(500)
            header.crc32c = random.chance(500)
            header.uniqueID = random.chance(500)
            header.alpn = random.chance(500)
            options.sendProxy = header
        default: break
        }
        if random.chance(200) { options.sourceAddresses = [IPAddress(192, 0, 2, 77), IPAddress(192, 0, 2, 78)] }
        return options
    }

    private mutating func chooseBalance(of cluster: inout Cluster) {
        cluster.balance = random.pick([.roundRobin, .leastConnections, .random, .sourceHash])
        if random.chance(200) { cluster.overprovisioningFactor = 140 }
        if random.chance(100) { cluster.slowStart = .milliseconds(500) }
        if random.chance(100) { cluster.connectionAgeMax = .seconds(8) }
        if random.chance(300) {
            var outliers = OutlierDetection()
            outliers.consecutiveLocalOriginFailures = random.between(1, 3)
            outliers.baseEjectionTime = .milliseconds(random.between(50, 500))
            outliers.interval = .milliseconds(300)
            outliers.ejectionPercentMax = random.pick([10, 100])
            outliers.minHealthPercent = random.pick([0, 50])
            cluster.outlierDetection = outliers
        }
        guard hasBreakers else { return }
        if random.chance(300) { cluster.limits.connections = random.between(1, 6) }
        if random.chance(300) { cluster.limits.pending = random.between(1, 3) }
        if random.chance(300) { cluster.limits.rate = RateLimit(random.between(1, 20), burst: random.between(1, 4)) }
        for index in cluster.endpoints.indices where random.chance(500) {
            cluster.endpoints[index].connectionsMax = random.between(1, 3)
        }
    }

    private mutating func addClusters() {
        hasBreakers = random.chance(150)
        for (number, name) in ["solid", "shaky", "dead"].enumerated() {
            var endpoints: [Endpoint] = []
            let options = options()
            for index in 0..<random.between(name == "shaky" ? 2 : 1, 4) {
                let place = address((10, 9, UInt8(number)), index, port: 8443)
                let isDead = name == "dead" || (name == "shaky" && index % 2 == 0)
                hosts[place] = isDead ? deadHost() : liveHost()
                if case .moody? = hosts[place], name == "dead" { hosts[place] = .refusing }
                if let header = options.sendProxy { headers[place] = header }
                var endpoint = Endpoint(host: .address(place.ip), port: place.port)
                endpoint.weight = random.between(1, 3)
                endpoint.priority = random.below(2)
                endpoint.failTimeout = .milliseconds(random.between(100, 3000))
                endpoints.append(endpoint)
            }
            var cluster = Cluster(name: name, endpoints: endpoints)
            cluster.upstream = options
            chooseBalance(of: &cluster)
            configuration.clusters.append(cluster)
        }
        // Endpoints that have a name.
        var cluster = Cluster(
            name: "named", endpoints: [Endpoint(host: .name(Self.name("back.named.test")), port: 443)])
        cluster.upstream = options()
        configuration.clusters.append(cluster)
        clusterOutcomes = [
            "solid": [.relayed], "shaky": [.relayed, .alert(.internalError), .http(502)],
            "dead": [.alert(.internalError), .http(502)],
        ]
    }

    static func name(_ text: String) -> ServerName {
        guard let name = try? ServerName(text) else { preconditionFailure("not a name: \(text)") }
        return name
    }

    // MARK: Names

    private mutating func addNames() {
        let unreachable: Set<SimulatedOutcome> = [.alert(.internalError), .http(502)]
        let denied: Set<SimulatedOutcome> = [.alert(.accessDenied), .http(403)]
        let never = Instant(nanoseconds: 1 << 60)
        func failure(_ status: AnswerStatus) -> Answer { Answer(status, expires: Instant(nanoseconds: 0)) }
        let forward = options()
        forwardOptions = forward

        func add(_ text: String, _ name: Name, forwarded: Bool = true) {
            names[Self.name(text)] = name
            if forwarded { forwardNames.append(text) }
        }
        let quick: ClosedRange<UInt64> = random.pick([
            0...0, 0...200_000, 100_000...30_000_000, 20_000_000...300_000_000,
        ])
        for index in 0..<3 {
            var addresses = ResolvedAddresses()
            var isSolid = true
            var hasV4 = false
            for position in 0..<random.between(1, 3) {
                let isV6 = random.chance(300)
                let place =
                    isV6
                    ? SocketAddress(
                        IPAddress(v6High: 0x2600_0000_0000_0000 | UInt64(index), low: UInt64(position + 1)), port: 443)
                    : address((203, 0, 114), index * 4 + position)
                let isDead = random.chance(300)
                isSolid = isSolid && !isDead
                hasV4 = hasV4 || !isV6
                hosts[place] = isDead ? deadHost() : liveHost()
                if let header = forward.sendProxy { headers[place] = header }
                addresses.append(place.ip)
            }
            // With a source address of IPv4 only, names with IPv6 only cannot be reached.
            if !hasV4 && !forward.sourceAddresses.isEmpty { isSolid = false }
            let isGuarded = random.chance(200)
            if isGuarded { addresses.append(IPAddress(10, 0, 0, UInt8(index + 1))) }
            let expires = random.pick([never, Instant(nanoseconds: 1_500_000_000), Instant(nanoseconds: 0)])
            add(
                "n\(index).forward.test",
                Name(
                    delay: quick, answer: Answer(status: .found, addresses: addresses, expires: expires),
                    outcomes: isSolid ? [.relayed] : unreachable.union(denied).union([.relayed]), isGuarded: isGuarded))
        }
        // Two families that connect at about the same time (RFC 8305).
        var twin = ResolvedAddresses()
        for (place, delay) in [
            (SocketAddress(IPAddress(v6High: 0x2600_0000_0000_00ff, low: 1), port: 443), UInt64(250_000_000)),
            (address((203, 0, 114), 40), UInt64(1_000_000)),
        ] {
            hosts[place] = .live(delay - min(delay, 10_000_000)...delay + 10_000_000)
            if let header = forward.sendProxy { headers[place] = header }
            twin.append(place.ip)
        }
        add(
            "twin.forward.test",
            Name(
                delay: quick, answer: Answer(status: .found, addresses: twin, expires: never),
                outcomes: unreachable.union([.relayed])))
        var hostile = ResolvedAddresses()
        var guarded = Self.guarded
        guarded.shuffle(using: &random)
        for address in guarded.prefix(random.between(1, guarded.count)) { hostile.append(address) }
        add(
            "evil.forward.test",
            Name(
                delay: quick, answer: Answer(status: .found, addresses: hostile, expires: never), outcomes: denied,
                isGuarded: true))
        // As many as an answer may hold, good and bad.
        var crowd = ResolvedAddresses()
        for address in guarded.prefix(random.below(5)) { crowd.append(address) }
        while crowd.count < ResolvedAddresses.countMax {
            let place = address((203, 0, 115), crowd.count)
            hosts[place] = random.chance(500) ? liveHost() : deadHost()
            if let header = forward.sendProxy { headers[place] = header }
            crowd.append(place.ip)
        }
        add(
            "crowd.forward.test",
            Name(
                delay: quick, answer: Answer(status: .found, addresses: crowd, expires: never),
                outcomes: unreachable.union(denied).union([.relayed]), isGuarded: true))
        add(
            "nx.forward.test",
            Name(delay: quick, answer: failure(.noSuchName), outcomes: [.alert(.unrecognizedName), .http(502)]))
        add(
            "empty.forward.test",
            Name(delay: quick, answer: failure(.noAddress), outcomes: [.alert(.unrecognizedName), .http(502)]))
        add("busy.forward.test", Name(delay: quick, answer: failure(.refusedTooMany), outcomes: unreachable))
        add("fail.forward.test", Name(delay: quick, answer: failure(.serverFailure), outcomes: unreachable))
        add(
            "late.forward.test",
            Name(
                delay: random.pick([5_000_000...100_000_000, 1_000_000_000...6_000_000_000]),
                answer: Answer(status: .found, addresses: hostile, expires: never),
                outcomes: unreachable.union(denied)))
        add("mute.forward.test", Name(delay: quick, answer: nil, outcomes: unreachable))

        var back = ResolvedAddresses()
        for index in 0..<2 {
            let place = address((198, 51, 102), index)
            hosts[place] = liveHost()
            if let header = configuration.clusters[3].upstream.sendProxy { headers[place] = header }
            back.append(place.ip)
        }
        add(
            "back.named.test",
            Name(delay: quick, answer: Answer(status: .found, addresses: back, expires: never), outcomes: [.relayed]),
            forwarded: false)
        clusterOutcomes["named"] = [.relayed]
    }

    private var forwardOptions = UpstreamOptions()

    /// What no name may lead to: metadata, loopback, ourselves, private and other special blocks, and their disguises.
    private static let guarded = [
        IPAddress(169, 254, 169, 254), .v4Loopback, IPAddress(10, 9, 0, 1), .v6Loopback, IPAddress(10, 0, 0, 1),
        IPAddress(0, 0, 0, 0), IPAddress(100, 64, 0, 1), IPAddress(192, 168, 0, 1), IPAddress(224, 0, 0, 1),
        // ::ffff:127.0.0.1, fe80::1, fc00::1, 64:ff9b::7f00:1
        IPAddress(v6High: 0, low: 0xffff_7f00_0001), IPAddress(v6High: 0xfe80 << 48, low: 1),
        IPAddress(v6High: 0xfc00 << 48, low: 1), IPAddress(v6High: 0x0064_ff9b << 32, low: 0x7f00_0001),
    ]

    // MARK: Where a client may be led

    /// The places behind a route to `cluster`.
    private func places(ofCluster cluster: String) -> Set<SocketAddress> {
        var places: Set<SocketAddress> = []
        for endpoint in configuration.clusters.first(where: { $0.name == cluster })?.endpoints ?? [] {
            switch endpoint.host {
            case .address(let ip): places.insert(SocketAddress(ip, port: endpoint.port))
            case .name(let name): places.formUnion(self.places(ofAnswer: name))
            }
        }
        return places
    }

    private func places(ofAnswer name: ServerName) -> Set<SocketAddress> {
        guard let answer = names[name]?.answer else { return [] }
        var places: Set<SocketAddress> = []
        for index in 0..<answer.addresses.count { places.insert(SocketAddress(answer.addresses[index], port: 443)) }
        return places
    }

    /// Where a client of `listener` that asks for `name` may come out; nil: it has none.
    func places(ofName name: String?, on listener: Listener) -> Set<SocketAddress> {
        let rest = hasDefaultRoute.contains(Self.kind(listener)) ? places(ofCluster: "solid") : []
        guard let name else { return rest }
        return switch name {
        case "solid.test": places(ofCluster: "solid")
        case "dead.test": places(ofCluster: "dead")
        case "named.test": places(ofCluster: "named")
        default:
            if name.hasSuffix(".shaky.test") {
                places(ofCluster: "shaky")
            } else if name.hasSuffix(".forward.test") {
                places(ofAnswer: Self.name(name))
            } else {
                rest
            }
        }
    }

    /// Where a client of a listener that reads nothing comes out.
    func places(ofFirstRouteOf listener: Listener) -> Set<SocketAddress> {
        guard case .cluster(let name)? = listener.routes.first?.action else { return [] }
        return places(ofCluster: name)
    }

    /// A place where somebody lives and where no one who is led to `place` belongs.
    mutating func anotherPlace(than place: SocketAddress) -> SocketAddress? {
        let live = hosts.filter { host in
            guard case .live = host.value else { return false }
            return host.key.ip.family == .v4 && host.key.ip.low >> 8 != place.ip.low >> 8
        }
        return live.keys.min { "\($0)" < "\($1)" }
    }

    // MARK: Listeners

    /// Listeners with a route for all that has no other.
    private(set) var hasDefaultRoute: Set<String> = []
    /// Listeners that refuse hellos with ECH.
    private(set) var refusesECH: Set<String> = []

    static let plain = "plain"
    static let tls = "tls"
    static let proxied = "proxied"
    static let mixed = "mixed"

    private mutating func addListeners() {
        var kinds = [Self.tls, Self.proxied, Self.plain, Self.mixed]
        kinds.shuffle(using: &random)
        for (number, kind) in kinds.prefix(random.between(1, 3)).enumerated() { add(kind, number) }
    }

    private mutating func add(_ kind: String, _ number: Int) {
        var listener = Listener(
            name: kind, address: SocketAddress(IPAddress(10, 0, 0, UInt8(number + 1)), port: 443))
        listener.timeouts.hello = .seconds(2)
        listener.timeouts.preamble = .seconds(4)
        listener.timeouts.idle = .seconds(10)
        listener.timeouts.halfClose = .seconds(5)
        if random.chance(100) { listener.timeouts.session = .seconds(8) }
        listener.limits.connectionsPerClient = clientLimit
        listener.halfClose = !random.chance(100)
        switch kind {
        case Self.plain: listener.detect = []
        case Self.mixed: listener.detect = [.tls, .http]
        case Self.proxied:
            listener.acceptProxy = AcceptProxy(from: [Self.peers])
            listener.clients = .everyone
        default: break
        }
        if kind == Self.plain {
            listener.routes = [Route(name: "all", action: .cluster(random.pick(["solid", "shaky", "named"])))]
        } else {
            func route(_ name: String, _ action: RouteAction) -> Route {
                guard let pattern = try? ServerNamePattern(name) else { preconditionFailure("not a pattern: \(name)") }
                return Route(name: name, match: RouteMatch(serverNames: [pattern]), action: action)
            }
            listener.routes = [
                route("solid.test", .cluster("solid")), route("*.shaky.test", .cluster("shaky")),
                route("dead.test", .cluster("dead")), route("named.test", .cluster("named")),
                route("denied.test", .deny(.accessDenied)), route("closed.test", .deny(.close)),
                route("reset.test", .deny(.reset)),
                route("*.forward.test", .forward(DynamicForward(port: .fixed(443), upstream: forwardOptions))),
            ]
        }
        if kind != Self.plain && random.chance(300) {
            hasDefaultRoute.insert(kind)
            listener.routes.append(Route(name: "rest", action: .cluster("solid")))
        }
        if random.chance(500) {
            refusesECH.insert(kind)
            listener.hello.allowECH = false
        }
        if random.chance(50) { listener.limits.connections = random.between(1, 8) }
        if random.chance(50) {
            listener.limits.rate = RateLimit(random.between(1, 20), burst: random.between(1, 8))
        }
        // Without a limit on what they share, every client has its own address and comes once.
        if clientLimit != nil && random.chance(500) {
            listener.limits.ratePerClient = RateLimit(random.between(1, 20), burst: random.between(1, 4))
        }
        if hasBreakers { limitRoutes(of: &listener) }
        configuration.listeners.append(listener)
    }

    private mutating func limitRoutes(of listener: inout Listener) {
        for index in listener.routes.indices where random.chance(300) {
            if case .deny = listener.routes[index].action { continue }
            if random.chance(500) {
                listener.routes[index].limits.connections = random.between(1, 4)
            } else {
                listener.routes[index].limits.rate = RateLimit(random.between(1, 20), burst: random.between(1, 4))
            }
        }
    }

    /// What the routes of a listener that reads names lead to; nil: there is no name.
    func outcomes(ofName name: String?, on listener: Listener) -> Set<SimulatedOutcome> {
        let rest: Set<SimulatedOutcome> =
            hasDefaultRoute.contains(Self.kind(listener)) ? [.relayed] : [.alert(.unrecognizedName), .http(421)]
        guard let name else { return rest }
        return switch name {
        case "solid.test": clusterOutcomes["solid"] ?? []
        case "dead.test": clusterOutcomes["dead"] ?? []
        case "named.test": clusterOutcomes["named"] ?? []
        case "denied.test": [.alert(.accessDenied), .http(403)]
        case "closed.test": [.end]
        case "reset.test": [.reset]
        default:
            if name.hasSuffix(".shaky.test") {
                clusterOutcomes["shaky"] ?? []
            } else {
                names[Self.name(name)]?.outcomes ?? rest
            }
        }
    }

    /// What a listener was before it was added again.
    static func kind(_ listener: Listener) -> String { String(listener.name.prefix { $0 != "-" }) }

    // MARK: Orders

    private mutating func addOrders() {
        func moment() -> UInt64 { 1_000_000 + random.next() % (spread + 50_000_000) }
        for _ in 0..<random.pick([0, 0, 1, 3]) { orders.append((moment(), .reload)) }
        if configuration.listeners.count > 1 && random.chance(200) {
            orders.append((moment(), .removeListener))
            if random.chance(500) {
                orders.append((moment(), .addListener))
                orders.append((moment(), .removeListener))
                orders.append((moment(), .addListener))
            }
        }
        if random.chance(100) { orders.append((moment(), .jump(UInt64(random.pick([3, 30]) * 1_000_000_000)))) }
        for _ in 0..<random.pick([0, 0, 2, 6]) { orders.append((moment(), .check)) }
        if random.chance(50) { orders.append((moment(), .endEndpoint)) }
        if random.chance(50) { orders.append((moment(), .endRoute)) }
        switch random.below(8) {
        case 0: orders.append((moment(), .stop))
        case 1:
            let start = moment()
            orders.append((start, .drain))
            if random.chance(700) { orders.append((start + 200_000_000, .endSessions)) }
        default: break
        }
        orders.sort { $0.at < $1.at }
    }

    /// The configuration of a later reload: the same meaning, other places.
    mutating func changed(_ configuration: Configuration) -> Configuration {
        var next = configuration
        for index in next.clusters.indices { next.clusters[index].endpoints.shuffle(using: &random) }
        for index in next.listeners.indices {
            let place = random.below(next.listeners[index].routes.count)
            let route = next.listeners[index].routes.remove(at: place)
            next.listeners[index].routes.append(route)
        }
        return next
    }

    /// The same with another listener, at an address of its own.
    mutating func extended(_ configuration: Configuration) -> Configuration {
        var next = configuration
        addedCount += 1
        var listener = next.listeners[random.below(next.listeners.count)]
        listener.name = "\(Self.kind(listener))-\(addedCount)"
        listener.address.port += UInt16(addedCount)
        next.listeners.append(listener)
        return next
    }

    private var addedCount = 0

    mutating func plan(for host: Host) -> SimulatedConnectPlan {
        switch host {
        case .live(let delay): .succeed(after: random.within(delay))
        case .refusing: .fail(ECONNREFUSED, after: random.within(10_000...5_000_000))
        case .resetting: .fail(ECONNRESET, after: random.within(10_000...5_000_000))
        case .unreachable: .fail(random.pick([ENETUNREACH, EHOSTUNREACH]), after: 0)
        case .silent: random.chance(800) ? .silence : .fail(ETIMEDOUT, after: 100_000_000)
        case .moody: plan(for: random.pick([.live(0...700_000_000), .refusing, .unreachable, .silent]))
        }
    }
}
