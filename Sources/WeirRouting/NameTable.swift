import WeirMemory
import WeirNet

/// The server names of all listeners by a keyed hash of their bytes: open addressing with linear probing, at most half
/// full. A name is hashed from its end, so that one pass over it also gives the hash of each of its suffixes.
package struct NameTable: BitwiseCopyable, Sendable {
    struct Entry: BitwiseCopyable, Sendable {
        var hash: UInt64
        var listener: Int32
        /// Where its bytes begin in `bytes`.
        var first: Int32
        var byteCount: Int32
        /// Candidates of routes that name it, and of routes that have it as the suffix of a wildcard.
        var exact = Extent.empty
        var wildcard = Extent.empty
    }

    /// What a name meets: one entry for itself and one for each suffix, the shortest first.
    struct Found: BitwiseCopyable {
        /// Index of the entry, or -1.
        var exact: Int32 = -1
        // A name has 127 labels at most.
        var suffixes = InlineArray<127, Int32>(repeating: -1)
        var suffixCount = 0
    }

    let key: SipKey
    let entryArray: FlatArray<Entry>
    let bytes: FlatArray<UInt8>
    /// Indices of entries, -1 where free; the count is a power of two.
    let buckets: FlatArray<Int32>

    func exact(_ entry: Int32) -> Extent { entryArray[Int(entry)].exact }
    func wildcard(_ entry: Int32) -> Extent { entryArray[Int(entry)].wildcard }
    func byteCount(_ entry: Int32) -> Int { Int(entryArray[Int(entry)].byteCount) }

    /// Fills `found` with the entries that `name`, canonical and not empty, meets. Suffixes of more than
    /// `suffixLabelCountMax` labels are not looked up.
    func find(_ name: Span<UInt8>, listener slot: Int, suffixLabelCountMax: Int, _ found: inout Found) {
        var hash = Self.hash(key, listener: slot)
        var labelCount = 0
        var index = name.count
        while index > 0 {
            index -= 1
            let byte = name[index]
            if byte == UInt8(ascii: ".") {
                labelCount += 1
                if labelCount <= suffixLabelCountMax {
                    let entry = entry(hash.finished(), slot, name, from: index + 1)
                    if entry >= 0, !wildcard(entry).isEmpty {
                        found.suffixes[found.suffixCount] = entry
                        found.suffixCount += 1
                    }
                }
            }
            hash.absorb(byte)
        }
        found.exact = entry(hash.finished(), slot, name, from: 0)
    }

    /// The index of the entry of `name` from `start` on, or -1.
    private func entry(_ hash: UInt64, _ slot: Int, _ name: Span<UInt8>, from start: Int) -> Int32 {
        let mask = buckets.count - 1
        var bucket = Int(truncatingIfNeeded: hash) & mask
        while true {
            let index = buckets[bucket]
            if index < 0 { return -1 }
            if entryArray[Int(index)].hash == hash, isSame(Int(index), slot, name, from: start) { return index }
            bucket = (bucket + 1) & mask
        }
    }

    private func isSame(_ index: Int, _ slot: Int, _ name: Span<UInt8>, from start: Int) -> Bool {
        let first = Int(entryArray[index].first)
        let count = Int(entryArray[index].byteCount)
        guard Int(entryArray[index].listener) == slot, count == name.count - start else { return false }
        for offset in 0..<count where bytes[first + offset] != name[start + offset] { return false }
        return true
    }

    static func hash(_ key: SipKey, listener slot: Int) -> SipHash {
        var hash = SipHash(key: key)
        hash.absorb(UInt64(truncatingIfNeeded: slot))
        return hash
    }

    func deallocate() {
        entryArray.deallocate()
        bytes.deallocate()
        buckets.deallocate()
    }
}
