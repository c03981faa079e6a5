import Glibc

/// An endless stream of bytes that a seed decides, to be sent at one end and compared at the other.
///
/// It repeats a block whose length is prime, so that bytes that were lost, repeated or moved by any buffer's size show.
public struct TestStream: Sendable {
    private static let period = 1_048_573
    private let block: [UInt8]

    public init(seed: UInt64) {
        var state = seed
        var block = [UInt8](repeating: 0, count: Self.period + 3)
        unsafe block.withUnsafeMutableBytes { bytes in
            // `stride` in a debug build takes a lock of the runtime for every step.
            var offset = 0
            while offset < bytes.count {
                // SplitMix64.
                state &+= 0x9e37_79b9_7f4a_7c15
                var word = state
                word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
                word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
                unsafe bytes.storeBytes(of: word ^ word >> 31, toByteOffset: offset, as: UInt64.self)
                offset += 8
            }
        }
        self.block = block
    }

    /// Calls `body` with bytes from `offset` on: at least one, at most `byteCount`.
    func withBytes<Result>(at offset: Int, atMost byteCount: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result
    {
        let start = offset % Self.period
        let count = min(byteCount, Self.period - start)
        return unsafe block.withUnsafeBytes { unsafe body(UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
    }

    /// Whether `bytes` are those of the stream from `offset` on.
    func matches(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        var compared = 0
        while compared < bytes.count {
            let count = unsafe withBytes(at: offset + compared, atMost: bytes.count - compared) { expected in
                unsafe memcmp(expected.baseAddress!, bytes.baseAddress! + compared, expected.count) == 0
                    ? expected.count : 0
            }
            if count == 0 { return false }
            compared += count
        }
        return true
    }
}
