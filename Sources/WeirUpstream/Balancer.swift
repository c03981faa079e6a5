import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// Chooses endpoints for one worker, among those that the board says are good.
///
/// What is good is looked up when the cluster's epoch has changed or a moment has come at which it does by itself; in between, a
/// choice reads what was found then. So choosing by turns costs the depth of a heap, whatever the number of endpoints.
///
/// Owned by one thread. Nothing is allocated except in `init` and `adopt`.
package struct Balancer: ~Copyable {
    /// Endpoints of one priority in one cluster.
    private struct Group: BitwiseCopyable {
        let first: Int32
        let count: Int32
        /// Those that may be chosen, first in the group's part of `turns`: a heap.
        var fitCount: Int32 = 0
        /// Those that are good, and those that are not down.
        var goodCount: Int32 = 0
        var usableCount: Int32 = 0
        /// The turn that was taken last.
        var turn: UInt64 = 0

        var indices: Range<Int> { Int(first)..<Int(first) + Int(count) }
    }

    private struct ClusterState: BitwiseCopyable {
        let firstGroup: Int32
        let groupCount: Int32
        /// As of the last look; `changesAt` says when another is due in any case.
        var epoch: UInt64 = 0
        var changesAt = Instant(nanoseconds: 0)
        /// Too few are good, so all serve.
        var isPanicking = false

        var groups: Range<Int> { Int(firstGroup)..<Int(firstGroup) + Int(groupCount) }
    }

    /// When an endpoint serves next, in a time of the group's own in which every endpoint serves once per `round / weight`.
    private struct Turn: BitwiseCopyable {
        var at: UInt64
        var endpoint: Int32
    }

    /// What an endpoint of weight 1 waits from turn to turn.
    private static let round: UInt64 = 1 << 32
    /// Turns begin at 0 again above it.
    private static let turnMax: UInt64 = 1 << 62
    /// Of more, some are drawn.
    private static let scannedMax = 32
    private static let drawnCount = 16
    /// Slots of a hash table looked at before the rest of a group is searched in order.
    private static let slotsTriedMax = 64
    /// In percent, of an endpoint that starts slowly; Envoy's.
    private static let startingShareMin: UInt64 = 10

    private let board: EndpointBoard
    private var view: RouteView
    private var clusters: FlatArray<ClusterState>
    private var groups: FlatArray<Group>
    private var turns: FlatArray<Turn>
    /// By endpoint.
    private var isFit: FlatArray<Bool>
    /// Turns taken in advance in every group.
    private var rotation: Int
    /// Turns that sessions took since, in whichever group.
    private var takenCount = 0
    private var random: UInt64

    /// `rotation`: turns taken in advance in every group, so that workers do not all begin with the same endpoint.
    /// `seed`: of what is drawn.
    package init(view: RouteView, board: EndpointBoard, rotation: Int = 0, seed: UInt64 = 1) {
        self.view = view
        self.board = board
        self.rotation = rotation
        random = seed | 1
        (clusters, groups) = Self.states(view)
        turns = FlatArray(repeating: Turn(at: 0, endpoint: -1), count: view.endpoints.count)
        isFit = FlatArray(repeating: false, count: view.endpoints.count)
    }

    deinit { deallocate() }

    private func deallocate() {
        clusters.deallocate()
        groups.deallocate()
        turns.deallocate()
        isFit.deallocate()
    }

    /// Goes over to `view`. Turns begin anew, as many endpoints on as turns were taken: reloads that follow each other closely
    /// would send everybody to the first. Indices of the earlier view mean nothing afterwards.
    package mutating func adopt(_ view: RouteView) {
        deallocate()
        rotation = (rotation + takenCount) & 0xffff_ffff
        takenCount = 0
        self.view = view
        (clusters, groups) = Self.states(view)
        turns = FlatArray(repeating: Turn(at: 0, endpoint: -1), count: view.endpoints.count)
        isFit = FlatArray(repeating: false, count: view.endpoints.count)
    }

    private static func states(_ view: RouteView) -> (FlatArray<ClusterState>, FlatArray<Group>) {
        var clusters: [ClusterState] = []
        var groups: [Group] = []
        for cluster in view.clusters.indices {
            let range = view.clusters[cluster].endpoints.indices
            let firstGroup = groups.count
            var start = range.lowerBound
            while start < range.upperBound {
                var end = start + 1
                while end < range.upperBound, view.endpoints[end].priority == view.endpoints[start].priority {
                    end += 1
                }
                groups.append(Group(first: Int32(start), count: Int32(end - start)))
                start = end
            }
            clusters.append(
                ClusterState(firstGroup: Int32(firstGroup), groupCount: Int32(groups.count - firstGroup)))
        }
        return (FlatArray(clusters), FlatArray(groups))
    }

    // MARK: Choosing

    /// The endpoint that a session tries next: none of `tried`, none that has as many sessions as it may have, and as long as
    /// enough are good, only such. It is counted among the endpoint's sessions: whoever asked gives it back
    /// (`EndpointBoard.leave(endpoint:)`). nil: there is none. `client`: a hash of its address.
    package mutating func choose(cluster: Int, client: UInt64, tried: TriedEndpoints, now: Instant) -> Int? {
        look(cluster, now)
        if let endpoint = chooseFit(cluster, client, tried, now) { return endpoint }
        // Another worker may have been faster with the last one that was to be tried.
        if clusters[cluster].epoch != board.epoch(cluster: view.clusters[cluster].place) {
            look(cluster, now)
            if let endpoint = chooseFit(cluster, client, tried, now) { return endpoint }
        }
        return standby(cluster, tried, now)
    }

    private mutating func chooseFit(_ cluster: Int, _ client: UInt64, _ tried: TriedEndpoints, _ now: Instant) -> Int? {
        let preferred = preferredGroup(cluster, isFirst: tried.count == 0)
        if let endpoint = choose(cluster, preferred, client, tried, now) { return endpoint }
        for group in clusters[cluster].groups where group != preferred {
            if let endpoint = choose(cluster, group, client, tried, now) { return endpoint }
        }
        return nil
    }

    /// Whether there is an endpoint for a session that has tried `tried`.
    package mutating func hasAnother(cluster: Int, than tried: TriedEndpoints, now: Instant) -> Bool {
        look(cluster, now)
        return view.clusters[cluster].endpoints.indices.contains {
            (isFit[$0] || standsBy(cluster, $0, now)) && mayEnter(cluster, $0, tried)
        }
    }

    /// Where those that serve cannot be had, one of the good ones that only stand by.
    private func standby(_ cluster: Int, _ tried: TriedEndpoints, _ now: Instant) -> Int? {
        guard view.clusters[cluster].activeCountMax != .max else { return nil }
        return view.clusters[cluster].endpoints.indices.first {
            !isFit[$0] && standsBy(cluster, $0, now) && enter(cluster, $0, tried, now)
        }
    }

    private func standsBy(_ cluster: Int, _ endpoint: Int, _ now: Instant) -> Bool {
        guard view.clusters[cluster].activeCountMax != .max, !view.endpoints[endpoint].isDown else { return false }
        return switch board.standing(view.endpoints[endpoint], slowStart: 0, now: now) {
        case .good, .starting: true
        case .unhealthy, .ejected, .resting, .onTrial: false
        }
    }

    /// Where a session's first endpoint is looked for: the first group that has one, or a group that is drawn for its share.
    private mutating func preferredGroup(_ cluster: Int, isFirst: Bool) -> Int {
        let range = clusters[cluster].groups
        let factor = Int(view.clusters[cluster].overprovisioningFactor)
        guard factor > 0, isFirst, range.count > 1, !clusters[cluster].isPanicking else { return range.lowerBound }
        var total = 0
        for group in range { total += share(groups[group], factor) }
        total = min(total, 100)
        guard total > 0 else { return range.lowerBound }
        var rest = Int(draw(UInt64(total)))
        for group in range {
            let share = share(groups[group], factor)
            if rest < share { return group }
            rest -= share
        }
        return range.lowerBound
    }

    /// Percent of the connections that a group could take.
    private func share(_ group: Group, _ factor: Int) -> Int {
        group.usableCount == 0 ? 0 : min(100, factor * Int(group.goodCount) / Int(group.usableCount))
    }

    private mutating func choose(
        _ cluster: Int, _ group: Int, _ client: UInt64, _ tried: TriedEndpoints, _ now: Instant
    ) -> Int? {
        guard groups[group].fitCount > 0 else { return nil }
        switch view.clusters[cluster].balance {
        case .roundRobin:
            takenCount += 1
            return takeTurn(cluster, group, tried, now)
        case .leastConnections: return leastConnected(cluster, group, tried, now)
        case .random: return betterOfTwo(cluster, group, tried, now)
        case .sourceHash: return hashed(cluster, group, client, tried, now)
        }
    }

    /// Whether `endpoint` can be had now. Another worker may take the last place in between.
    private func mayEnter(_ cluster: Int, _ endpoint: Int, _ tried: TriedEndpoints) -> Bool {
        let record = view.endpoints[endpoint]
        return !tried.contains(endpoint)
            && (record.connectionsMax == .max || board.connectionCount(record.place) < record.connectionsMax)
    }

    /// Takes the endpoint for a session, where it may be had.
    private func enter(_ cluster: Int, _ endpoint: Int, _ tried: TriedEndpoints, _ now: Instant) -> Bool {
        if tried.contains(endpoint) { return false }
        let record = view.endpoints[endpoint]
        if record.maxFails > 0, record.place >= 0, !clusters[cluster].isPanicking,
            board.failureCount(record.place) >= UInt64(record.maxFails),
            !board.takeTrial(record, of: view.clusters[cluster].place, now: now)
        {
            return false
        }
        return board.enter(endpoint: record.place, limit: record.connectionsMax)
    }

    // MARK: By turns

    /// The endpoint whose turn it is; where it cannot be had, the one whose turn is the next that can.
    private mutating func takeTurn(_ cluster: Int, _ group: Int, _ tried: TriedEndpoints, _ now: Instant) -> Int? {
        let first = Int(groups[group].first)
        if enter(cluster, Int(turns[first].endpoint), tried, now) { return endTurn(cluster, group, first, now) }
        var tried = tried
        tried.append(Int(turns[first].endpoint))
        // Others may be faster than we are, but not for ever (UP-04).
        for _ in 0..<4 {
            var next = -1
            for position in first..<first + Int(groups[group].fitCount)
            where mayEnter(cluster, Int(turns[position].endpoint), tried) {
                if next < 0 || turns[position].at < turns[next].at { next = position }
            }
            guard next >= 0 else { return nil }
            if enter(cluster, Int(turns[next].endpoint), tried, now) { return endTurn(cluster, group, next, now) }
            tried.append(Int(turns[next].endpoint))
        }
        return nil
    }

    private mutating func endTurn(_ cluster: Int, _ group: Int, _ position: Int, _ now: Instant) -> Int {
        let turn = turns[position]
        let endpoint = Int(turn.endpoint)
        // Turns that it could not take, being full, are not made up for.
        groups[group].turn = max(groups[group].turn, turn.at)
        turns[position].at = groups[group].turn + wait(cluster, endpoint, now)
        sink(group, position)
        if groups[group].turn > Self.turnMax { beginAnew(group) }
        return endpoint
    }

    /// How long an endpoint waits for its next turn.
    private func wait(_ cluster: Int, _ endpoint: Int, _ now: Instant) -> UInt64 {
        let record = view.endpoints[endpoint]
        let wait = Self.round / UInt64(record.weight)
        let slowStart = view.clusters[cluster].slowStart
        guard slowStart > 0,
            case .starting(let since) = board.standing(record, slowStart: slowStart, now: now)
        else { return wait }
        let share = now.nanoseconds(since: since) / max(slowStart / 100, 1)
        return wait * 100 / max(min(share, 100), Self.startingShareMin)
    }

    private mutating func beginAnew(_ group: Int) {
        let base = groups[group].turn
        for position in groups[group].indices.prefix(Int(groups[group].fitCount)) {
            turns[position].at -= min(base, turns[position].at)
        }
        groups[group].turn = 0
    }

    /// Moves what stands at `start` down to where nobody below it is earlier.
    private func sink(_ group: Int, _ start: Int) {
        let first = Int(groups[group].first)
        let count = Int(groups[group].fitCount)
        let moving = turns[start]
        var position = start - first
        while true {
            var child = 2 * position + 1
            guard child < count else { break }
            if child + 1 < count, Self.isEarlier(turns[first + child + 1], turns[first + child]) { child += 1 }
            guard Self.isEarlier(turns[first + child], moving) else { break }
            turns[first + position] = turns[first + child]
            position = child
        }
        turns[first + position] = moving
    }

    /// Of the same moment, as written in the configuration.
    private static func isEarlier(_ one: Turn, _ other: Turn) -> Bool {
        one.at != other.at ? one.at < other.at : one.endpoint < other.endpoint
    }

    // MARK: By sessions

    private mutating func leastConnected(_ cluster: Int, _ group: Int, _ tried: TriedEndpoints, _ now: Instant) -> Int?
    {
        let (first, count) = (Int(groups[group].first), Int(groups[group].fitCount))
        var tried = tried
        for _ in 0..<4 {
            var best = -1
            if count > Self.scannedMax {
                for _ in 0..<Self.drawnCount {
                    best = better(cluster, best, Int(turns[first + Int(draw(UInt64(count)))].endpoint), tried)
                }
            }
            if best < 0 {
                // From another one each time, so that equals take turns.
                groups[group].turn = (groups[group].turn + 1) % UInt64(count)
                for step in 0..<count {
                    let position = first + (Int(groups[group].turn) + step) % count
                    best = better(cluster, best, Int(turns[position].endpoint), tried)
                }
            }
            guard best >= 0 else { return nil }
            if enter(cluster, best, tried, now) { return best }
            tried.append(best)
        }
        return nil
    }

    private mutating func betterOfTwo(_ cluster: Int, _ group: Int, _ tried: TriedEndpoints, _ now: Instant) -> Int? {
        let (first, count) = (Int(groups[group].first), UInt64(groups[group].fitCount))
        let one = draw(count)
        // Another one, where there is one.
        let other = count > 1 ? (one + 1 + draw(count - 1)) % count : one
        let best = better(
            cluster, better(cluster, -1, Int(turns[first + Int(one)].endpoint), tried),
            Int(turns[first + Int(other)].endpoint), tried)
        if best >= 0, enter(cluster, best, tried, now) { return best }
        return anyOther(cluster, first..<first + Int(count), from: Int(one), tried, now)
    }

    private func anyOther(
        _ cluster: Int, _ positions: Range<Int>, from start: Int, _ tried: TriedEndpoints, _ now: Instant
    ) -> Int? {
        for step in positions.indices {
            let position = positions.lowerBound + (start + step - positions.lowerBound) % positions.count
            let endpoint = Int(turns[position].endpoint)
            if mayEnter(cluster, endpoint, tried), enter(cluster, endpoint, tried, now) { return endpoint }
        }
        return nil
    }

    /// Which of two has fewer sessions for its weight; the first of equals. -1: nobody.
    private func better(_ cluster: Int, _ one: Int, _ other: Int, _ tried: TriedEndpoints) -> Int {
        guard mayEnter(cluster, other, tried) else { return one }
        if one < 0 { return other }
        let (a, b) = (view.endpoints[one], view.endpoints[other])
        let isOtherBetter =
            (board.connectionCount(b.place) + 1) * UInt64(a.weight) < (board.connectionCount(a.place) + 1)
            * UInt64(b.weight)
        return isOtherBetter ? other : one
    }

    // MARK: By the client

    /// The endpoint of the client's slot or, where that cannot be had, of the next slot whose endpoint can: so who has lost
    /// its endpoint goes to one of all the others, and comes back when it does.
    private func hashed(
        _ cluster: Int, _ group: Int, _ client: UInt64, _ tried: TriedEndpoints, _ now: Instant
    ) -> Int? {
        let range = groups[group].indices
        let slots = view.endpoints[range.lowerBound].groupSlots
        var slot = Int(client % UInt64(slots.count))
        for _ in 0..<min(Self.slotsTriedMax, Int(slots.count)) {
            let endpoint = Int(view.hashSlots[Int(slots.first) + slot])
            if isFit[endpoint], mayEnter(cluster, endpoint, tried), enter(cluster, endpoint, tried, now) {
                return endpoint
            }
            slot = (slot + 1) % Int(slots.count)
        }
        for step in 0..<range.count {
            let endpoint = range.lowerBound + (Int(client % UInt64(range.count)) + step) % range.count
            if isFit[endpoint], mayEnter(cluster, endpoint, tried), enter(cluster, endpoint, tried, now) {
                return endpoint
            }
        }
        return nil
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), below `bound`.
    private mutating func draw(_ bound: UInt64) -> UInt64 {
        random &+= 0x9e37_79b9_7f4a_7c15
        var bits = random
        bits = (bits ^ bits >> 30) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ bits >> 27) &* 0x94d0_49bb_1331_11eb
        return (bits ^ bits >> 31).multipliedFullWidth(by: bound).high
    }

    // MARK: Who is good

    private mutating func look(_ cluster: Int, _ now: Instant) {
        let record = view.clusters[cluster]
        if clusters[cluster].changesAt > now, clusters[cluster].epoch == board.epoch(cluster: record.place) { return }
        if record.outliers != nil { settleEjections(cluster, now) }
        // Before what it counts is looked at: a change in between is seen by the next choice.
        clusters[cluster].epoch = board.epoch(cluster: record.place)
        let isFirst = clusters[cluster].changesAt == Instant(nanoseconds: 0)
        clusters[cluster].changesAt = .distantFuture
        var (good, usable, fit) = (0, 0, 0)
        for group in clusters[cluster].groups {
            lookAtGroup(cluster, group, now)
            good += Int(groups[group].goodCount)
            usable += Int(groups[group].usableCount)
            fit += Int(groups[group].fitCount)
        }
        let healthMin = record.outliers?.minHealthPercent ?? 0
        clusters[cluster].isPanicking = fit == 0 || good * 100 < healthMin * usable
        for group in clusters[cluster].groups {
            if clusters[cluster].isPanicking { admitAll(group) }
            arrange(cluster, group, isFirst: isFirst, now)
        }
    }

    private func settleEjections(_ cluster: Int, _ now: Instant) {
        for endpoint in view.clusters[cluster].endpoints.indices {
            board.settleEjection(view.endpoints[endpoint].place, of: view.clusters[cluster].place, now: now)
        }
    }

    private mutating func lookAtGroup(_ cluster: Int, _ group: Int, _ now: Instant) {
        let slowStart = view.clusters[cluster].slowStart
        let activeMax = Int(view.clusters[cluster].activeCountMax)
        var (good, usable, fit) = (0, 0, 0)
        for endpoint in groups[group].indices {
            let record = view.endpoints[endpoint]
            var mayServe = false
            if !record.isDown {
                usable += 1
                switch board.standing(record, slowStart: slowStart, now: now) {
                case .good, .starting:
                    mayServe = good < activeMax
                    good += 1
                // One session at most, and whoever is on trial is no reason for another to stand by.
                case .onTrial: mayServe = true
                case .unhealthy: break
                case .ejected(let until), .resting(let until):
                    clusters[cluster].changesAt = min(clusters[cluster].changesAt, until)
                }
            }
            isFit[endpoint] = mayServe
            fit += mayServe ? 1 : 0
        }
        (groups[group].goodCount, groups[group].usableCount) = (Int32(good), Int32(usable))
        groups[group].fitCount = Int32(fit)
    }

    private func admitAll(_ group: Int) {
        for endpoint in groups[group].indices { isFit[endpoint] = !view.endpoints[endpoint].isDown }
        groups[group].fitCount = groups[group].usableCount
    }

    /// Puts those that may serve into the heap. Who has been in it keeps its turn; the others are spread over their first round.
    private mutating func arrange(_ cluster: Int, _ group: Int, isFirst: Bool, _ now: Instant) {
        let range = groups[group].indices
        // Those that are there already, packed to the front; behind them whoever is new, in order.
        var count = range.lowerBound
        var isIn = range.lowerBound
        if !isFirst {
            while isIn < range.upperBound, turns[isIn].endpoint >= 0 {
                let turn = turns[isIn]
                turns[isIn].endpoint = -1
                isIn += 1
                guard isFit[Int(turn.endpoint)] else { continue }
                turns[count] = turn
                // Marks that it has its turn, until the end of this function.
                isFit[Int(turn.endpoint)] = false
                count += 1
            }
        }
        let base = groups[group].turn
        for (place, endpoint) in range.enumerated() where isFit[endpoint] {
            let share = wait(cluster, endpoint, now) / UInt64(2 * range.count)
            turns[count] = Turn(at: base + share * UInt64(2 * place + 1), endpoint: Int32(endpoint))
            count += 1
        }
        for position in range.lowerBound..<count { isFit[Int(turns[position].endpoint)] = true }
        precondition(count - range.lowerBound == Int(groups[group].fitCount))
        for position in count..<range.upperBound { turns[position].endpoint = -1 }
        for position in (range.lowerBound..<range.lowerBound + (count - range.lowerBound) / 2).reversed() {
            sink(group, position)
        }
        if isFirst, count > range.lowerBound {
            for _ in 0..<rotation % roundLength(group) { _ = endTurn(cluster, group, range.lowerBound, now) }
        }
    }

    /// Turns until each of those that may serve has had its share, at most some thousand.
    private func roundLength(_ group: Int) -> Int {
        var (total, divisor) = (0, 0)
        for endpoint in groups[group].indices where isFit[endpoint] {
            let weight = Int(view.endpoints[endpoint].weight)
            total += weight
            var (a, b) = (divisor, weight)
            while b != 0 { (a, b) = (b, a % b) }
            divisor = a
        }
        return divisor == 0 ? 1 : min(total / divisor, 4096)
    }

    // MARK: Outcomes

    /// A connect to `endpoint` failed, or its connection ended before the first byte. True where that ejected it.
    package func failed(endpoint: Int, now: Instant) -> Bool {
        let record = view.endpoints[endpoint]
        let cluster = view.clusters[Int(record.cluster)]
        let failures = board.failed(record, of: cluster.place, now: now)
        guard record.maxFails == 0, let outliers = cluster.outliers, outliers.failuresMax > 0,
            failures >= outliers.failuresMax
        else { return false }
        settleEjections(Int(record.cluster), now)
        return board.eject(
            record.place, of: cluster.place, outliers, peerCount: Int(cluster.endpoints.count), now: now)
    }

    /// A connect to `endpoint` succeeded.
    package func succeeded(endpoint: Int, now: Instant) {
        let record = view.endpoints[endpoint]
        board.succeeded(record, of: view.clusters[Int(record.cluster)].place, now: now)
    }

    /// Whether `endpoint` is out of the choice at `now`, but for panic.
    package func isOut(endpoint: Int, now: Instant) -> Bool {
        switch board.standing(view.endpoints[endpoint], slowStart: 0, now: now) {
        case .good, .starting, .onTrial: false
        case .unhealthy, .ejected, .resting: true
        }
    }
}
