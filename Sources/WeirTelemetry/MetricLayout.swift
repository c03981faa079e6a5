import Glibc

// What a worker counts, as offsets from the base that `MetricRegistry` hands out for a subject. The families beside
// them (`MetricFamilies.swift`) say under which name each is exposed; a test holds the two together.
//
// Computed properties, because a stored `static let` of another module is reached through a call and a once-flag.

/// Offsets from a listener's base.
package enum ListenerCell {
    /// Connections taken from the accept queue.
    @inlinable package static var accepted: Int32 { 0 }
    /// Sessions that began: accepted, and within the limits.
    @inlinable package static var opened: Int32 { 1 }
    /// Sessions that ended; each also counts in one cell of `closedByReason`. Active ones are `opened - closed`.
    @inlinable package static var closed: Int32 { 2 }
    /// Bytes from clients.
    @inlinable package static var receivedBytes: Int32 { 3 }
    /// Bytes to clients.
    @inlinable package static var sentBytes: Int32 { 4 }
    /// Times that accepting stopped for want of descriptors or memory.
    @inlinable package static var acceptPauses: Int32 { 5 }
    /// Hellos with encrypted_client_hello.
    @inlinable package static var echSeen: Int32 { 6 }
    /// PROXY headers taken and believed.
    @inlinable package static var proxyAccepted: Int32 { 7 }
    /// Failed accepts; see `acceptError(_:)`.
    @inlinable package static var acceptErrors: Int32 { 8 }
    // 8..<13: emfile, enfile, nobufs, nomem, other. 13..<16 are free.
    /// Histogram of complete hellos in bytes (`HistogramScale.hello`). A hello that stayed partial is not in it (CH-36).
    @inlinable package static var helloBytes: Int32 { 16 }
    /// Histogram from accept to the end of the preamble (`HistogramScale.latency`); complete preambles only.
    @inlinable package static var preambleSeconds: Int32 { 32 }
    /// Histogram from accept to close (`HistogramScale.session`).
    @inlinable package static var sessionSeconds: Int32 { 48 }
    /// The first of the cells by close reason: add the reason's code. A connection that was turned away before its
    /// session began counts here and not in `closed`.
    @inlinable package static var closedByReason: Int32 { 64 }

    /// The cell that counts an accept which failed with `errno`.
    package static func acceptError(_ errno: Int32) -> Int32 {
        switch errno {
        case EMFILE: acceptErrors
        case ENFILE: acceptErrors + 1
        case ENOBUFS: acceptErrors + 2
        case ENOMEM: acceptErrors + 3
        default: acceptErrors + 4
        }
    }
    static let acceptErrorLabels = ["emfile", "enfile", "nobufs", "nomem", "other"]
}

/// Offsets from a route's base.
package enum RouteCell {
    /// Sessions that the route took, denials included.
    @inlinable package static var sessions: Int32 { 0 }
    package static let count: Int32 = 1
}

/// Offsets from a cluster's base.
package enum ClusterCell {
    @inlinable package static var connectAttempts: Int32 { 0 }
    @inlinable package static var opened: Int32 { 1 }
    @inlinable package static var closed: Int32 { 2 }
    /// Failed attempts; see `connectFailure(_:)`.
    @inlinable package static var connectFailures: Int32 { 3 }
    // 3..<9: refused, timed_out, reset, unreachable, address_not_available, other. 9..<16 are free.
    /// Histogram of successful connects (`HistogramScale.latency`).
    @inlinable package static var connectSeconds: Int32 { 16 }
    package static let count: Int32 = 32

    /// The cell that counts a connect which failed with `errno`.
    package static func connectFailure(_ errno: Int32) -> Int32 {
        switch errno {
        case ECONNREFUSED: connectFailures
        case ETIMEDOUT: connectFailures + 1
        case ECONNRESET: connectFailures + 2
        case EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN: connectFailures + 3
        case EADDRNOTAVAIL: connectFailures + 4
        default: connectFailures + 5
        }
    }
    static let connectFailureLabels = [
        "refused", "timed_out", "reset", "unreachable", "address_not_available", "other",
    ]
}

/// Offsets from an endpoint's base.
package enum EndpointCell {
    @inlinable package static var connectAttempts: Int32 { 0 }
    @inlinable package static var connectFailures: Int32 { 1 }
    @inlinable package static var opened: Int32 { 2 }
    @inlinable package static var closed: Int32 { 3 }
    package static let count: Int32 = 4
}

/// Cells of the worker itself: not offsets, these are the same for every worker and need no registry.
package enum WorkerCell {
    @inlinable package static var dnsCacheHits: Int32 { 0 }
    /// Questions put to the resolver.
    @inlinable package static var dnsQueries: Int32 { 1 }
    /// Times that a receive found no free buffer.
    @inlinable package static var buffersStarved: Int32 { 2 }
    /// Gauge: relay buffers not in the pool.
    @inlinable package static var buffersOutstanding: Int32 { 3 }
    /// Gauge: preamble blocks not in the pool.
    @inlinable package static var blocksOutstanding: Int32 { 4 }
    /// Session records that found the ring to the log full.
    @inlinable package static var logDropped: Int32 { 5 }
    /// Set from the driver's figures.
    @inlinable package static var completionOverflows: Int32 { 6 }
    /// Set from the driver's figures.
    @inlinable package static var enters: Int32 { 7 }
    @inlinable package static var turns: Int32 { 8 }
    /// Snapshots that the worker took up.
    @inlinable package static var adoptions: Int32 { 9 }
    /// Gauge: the generation of the snapshot that the worker uses.
    @inlinable package static var snapshotGeneration: Int32 { 10 }
    /// Bytes relayed in both directions.
    @inlinable package static var relayedBytes: Int32 { 11 }
    // 12..<32 are free.
    /// The first of the cells by guard rule: add the rule's code.
    @inlinable package static var guardDenied: Int32 { 32 }
}
