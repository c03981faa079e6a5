import WeirMemory
import WeirNet

/// Collects names and the routes that carry them; then lays them out as a `NameTable`.
struct NameTableBuilder {
    private struct Draft {
        var entry: NameTable.Entry
        var exact: [Int32] = []
        var wildcard: [Int32] = []
    }

    private let key: SipKey
    private var drafts: [Draft] = []
    private var bytes: [UInt8] = []
    private var buckets: [Int32]

    /// Room for `nameCountMax` names, repetitions counted.
    init(key: SipKey, nameCountMax: Int) {
        self.key = key
        var count = 16
        while count < nameCountMax * 2 { count *= 2 }
        buckets = Array(repeating: -1, count: count)
    }

    mutating func add(_ route: Int32, exact name: ServerName, listener slot: Int) {
        let index = name.withBytes { draftIndex($0, slot) }
        drafts[index].exact.append(route)
    }

    mutating func add(_ route: Int32, wildcard suffix: ServerName, listener slot: Int) {
        let index = suffix.withBytes { draftIndex($0, slot) }
        drafts[index].wildcard.append(route)
    }

    /// Appends the candidates; the order in which routes were added is the order in which they are tried.
    func finished(candidates: inout [Int32]) -> NameTable {
        var entries: [NameTable.Entry] = []
        entries.reserveCapacity(drafts.count)
        for draft in drafts {
            var entry = draft.entry
            entry.exact = Extent(first: candidates.count, count: draft.exact.count)
            candidates += draft.exact
            entry.wildcard = Extent(first: candidates.count, count: draft.wildcard.count)
            candidates += draft.wildcard
            entries.append(entry)
        }
        return NameTable(
            key: key, entryArray: FlatArray(entries), bytes: FlatArray(bytes), buckets: FlatArray(buckets))
    }

    /// The index of the name's draft, made where it is new.
    private mutating func draftIndex(_ name: Span<UInt8>, _ slot: Int) -> Int {
        var hash = NameTable.hash(key, listener: slot)
        var index = name.count
        while index > 0 {
            index -= 1
            hash.absorb(name[index])
        }
        let value = hash.finished()
        let mask = buckets.count - 1
        var bucket = Int(truncatingIfNeeded: value) & mask
        while buckets[bucket] >= 0 {
            let found = Int(buckets[bucket])
            if isSame(found, value, slot, name) { return found }
            bucket = (bucket + 1) & mask
        }
        buckets[bucket] = Int32(drafts.count)
        let entry = NameTable.Entry(
            hash: value, listener: Int32(slot), first: Int32(bytes.count), byteCount: Int32(name.count))
        drafts.append(Draft(entry: entry))
        for index in 0..<name.count { bytes.append(name[index]) }
        return drafts.count - 1
    }

    private func isSame(_ index: Int, _ hash: UInt64, _ slot: Int, _ name: Span<UInt8>) -> Bool {
        let entry = drafts[index].entry
        guard entry.hash == hash, entry.listener == Int32(slot), entry.byteCount == Int32(name.count) else {
            return false
        }
        for offset in 0..<name.count where bytes[Int(entry.first) + offset] != name[offset] { return false }
        return true
    }
}
