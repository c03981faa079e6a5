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
    case forward
    case deny
}

package struct CompiledRoute: BitwiseCopyable, Sendable {
    package let metric: Int32
    /// The slot of its listener.
    package let listener: Int32
    package let action: CompiledAction
    /// Told to the client where `action` is `.deny`, and where a connection that `.forward` takes has no name.
    package let denial: Denial
    /// Index of the cluster for `.cluster`, else -1.
    package let cluster: Int32
    /// For `.forward`; 0: the port the client connected to.
    package let forwardPort: UInt16
    /// Index of its options (a cluster's own for `.cluster`); -1 for `.deny`.
    package let upstream: Int32

    // Matching. A table of no step, an extent of no element: no such constraint.
    let clients: AddressTable
    let alpn: Extent
}

package struct CompiledCluster: BitwiseCopyable, Sendable {
    package let metric: Int32
    /// Its endpoints, ordered by priority, else as written.
    package let endpoints: Extent
    package let upstream: Int32
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
    package let host: Host
    package let port: UInt16
    /// 1...65535.
    package let weight: Int32
    /// 0 serves first.
    package let priority: Int32
    package let isDown: Bool
    /// 0: never rests.
    package let maxFails: Int32
    /// Nanoseconds.
    package let failTimeout: UInt64
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
    package let sendProxy: CompiledSendProxy?
    package let sourceV4: IPAddress?
    package let sourceV6: IPAddress?

    init(_ options: UpstreamOptions) {
        connectTimeout = options.connectTimeout.clampedNanoseconds
        connectTotal = options.connectTotal.clampedNanoseconds
        attempts = options.attempts
        sendProxy = options.sendProxy.map { CompiledSendProxy($0) }
        sourceV4 = options.sourceAddresses.first { $0.family == .v4 }
        sourceV6 = options.sourceAddresses.first { $0.family == .v6 }
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
