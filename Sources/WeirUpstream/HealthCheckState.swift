/// Whether an endpoint may be given sessions, as far as its checks say.
package enum HealthVerdict: UInt8, Sendable, BitwiseCopyable {
    case healthy
    case unhealthy
}

/// What came of one check.
package enum HealthCheckResult: UInt8, Sendable, BitwiseCopyable {
    case success
    case failure
    /// It was we who were short of something: it says nothing of the endpoint.
    case inconclusive
}

/// What the checks of one endpoint have come to. A plain value.
package struct HealthCheckState: Sendable, BitwiseCopyable, Equatable {
    package private(set) var verdict = HealthVerdict.healthy
    /// Whether a check has ended that says something.
    package private(set) var isKnown = false
    /// Results in a row, up to the last one, that contradict `verdict`.
    package private(set) var contradictionCount = 0

    package init() {}

    /// Takes a result in. Returns the verdict where it is another one from here on.
    ///
    /// The first result decides at once: an endpoint that is dead at start is unhealthy after one check. From then on it
    /// takes `fall` failures or `rise` successes in a row (1 or more).
    package mutating func take(_ result: HealthCheckResult, fall: Int, rise: Int) -> HealthVerdict? {
        guard result != .inconclusive else { return nil }
        let isFirst = !isKnown
        isKnown = true
        let said: HealthVerdict = result == .success ? .healthy : .unhealthy
        guard said != verdict else {
            contradictionCount = 0
            return nil
        }
        contradictionCount += 1
        guard isFirst || contradictionCount >= (said == .healthy ? rise : fall) else { return nil }
        verdict = said
        contradictionCount = 0
        return verdict
    }
}
