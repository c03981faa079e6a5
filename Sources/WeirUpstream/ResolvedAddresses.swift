import WeirNet

/// Up to sixteen distinct addresses in the order in which they are to be tried. A plain value.
@frozen
public struct ResolvedAddresses: BitwiseCopyable, Sendable {
    /// More than this in one answer is left out: an answer's size is bounded before anything is made from it.
    public static let countMax = 16

    @usableFromInline var storage: InlineArray<16, IPAddress>
    @usableFromInline var length: UInt8

    @inlinable
    public init() {
        storage = InlineArray(repeating: .v4Any)
        length = 0
    }

    /// Just this one. Unlike a literal it makes no array on the way.
    @inlinable
    public init(_ address: IPAddress) {
        storage = InlineArray(repeating: address)
        length = 1
    }

    @inlinable
    public var count: Int { Int(length) }

    @inlinable
    public var isEmpty: Bool { length == 0 }

    @inlinable
    public subscript(index: Int) -> IPAddress {
        precondition(index >= 0 && index < Int(length))
        return storage[index]
    }

    public func contains(_ address: IPAddress) -> Bool {
        for index in 0..<count where storage[index] == address { return true }
        return false
    }

    /// Adds `address` at the end unless it is there already. False where sixteen others are.
    @discardableResult
    public mutating func append(_ address: IPAddress) -> Bool {
        if contains(address) { return true }
        guard count < Self.countMax else { return false }
        storage[count] = address
        length += 1
        return true
    }
}

extension ResolvedAddresses: Equatable {
    public static func == (a: ResolvedAddresses, b: ResolvedAddresses) -> Bool {
        guard a.length == b.length else { return false }
        for index in 0..<a.count where a.storage[index] != b.storage[index] { return false }
        return true
    }
}

extension ResolvedAddresses: ExpressibleByArrayLiteral {
    public init(arrayLiteral elements: IPAddress...) {
        self.init()
        for address in elements { append(address) }
    }
}
