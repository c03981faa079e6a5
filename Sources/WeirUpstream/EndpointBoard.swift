import Synchronization
import WeirMemory
import WeirNet
import WeirRouting

/// What all workers know together of the endpoints of all clusters, from one configuration to the next: who is connected, who
/// fails, who is ejected, what the checks say.
///
/// A cluster and an endpoint each have a *place*, a number that they keep for as long as configurations name them. At a place
/// stand a few words that any thread changes with one atomic operation each, so a worker that sees a failure ejects the endpoint
/// for all of them at once, without a lock. Whoever changes what is to be chosen from raises the cluster's *epoch*; workers
/// keep what they have derived until they see another one.
package final class EndpointBoard: Sendable {
    package static let endpointCountMax = 1 << 16
    package static let clusterCountMax = 1 << 14
    /// Routes that have limits.
    package static let routeCountMax = 1 << 16

    // The words of an endpoint: a cache line. Moments are in milliseconds.
    private enum Word {
        /// Sessions, connecting ones included.
        static let connections = 0
        /// Failures in a row, and the moment of the last: `StampedCount`.
        static let failures = 1
        /// Ejections that are not forgiven, whether the present one is counted, and when it ends: `Ejection`.
        static let ejection = 2
        /// What the checks say, and since when: `Health`.
        static let health = 3
        /// The moment of the last try after a rest.
        static let trial = 4
        /// The moment from which its slow start counts.
        static let since = 5
        /// The place of its cluster, and one; 0: it has none.
        static let cluster = 6
        static let count = 8
    }

    // The words of a cluster: a cache line.
    private enum ClusterWord {
        static let epoch = 0
        static let connections = 1
        static let pending = 2
        /// Endpoints whose ejection counts.
        static let ejected = 3
        /// The moment at which its bucket of new sessions is full, in nanoseconds.
        static let rate = 4
        static let count = 8
    }

    // The words of a route that has limits: a cache line.
    private enum RouteWord {
        static let connections = 0
        /// As that of a cluster.
        static let rate = 1
        static let count = 8
    }

    /// A count, and the moment of the last that was counted.
    private struct StampedCount {
        var count: UInt64
        var at: UInt64

        static let countMax: UInt64 = 0xf_ffff

        init(count: UInt64, at: UInt64) {
            self.count = count
            self.at = at
        }

        init(_ word: UInt64) { self.init(count: word & Self.countMax, at: word >> 20) }
        var word: UInt64 { at << 20 | min(count, Self.countMax) }
    }

    package struct Ejection: Equatable {
        /// So many times its base is what it lasts.
        package var count: UInt64
        /// It takes up one of the cluster's places for ejected endpoints.
        package var isCounted: Bool
        /// Milliseconds.
        package var until: UInt64

        static let untilMax: UInt64 = 0x7ff_ffff_ffff

        init(count: UInt64, isCounted: Bool, until: UInt64) {
            self.count = count
            self.isCounted = isCounted
            self.until = until
        }

        init(_ word: UInt64) {
            self.init(count: word & 0xf_ffff, isCounted: word & 1 << 20 != 0, until: word >> 21)
        }
        var word: UInt64 { until << 21 | (isCounted ? 1 << 20 : 0) | min(count, 0xf_ffff) }
    }

    /// What active checks say.
    package enum Health: UInt64, Sendable {
        /// No check has ended yet, or none is made.
        case unknown = 0
        case healthy = 1
        case unhealthy = 2
    }

    private let endpoints = SharedCells(count: endpointCountMax * Word.count)
    private let clusters = SharedCells(count: clusterCountMax * ClusterWord.count)
    private let routes = SharedCells(count: routeCountMax * RouteWord.count)
    private let places: Mutex<EndpointPlaces>

    package init() {
        places = Mutex(
            EndpointPlaces(
                endpointCountMax: Self.endpointCountMax, clusterCountMax: Self.clusterCountMax,
                routeCountMax: Self.routeCountMax))
    }

    deinit {
        endpoints.deallocate()
        clusters.deallocate()
        routes.deallocate()
    }

    private static func milliseconds(_ moment: Instant) -> UInt64 { moment.nanoseconds / 1_000_000 }
    private static func instant(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    private func cell(_ place: Int32, _ word: Int) -> Int { Int(place) * Word.count + word }
    private func clusterCell(_ place: Int32, _ word: Int) -> Int { Int(place) * ClusterWord.count + word }
    private func routeCell(_ place: Int32, _ word: Int) -> Int { Int(place) * RouteWord.count + word }

    // MARK: Places, for who compiles configurations

    /// Compiles with the places of the configuration that `body` names one after the other. What was there before and is not
    /// named any more is forgotten by `forgetGone()`, but for its live sessions. One at a time.
    ///
    /// A place is -1 where all are taken: such an endpoint is always good, and nothing of it is counted.
    package func withPlaces<Result>(now: Instant, _ body: (@escaping (MetricSubject) -> Int32) -> Result) -> Result {
        places.withLock { $0.begin() }
        let result = body { subject in
            let (place, isNew) = self.places.withLock { places in
                places.place(of: subject, isFree: { self.isUnused($0, subject) })
            }
            if isNew, place >= 0, case .cluster = subject {
                for word in [ClusterWord.ejected, ClusterWord.rate] {
                    self.clusters.store(self.clusterCell(place, word), 0)
                }
            }
            if isNew, place >= 0, case .route = subject { self.routes.store(self.routeCell(place, RouteWord.rate), 0) }
            if isNew, place >= 0, case .endpoint(let cluster, _) = subject {
                // Whatever a late word of the earlier tenant's left there.
                for word in [Word.failures, Word.ejection, Word.health, Word.trial] {
                    self.endpoints.store(self.cell(place, word), 0)
                }
                self.endpoints.store(self.cell(place, Word.since), Self.milliseconds(now))
                let owner = self.places.withLock { places in
                    places.place(of: .cluster(cluster), isFree: { self.isUnused($0, .cluster(cluster)) }).place
                }
                self.endpoints.store(self.cell(place, Word.cluster), UInt64(owner + 1))
            }
            return place
        }
        places.withLock { $0.finish() }
        return result
    }

    /// Forgets what is known of the endpoints that the last configuration left out. To be called once nobody uses an earlier
    /// one any more.
    package func forgetGone() {
        for (place, cluster) in places.withLock({ $0.takeGone() }) { forget(endpoint: place, of: cluster) }
    }

    /// The place of a part that the last configuration names; -1 where it has none.
    package func place(of subject: MetricSubject) -> Int32 { places.withLock { $0.known(subject) } }

    private func cluster(of endpoint: Int32) -> Int32 { Int32(endpoints.load(cell(endpoint, Word.cluster))) - 1 }

    private func isUnused(_ place: Int32, _ subject: MetricSubject) -> Bool {
        if case .route = subject { return connectionCount(route: place) == 0 }
        if case .cluster = subject {
            return clusters.load(clusterCell(place, ClusterWord.connections)) == 0
                && clusters.load(clusterCell(place, ClusterWord.pending)) == 0
        }
        return connectionCount(place) == 0
    }

    private func forget(endpoint place: Int32, of cluster: Int32) {
        pardon(place, of: cluster)
        for word in [Word.failures, Word.ejection, Word.health, Word.trial] { endpoints.store(cell(place, word), 0) }
    }

    // MARK: The epoch

    /// Another value than before where an endpoint of the cluster may have become good or bad.
    package func epoch(cluster: Int32) -> UInt64 {
        cluster < 0 ? 0 : clusters.load(clusterCell(cluster, ClusterWord.epoch))
    }

    private func raiseEpoch(_ cluster: Int32) {
        if cluster >= 0 { clusters.increment(clusterCell(cluster, ClusterWord.epoch)) }
    }

    // MARK: Sessions

    package func connectionCount(_ endpoint: Int32) -> UInt64 {
        endpoint < 0 ? 0 : endpoints.load(cell(endpoint, Word.connections))
    }

    /// Counts one more session of the endpoint; false where it has `limit` already.
    package func enter(endpoint: Int32, limit: UInt64) -> Bool {
        endpoint < 0 || endpoints.tryIncrement(cell(endpoint, Word.connections), limit: limit)
    }

    package func leave(endpoint: Int32) {
        if endpoint >= 0 { endpoints.decrement(cell(endpoint, Word.connections)) }
    }

    package enum Admission: Sendable {
        case admitted
        case connections
        case pending
        case rate
    }

    /// Counts one more session of the cluster, and that it is connecting.
    package func enter(cluster: CompiledCluster, now: Instant) -> Admission {
        let place = cluster.place
        if place < 0 { return .admitted }
        guard clusters.tryIncrement(clusterCell(place, ClusterWord.connections), limit: cluster.connectionsMax) else {
            return .connections
        }
        guard clusters.tryIncrement(clusterCell(place, ClusterWord.pending), limit: cluster.pendingMax) else {
            clusters.decrement(clusterCell(place, ClusterWord.connections))
            return .pending
        }
        // Last, so that who is refused for another reason does not use it up.
        guard takeRate(clusters, clusterCell(place, ClusterWord.rate), cluster.rate, now) else {
            clusters.decrement(clusterCell(place, ClusterWord.connections))
            clusters.decrement(clusterCell(place, ClusterWord.pending))
            return .rate
        }
        return .admitted
    }

    private func takeRate(_ cells: SharedCells, _ cell: Int, _ bound: RateBound, _ now: Instant) -> Bool {
        if bound.isNone { return true }
        while true {
            let seen = cells.load(cell)
            switch bound.verdict(fullAt: seen, now: now.nanoseconds) {
            case .admitted(let moment): if cells.exchange(cell, seen, moment) { return true }
            case .refusedAndCut(let moment): if cells.exchange(cell, seen, moment) { return false }
            case .refused: return false
            }
        }
    }

    /// A session of the cluster connects no more: it is connected, or over.
    package func connected(cluster: Int32) {
        if cluster >= 0 { clusters.decrement(clusterCell(cluster, ClusterWord.pending)) }
    }

    package func leave(cluster: Int32) {
        if cluster >= 0 { clusters.decrement(clusterCell(cluster, ClusterWord.connections)) }
    }

    package func connectionCount(cluster: Int32) -> UInt64 {
        cluster < 0 ? 0 : clusters.load(clusterCell(cluster, ClusterWord.connections))
    }

    package func pendingCount(cluster: Int32) -> UInt64 {
        cluster < 0 ? 0 : clusters.load(clusterCell(cluster, ClusterWord.pending))
    }

    package func ejectedCount(cluster: Int32) -> UInt64 {
        cluster < 0 ? 0 : clusters.load(clusterCell(cluster, ClusterWord.ejected))
    }

    /// Counts one more session of the route; false where it has as many as it may.
    package func enter(route: CompiledRouteLimits) -> Bool {
        route.place < 0
            || routes.tryIncrement(routeCell(route.place, RouteWord.connections), limit: route.connectionsMax)
    }

    /// Whether the route begins one more session now.
    package func takeRate(route: CompiledRouteLimits, now: Instant) -> Bool {
        route.place < 0 || takeRate(routes, routeCell(route.place, RouteWord.rate), route.rate, now)
    }

    package func leave(route: Int32) {
        if route >= 0 { routes.decrement(routeCell(route, RouteWord.connections)) }
    }

    package func connectionCount(route: Int32) -> UInt64 {
        route < 0 ? 0 : routes.load(routeCell(route, RouteWord.connections))
    }

    // MARK: Standing

    /// Whether an endpoint may be chosen, and why not.
    package enum Standing: Equatable, Sendable {
        case good
        /// Good again since so many nanoseconds at most, or new: its share is smaller.
        case starting(since: Instant)
        case unhealthy
        /// Until then.
        case ejected(until: Instant)
        /// Until then; whoever is first after that tries it (nginx's `fail_timeout`).
        case resting(until: Instant)
        /// Its rest is over, and nobody has tried it since.
        case onTrial
    }

    /// `slowStart`: nanoseconds; 0: there is none.
    package func standing(_ endpoint: CompiledEndpoint, slowStart: UInt64, now: Instant) -> Standing {
        let place = endpoint.place
        if place < 0 { return .good }
        if Health(rawValue: endpoints.load(cell(place, Word.health))) == .unhealthy { return .unhealthy }
        let ejection = Ejection(endpoints.load(cell(place, Word.ejection)))
        let until = Self.instant(ejection.until)
        if until > now { return .ejected(until: until) }
        if endpoint.maxFails > 0 {
            let failures = StampedCount(endpoints.load(cell(place, Word.failures)))
            if failures.count >= UInt64(endpoint.maxFails) {
                let last = max(failures.at, endpoints.load(cell(place, Word.trial)))
                let end = Self.instant(last).advanced(byNanoseconds: endpoint.failTimeout)
                return now <= end ? .resting(until: end.advanced(byNanoseconds: 1)) : .onTrial
            }
        }
        guard slowStart > 0 else { return .good }
        let since = max(Self.instant(endpoints.load(cell(place, Word.since))), until)
        return now.nanoseconds(since: since) < slowStart ? .starting(since: since) : .good
    }

    /// The one try after a rest: true for the first who asks; until it has succeeded, the next comes a whole `failTimeout` later.
    package func takeTrial(_ endpoint: CompiledEndpoint, of cluster: Int32, now: Instant) -> Bool {
        let trial = cell(endpoint.place, Word.trial)
        let seen = endpoints.load(trial)
        let failures = StampedCount(endpoints.load(cell(endpoint.place, Word.failures)))
        let end = Self.instant(max(failures.at, seen)).advanced(byNanoseconds: endpoint.failTimeout)
        guard now > end, endpoints.exchange(trial, seen, Self.milliseconds(now)) else { return false }
        raiseEpoch(cluster)
        return true
    }

    // MARK: Outcomes

    /// A connect to the endpoint failed, or its connection ended before the first byte. How many that makes in a row; 0 where it
    /// is of no account, because the endpoint is ejected already.
    package func failed(_ endpoint: CompiledEndpoint, of cluster: Int32, now: Instant) -> UInt64 {
        let place = endpoint.place
        guard place >= 0, Self.instant(ejection(place).until) <= now else { return 0 }
        let failures = addFailure(place, now)
        // Before, it was good, or on trial.
        if endpoint.maxFails > 0, failures >= UInt64(endpoint.maxFails) { raiseEpoch(cluster) }
        return failures
    }

    private func addFailure(_ place: Int32, _ now: Instant) -> UInt64 {
        let cell = cell(place, Word.failures)
        while true {
            let seen = endpoints.load(cell)
            let next = StampedCount(count: StampedCount(seen).count + 1, at: Self.milliseconds(now))
            if endpoints.exchange(cell, seen, next.word) { return next.count }
        }
    }

    /// Takes the endpoint out of the choice for a time. False where as many as may be are ejected, this one perhaps among them.
    ///
    /// `peerCount`: endpoints of the cluster, itself included. Ejections that are over have been settled.
    package func eject(
        _ place: Int32, of cluster: Int32, _ outliers: CompiledOutliers, peerCount: Int, now: Instant
    ) -> Bool {
        let limit = UInt64(max(1, peerCount * outliers.ejectionPercentMax / 100))
        let ejected = clusterCell(cluster, ClusterWord.ejected)
        guard cluster >= 0, clusters.tryIncrement(ejected, limit: limit) else { return false }
        let cell = cell(place, Word.ejection)
        while true {
            let seen = endpoints.load(cell)
            let before = Ejection(seen)
            if before.isCounted {
                // Another worker's failure was faster.
                clusters.decrement(ejected)
                return false
            }
            let quiet = now.nanoseconds(since: Self.instant(before.until)) / outliers.interval
            let count = before.count - min(before.count, before.until == 0 ? 0 : quiet) + 1
            let (time, isOver) = outliers.baseEjectionTime.multipliedReportingOverflow(by: count)
            let lasts = isOver ? outliers.ejectionTimeMax : min(time, outliers.ejectionTimeMax)
            let end = now.advanced(byNanoseconds: lasts).advanced(byNanoseconds: 999_999).nanoseconds / 1_000_000
            let until = min(end, Ejection.untilMax)
            if endpoints.exchange(cell, seen, Ejection(count: count, isCounted: true, until: until).word) { break }
        }
        endpoints.store(self.cell(place, Word.failures), 0)
        raiseEpoch(cluster)
        return true
    }

    /// Gives the place among the ejected back where the ejection is over. True where it was.
    @discardableResult
    package func settleEjection(_ place: Int32, of cluster: Int32, now: Instant) -> Bool {
        guard place >= 0 else { return false }
        let cell = cell(place, Word.ejection)
        let seen = endpoints.load(cell)
        var ejection = Ejection(seen)
        guard ejection.isCounted, Self.instant(ejection.until) <= now else { return false }
        ejection.isCounted = false
        guard endpoints.exchange(cell, seen, ejection.word) else { return false }
        if cluster >= 0 { clusters.decrement(clusterCell(cluster, ClusterWord.ejected)) }
        raiseEpoch(cluster)
        return true
    }

    /// A connect to the endpoint succeeded. For one without `maxFails` its failures are forgotten; with it, those that are older
    /// than `failTimeout` (nginx's way: failures within it add up although some connects succeed between them).
    package func succeeded(_ endpoint: CompiledEndpoint, of cluster: Int32, now: Instant) {
        guard endpoint.place >= 0 else { return }
        let cell = cell(endpoint.place, Word.failures)
        let seen = endpoints.load(cell)
        if seen == 0 { return }
        let failures = StampedCount(seen)
        if endpoint.maxFails > 0, now.nanoseconds(since: Self.instant(failures.at)) <= endpoint.failTimeout { return }
        // Where another failure came in between, that one counts.
        if endpoints.exchange(cell, seen, 0), endpoint.maxFails > 0 { raiseEpoch(cluster) }
    }

    // MARK: Active checks

    package func health(_ endpoint: Int32) -> Health {
        endpoint < 0 ? .unknown : Health(rawValue: endpoints.load(cell(endpoint, Word.health))) ?? .unknown
    }

    /// What the checks say from now on. One that has become healthy is not ejected any more (UP-05), and its failures are
    /// forgotten.
    package func setHealth(_ endpoint: Int32, _ health: Health, now: Instant) {
        guard endpoint >= 0 else { return }
        let cluster = cluster(of: endpoint)
        let before = self.health(endpoint)
        guard before != health else { return }
        endpoints.store(cell(endpoint, Word.health), health.rawValue)
        if health == .healthy, before == .unhealthy {
            endpoints.store(cell(endpoint, Word.failures), 0)
            endpoints.store(cell(endpoint, Word.since), Self.milliseconds(now))
            pardon(endpoint, of: cluster)
        }
        raiseEpoch(cluster)
    }

    private func pardon(_ place: Int32, of cluster: Int32) {
        let cell = cell(place, Word.ejection)
        while true {
            let seen = endpoints.load(cell)
            var ejection = Ejection(seen)
            guard ejection.isCounted else { return }
            ejection.isCounted = false
            ejection.until = 0
            if endpoints.exchange(cell, seen, ejection.word) { break }
        }
        if cluster >= 0 { clusters.decrement(clusterCell(cluster, ClusterWord.ejected)) }
    }

    // MARK: Looks, for people

    package func failureCount(_ endpoint: Int32) -> UInt64 {
        endpoint < 0 ? 0 : StampedCount(endpoints.load(cell(endpoint, Word.failures))).count
    }

    package func ejection(_ endpoint: Int32) -> Ejection {
        endpoint < 0 ? Ejection(0) : Ejection(endpoints.load(cell(endpoint, Word.ejection)))
    }
}
