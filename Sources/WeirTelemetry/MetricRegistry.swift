import Synchronization

/// Says which cells count for which subject, the same in every worker's `MetricCells`.
///
/// A subject keeps its range for the life of the process, so its counters go on over reloads and one that left the
/// configuration is still exposed: a counter that vanished would read as a reset. For the configuration, admin and log
/// threads; a worker only gets the bases, in its snapshot.
package final class MetricRegistry: Sendable {
    private struct State {
        var bases: [MetricSubject: Int32] = [:]
        /// In order of their base.
        var entries: [Entry] = []
        var nextFree: Int32
        var hasOverflowed: Set<Int> = []
    }

    struct Entry {
        let subject: MetricSubject
        let base: Int32
    }

    package let workers: [MetricCells]
    /// The label of each close reason, by its code.
    package let reasonLabels: [String]
    /// The label of each guard rule, by its code.
    package let guardRuleLabels: [String]
    private let notice: @Sendable (String) -> Void
    private let cellCount: Int32
    private let state: Mutex<State>

    /// All workers' cells must be equally many. `notice` hears once per kind that its cells have run out.
    package init(
        workers: [MetricCells], reasonLabels: [String], guardRuleLabels: [String],
        notice: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        precondition(!workers.isEmpty && workers.allSatisfy { $0.count == workers[0].count })
        self.workers = workers
        self.reasonLabels = reasonLabels
        self.guardRuleLabels = guardRuleLabels
        self.notice = notice
        cellCount = Int32(clamping: workers[0].count)
        var state = State(nextFree: WorkerCell.guardDenied + Int32(guardRuleLabels.count))
        // The overflow ranges come first, so that there is always one to fall back to.
        for kind in MetricSubject.Kind.allCases {
            let base = state.nextFree
            state.nextFree += Self.cellCount(of: kind, reasonCount: reasonLabels.count)
            state.bases[kind.overflow] = base
            state.entries.append(Entry(subject: kind.overflow, base: base))
        }
        precondition(state.nextFree <= cellCount, "\(cellCount) cells cannot hold the ranges that always exist")
        self.state = Mutex(state)
    }

    /// The first cell of `subject`, which is the same at every call. The overflow range of its kind when no cells are
    /// left, labelled `other`.
    package func base(of subject: MetricSubject) -> Int32 {
        let (base, message) = state.withLock { state -> (Int32, String?) in
            if let known = state.bases[subject] { return (known, nil) }
            let kind = subject.kind
            let need = Self.cellCount(of: kind, reasonCount: reasonLabels.count)
            guard cellCount - state.nextFree >= need else {
                let shared = state.bases[kind.overflow] ?? 0
                guard state.hasOverflowed.insert(kind.rawValue).inserted else { return (shared, nil) }
                return (shared, "metrics: all \(cellCount) cells are in use; every further \(kind) counts as \"other\"")
            }
            let base = state.nextFree
            state.nextFree += need
            state.bases[subject] = base
            state.entries.append(Entry(subject: subject, base: base))
            return (base, nil)
        }
        if let message { notice(message) }
        return base
    }

    /// Whether the route has cells of its own, so that what is counted there, or addressed by them, is its alone.
    package func isOwn(route base: Int32) -> Bool {
        state.withLock { $0.bases[MetricSubject.Kind.route.overflow] != base }
    }

    package func listener(_ name: String) -> Int32 { base(of: .listener(name)) }
    package func route(listener: String, name: String) -> Int32 { base(of: .route(listener: listener, name: name)) }
    package func cluster(_ name: String) -> Int32 { base(of: .cluster(name)) }
    package func endpoint(cluster: String, description: String) -> Int32 {
        base(of: .endpoint(cluster: cluster, description: description))
    }

    package func policy(_ name: String) -> Int32 { base(of: .policy(name)) }

    /// The subject whose first cell is `base`; nil where there is none, so also for -1.
    package func subject(at base: Int32) -> MetricSubject? {
        state.withLock { state in
            var low = 0
            var high = state.entries.count
            while low < high {
                let middle = (low + high) / 2
                if state.entries[middle].base < base { low = middle + 1 } else { high = middle }
            }
            return low < state.entries.count && state.entries[low].base == base ? state.entries[low].subject : nil
        }
    }

    /// Every subject with a range, in order of first use; an overflow range only once it counts for somebody.
    func entries() -> [Entry] {
        let all = state.withLock { $0.entries }
        return all.filter { entry in
            guard entry.subject == entry.subject.kind.overflow else { return true }
            let count = Self.cellCount(of: entry.subject.kind, reasonCount: reasonLabels.count)
            return (entry.base..<entry.base + count).contains { cell in workers.contains { $0.value(cell) != 0 } }
        }
    }

    /// The sum of `cell` over all workers.
    package func sum(_ cell: Int32) -> UInt64 { workers.reduce(0) { $0 &+ $1.value(cell) } }

    private static func cellCount(of kind: MetricSubject.Kind, reasonCount: Int) -> Int32 {
        switch kind {
        case .listener: ListenerCell.closedByReason + Int32(reasonCount)
        case .route: RouteCell.count
        case .cluster: ClusterCell.count
        case .endpoint: EndpointCell.count
        case .policy: PolicyCell.count
        }
    }
}
