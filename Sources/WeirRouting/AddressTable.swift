import WeirMemory
import WeirNet

/// Where the values of addresses change: from `start` on, until the next one, every address has `value`.
package struct AddressStep: BitwiseCopyable, Sendable {
    let start: IPAddress
    let value: UInt8
}

/// One table among the steps of a view: a part of their array.
package struct AddressTable: BitwiseCopyable, Sendable {
    let first: Int32
    let count: Int32

    /// The value of `address`, found by halving: ten thousand blocks cost fourteen comparisons.
    func value(of address: IPAddress, in steps: FlatArray<AddressStep>) -> UInt8 {
        // low <= index of the wanted step < high; the first step starts at the lowest address there is.
        var low = Int(first)
        var high = Int(first) + Int(count)
        precondition(high > low)
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if address.isBelow(steps[middle].start) { high = middle } else { low = middle }
        }
        return steps[low].value
    }
}

extension AddressTable {
    /// One line of an ordered list; the first that contains an address gives its value.
    struct Rule {
        var block: CIDR
        var value: UInt8

        init(_ block: CIDR, _ value: UInt8) {
            // Addresses are unmapped before they are looked up.
            self.block = block.unmapped
            self.value = value
        }
    }

    /// Appends the steps that say what `rules` say in their order, and `otherwise` where no rule contains the address.
    /// Time grows as n log n.
    init(_ rules: [Rule], otherwise: UInt8, appendingTo steps: inout [AddressStep]) {
        let start = steps.count
        // Two blocks are disjoint or nested, so in this order a block comes after all that contain it, and the blocks
        // that contain a given address are always the ones on the stack.
        let order = rules.indices.sorted { a, b in
            let (x, y) = (rules[a].block, rules[b].block)
            if x.base != y.base { return x.base.isBelow(y.base) }
            return x.prefixLength < y.prefixLength
        }
        var open: [(last: IPAddress, rule: Int)] = []

        func step(at address: IPAddress) {
            let value = open.last.map { rules[$0.rule].value } ?? otherwise
            if steps.count > start, steps[steps.count - 1].start == address { steps.removeLast() }
            if steps.count > start, steps[steps.count - 1].value == value { return }
            steps.append(AddressStep(start: address, value: value))
        }
        func closeBlocks(before address: IPAddress?) {
            while let last = open.last?.last, address.map({ last.isBelow($0) }) ?? true {
                open.removeLast()
                if let next = last.successor { step(at: next) }
            }
        }

        step(at: .v4Any)
        for index in order {
            let block = rules[index].block
            closeBlocks(before: block.base)
            // The outer block's winner goes on winning inside where it was written first.
            open.append((block.last, open.last.map { min($0.rule, index) } ?? index))
            step(at: block.base)
        }
        closeBlocks(before: nil)
        first = Int32(start)
        count = Int32(steps.count - start)
    }
}

extension IPAddress {
    /// The order of a table: all of IPv4, then all of IPv6, each by its bits.
    func isBelow(_ other: IPAddress) -> Bool {
        if family != other.family { return family == .v4 }
        return high != other.high ? high < other.high : low < other.low
    }

    /// The next address in that order; nil for the last.
    var successor: IPAddress? {
        if family == .v4 {
            return low == 0xffff_ffff ? .v6Any : IPAddress(v4: UInt32(truncatingIfNeeded: low + 1))
        }
        if low == .max { return high == .max ? nil : IPAddress(v6High: high + 1, low: 0) }
        return IPAddress(v6High: high, low: low + 1)
    }
}

extension CIDR {
    /// The highest address of the block.
    var last: IPAddress {
        if base.family == .v4 {
            let rest: UInt64 = prefixLength == 0 ? 0xffff_ffff : 0xffff_ffff >> UInt64(prefixLength)
            return IPAddress(v4: UInt32(truncatingIfNeeded: base.low | rest))
        }
        let high = prefixLength >= 64 ? 0 : UInt64.max >> UInt64(prefixLength)
        let low = prefixLength <= 64 ? UInt64.max : UInt64.max >> UInt64(prefixLength - 64)
        return IPAddress(v6High: base.high | high, low: base.low | (prefixLength == 128 ? 0 : low))
    }
}
