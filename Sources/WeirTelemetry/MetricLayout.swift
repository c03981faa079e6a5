import Glibc

// What a worker counts, as offsets from the base that `MetricRegistry` hands out for a subject. The families beside
// them (`MetricFamilies.swift`) say under which name each is exposed; a test holds the two together.
//
// Computed properties, because a stored `static let` of another module is reached through a call and a once-flag.

/// Offsets from a listener's base.
public enum ListenerCell {
    /// Connections taken from the accept queue.
    @inlinable public static var accepted: Int32 { 0 }
    /// Sessions that began: accepted, and within the limits.
    @inlinable public static var opened: Int32 { 1 }
    /// Sessions that ended; each also counts in one cell of `closedByReason`. Active ones are `opened - closed`.
    @inlinable public static var closed: Int32 { 2 }
    /// Bytes from clients.
    @inlinable public static var receivedBytes: Int32 { 3 }
    /// Bytes to clients.
    @inlinable public static var sentBytes: Int32 { 4 }
    /// Times that accepting stopped for want of something.
    @inlinable public static var acceptPauses: Int32 { 5 }
    /// Hellos with encrypted_client_hello.
    @inlinable public static var echSeen: Int32 { 6 }
    /// PROXY headers taken and believed.
    @inlinable public static var proxyAccepted: Int32 { 7 }
    /// Failed accepts; see `acceptError(_:)`.
    @inlinable public static var acceptErrors: Int32 { 8 }
    // 8..<13: emfile, enfile, nobufs, nomem, other.
    /// Authorities in PROXY headers beyond the first, which holds (PP-24).
    @inlinable public static var proxyDuplicateAuthority: Int32 { 13 }
    /// Pauses that are over.
    @inlinable public static var acceptResumes: Int32 { 14 }
    // 15 is free.
    /// Histogram of complete hellos in bytes (`HistogramScale.hello`). A hello that stayed partial is not in it (CH-36).
    @inlinable public static var helloBytes: Int32 { 16 }
    /// Histogram from accept to the end of the preamble (`HistogramScale.latency`); complete preambles only.
    @inlinable public static var preambleSeconds: Int32 { 32 }
    /// Histogram from accept to close (`HistogramScale.session`).
    @inlinable public static var sessionSeconds: Int32 { 48 }
    /// The first of the cells by close reason: add the reason's code. A connection that was turned away before its
    /// session began counts here and not in `closed`.
    @inlinable public static var closedByReason: Int32 { 64 }

    /// The cell that counts an accept which failed with `errno`.
    public static func acceptError(_ errno: Int32) -> Int32 {
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
public enum RouteCell {
    /// Sessions that the route took, denials included.
    @inlinable public static var sessions: Int32 { 0 }
    /// Those of them that have left it: by their end, or because they were decided about once more. Active ones are
    /// `sessions - left`.
    @inlinable public static var left: Int32 { 1 }
    public static let count: Int32 = 2
}

/// Offsets from a policy's base.
public enum PolicyCell {
    /// Sessions that it decided about.
    @inlinable public static var sessions: Int32 { 0 }
    public static let count: Int32 = 1
}

/// Offsets from a cluster's base.
public enum ClusterCell {
    @inlinable public static var connectAttempts: Int32 { 0 }
    @inlinable public static var opened: Int32 { 1 }
    @inlinable public static var closed: Int32 { 2 }
    /// Failed attempts; see `connectFailure(_:)`.
    @inlinable public static var connectFailures: Int32 { 3 }
    // 3..<9: refused, timed_out, reset, unreachable, address_not_available, other.
    /// Sessions refused because the cluster had as many as it may have, as many connecting, or as many new ones; consecutive.
    @inlinable public static var refusedConnections: Int32 { 9 }
    @inlinable public static var refusedPending: Int32 { 10 }
    @inlinable public static var refusedRate: Int32 { 11 }
    static let refusalLabels = ["connections", "pending", "rate"]
    /// Connections that ended before the first byte of their endpoint.
    @inlinable public static var earlyCloses: Int32 { 12 }
    /// Those of them after which another endpoint was asked.
    @inlinable public static var retries: Int32 { 13 }
    // 14..<16 are free.
    /// Histogram of successful connects (`HistogramScale.latency`).
    @inlinable public static var connectSeconds: Int32 { 16 }
    public static let count: Int32 = 32

    /// The cell that counts a connect which failed with `errno`.
    public static func connectFailure(_ errno: Int32) -> Int32 {
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
public enum EndpointCell {
    @inlinable public static var connectAttempts: Int32 { 0 }
    @inlinable public static var connectFailures: Int32 { 1 }
    @inlinable public static var opened: Int32 { 2 }
    @inlinable public static var closed: Int32 { 3 }
    /// Times that it was taken out of the choice because connects to it failed.
    @inlinable public static var ejections: Int32 { 4 }
    // 5..<8 are free.
    public static let count: Int32 = 8
}

/// Cells of the worker itself: not offsets, these are the same for every worker and need no registry.
public enum WorkerCell {
    @inlinable public static var dnsCacheHits: Int32 { 0 }
    /// Questions put to the resolver.
    @inlinable public static var dnsQueries: Int32 { 1 }
    /// Times that a receive found no free buffer.
    @inlinable public static var buffersStarved: Int32 { 2 }
    /// Gauge: relay buffers not in the pool.
    @inlinable public static var buffersOutstanding: Int32 { 3 }
    /// Gauge: preamble blocks not in the pool.
    @inlinable public static var blocksOutstanding: Int32 { 4 }
    /// Session records that found the ring to the log full.
    @inlinable public static var logDropped: Int32 { 5 }
    /// Set from the driver's figures.
    @inlinable public static var completionOverflows: Int32 { 6 }
    /// Set from the driver's figures.
    @inlinable public static var enters: Int32 { 7 }
    @inlinable public static var turns: Int32 { 8 }
    /// Snapshots that the worker took up.
    @inlinable public static var adoptions: Int32 { 9 }
    /// Gauge: the generation of the snapshot that the worker uses.
    @inlinable public static var snapshotGeneration: Int32 { 10 }
    /// Bytes relayed in both directions.
    @inlinable public static var relayedBytes: Int32 { 11 }
    /// Gauge: sessions whose upstream is not open yet.
    @inlinable public static var sessionsOpening: Int32 { 12 }
    /// Times that a direction stopped receiving because there was no buffer, and that such a direction went on or ended.
    @inlinable public static var receivePauses: Int32 { 13 }
    @inlinable public static var receiveResumes: Int32 { 14 }
    /// Gauge: directions that are pumped.
    @inlinable public static var pumps: Int32 { 15 }
    /// The first of the cells by shortage: add the kind's raw value.
    @inlinable public static var shortages: Int32 { 16 }
    /// Bytes among those relayed that a pump has moved.
    @inlinable public static var pumpedBytes: Int32 { 25 }
    /// Times that a direction was to be pumped and found no carrier.
    @inlinable public static var pumpsRefused: Int32 { 26 }
    // 27..<32 are free.
    /// The first of the cells by guard rule: add the rule's code.
    @inlinable public static var guardDenied: Int32 { 32 }
}
