import WeirModel
import WeirNet

/// When each endpoint's next check is due, when the one at hand has taken too long, and what its result means.
///
/// Every endpoint has its turn once in an interval, at moments that keep their distance for good; a check starts up to a
/// jitter after its turn. So checks stay as evenly spread as they began, and one that goes silent is found out after
/// `fall` × interval + timeout at the latest, and a jitter. Moments are rounded up, starts by up to a twentieth of the interval, so that
/// whoever runs the checks wakes for many at a time: the same code and the same caches serve all of them. Starting and ending a check costs O(log n) and, once the arrays have grown, allocates nothing.
package struct HealthCheckSchedule {
    /// How the checks of one endpoint are timed and judged. Nanoseconds.
    package struct Timing: Sendable, BitwiseCopyable, Equatable {
        package var interval: UInt64
        package var timeout: UInt64
        package var fall: Int
        package var rise: Int
        /// The most that a check is late by; not above half of `interval`.
        package var jitter: UInt64

        package init(_ check: HealthCheck) {
            interval = max(check.interval.clampedNanoseconds, 1)
            timeout = check.timeout.clampedNanoseconds
            fall = check.fall
            rise = check.rise
            jitter = interval / 100 * UInt64(clamping: check.jitter)
        }
    }

    /// Which endpoint it is, from one configuration to the next.
    package struct Identity: Hashable, Sendable {
        package var cluster: String
        package var endpoint: String
        /// 0, but for an endpoint that stands in its cluster more than once.
        package var occurrence: Int

        package init(cluster: String, endpoint: String, occurrence: Int = 0) {
            self.cluster = cluster
            self.endpoint = endpoint
            self.occurrence = occurrence
        }
    }

    /// What became of a list of endpoints.
    package struct Adoption {
        /// The index of each, in the order of the list; it stays the endpoint's from one list to the next.
        package var indices: [Int] = []
        /// Indices of those that are gone. They may be others' by now.
        package var removed: [Int] = []
    }

    private struct Entry {
        var timing: Timing
        var state = HealthCheckState()
        /// When the next check would start without jitter.
        var turn: Instant
        var isRunning = false
    }

    /// Deadlines are this far apart, in nanoseconds.
    package static let tick: UInt64 = 5_000_000

    /// How far apart checks with this interval start, in nanoseconds.
    package static func grain(ofInterval interval: UInt64) -> UInt64 { min(max(interval / 20, tick), 50_000_000) }

    private var entries: [Entry] = []
    private var indices: [Identity: Int] = [:]
    private var freeIndices: [Int] = []
    private var starts = AnswerTimers()
    private var deadlines = AnswerTimers()
    /// Of SplitMix64.
    private var random: UInt64

    /// `seed` decides the jitter.
    package init(seed: UInt64) { random = seed }

    // MARK: The list

    /// Goes over to `list`. An endpoint with an identity that was there before keeps its state, its turn and the check at
    /// hand; the others get turns that are spread evenly over their intervals, the first of them now.
    package mutating func adopt(_ list: [(identity: Identity, timing: Timing)], now: Instant) -> Adoption {
        var adoption = Adoption()
        var known = indices
        indices = [:]
        var newCount: UInt64 = 0
        let countOfNew = UInt64(list.count { !isUnchanged(known[$0.identity], $0.timing) })
        // Those that are gone first: their places are free for others.
        var leaving = known
        for (identity, _) in list { leaving[identity] = nil }
        for index in leaving.values.sorted() { remove(index, &adoption) }
        for (identity, timing) in list {
            precondition(indices[identity] == nil, "an endpoint stands twice in one list under one identity")
            let old = known.removeValue(forKey: identity)
            let isUnchanged = isUnchanged(old, timing)
            let index = old ?? newIndex(timing)
            entries[index].timing = timing
            if !isUnchanged {
                let delay = timing.interval.multipliedFullWidth(by: newCount)
                entries[index].turn = now.advanced(
                    byNanoseconds: countOfNew.dividingFullWidth((delay.high, delay.low)).quotient)
                newCount += 1
                if !entries[index].isRunning { setStart(index, notBefore: now, hasJitter: false) }
            }
            indices[identity] = index
            adoption.indices.append(index)
        }
        return adoption
    }

    private func isUnchanged(_ index: Int?, _ timing: Timing) -> Bool {
        guard let index else { return false }
        return entries[index].timing.interval == timing.interval
    }

    private mutating func newIndex(_ timing: Timing) -> Int {
        let entry = Entry(timing: timing, turn: Instant(nanoseconds: 0))
        if let index = freeIndices.popLast() {
            entries[index] = entry
            return index
        }
        entries.append(entry)
        return entries.count - 1
    }

    private mutating func remove(_ index: Int, _ adoption: inout Adoption) {
        starts.set(index, to: nil)
        deadlines.set(index, to: nil)
        freeIndices.append(index)
        adoption.removed.append(index)
    }

    package func state(of index: Int) -> HealthCheckState { entries[index].state }

    // MARK: Checks

    /// When the next check is due, and when the next one at hand has taken too long.
    package var nextStart: Instant { starts.next ?? .distantFuture }
    package var nextDeadline: Instant { deadlines.next ?? .distantFuture }

    /// An endpoint whose check is due: it starts now, and has its timeout from now on. Those that have waited longest come first.
    package mutating func takeDue(_ now: Instant) -> Int? {
        guard let index = starts.popDue(now) else { return nil }
        entries[index].isRunning = true
        let (turn, interval) = (entries[index].turn, entries[index].timing.interval)
        // Where turns have been missed, the next is one of those that are still to come.
        let missed = now.nanoseconds(since: turn) / interval
        let (step, overflow) = interval.multipliedReportingOverflow(by: missed + 1)
        entries[index].turn = turn.advanced(byNanoseconds: overflow ? .max : step)
        setDeadline(index, now.advanced(byNanoseconds: entries[index].timing.timeout))
        return index
    }

    /// An endpoint whose check has come to the deadline that was set for it, which is over with that.
    package mutating func takeExpired(_ now: Instant) -> Int? { deadlines.popDue(now) }

    /// Sets another deadline for the check at hand, such as that of a part of it.
    package mutating func setDeadline(_ index: Int, _ moment: Instant) {
        precondition(entries[index].isRunning, "only a check at hand has a deadline")
        deadlines.set(index, to: Self.roundedUp(moment, Self.tick))
    }

    /// The check at hand has ended. Returns the verdict where it is another one from here on.
    package mutating func ended(_ index: Int, _ result: HealthCheckResult, now: Instant) -> HealthVerdict? {
        precondition(entries[index].isRunning, "a check ended that was not at hand")
        entries[index].isRunning = false
        deadlines.set(index, to: nil)
        setStart(index, notBefore: now, hasJitter: true)
        let timing = entries[index].timing
        return entries[index].state.take(result, fall: timing.fall, rise: timing.rise)
    }

    private mutating func setStart(_ index: Int, notBefore now: Instant, hasJitter: Bool) {
        let late = hasJitter ? draw(upTo: entries[index].timing.jitter) : 0
        let moment = entries[index].turn.advanced(byNanoseconds: late)
        starts.set(
            index, to: Self.roundedUp(max(moment, now), Self.grain(ofInterval: entries[index].timing.interval)))
    }

    private mutating func draw(upTo bound: UInt64) -> UInt64 {
        random &+= 0x9e37_79b9_7f4a_7c15
        var word = random
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return (word ^ word >> 31).multipliedFullWidth(by: bound).high
    }

    private static func roundedUp(_ moment: Instant, _ grain: UInt64) -> Instant {
        let beyond = moment.nanoseconds % grain
        return beyond == 0 ? moment : moment.advanced(byNanoseconds: grain - beyond)
    }
}
