/// An IPv4 or IPv6 address, without zone. A plain value of 17 bytes that compares and hashes by family and bits.
public struct IPAddress: Hashable, Sendable, BitwiseCopyable {
    public enum Family: UInt8, Sendable, BitwiseCopyable {
        case v4
        case v6
    }

    /// The first 64 bits of an IPv6 address in host order; zero for IPv4.
    public let high: UInt64
    /// The last 64 bits of an IPv6 address in host order; the 32 bits of an IPv4 address.
    public let low: UInt64
    public let family: Family

    @inlinable
    public init(v4 bits: UInt32) {
        high = 0
        low = UInt64(bits)
        family = .v4
    }

    @inlinable
    public init(v6High high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
        family = .v6
    }

    /// The IPv4 address `a.b.c.d`.
    @inlinable
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        self.init(v4: UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d))
    }

    public static let v4Any = IPAddress(v4: 0)
    public static let v4Loopback = IPAddress(127, 0, 0, 1)
    public static let v6Any = IPAddress(v6High: 0, low: 0)
    public static let v6Loopback = IPAddress(v6High: 0, low: 1)

    /// 32 or 128.
    public var bitCount: Int { family == .v4 ? 32 : 128 }

    /// True for 0.0.0.0 and `::`.
    public var isUnspecified: Bool { high == 0 && low == 0 }

    /// The IPv4 address inside `::ffff:0:0/96` (RFC 4291 §2.5.5.2), else the address itself.
    /// The kernel reports IPv4 clients of a dual-stack listener in the mapped form.
    @inlinable
    public var unmapped: IPAddress {
        guard family == .v6, high == 0, low >> 32 == 0xffff else { return self }
        return IPAddress(v4: UInt32(truncatingIfNeeded: low))
    }

    /// `::ffff:a.b.c.d` for IPv4, else the address itself.
    public var mapped: IPAddress {
        guard family == .v4 else { return self }
        return IPAddress(v6High: 0, low: 0xffff_0000_0000 | low)
    }

    /// Byte `index` in network order: 0..<4 for IPv4, 0..<16 for IPv6.
    public func byte(_ index: Int) -> UInt8 {
        if family == .v4 {
            precondition(index >= 0 && index < 4)
            return UInt8(truncatingIfNeeded: low >> UInt64(24 - 8 * index))
        }
        precondition(index >= 0 && index < 16)
        return index < 8
            ? UInt8(truncatingIfNeeded: high >> UInt64(56 - 8 * index))
            : UInt8(truncatingIfNeeded: low >> UInt64(56 - 8 * (index - 8)))
    }
}

extension IPAddress {
    /// Reads the strict text form: four decimal octets without leading zeros, or RFC 4291 §2.2 groups.
    /// No zone, no brackets, no port, no octal or shortened IPv4: those spellings bypass address rules elsewhere.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard let parsed = IPAddress(ascii: bytes.span) else { return nil }
        self = parsed
    }

    /// The same, from bytes.
    public init?(ascii text: Span<UInt8>) {
        var hasColon = false
        for index in text.indices where text[index] == UInt8(ascii: ":") {
            hasColon = true
            break
        }
        if hasColon {
            guard let (high, low) = Self.groups(text) else { return nil }
            self.init(v6High: high, low: low)
        } else {
            guard let bits = Self.octets(text, 0) else { return nil }
            self.init(v4: bits)
        }
    }

    /// Four octets that take up all of `text` from `start` on.
    private static func octets(_ text: Span<UInt8>, _ start: Int) -> UInt32? {
        var bits: UInt32 = 0
        var index = start
        for octet in 0..<4 {
            if octet > 0 {
                guard index < text.count, text[index] == UInt8(ascii: ".") else { return nil }
                index += 1
            }
            var value: UInt32 = 0
            let first = index
            while index < text.count, index - first < 3, let digit = decimal(text[index]) {
                value = value * 10 + digit
                index += 1
            }
            let digitCount = index - first
            guard digitCount > 0, value <= 255 else { return nil }
            guard digitCount == 1 || text[first] != UInt8(ascii: "0") else { return nil }
            bits = bits << 8 | value
        }
        return index == text.count ? bits : nil
    }

    private static func groups(_ text: Span<UInt8>) -> (UInt64, UInt64)? {
        var head: (UInt64, UInt64) = (0, 0)
        var headCount = 0
        var tail: (UInt64, UInt64) = (0, 0)
        var tailCount = 0
        var compressed = false
        var index = 0
        let colon = UInt8(ascii: ":")

        func shift(_ pair: (UInt64, UInt64), in group: UInt64) -> (UInt64, UInt64) {
            (pair.0 << 16 | pair.1 >> 48, pair.1 << 16 | group)
        }
        func append(_ group: UInt64) {
            if compressed {
                tail = shift(tail, in: group)
                tailCount += 1
            } else {
                head = shift(head, in: group)
                headCount += 1
            }
        }

        if text.count >= 2, text[0] == colon, text[1] == colon {
            compressed = true
            index = 2
        }
        while index < text.count {
            let first = index
            var group: UInt64 = 0
            while index < text.count, index - first < 4, let digit = hexadecimal(text[index]) {
                group = group << 4 | digit
                index += 1
            }
            if index < text.count, text[index] == UInt8(ascii: ".") {
                // An IPv4 tail stands for the last two groups.
                guard headCount + tailCount <= 6, let bits = octets(text, first) else { return nil }
                append(UInt64(bits >> 16))
                append(UInt64(bits & 0xffff))
                index = text.count
                break
            }
            guard index > first else { return nil }
            append(group)
            guard headCount + tailCount <= 8 else { return nil }
            if index == text.count { break }
            guard text[index] == colon else { return nil }
            index += 1
            if index < text.count, text[index] == colon {
                guard !compressed else { return nil }
                compressed = true
                index += 1
            } else if index == text.count {
                return nil
            }
        }
        if compressed {
            guard headCount + tailCount <= 7 else { return nil }
        } else {
            guard headCount == 8 else { return nil }
        }
        // Move the head to the front: shift it left by the groups that are not its own.
        for _ in 0..<(8 - headCount) { head = shift(head, in: 0) }
        return (head.0 | tail.0, head.1 | tail.1)
    }

    private static func decimal(_ byte: UInt8) -> UInt32? {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") ? UInt32(byte - UInt8(ascii: "0")) : nil
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}

extension IPAddress: CustomStringConvertible {
    /// Dotted decimal, or the canonical form of RFC 5952.
    public var description: String {
        if family == .v4 { return "\(byte(0)).\(byte(1)).\(byte(2)).\(byte(3))" }
        if unmapped.family == .v4 { return "::ffff:\(unmapped)" }
        let groups = (0..<8).map { Int(byte($0 * 2)) << 8 | Int(byte($0 * 2 + 1)) }
        // RFC 5952 §4.2: the first longest run of two or more zero groups becomes `::`.
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > best.count { best = start..<end }
            start = max(end, start + 1)
        }
        let text = { (range: Range<Int>) in range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
        if best.count < 2 { return text(0..<8) }
        return text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
    }
}
