import WeirMemory
import WeirModel
import WeirNet

/// Consecutive elements of one of a view's arrays.
package struct Extent: BitwiseCopyable, Sendable {
    package let first: Int32
    package let count: Int32

    static let empty = Extent(first: 0, count: 0)

    init(first: Int, count: Int) {
        self.first = Int32(first)
        self.count = Int32(count)
    }

    package var indices: Range<Int> { Int(first)..<Int(first) + Int(count) }
    package var isEmpty: Bool { count == 0 }
}

/// A listener as the loop reads it. Durations are nanoseconds, `UInt64.max` where there is no limit; limits on counts
/// are `Int.max` where there is none.
package struct CompiledListener: BitwiseCopyable, Sendable {
    /// False for a hole among the slots; nothing else of it means anything then.
    package var exists = false
    package var metric: Int32 = -1
    /// As configured: port 0 says nothing about the one that the kernel chose.
    package var address = SocketAddress(.v4Any, port: 0)

    package var detectsTLS = false
    package var detectsHTTP = false
    /// ClientHello bytes taken at most.
    package var helloByteCountMax: Int32 = 0
    package var allowsECH = false

    package var preambleTimeout = UInt64.max
    package var helloTimeout = UInt64.max
    package var idleTimeout = UInt64.max
    package var halfCloseTimeout = UInt64.max
    package var sessionTimeout = UInt64.max

    package var connectionsMax = Int.max
    package var connectionsPerClientMax = Int.max
    package var rate = RateBound.none
    package var ratePerClient = RateBound.none
    package var passesHalfClose = true

    /// A PROXY header is required, from the peers of `RouteView.trustsProxyPeer`.
    package var acceptsProxy = false
    package var proxyHeaderByteCountMax: Int32 = 0
    package var acceptsIPv4InTCP6 = false

    /// A route looks at where the client wanted to go.
    package var matchesDestinations = false
    /// A route goes to where the client wanted to go before it was redirected.
    package var followsRedirections = false

    // Matching.
    var clients = AddressTable(first: 0, count: 0)
    var proxyPeers = AddressTable(first: 0, count: 0)
    /// Routes that take any connection with a name, and ones that ask for none, as candidates.
    var anyName = Extent.empty
    var noConstraint = Extent.empty
    /// Labels of the longest suffix among its wildcards; 0: it has no wildcard.
    var suffixLabelCountMax: Int32 = 0
}

package enum CompiledAction: UInt8, BitwiseCopyable, Sendable {
    case cluster
    case split
    case forward
    case proxyDestination
    case originalDestination
    case deny
}

package struct CompiledRoute: BitwiseCopyable, Sendable {
    package let metric: Int32
    /// The slot of its listener.
    package let listener: Int32
    package let action: CompiledAction
    /// Told to the client where `action` is `.deny`, and where a connection that `.forward` takes has no name.
    package let denial: Denial
    /// For `.forward`; 0: the port the client connected to.
    package let forwardPort: UInt16
    /// Index of the cluster for `.cluster`, of its split for `.split`, else -1.
    package let cluster: Int32
    /// Index of its options (a cluster's own for `.cluster`); -1 for `.deny` and `.split`.
    package let upstream: Int32
    /// Index of its limits; -1: it has none.
    package let limits: Int32

    // Matching. A table of no step, an extent of no element: no such constraint.
    let clients: AddressTable
    let alpn: Extent
    /// Index of what it asks of the destination; -1: nothing.
    let destination: Int32
}

/// What a route asks of the destination that the client wanted.
struct CompiledDestination: BitwiseCopyable, Sendable {
    /// No step: any address.
    let addresses: AddressTable
    /// Among `RouteView.destinationPorts`; empty: any port.
    let ports: Extent
}

struct CompiledPorts: BitwiseCopyable, Sendable {
    let low: UInt16
    let high: UInt16

    init(_ range: ClosedRange<UInt16>) {
        low = range.lowerBound
        high = range.upperBound
    }

    func contains(_ port: UInt16) -> Bool { port >= low && port <= high }
}

/// What a route takes over all workers. `Int.max`, `UInt64.max` and `.none`: no limit.
package struct CompiledRouteLimits: BitwiseCopyable, Sendable {
    /// Where its sessions are counted over all workers; the same from table to table. -1: nowhere, and there is no limit.
    package let place: Int32
    package let connectionsMax: UInt64
    package let connectionsPerClientMax: Int
    package let rate: RateBound
    package let ratePerClient: RateBound

    init(_ limits: RouteLimits, place: Int32) {
        self.place = place
        connectionsMax = limits.connections.map { UInt64($0) } ?? .max
        connectionsPerClientMax = limits.connectionsPerClient ?? .max
        rate = RateBound(limits.rate)
        ratePerClient = RateBound(limits.ratePerClient)
    }
}

/// Clusters that share the sessions of a route.
package struct CompiledSplit: BitwiseCopyable, Sendable {
    /// Among `RouteView.shares`; none of them is empty.
    package let shares: Extent
    /// Their weights together, above 0.
    package let weight: UInt64
}

package struct CompiledShare: BitwiseCopyable, Sendable {
    package let cluster: Int32
    /// 1...`ClusterShare.weightRange.upperBound`.
    package let weight: Int32
}

package struct CompiledCluster: BitwiseCopyable, Sendable {
    package let metric: Int32
    /// What is known of it over all workers; the same from table to table. -1: nothing is kept.
    package let place: Int32
    /// Its endpoints, ordered by priority, else as written.
    package let endpoints: Extent
    package let upstream: Int32
    package let balance: Cluster.Balance
    /// Percent; 0: a group takes all or nothing.
    package let overprovisioningFactor: Int32
    /// Good endpoints of a group that serve at most.
    package let activeCountMax: Int32
    /// Nanoseconds; 0: at once.
    package let slowStart: UInt64
    /// nil: `CompiledEndpoint.maxFails` holds.
    package let outliers: CompiledOutliers?
    package let connectionsMax: UInt64
    package let pendingMax: UInt64
    package let rate: RateBound
    /// Nanoseconds; `UInt64.max`: none.
    package let connectionAgeMax: UInt64
    /// The guard lets its names point into private networks.
    package let privateNames: Bool

    init(_ cluster: Cluster, metric: Int32, place: Int32, endpoints: Extent, upstream: Int32) {
        self.metric = metric
        self.place = place
        self.endpoints = endpoints
        self.upstream = upstream
        balance = cluster.balance
        overprovisioningFactor = Int32(clamping: cluster.overprovisioningFactor ?? 0)
        activeCountMax = cluster.activeCountMax.map { Int32(clamping: $0) } ?? .max
        slowStart = cluster.slowStart?.clampedNanoseconds ?? 0
        outliers = cluster.outlierDetection.map { CompiledOutliers($0) }
        connectionsMax = cluster.limits.connections.map { UInt64($0) } ?? .max
        pendingMax = cluster.limits.pending.map { UInt64($0) } ?? .max
        rate = RateBound(cluster.limits.rate)
        connectionAgeMax = cluster.connectionAgeMax?.clampedNanoseconds ?? .max
        privateNames = cluster.privateNames
    }
}

/// When an endpoint is ejected, and for how long. Nanoseconds.
package struct CompiledOutliers: BitwiseCopyable, Sendable {
    /// 0: never.
    package let failuresMax: UInt64
    package let interval: UInt64
    package let baseEjectionTime: UInt64
    package let ejectionTimeMax: UInt64
    /// 0...100.
    package let ejectionPercentMax: Int
    /// 0...100.
    package let minHealthPercent: Int

    init(_ outliers: OutlierDetection) {
        failuresMax = UInt64(outliers.consecutiveLocalOriginFailures)
        interval = max(outliers.interval.clampedNanoseconds, 1)
        baseEjectionTime = outliers.baseEjectionTime.clampedNanoseconds
        ejectionTimeMax = outliers.ejectionTimeMax.clampedNanoseconds
        ejectionPercentMax = outliers.ejectionPercentMax
        minHealthPercent = outliers.minHealthPercent
    }
}

package struct CompiledEndpoint: BitwiseCopyable, Sendable {
    package enum Host: BitwiseCopyable, Sendable {
        /// Written in the configuration.
        case address(IPAddress)
        /// Index into `RouteView.hostNames`.
        case name(Int32)
    }

    package let metric: Int32
    package let cluster: Int32
    /// What is known of it over all workers; the same from table to table. -1: nothing is kept.
    package let place: Int32
    package let host: Host
    package let port: UInt16
    /// 1...65535.
    package let weight: Int32
    /// 0 serves first.
    package let priority: Int32
    package let isDown: Bool
    /// 0: never rests, as where its cluster ejects outliers.
    package let maxFails: Int32
    /// Nanoseconds.
    package let failTimeout: UInt64
    package let connectionsMax: UInt64
    /// Of the first of each priority in a cluster that hashes: the slots of its group in `RouteView.hashSlots`; else empty.
    package internal(set) var groupSlots = Extent.empty
}

package struct CompiledUpstream: BitwiseCopyable, Sendable {
    /// One attempt, in nanoseconds.
    package let connectTimeout: UInt64
    /// All attempts together, in nanoseconds.
    package let connectTotal: UInt64
    /// 1...8.
    package let attempts: Int
    package let retriesEarlyClose: Bool
    package let keepalive: CompiledKeepalive?
    package let sendProxy: CompiledSendProxy?
    package var sources: CompiledSources

    init(_ options: UpstreamOptions, _ sources: CompiledSources) {
        connectTimeout = options.connectTimeout.clampedNanoseconds
        connectTotal = options.connectTotal.clampedNanoseconds
        attempts = options.attempts
        retriesEarlyClose = options.retriesEarlyClose
        keepalive = options.keepalive.map { CompiledKeepalive($0) }
        sendProxy = options.sendProxy.map { CompiledSendProxy($0) }
        self.sources = sources
    }
}

/// As `TCPKeepalive`, in whole seconds.
package struct CompiledKeepalive: BitwiseCopyable, Sendable {
    package let idle: UInt16
    package let interval: UInt16
    package let probes: UInt8

    init(_ keepalive: TCPKeepalive) {
        func seconds(_ time: Duration) -> UInt16 { UInt16((time.clampedNanoseconds + 999_999_999) / 1_000_000_000) }
        idle = seconds(keepalive.idle)
        interval = seconds(keepalive.interval)
        probes = UInt8(keepalive.probes)
    }
}

/// One protocol that a route asks for.
struct CompiledProtocol: BitwiseCopyable, Sendable {
    private var storage = InlineArray<255, UInt8>(repeating: 0)
    private var byteCount: UInt8 = 0
    /// RFC 8737 §3: a validation hello offers `acme-tls/1` and nothing else. One that offers more is an ordinary client.
    private var mustBeAlone = false

    static let acme = "acme-tls/1"

    init(_ name: String) {
        precondition((1...255).contains(name.utf8.count), "an ALPN name is 1...255 bytes")
        for (index, byte) in name.utf8.enumerated() { storage[index] = byte }
        byteCount = UInt8(name.utf8.count)
        mustBeAlone = name == Self.acme
    }

    func isOffered(by offer: ALPNOffer) -> Bool {
        if mustBeAlone {
            if offer.isTruncated { return false }
            if offer.byteCount != 1 + Int(byteCount) { return false }
        }
        return offer.contains(storage.span.extracting(first: Int(byteCount)))
    }
}
