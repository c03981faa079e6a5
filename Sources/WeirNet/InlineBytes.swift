/// At most `capacity` bytes, held in the value itself.
@frozen
public struct InlineBytes<let capacity: Int>: Sendable, BitwiseCopyable {
    @usableFromInline
    var storage: InlineArray<capacity, UInt8>
    @usableFromInline
    var length: UInt16

    @inlinable
    public init() {
        precondition(capacity <= 65535)
        storage = InlineArray(repeating: 0)
        length = 0
    }

    /// `byteCount <= capacity`.
    @inlinable
    public var byteCount: Int { Int(length) }
    @inlinable
    public var isEmpty: Bool { length == 0 }

    @inlinable
    public subscript(index: Int) -> UInt8 {
        precondition(index >= 0 && index < Int(length))
        return storage[index]
    }

    /// Traps where there is no room for another byte.
    @inlinable
    public mutating func append(_ byte: UInt8) {
        precondition(Int(length) < capacity)
        storage[Int(length)] = byte
        length += 1
    }

    /// Calls `body` with the bytes.
    @inlinable
    public func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(storage.span.extracting(first: Int(length)))
    }
}
