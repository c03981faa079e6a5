import WeirNet

/// What became of asking for a name's addresses.
public enum AnswerStatus: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    /// At least one address.
    case found
    /// The name does not exist (NXDOMAIN).
    case noSuchName
    /// The name exists without an address of a wanted family (NODATA).
    case noAddress
    /// A server answered and had no answer: SERVFAIL, REFUSED, malformed, or nothing listens there.
    case serverFailure
    /// No server answered in time.
    case timedOut
    /// The resolver had too much to do already; nothing was asked.
    case refusedTooMany
    /// The resolver was stopped before an answer came.
    case cancelled

    /// The metric label.
    public var label: StaticString {
        switch self {
        case .found: "found"
        case .noSuchName: "no_such_name"
        case .noAddress: "no_address"
        case .serverFailure: "server_failure"
        case .timedOut: "timed_out"
        case .refusedTooMany: "refused_too_many"
        case .cancelled: "cancelled"
        }
    }

    /// A server with authority over the name said that there is no address.
    public var isNegative: Bool { self == .noSuchName || self == .noAddress }
}

/// The addresses of a name, or why there are none, and how long that holds. A plain value.
@frozen
public struct Answer: BitwiseCopyable, Sendable, Equatable {
    public var status: AnswerStatus
    /// True for addresses past their TTL, served because no server answers.
    public var isStale: Bool
    /// Not empty exactly where `status` is `found`.
    public var addresses: ResolvedAddresses
    /// From this moment on the answer no longer serves. Zero for an answer that is not to be kept.
    public var expires: Instant

    @inlinable
    public init(status: AnswerStatus, addresses: ResolvedAddresses, expires: Instant, isStale: Bool = false) {
        self.status = status
        self.addresses = addresses
        self.expires = expires
        self.isStale = isStale
    }

    /// An answer without addresses.
    @inlinable
    public init(_ status: AnswerStatus, expires: Instant = Instant(nanoseconds: 0)) {
        self.init(status: status, addresses: ResolvedAddresses(), expires: expires)
    }
}
