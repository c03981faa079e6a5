import WeirNet

/// What one question to the servers (or to the hosts file) came to.
package struct LookupResult: BitwiseCopyable, Sendable, Equatable {
    package var status: AnswerStatus
    package var addresses: ResolvedAddresses
    /// Seconds: the smallest over the addresses and the CNAMEs that led to them.
    package var ttl: UInt32

    package init(_ status: AnswerStatus, addresses: ResolvedAddresses = ResolvedAddresses(), ttl: UInt32 = 0) {
        precondition((status == .found) == !addresses.isEmpty)
        self.status = status
        self.addresses = addresses
        self.ttl = ttl
    }
}

/// The results of a lookup that asks for IPv4 and IPv6 addresses apart, until all are there.
///
/// Apart, because one status for both would let "no IPv6 address" hide that the IPv4 question failed, and a failed
/// question must not empty a known set (UP-08).
package struct AnswerParts: BitwiseCopyable, Sendable {
    /// What a result is about.
    package enum Part: UInt8, Sendable, BitwiseCopyable {
        case v4
        case v6
        /// Both families at once: the hosts file, or a failure before any question was sent.
        case whole
    }

    private var v4: LookupResult?
    private var v6: LookupResult?
    private var awaitsV4: Bool
    private var awaitsV6: Bool

    package init(awaitsV4: Bool, awaitsV6: Bool) {
        precondition(awaitsV4 || awaitsV6)
        self.awaitsV4 = awaitsV4
        self.awaitsV6 = awaitsV6
    }

    package var isComplete: Bool { !awaitsV4 && !awaitsV6 }

    package mutating func add(_ result: LookupResult, for part: Part) {
        switch part {
        case .v4:
            precondition(awaitsV4, "an IPv4 result that nobody asked for")
            awaitsV4 = false
            v4 = result
        case .v6:
            precondition(awaitsV6, "an IPv6 result that nobody asked for")
            awaitsV6 = false
            v6 = result
        case .whole:
            awaitsV4 = false
            awaitsV6 = false
            v4 = result
            v6 = nil
        }
    }

    /// The parts in one result.
    package enum Merged: Equatable {
        /// Nothing usable yet.
        case waiting
        /// Addresses; another family is awaited or failed, so there may be more.
        case partial(LookupResult)
        /// All that there is to know.
        case whole(LookupResult)
    }

    package var merged: Merged {
        if let v4, let v6, v4.status == .found, v6.status == .found {
            return .whole(
                LookupResult(
                    .found, addresses: Self.interleaved(v4.addresses, v6.addresses), ttl: min(v4.ttl, v6.ttl)))
        }
        if let found = v4?.status == .found ? v4 : v6?.status == .found ? v6 : nil {
            let other = v4?.status == .found ? v6 : v4
            let otherIsSettled = isComplete && (other == nil || other?.status.isNegative == true)
            return otherIsSettled ? .whole(found) : .partial(found)
        }
        guard isComplete else { return .waiting }
        guard let first = v4 ?? v6 else { return .waiting }
        guard let second = v4 == nil ? nil : v6 else { return .whole(first) }
        // "No such name" and "no address" only where both families say so: a failure outweighs them.
        if !first.status.isNegative { return .whole(first) }
        if !second.status.isNegative { return .whole(second) }
        return .whole(LookupResult(first.status == .noSuchName ? .noSuchName : second.status))
    }

    /// IPv4 first, then in turns, so that the cap on addresses never leaves a family out. IPv4 leads because the
    /// usual egress node has only that; where it has no IPv4 the connect fails at once and costs one system call.
    private static func interleaved(_ v4: ResolvedAddresses, _ v6: ResolvedAddresses) -> ResolvedAddresses {
        var addresses = ResolvedAddresses()
        for index in 0..<max(v4.count, v6.count) {
            if index < v4.count { addresses.append(v4[index]) }
            if index < v6.count { addresses.append(v6[index]) }
        }
        return addresses
    }
}
