/// SipHash-1-3 (Aumasson and Bernstein, 2012), fed piece by piece: a keyed hash whose collisions nobody without the key
/// can prepare. `finished()` may be taken at any point and feeding may go on after it.
@frozen
public struct SipHash: BitwiseCopyable, Sendable {
    @usableFromInline
    var v0: UInt64
    @usableFromInline
    var v1: UInt64
    @usableFromInline
    var v2: UInt64
    @usableFromInline
    var v3: UInt64
    @usableFromInline
    var tail: UInt64 = 0
    @usableFromInline
    var byteCount: UInt64 = 0

    @inlinable
    public init(key: SipKey) {
        v0 = key.low ^ 0x736f_6d65_7073_6575
        v1 = key.high ^ 0x646f_7261_6e64_6f6d
        v2 = key.low ^ 0x6c79_6765_6e65_7261
        v3 = key.high ^ 0x7465_6462_7974_6573
    }

    @inlinable
    public mutating func absorb(_ byte: UInt8) {
        tail |= UInt64(byte) &<< ((byteCount & 7) &* 8)
        byteCount &+= 1
        if byteCount & 7 == 0 {
            compress(tail)
            tail = 0
        }
    }

    /// Eight bytes, the least significant first.
    @inlinable
    public mutating func absorb(_ word: UInt64) {
        let shift = (byteCount & 7) &* 8
        compress(tail | word &<< shift)
        tail = shift == 0 ? 0 : word &>> (64 &- shift)
        byteCount &+= 8
    }

    /// The hash of everything fed so far.
    @inlinable
    public func finished() -> UInt64 {
        var copy = self
        copy.compress(tail | byteCount &<< 56)
        copy.v2 ^= 0xff
        copy.round()
        copy.round()
        copy.round()
        return copy.v0 ^ copy.v1 ^ copy.v2 ^ copy.v3
    }

    @inlinable
    mutating func compress(_ word: UInt64) {
        v3 ^= word
        round()
        v0 ^= word
    }

    @inlinable
    mutating func round() {
        v0 = v0 &+ v1
        v1 = (v1 &<< 13 | v1 &>> 51) ^ v0
        v0 = v0 &<< 32 | v0 &>> 32
        v2 = v2 &+ v3
        v3 = (v3 &<< 16 | v3 &>> 48) ^ v2
        v0 = v0 &+ v3
        v3 = (v3 &<< 21 | v3 &>> 43) ^ v0
        v2 = v2 &+ v1
        v1 = (v1 &<< 17 | v1 &>> 47) ^ v2
        v2 = v2 &<< 32 | v2 &>> 32
    }
}

/// The 128 secret bits of a `SipHash`.
@frozen
public struct SipKey: BitwiseCopyable, Sendable {
    public var low: UInt64
    public var high: UInt64

    @inlinable
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    /// From the system's generator.
    public static func random() -> SipKey {
        var generator = SystemRandomNumberGenerator()
        return SipKey(low: generator.next(), high: generator.next())
    }
}
