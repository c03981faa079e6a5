import WeirMemory
import WeirNet
import WeirRouting

/// Chooses endpoints for one worker: smooth weighted round robin, or the hash of the client's address, within the best group of
/// priority that has an endpoint to try, with rests for endpoints that fail (nginx's `weight`, `backup`, `down`, `max_fails`,
/// `fail_timeout`).
///
/// Owned by one thread. Nothing is allocated except in `init` and `adopt`.
package struct Balancer: ~Copyable {
    /// What is known of one endpoint beyond its configuration.
    private struct State: BitwiseCopyable {
        /// The sum over a group is zero between choices.
        var current: Int = 0
        /// `0 <= effective <= weight`: lowered by failures, regained by one with each choice.
        var effective: Int
        /// Failures since the last success that came later than `failTimeout` after a failure.
        var fails: Int32 = 0
        /// The last failure.
        var failedAt = Instant(nanoseconds: 0)
        /// The last failure or the last time it was given another chance.
        var checkedAt = Instant(nanoseconds: 0)
    }

    /// Which endpoint it is, from one configuration to the next.
    private struct Identity: Hashable, BitwiseCopyable {
        var cluster: Int32
        var endpoint: Int32
    }

    private var view: RouteView
    private var states: FlatArray<State>
    /// Kept apart from the view, which may be gone when the next one is adopted.
    private var identities: FlatArray<Identity>

    /// `rotation`: choices made in advance in every cluster, so that workers do not all begin with the same endpoint.
    package init(view: RouteView, rotation: Int = 0) {
        self.view = view
        states = Self.freshStates(view)
        identities = Self.identities(view)
        for cluster in view.clusters.indices {
            for _ in 0..<rotation { _ = plan(cluster: cluster, client: 0, now: Instant(nanoseconds: 0), attempts: 1) }
        }
    }

    deinit {
        states.deallocate()
        identities.deallocate()
    }

    /// Goes over to `view`. An endpoint with the same metrics as before in a cluster with the same ones keeps what is
    /// known of its failures; the round robin begins anew. Indices of the earlier view mean nothing afterwards.
    package mutating func adopt(_ view: RouteView) {
        var failing: [Identity: State] = [:]
        for index in states.indices where states[index].fails > 0 { failing[identities[index]] = states[index] }
        states.deallocate()
        identities.deallocate()
        self.view = view
        states = Self.freshStates(view)
        identities = Self.identities(view)
        if failing.isEmpty { return }
        for index in states.indices {
            guard let known = failing[identities[index]] else { continue }
            states[index].effective = min(known.effective, states[index].effective)
            states[index].fails = known.fails
            states[index].failedAt = known.failedAt
            states[index].checkedAt = known.checkedAt
        }
    }

    /// The endpoints to try for a new session: at most `attempts` (1...8), the better groups first, without ones that
    /// are down or rest. Where all that are not down rest, the best group is tried as if none did: a refused try costs
    /// less than a client refused for sure. Empty only where every endpoint is down. `client`: a hash of its address.
    package mutating func plan(cluster: Int, client: UInt64, now: Instant, attempts: Int) -> EndpointPlan {
        let range = view.clusters[cluster].endpoints.indices
        let countMax = min(attempts, EndpointPlan.countMax)
        var plan = EndpointPlan(generation: view.generation)
        fill(&plan, range, client, now, countMax, restingToo: false)
        if plan.isEmpty { fill(&plan, range, client, now, countMax, restingToo: true) }
        return plan
    }

    /// A connect to `endpoint` failed. `generation`: the plan's, where the session may have outlived a reload; the
    /// outcome is then of no account, since its index may be another endpoint's by now. nil: the present one.
    package mutating func failed(endpoint: Int, generation: UInt64? = nil, now: Instant) {
        guard isPresent(generation) else { return }
        let (maxFails, weight) = (view.endpoints[endpoint].maxFails, Int(view.endpoints[endpoint].weight))
        guard maxFails > 0 else { return }
        states[endpoint].fails = states[endpoint].fails &+ 1
        if states[endpoint].fails < 0 { states[endpoint].fails = .max }
        states[endpoint].failedAt = now
        states[endpoint].checkedAt = now
        states[endpoint].effective = max(0, states[endpoint].effective - weight / Int(maxFails))
    }

    /// A connect to `endpoint` succeeded. Failures older than `failTimeout` are forgotten.
    package mutating func succeeded(endpoint: Int, generation: UInt64? = nil, now: Instant) {
        guard isPresent(generation) else { return }
        guard states[endpoint].fails > 0 else { return }
        if now.nanoseconds(since: states[endpoint].failedAt) > view.endpoints[endpoint].failTimeout {
            states[endpoint].fails = 0
        }
    }

    private func isPresent(_ generation: UInt64?) -> Bool { generation.map { $0 == view.generation } ?? true }

    /// Whether `endpoint` is passed over at `now` because of its failures.
    package func isResting(endpoint: Int, now: Instant) -> Bool {
        let maxFails = view.endpoints[endpoint].maxFails
        return maxFails > 0 && states[endpoint].fails >= maxFails
            && now.nanoseconds(since: states[endpoint].checkedAt) <= view.endpoints[endpoint].failTimeout
    }

    // MARK: Choosing

    /// Appends endpoints group by group. `restingToo` ends with the first group that has any.
    private mutating func fill(
        _ plan: inout EndpointPlan, _ range: Range<Int>, _ client: UInt64, _ now: Instant, _ countMax: Int,
        restingToo: Bool
    ) {
        var start = range.lowerBound
        while start < range.upperBound, plan.count < countMax {
            var end = start + 1
            while end < range.upperBound, view.endpoints[end].priority == view.endpoints[start].priority { end += 1 }
            while plan.count < countMax {
                let next: Int?
                if !view.endpoints[start].groupSlots.isEmpty {
                    next = hashed(start..<end, client, now, plan, restingToo: restingToo)
                } else if plan.isEmpty {
                    // Only the endpoint that is surely tried takes its turn; the others stand by and keep theirs.
                    next = takeTurn(start..<end, now, restingToo: restingToo)
                } else {
                    next = standby(start..<end, now, plan, restingToo: restingToo)
                }
                guard let next else { break }
                if plan.isEmpty { noteTry(next, now) }
                plan.append(next)
            }
            if restingToo, !plan.isEmpty { return }
            start = end
        }
    }

    /// nginx's choice: everyone gains its weight, the richest serves and pays what all gained. Weights 5, 1, 1 serve
    /// as a a b a c a a, never five in a row.
    private mutating func takeTurn(_ group: Range<Int>, _ now: Instant, restingToo: Bool) -> Int? {
        var best = -1
        var gained = 0
        for index in group where mayServe(index, now, restingToo: restingToo) {
            states[index].current += states[index].effective
            gained += states[index].effective
            if states[index].effective < Int(view.endpoints[index].weight) { states[index].effective += 1 }
            if best < 0 || states[index].current > states[best].current { best = index }
        }
        guard best >= 0 else { return nil }
        states[best].current -= gained
        return best
    }

    /// One try after a rest: until it has succeeded, the next comes a whole `failTimeout` later.
    private mutating func noteTry(_ index: Int, _ now: Instant) {
        if now.nanoseconds(since: states[index].checkedAt) > view.endpoints[index].failTimeout {
            states[index].checkedAt = now
        }
    }

    /// Slots looked at before the rest of a group is searched in order.
    private static let slotsTriedMax = 64

    /// The endpoint of the client's slot or, where that may not serve, of the next slot whose endpoint may: so who has lost
    /// its endpoint goes to one of all the others, and comes back when it does.
    private func hashed(
        _ group: Range<Int>, _ client: UInt64, _ now: Instant, _ plan: EndpointPlan, restingToo: Bool
    ) -> Int? {
        func isFit(_ index: Int) -> Bool { mayServe(index, now, restingToo: restingToo) && !plan.contains(index) }
        let slots = view.endpoints[group.lowerBound].groupSlots
        var slot = Int(client % UInt64(slots.count))
        for _ in 0..<min(Self.slotsTriedMax, Int(slots.count)) {
            let index = Int(view.hashSlots[Int(slots.first) + slot])
            if isFit(index) { return index }
            slot = (slot + 1) % Int(slots.count)
        }
        let middle = group.lowerBound + Int(client % UInt64(group.count))
        return (middle..<group.upperBound).first(where: isFit) ?? (group.lowerBound..<middle).first(where: isFit)
    }

    /// Who would serve next.
    private func standby(_ group: Range<Int>, _ now: Instant, _ plan: EndpointPlan, restingToo: Bool) -> Int? {
        var best = -1
        var bestWeight = 0
        for index in group where mayServe(index, now, restingToo: restingToo) && !plan.contains(index) {
            let weight = states[index].current + states[index].effective
            if best < 0 || weight > bestWeight { (best, bestWeight) = (index, weight) }
        }
        return best < 0 ? nil : best
    }

    private func mayServe(_ index: Int, _ now: Instant, restingToo: Bool) -> Bool {
        !view.endpoints[index].isDown && (restingToo || !isResting(endpoint: index, now: now))
    }

    // MARK: Memory

    private static func freshStates(_ view: RouteView) -> FlatArray<State> {
        FlatArray(view.endpoints.indices.map { State(effective: Int(view.endpoints[$0].weight)) })
    }

    private static func identities(_ view: RouteView) -> FlatArray<Identity> {
        FlatArray(
            view.endpoints.indices.map { index in
                let endpoint = view.endpoints[index]
                return Identity(cluster: view.clusters[Int(endpoint.cluster)].metric, endpoint: endpoint.metric)
            })
    }
}
