import Glibc

// Whole ranges at once: tests run without optimisation, where a loop over bytes costs a hundred times more.

/// The first index at which `a` from `first` on differs from `b` from `second` on, both for `count` bytes; nil where
/// they are the same.
func firstDifference(_ a: [UInt8], from first: Int, _ b: [UInt8], from second: Int, count: Int) -> Int? {
    precondition(first >= 0 && first + count <= a.count && second >= 0 && second + count <= b.count)
    let isEqual = unsafe a.withUnsafeBytes { a in
        unsafe b.withUnsafeBytes { b in
            guard count > 0, let left = a.baseAddress, let right = b.baseAddress else { return true }
            return unsafe memcmp(left + first, right + second, count) == 0
        }
    }
    if isEqual { return nil }
    for index in 0..<count where a[first + index] != b[second + index] { return index }
    return nil
}

extension MutableSpan<UInt8> {
    /// Writes `bytes[range]` to the start.
    mutating func write(_ bytes: [UInt8], _ range: Range<Int>) {
        precondition(range.count <= count)
        unsafe withUnsafeMutableBytes { target in
            unsafe bytes.withUnsafeBytes { source in
                unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range]))
            }
        }
    }
}

extension [UInt8] {
    mutating func append(copying span: Span<UInt8>) {
        unsafe span.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }
}
