import WeirModel
import WeirNet

/// All decisions of the resolver's thread: what is known, whom to ask, whom to answer. Events go in with the time,
/// actions come out; it opens nothing and reads no clock.
///
/// - An answer lives for its TTL within the configured bounds. A name asked for again and again is looked up ahead of
///   its expiry, so that nobody waits for it.
/// - Requests for a name that is being looked up wait for that lookup; there is never a second one.
/// - A failed lookup changes no known set (UP-08). Past its TTL a set goes on serving for `staleTTL` while no server
///   gives a usable answer (P-19).
/// - Everything is bounded: names kept (the least recently asked give way), lookups in flight, requests waiting (T-17).
package struct AnswerTable {
    /// Names one lookup in flight. The generation tells it from a later one in the same place.
    package struct LookupID: Hashable, Sendable, BitwiseCopyable {
        package let index: Int
        package let generation: UInt64
    }

    package enum Action {
        /// Ask for the addresses of `name`: `lookupAnswered` is due for every family.
        case lookUp(LookupID, ServerName, v4: Bool, v6: Bool)
        /// Answer a request of port `port`.
        case answer(port: Int, ResolverAnswer)
    }

    package struct Limits: Sendable {
        /// Lookups at once; refreshes ahead of expiry take at most half of them.
        package var lookupCountMax = 1024
        /// Requests waiting for a lookup at once.
        package var waiterCountMax = 65_536
        /// Nanoseconds after one family's addresses in which the other family may still come before those who wait are
        /// answered. RFC 8305 §3.
        package var resolutionDelay: UInt64 = 50_000_000

        package init() {}
    }

    /// Totals since the start.
    package struct Counts: Sendable, BitwiseCopyable {
        /// Requests answered from what was known, and requests that needed a lookup or joined one.
        package var hits: UInt64 = 0
        package var misses: UInt64 = 0
        /// Misses that joined a lookup in flight.
        package var coalesced: UInt64 = 0
        /// Lookups started, and those of them that nobody was waiting for.
        package var lookups: UInt64 = 0
        package var refreshes: UInt64 = 0
        /// Answers given that were past their TTL.
        package var staleServed: UInt64 = 0
        /// Names that gave way to others.
        package var evictions: UInt64 = 0
        /// Requests refused because too many lookups or requests were waiting.
        package var overflows: UInt64 = 0
        /// Answers given, by the raw value of their status.
        package var answers: InlineArray<7, UInt64> = InlineArray(repeating: 0)
        /// Lookups ended, by the raw value of their status.
        package var outcomes: InlineArray<7, UInt64> = InlineArray(repeating: 0)

        package init() {}
    }

    /// How long those who wait are kept from a stale answer. RFC 8767 §5, "client response timer".
    package static let staleDelay: UInt64 = 1_800_000_000
    /// How long a failure is believed before the name is tried again. RFC 9520 §3.2 asks for at least one second.
    package static let failureHold: UInt64 = 2_000_000_000
    /// How long a request waits when lookups have been ending without any reply (P-19).
    package static let outageTimeout: UInt64 = 2_000_000_000
    /// So many lookups without reply in a row are an outage.
    private static let outageLookupCount = 3
    private static let second: UInt64 = 1_000_000_000

    private struct Entry {
        var name: ServerName
        var answer: Answer
        /// Nanoseconds that `answer` was given to live.
        var lifetime: UInt64
        var stored: Instant
        /// The last lookup failed; before this moment there is no next one. nil: it did not fail.
        var retry: Instant?
        var lastAsked: Instant
        var askCount: UInt32
        // The list by last use: `newer` leads to the most recently asked. -1 ends it.
        var newer: Int
        var older: Int
    }

    private struct Waiter: BitwiseCopyable {
        var port: Int
        var ticket: UInt64
        var deadline: Instant
    }

    private struct Lookup {
        var name: ServerName
        /// Counts the tenants of this place.
        var generation: UInt64
        var isLive = false
        var isRefresh = false
        /// Other families were wanted when it began: its result serves those who wait and nobody else.
        var isOutdated = false
        var parts: AnswerParts
        /// Since when a part with addresses is there, plus the resolution delay.
        var partialDue: Instant?
        /// By deadline. Those before `firstWaiter` have been answered.
        var waiters: [Waiter] = []
        var firstWaiter = 0
    }

    private var settings: ResolverSettings
    private let limits: Limits
    package private(set) var counts = Counts()

    private var entries: [Entry] = []
    private var freeEntries: [Int] = []
    private var entryIndex: [ServerName: Int] = [:]
    private var newest = -1
    private var oldest = -1

    private var lookups: [Lookup] = []
    private var freeLookups: [Int] = []
    private var lookupIndex: [ServerName: Int] = [:]
    private var refreshCount = 0
    private var lookupsWithoutReply = 0

    private var refreshTimers = AnswerTimers()
    private var lookupTimers = AnswerTimers()
    private var actions: [Action] = []

    package init(settings: ResolverSettings, limits: Limits = Limits()) {
        self.settings = settings
        self.limits = limits
    }

    // MARK: What can be asked

    package var entryCount: Int { entryIndex.count }
    package var lookupCount: Int { lookupIndex.count }
    package private(set) var waiterCount = 0

    /// When `advance` is due; nil where nothing is timed.
    package var nextDeadline: Instant? {
        guard let refresh = refreshTimers.next else { return lookupTimers.next }
        return lookupTimers.next.map { min($0, refresh) } ?? refresh
    }

    /// What has been decided since the last call, in order.
    package mutating func takeActions() -> [Action] {
        defer { actions.removeAll(keepingCapacity: true) }
        return actions
    }

    // MARK: Events

    /// A worker asked for a name.
    package mutating func requested(_ request: ResolverRequest, port: Int, now: Instant) {
        let waiter = Waiter(port: port, ticket: request.ticket, deadline: now)
        if let index = entryIndex[request.name] {
            markAsked(index, now: now)
            if now < entries[index].answer.expires {
                counts.hits &+= 1
                scheduleRefresh(index, now: now)
                return answer(waiter, request.name, entries[index].answer)
            }
            if let retry = entries[index].retry, let stale = staleAnswer(request.name, now: now) {
                // No server answers: nobody waits for another failure, one lookup per hold finds out whether it is over.
                counts.hits &+= 1
                if retry <= now { startRefresh(request.name) }
                return answer(waiter, request.name, stale)
            }
        }
        counts.misses &+= 1
        wait(waiter, request.name, now: now)
    }

    /// A lookup gave its result for `part`. Every lookup must end this way, and no part twice.
    package mutating func lookupAnswered(
        _ id: LookupID, _ part: AnswerParts.Part, _ result: LookupResult, now: Instant
    ) {
        let index = id.index
        precondition(lookups[index].isLive && lookups[index].generation == id.generation, "a result for no lookup")
        lookups[index].parts.add(result, for: part)
        if lookups[index].parts.isComplete {
            conclude(index, now: now)
        } else if result.status == .found {
            lookups[index].partialDue = now.advanced(byNanoseconds: limits.resolutionDelay)
            scheduleLookup(index)
        }
    }

    /// Time has passed: requests time out, partial sets are given out, names in use are refreshed.
    package mutating func advance(to now: Instant) {
        while let index = lookupTimers.popDue(now) { lookupIsDue(index, now: now) }
        while let index = refreshTimers.popDue(now) {
            if isInUse(index) { startRefresh(entries[index].name) }
        }
    }

    /// New settings. What is known stays known (UP-09), unless other families are wanted.
    package mutating func reconfigure(_ settings: ResolverSettings) {
        let familiesChanged = settings.families != self.settings.families
        self.settings = settings
        if familiesChanged {
            while newest >= 0 { removeEntry(newest) }
            for index in lookups.indices { lookups[index].isOutdated = true }
        }
        while entryCount > max(settings.cacheEntryCountMax, 0) { evict() }
    }

    /// Answers everyone who waits with `cancelled`. The lookups stay, for their results.
    package mutating func cancelWaiters() {
        for index in lookups.indices where lookups[index].isLive {
            answerWaiters(index, Answer(.cancelled))
            scheduleLookup(index)
        }
    }

    // MARK: Lookups

    private mutating func wait(_ waiter: Waiter, _ name: ServerName, now: Instant) {
        var index = lookupIndex[name]
        if let index {
            counts.coalesced &+= 1
            if let due = lookups[index].partialDue, due <= now, case .partial(let result) = lookups[index].parts.merged
            {
                return answer(waiter, name, partialAnswer(result, now: now))
            }
        }
        if waiterCount < limits.waiterCountMax, index == nil { index = startLookup(name) }
        guard waiterCount < limits.waiterCountMax, let index else {
            counts.overflows &+= 1
            return answer(waiter, name, staleAnswer(name, now: now) ?? Answer(.refusedTooMany))
        }
        var timeout = settings.timeout.clampedNanoseconds
        if lookupsWithoutReply >= Self.outageLookupCount { timeout = min(timeout, Self.outageTimeout) }
        if staleAnswer(name, now: now) != nil { timeout = min(timeout, Self.staleDelay) }
        var waiter = waiter
        waiter.deadline = now.advanced(byNanoseconds: timeout)
        // All wait equally long but for settings that changed meanwhile, so this is the end almost always.
        var position = lookups[index].waiters.count
        while position > lookups[index].firstWaiter, lookups[index].waiters[position - 1].deadline > waiter.deadline {
            position -= 1
        }
        lookups[index].waiters.insert(waiter, at: position)
        waiterCount += 1
        scheduleLookup(index)
    }

    private mutating func startLookup(_ name: ServerName) -> Int? {
        guard lookupCount < limits.lookupCountMax else { return nil }
        let v4 = settings.families != .v6Only
        let v6 = settings.families != .v4Only
        let index: Int
        let parts = AnswerParts(awaitsV4: v4, awaitsV6: v6)
        if let free = freeLookups.popLast() {
            index = free
            lookups[index] = Lookup(name: name, generation: lookups[index].generation + 1, parts: parts)
        } else {
            index = lookups.count
            lookups.append(Lookup(name: name, generation: 1, parts: parts))
        }
        lookups[index].isLive = true
        lookupIndex[name] = index
        counts.lookups &+= 1
        actions.append(
            .lookUp(LookupID(index: index, generation: lookups[index].generation), name, v4: v4, v6: v6))
        return index
    }

    /// A lookup that nobody waits for. New names come first: refreshes take no more than half of the lookups.
    private mutating func startRefresh(_ name: ServerName) {
        guard lookupIndex[name] == nil, refreshCount < limits.lookupCountMax / 2 else { return }
        guard let index = startLookup(name) else { return }
        lookups[index].isRefresh = true
        refreshCount += 1
        counts.refreshes &+= 1
    }

    private mutating func scheduleLookup(_ index: Int) {
        let lookup = lookups[index]
        guard lookup.firstWaiter < lookup.waiters.count else { return lookupTimers.set(index, to: nil) }
        var due = lookup.waiters[lookup.firstWaiter].deadline
        if let partialDue = lookup.partialDue { due = min(due, partialDue) }
        lookupTimers.set(index, to: due)
    }

    private mutating func lookupIsDue(_ index: Int, now: Instant) {
        let name = lookups[index].name
        if case .partial(let result) = lookups[index].parts.merged {
            answerWaiters(index, partialAnswer(result, now: now))
        } else {
            while lookups[index].firstWaiter < lookups[index].waiters.count {
                let waiter = lookups[index].waiters[lookups[index].firstWaiter]
                guard waiter.deadline <= now else { break }
                lookups[index].firstWaiter += 1
                waiterCount -= 1
                answer(waiter, name, staleAnswer(name, now: now) ?? Answer(.timedOut))
            }
        }
        scheduleLookup(index)
    }

    /// All parts are there.
    private mutating func conclude(_ index: Int, now: Instant) {
        let name = lookups[index].name
        let merged = lookups[index].parts.merged
        lookupsWithoutReply = merged.status == .timedOut ? lookupsWithoutReply + 1 : 0
        counts.outcomes[Int(merged.status.rawValue)] &+= 1
        if lookups[index].isOutdated {
            answerWaiters(index, Answer(merged.result, expires: now))
        } else {
            answerWaiters(index, settle(name, merged, now: now))
        }
        lookupTimers.set(index, to: nil)
        lookupIndex[name] = nil
        if lookups[index].isRefresh { refreshCount -= 1 }
        lookups[index].isLive = false
        lookups[index].waiters = []
        freeLookups.append(index)
    }

    /// What a complete lookup means for what is known of `name`.
    private mutating func settle(_ name: ServerName, _ merged: AnswerParts.Merged, now: Instant) -> Answer {
        let result = merged.result
        switch (result.status, merged) {
        case (.found, .partial):
            // The other family failed: it is tried again soon, not only after this family's TTL.
            let longest = max(settings.negativeTTL.clampedNanoseconds, Self.failureHold)
            return store(name, result, min(lifetime(result), longest), now: now)
        case (.found, _):
            return store(name, result, lifetime(result), now: now)
        case (.noSuchName, _), (.noAddress, _):
            return store(name, result, settings.negativeTTL.clampedNanoseconds, now: now)
        case (.serverFailure, _), (.timedOut, _), (.refusedTooMany, _), (.cancelled, _):
            return failed(name, result, now: now)
        }
    }

    /// No usable reply: a known set stays, past its TTL as a stale one; else the failure itself is known for a while.
    private mutating func failed(_ name: ServerName, _ result: LookupResult, now: Instant) -> Answer {
        guard result.status != .cancelled else { return Answer(.cancelled) }
        if let index = entryIndex[name], entries[index].answer.status == .found {
            entries[index].retry = now.advanced(byNanoseconds: Self.failureHold)
            if now < entries[index].answer.expires { return entries[index].answer }
            if let stale = staleAnswer(name, now: now) { return stale }
        }
        return store(name, result, Self.failureHold, now: now)
    }

    private mutating func answerWaiters(_ index: Int, _ answer: Answer) {
        for position in lookups[index].firstWaiter..<lookups[index].waiters.count {
            self.answer(lookups[index].waiters[position], lookups[index].name, answer)
            waiterCount -= 1
        }
        lookups[index].firstWaiter = lookups[index].waiters.count
    }

    private mutating func answer(_ waiter: Waiter, _ name: ServerName, _ answer: Answer) {
        counts.answers[Int(answer.status.rawValue)] &+= 1
        if answer.isStale { counts.staleServed &+= 1 }
        actions.append(.answer(port: waiter.port, ResolverAnswer(ticket: waiter.ticket, name: name, answer: answer)))
    }

    // MARK: What is known

    private func lifetime(_ result: LookupResult) -> UInt64 {
        let shortest = settings.ttlMin.clampedNanoseconds
        let longest = max(settings.ttlMax.clampedNanoseconds, shortest)
        return min(max(UInt64(result.ttl) * Self.second, shortest), longest)
    }

    /// While the other family is still awaited, a set holds just long enough to serve the sessions at hand.
    private func partialAnswer(_ result: LookupResult, now: Instant) -> Answer {
        Answer(result, expires: now.advanced(byNanoseconds: min(lifetime(result), Self.second)))
    }

    /// The set known for `name`, past its TTL and within `staleTTL`. It holds until the next attempt.
    private func staleAnswer(_ name: ServerName, now: Instant) -> Answer? {
        guard let index = entryIndex[name], entries[index].answer.status == .found else { return nil }
        let end = entries[index].answer.expires.advanced(byNanoseconds: settings.staleTTL.clampedNanoseconds)
        guard now < end else { return nil }
        var answer = entries[index].answer
        answer.isStale = true
        answer.expires = min(end, now.advanced(byNanoseconds: Self.failureHold))
        return answer
    }

    private mutating func store(
        _ name: ServerName, _ result: LookupResult, _ lifetime: UInt64, now: Instant
    ) -> Answer {
        let answer = Answer(result, expires: now.advanced(byNanoseconds: lifetime))
        guard settings.cacheEntryCountMax > 0 else { return answer }
        let index: Int
        if let known = entryIndex[name] {
            index = known
            entries[index].answer = answer
            entries[index].lifetime = lifetime
            entries[index].stored = now
            entries[index].retry = nil
        } else {
            while entryCount >= settings.cacheEntryCountMax { evict() }
            let entry = Entry(
                name: name, answer: answer, lifetime: lifetime, stored: now, retry: nil, lastAsked: now, askCount: 1,
                newer: -1, older: -1)
            if let free = freeEntries.popLast() {
                index = free
                entries[index] = entry
            } else {
                index = entries.count
                entries.append(entry)
            }
            entryIndex[name] = index
            link(index)
        }
        refreshTimers.set(index, to: nil)
        scheduleRefresh(index, now: now)
        return answer
    }

    /// Asked for more than once, and within the lifetime before the present answer came. Workers keep answers until
    /// they expire, so a name in steady use is asked for here only about once per lifetime and worker.
    private func isInUse(_ index: Int) -> Bool {
        let entry = entries[index]
        return entry.askCount >= 2 && entry.stored.nanoseconds(since: entry.lastAsked) <= entry.lifetime
    }

    /// Plans the lookup ahead of expiry: in the last tenth of the lifetime, or the last half second.
    private mutating func scheduleRefresh(_ index: Int, now: Instant) {
        let entry = entries[index]
        guard entry.answer.status == .found, entry.retry == nil, isInUse(index) else { return }
        let lead = min(max(entry.lifetime / 10, Self.second / 2), entry.lifetime / 2)
        let due = entry.stored.advanced(byNanoseconds: entry.lifetime - lead)
        if due <= now {
            startRefresh(entry.name)
        } else {
            refreshTimers.set(index, to: due)
        }
    }

    private mutating func markAsked(_ index: Int, now: Instant) {
        entries[index].lastAsked = now
        entries[index].askCount = min(entries[index].askCount, .max - 1) + 1
        unlink(index)
        link(index)
    }

    private mutating func evict() {
        counts.evictions &+= 1
        removeEntry(oldest)
    }

    private mutating func removeEntry(_ index: Int) {
        unlink(index)
        refreshTimers.set(index, to: nil)
        entryIndex[entries[index].name] = nil
        freeEntries.append(index)
    }

    private mutating func link(_ index: Int) {
        entries[index].newer = -1
        entries[index].older = newest
        if newest >= 0 { entries[newest].newer = index }
        newest = index
        if oldest < 0 { oldest = index }
    }

    private mutating func unlink(_ index: Int) {
        let (newer, older) = (entries[index].newer, entries[index].older)
        if newer >= 0 { entries[newer].older = older } else { newest = older }
        if older >= 0 { entries[older].newer = newer } else { oldest = newer }
    }

    // MARK: Invariants

    /// Traps where the parts of this value contradict each other. For tests.
    package func checkInvariants() {
        precondition(entryCount <= max(settings.cacheEntryCountMax, 0))
        precondition(lookupCount <= limits.lookupCountMax)
        precondition(waiterCount <= limits.waiterCountMax)
        var linkedCount = 0
        var index = newest
        while index >= 0 {
            precondition(entryIndex[entries[index].name] == index)
            linkedCount += 1
            index = entries[index].older
        }
        precondition(linkedCount == entryCount)
        var waiting = 0
        for lookup in lookups where lookup.isLive {
            precondition(!lookup.parts.isComplete)
            waiting += lookup.waiters.count - lookup.firstWaiter
        }
        precondition(waiting == waiterCount)
    }
}

extension Answer {
    fileprivate init(_ result: LookupResult, expires: Instant) {
        self.init(status: result.status, addresses: result.addresses, expires: expires)
    }
}

extension AnswerParts.Merged {
    fileprivate var result: LookupResult {
        switch self {
        case .waiting: preconditionFailure("a complete lookup without a result")
        case .partial(let result), .whole(let result): result
        }
    }

    fileprivate var status: AnswerStatus { result.status }
}
