/// What is fuzzed under one name: some bytes, and everything that must hold of how they are read.
package protocol FuzzTarget: Sendable {
    static var name: String { get }

    /// Reads `bytes` and ends the process by `require` where something does not hold. Returns in a word how they were read:
    /// the same for the same bytes. nil: this input teaches nothing and is not kept.
    static func check(_ bytes: Span<UInt8>) -> String?

    /// The bytes changed along their structure, so that the change is read and not only refused; nil where they have none
    /// that is known. Half of all changes are libFuzzer's own anyway.
    static func mutate(_ bytes: [UInt8], _ random: inout FuzzRandom) -> [UInt8]?
}

extension FuzzTarget {
    package static func mutate(_ bytes: [UInt8], _ random: inout FuzzRandom) -> [UInt8]? { nil }
}

/// SplitMix64: the same numbers for the same seed everywhere.
package struct FuzzRandom: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// Numbers that belong to `bytes`: an input decides alone what is done with it, and stays the bytes a client could send.
    package init(of bytes: Span<UInt8>) {
        // FNV-1a.
        state = 0xcbf2_9ce4_8422_2325
        for index in bytes.indices { state = (state ^ UInt64(bytes[index])) &* 0x100_0000_01b3 }
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    /// 0..<bound; 0 where that is empty.
    package mutating func below(_ bound: Int) -> Int { bound > 0 ? Int(next() % UInt64(bound)) : 0 }

    /// True once in `count` times.
    package mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    package mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
}
