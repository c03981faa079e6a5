/// A DNS name in the one form that matching, access rules, DNS and logs share: ASCII lower case, no trailing dot,
/// at most 253 bytes, labels of 1...63 bytes. A plain value without heap storage.
///
/// Every spelling that could name a different host to a different reader is refused when the value is made, so no
/// later stage canonicalises again (RFC 6066 §3, RFC 1035 §2.3.4).
public struct ServerName: Sendable, BitwiseCopyable {
    /// Why bytes are not a server name.
    public enum Refusal: UInt8, Error, Sendable, BitwiseCopyable {
        /// No byte at all.
        case empty
        /// More than 253 bytes (after one trailing dot), or a label of more than 63.
        case tooLong
        /// A leading dot, two dots in a row, or a dot alone.
        case emptyLabel
        /// A byte other than letter, digit, `-`, `_` or `.`.
        case forbiddenByte
        /// An address, or a form that `inet_aton` reads as one: the last label is a number.
        case addressLiteral
    }

    public static let byteCountMax = 253

    @usableFromInline
    var storage: InlineArray<253, UInt8>
    @usableFromInline
    var length: UInt8

    /// No name. Equal only to itself; never the result of `init(canonicalizing:)`.
    public static let none = ServerName()

    private init() {
        storage = InlineArray(repeating: 0)
        length = 0
    }

    /// Canonicalises `bytes`: lowers ASCII letters, drops one trailing dot, refuses everything else that is not a
    /// plain host name. `_` is allowed (RFC 2181 §11); `*` is not (see `ServerNamePattern`).
    public init(canonicalizing bytes: Span<UInt8>) throws(Refusal) {
        storage = InlineArray(repeating: 0)
        var end = bytes.count
        guard end > 0 else { throw .empty }
        if bytes[end - 1] == UInt8(ascii: ".") { end -= 1 }
        guard end > 0 else { throw .emptyLabel }
        guard end <= Self.byteCountMax else { throw .tooLong }
        length = UInt8(truncatingIfNeeded: end)
        var labelStart = 0
        for index in 0..<end {
            var byte = bytes[index]
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"):
                byte |= 0x20
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "_"):
                break
            case UInt8(ascii: "."):
                guard index > labelStart else { throw .emptyLabel }
                guard index - labelStart <= 63 else { throw .tooLong }
                labelStart = index + 1
            default:
                throw .forbiddenByte
            }
            storage[index] = byte
        }
        guard end > labelStart else { throw .emptyLabel }
        guard end - labelStart <= 63 else { throw .tooLong }
        if Self.isNumber(storage, labelStart, end) { throw .addressLiteral }
    }

    /// The same, from text that a configuration wrote.
    public init(_ text: String) throws(Refusal) {
        let bytes = Array(text.utf8)
        self = try ServerName(canonicalizing: bytes.span)
    }

    /// WHATWG URL §3.5 "ends in a number": all digits, or `0x` and hexadecimal digits.
    private static func isNumber(_ bytes: InlineArray<253, UInt8>, _ start: Int, _ end: Int) -> Bool {
        var digitsOnly = true
        for index in start..<end where bytes[index] < UInt8(ascii: "0") || bytes[index] > UInt8(ascii: "9") {
            digitsOnly = false
            break
        }
        if digitsOnly { return true }
        guard end - start >= 2, bytes[start] == UInt8(ascii: "0"), bytes[start + 1] == UInt8(ascii: "x") else {
            return false
        }
        for index in start + 2..<end {
            switch bytes[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): continue
            default: return false
            }
        }
        return true
    }

    /// 1...253; 0 for `none`.
    @inlinable
    public var byteCount: Int { Int(length) }
    @inlinable
    public var isNone: Bool { length == 0 }

    /// Byte `index` of the canonical form.
    @inlinable
    public subscript(index: Int) -> UInt8 {
        precondition(index >= 0 && index < Int(length))
        return storage[index]
    }

    /// Calls `body` with the canonical bytes.
    @inlinable
    public func withBytes<Result, Failure: Error>(_ body: (Span<UInt8>) throws(Failure) -> Result) throws(Failure)
        -> Result
    {
        try body(storage.span.extracting(first: Int(length)))
    }
}

extension ServerName: Hashable {
    public static func == (a: ServerName, b: ServerName) -> Bool {
        guard a.length == b.length else { return false }
        for index in 0..<Int(a.length) where a.storage[index] != b.storage[index] { return false }
        return true
    }

    public func hash(into hasher: inout Hasher) {
        for index in 0..<Int(length) { hasher.combine(storage[index]) }
    }
}

extension ServerName: CustomStringConvertible {
    public var description: String {
        var text: [UInt8] = []
        for index in 0..<Int(length) { text.append(storage[index]) }
        return String(decoding: text, as: UTF8.self)
    }
}
