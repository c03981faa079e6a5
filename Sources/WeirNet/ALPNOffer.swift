/// The application protocols a ClientHello offers (RFC 7301 §3.1), in the client's order. A plain value without heap
/// storage; protocols past 256 encoded bytes are dropped and `isTruncated` says so.
public struct ALPNOffer: Sendable, BitwiseCopyable {
    public static let byteCountMax = 256

    /// The wire encoding: for each protocol one length byte, 1...255, then the name.
    private var storage: InlineArray<256, UInt8>
    private var length: UInt16
    public private(set) var isTruncated: Bool

    /// Nothing offered.
    public static let none = ALPNOffer()

    public init() {
        storage = InlineArray(repeating: 0)
        length = 0
        isTruncated = false
    }

    public var isEmpty: Bool { length == 0 }
    /// Bytes of the encoding: `byteCount <= byteCountMax`.
    public var byteCount: Int { Int(length) }

    /// Adds one whole protocol name of 1...255 bytes.
    public mutating func append(_ name: Span<UInt8>) {
        precondition(name.count >= 1 && name.count <= 255)
        guard Int(length) + 1 + name.count <= Self.byteCountMax else {
            isTruncated = true
            return
        }
        storage[Int(length)] = UInt8(name.count)
        for index in name.indices { storage[Int(length) + 1 + index] = name[index] }
        length += UInt16(1 + name.count)
    }

    /// Records that the client offered more than is kept here.
    public mutating func markTruncated() { isTruncated = true }

    /// Whether `name` is offered, byte for byte.
    public func contains(_ name: Span<UInt8>) -> Bool {
        var start = 0
        while start < Int(length) {
            let count = Int(storage[start])
            if count == name.count {
                var equal = true
                for index in 0..<count where storage[start + 1 + index] != name[index] {
                    equal = false
                    break
                }
                if equal { return true }
            }
            start += 1 + count
        }
        return false
    }

    /// Calls `body` with the encoding.
    public func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        body(storage.span.extracting(first: Int(length)))
    }
}
