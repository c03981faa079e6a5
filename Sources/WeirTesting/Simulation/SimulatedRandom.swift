/// A seeded generator (SplitMix64): the same seed decides the same day.
package struct SimulatedRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    /// 0..<bound; 0 for a bound below two.
    package mutating func below(_ bound: Int) -> Int { bound < 2 ? 0 : Int(next() % UInt64(bound)) }

    package mutating func between(_ low: Int, _ high: Int) -> Int { low + below(high - low + 1) }

    package mutating func within(_ range: ClosedRange<UInt64>) -> UInt64 {
        let width = range.upperBound - range.lowerBound
        return width == 0 ? range.lowerBound : range.lowerBound + next() % (width + 1)
    }

    /// True `perMille` times in a thousand. Draws nothing for 0.
    package mutating func chance(_ perMille: Int) -> Bool { perMille > 0 && below(1000) < perMille }

    /// Between the two, small values as likely as large ones: each power of two has the same share.
    package mutating func scaled(_ low: Int, _ high: Int) -> Int {
        guard low < high else { return low }
        var bits = 0
        while (high - low) >> bits > 0 { bits += 1 }
        return low + min(below(1 << below(bits + 1)), high - low)
    }

    package mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }
}
