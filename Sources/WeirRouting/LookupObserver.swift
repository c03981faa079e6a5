import WeirNet

/// The pattern by which a look-up came to a route.
package enum MatchedPattern: Equatable, BitwiseCopyable, Sendable {
    case exact
    /// A wildcard on so many bytes at the end of the name.
    case wildcard(suffixByteCount: Int)
    case anyName
    /// None: the route asks for no server name.
    case noConstraint
}

/// What else a route asks for, besides the name, in the order in which it is looked at.
package enum RouteConstraint: UInt8, BitwiseCopyable, Sendable {
    case clients
    case destinations
    case destinationPorts
    case alpn
}

/// What a policy asks for, in the order in which it is looked at.
package enum PolicyConstraint: UInt8, BitwiseCopyable, Sendable {
    case clients
    case clientLabels
    case destinations
    case serverNames
}

/// Hears of each route that a look-up asks. The loop's looks up with one that costs nothing.
package protocol LookupObserver {
    /// `failing`: the first of the route's constraints that does not hold; nil: all do. True: the look-up ends here, with this
    /// route.
    mutating func asked(_ route: Int, by pattern: MatchedPattern, failing: RouteConstraint?) -> Bool
}

/// The loop's: takes the first route whose constraints hold.
struct FirstThatHolds: LookupObserver {
    @inline(__always)
    mutating func asked(_ route: Int, by pattern: MatchedPattern, failing: RouteConstraint?) -> Bool { failing == nil }
}
