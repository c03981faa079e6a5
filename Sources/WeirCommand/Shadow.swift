import CWeir
import Synchronization
import Weir
import WeirExplain

/// A configuration that is asked beside the one in force about every session that has ended. It decides about nobody: it
/// counts where the two differ, and tells of some of them.
///
/// Asked on the log's thread, from what the session's record has, so that no session waits for it.
package final class Shadow: Sendable {
    private struct State {
        var live: Explainer?
        var shadow: Explainer?
        var comparison: ShadowComparison?
        var samples = RateLimit(10)
        /// When the bucket of samples is full again: GCRA.
        var samplesFullAt: UInt64 = 0
    }

    private let say: @Sendable (String) -> Void
    private let state = Mutex(State())
    private let isAsked = Atomic(false)
    private let sameCount = Atomic<UInt64>(0)
    private let differentCount = Atomic<UInt64>(0)
    private let unknownCount = Atomic<UInt64>(0)

    package init(say: @escaping @Sendable (String) -> Void) { self.say = say }

    /// Whether there is one.
    package var isInForce: Bool { isAsked.load(ordering: .relaxed) }

    /// `live` is in force from now on, beside `reading`; nil: there is no shadow. One that cannot be used is reported, and nobody
    /// is asked until it can.
    package func adopt(live: Configuration, _ reading: ConfigurationSource.Reading.Shadow?) {
        for line in reading?.diagnostics ?? [] { say(line) }
        if reading != nil, reading?.configuration == nil { say("weir: the shadow cannot be used, and is not asked") }
        guard let settings = live.shadow, let next = reading?.configuration else {
            state.withLock { $0 = State() }
            return isAsked.store(false, ordering: .relaxed)
        }
        let known = state.withLock { ($0.live, $0.shadow) }
        // To compile one takes longer than to compare it.
        func explainer(_ configuration: Configuration, _ known: Explainer?) -> Explainer {
            if let known, known.configuration == configuration { return known }
            return Explainer(configuration, localAddresses: LocalAddresses.current())
        }
        let (first, second) = (explainer(live, known.0), explainer(next, known.1))
        let comparison = ShadowComparison(live: first, shadow: second)
        state.withLock { state in
            state.live = first
            state.shadow = second
            state.comparison = comparison
            state.samples = settings.samples
        }
        isAsked.store(true, ordering: .relaxed)
        say("weir: shadow: \(next.summary)")
    }

    /// On the log's thread.
    package func ended(_ session: Proxy.EndedSession) {
        let asked = ShadowComparison.Session(
            listener: session.listener, route: session.route, serverName: session.serverName, client: session.client,
            peer: session.peer, isProxied: session.isProxied, destination: session.local)
        guard let comparison = state.withLock({ $0.comparison }) else { return }
        switch comparison.result(for: asked) {
        case .same: sameCount.add(1, ordering: .relaxed)
        case .unknown: unknownCount.add(1, ordering: .relaxed)
        case .different(let live, let shadow):
            differentCount.add(1, ordering: .relaxed)
            guard takesSample() else { return }
            let name = asked.serverName.isNone ? "no server name" : asked.serverName.description.quoted
            say(
                "weir: shadow differs: listener \(asked.listener.quoted), client \(asked.client), \(name): "
                    + "live: \(live); shadow: \(shadow)")
        }
    }

    private func takesSample() -> Bool {
        let now = cweir_monotonic_ns()
        return state.withLock { state in
            let interval = state.samples.period.clampedNanoseconds / UInt64(state.samples.count)
            let fullAt = max(state.samplesFullAt, now) + interval
            guard fullAt - now <= interval * UInt64(state.samples.burst) else { return false }
            state.samplesFullAt = fullAt
            return true
        }
    }

    /// In Prometheus text format 0.0.4.
    package var metrics: String {
        """
        # HELP weir_shadow_in_force Whether a shadow configuration is asked.
        # TYPE weir_shadow_in_force gauge
        weir_shadow_in_force \(isInForce ? 1 : 0)
        # HELP weir_shadow_decisions_total Sessions that the shadow configuration was asked about, by result.
        # TYPE weir_shadow_decisions_total counter
        weir_shadow_decisions_total{result="same"} \(sameCount.load(ordering: .relaxed))
        weir_shadow_decisions_total{result="different"} \(differentCount.load(ordering: .relaxed))
        weir_shadow_decisions_total{result="unknown"} \(unknownCount.load(ordering: .relaxed))

        """
    }
}
