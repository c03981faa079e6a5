import WeirNet

/// A server name that sessions of a listener asked for, and the last of them that has ended.
package struct SeenName: Sendable, Equatable {
    /// A base that the registry handed out.
    package var listener: Int32
    /// `.none`: they named nobody.
    package var serverName: ServerName
    package var client: SocketAddress
    package var peer: SocketAddress
    /// What the client connected to.
    package var local: SocketAddress
    /// The client's address came from a PROXY header.
    package var isProxied: Bool
    /// Sessions, all together, since the name came into the table.
    package var count: UInt64
    /// When the last one ended: wall clock, in nanoseconds since 1970 (UTC).
    package var lastSeenAt: UInt64
}

/// The names that were seen last, each with its listener: at most so many, and the one that nobody has asked for the
/// longest gives way. Nothing allocates once it is full.
///
/// Names are the peers' to choose. The hash is keyed anew in each process, so nobody can have them meet in one bucket.
package struct SeenNames: Sendable {
    private struct Entry {
        var seen: SeenName
        /// The next one in its bucket; -1: none.
        var next: Int32
        /// In order of time; -1: none.
        var earlier: Int32
        var later: Int32
    }

    private static let none: Int32 = -1

    private let capacity: Int
    private var entries: [Entry] = []
    /// The first entry of each; a power of two of them.
    private var buckets: [Int32]
    private var earliest = SeenNames.none
    private var latest = SeenNames.none
    /// When the newest name that had to give way was last seen; 0: none had to.
    private var forgottenUntil: UInt64 = 0

    /// `capacity` from 1 on.
    package init(capacity: Int = 4096) {
        precondition(capacity > 0)
        self.capacity = capacity
        var bucketCount = 1
        while bucketCount < capacity { bucketCount *= 2 }
        buckets = Array(repeating: Self.none, count: bucketCount)
        // Memory that is reserved is not touched before it is used.
        entries.reserveCapacity(capacity)
    }

    /// Takes up what has ended. A session whose preamble did not has asked for nothing.
    package mutating func note(_ record: borrowing SessionRecord) {
        guard record.preambleTime != nil, record.listener >= 0 else { return }
        let bucket = self.bucket(record.listener, record.serverName)
        var index = buckets[bucket]
        while index != Self.none, !isOf(index, record.listener, record.serverName) { index = entries[Int(index)].next }
        var count: UInt64 = 1
        if index == Self.none {
            index = place()
        } else {
            count += entries[Int(index)].seen.count
            leaveOrder(index)
            leaveBucket(index)
        }
        let seen = SeenName(
            listener: record.listener, serverName: record.serverName, client: record.client, peer: record.peer,
            local: record.local, isProxied: record.flags.contains(.proxyAccepted), count: count,
            lastSeenAt: record.acceptedAt &+ record.totalTime)
        let entry = Entry(seen: seen, next: buckets[bucket], earlier: latest, later: Self.none)
        if Int(index) < entries.count { entries[Int(index)] = entry } else { entries.append(entry) }
        buckets[bucket] = index
        if latest != Self.none { entries[Int(latest)].later = index }
        latest = index
        if earliest == Self.none { earliest = index }
    }

    /// Those that were seen at `moment` or after it, the latest first; and whether these are all.
    package func since(_ moment: UInt64) -> (names: [SeenName], isComplete: Bool) {
        var found: [SeenName] = []
        var index = latest
        while index != Self.none {
            let entry = entries[Int(index)]
            if entry.seen.lastSeenAt >= moment { found.append(entry.seen) }
            index = entry.earlier
        }
        return (found, forgottenUntil < moment)
    }

    /// Room for one more.
    private mutating func place() -> Int32 {
        if entries.count < capacity { return Int32(entries.count) }
        let index = earliest
        forgottenUntil = max(forgottenUntil, entries[Int(index)].seen.lastSeenAt)
        leaveOrder(index)
        leaveBucket(index)
        return index
    }

    private func isOf(_ index: Int32, _ listener: Int32, _ name: ServerName) -> Bool {
        entries[Int(index)].seen.listener == listener && entries[Int(index)].seen.serverName == name
    }

    private func bucket(_ listener: Int32, _ name: ServerName) -> Int {
        var hasher = Hasher()
        hasher.combine(listener)
        hasher.combine(name)
        return hasher.finalize() & (buckets.count - 1)
    }

    private mutating func leaveOrder(_ index: Int32) {
        let (earlier, later) = (entries[Int(index)].earlier, entries[Int(index)].later)
        if earlier == Self.none { earliest = later } else { entries[Int(earlier)].later = later }
        if later == Self.none { latest = earlier } else { entries[Int(later)].earlier = earlier }
    }

    private mutating func leaveBucket(_ index: Int32) {
        let entry = entries[Int(index)]
        let bucket = self.bucket(entry.seen.listener, entry.seen.serverName)
        if buckets[bucket] == index {
            buckets[bucket] = entry.next
            return
        }
        var before = buckets[bucket]
        while entries[Int(before)].next != index { before = entries[Int(before)].next }
        entries[Int(before)].next = entry.next
    }
}
