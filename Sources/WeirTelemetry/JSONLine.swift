import WeirNet

/// Lines of JSON (RFC 8259), one object each, written one behind the other into one reused buffer.
///
/// `begin`, any number of fields, `end`. Keys are the caller's literals and are not escaped. Whatever bytes a value
/// holds, the line stays one line of valid ASCII-safe JSON that cannot reach a terminal as a control sequence (T-15).
package struct JSONLine: ~Copyable {
    /// Whole lines, once `end` was called; each ends in a line feed.
    package private(set) var bytes: [UInt8] = []
    private var isFirstField = true

    package init(capacity: Int = 4096) { bytes.reserveCapacity(capacity) }

    /// Forgets all lines and keeps the memory.
    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    package mutating func begin() {
        bytes.append(UInt8(ascii: "{"))
        isFirstField = true
    }

    package mutating func end() {
        bytes.append(UInt8(ascii: "}"))
        bytes.append(UInt8(ascii: "\n"))
    }

    /// Text of ours or of the configuration: valid UTF-8, of which only quotes and controls are escaped.
    package mutating func text(_ key: String, _ value: String) {
        self.key(key)
        quote()
        for byte in value.utf8 { escape(byte, keepingUTF8: true) }
        quote()
    }

    /// Bytes that a peer sent. Those outside printable ASCII become `\u00XX`, one for one.
    package mutating func peerBytes(_ key: String, _ value: Span<UInt8>) {
        self.key(key)
        quote()
        for index in value.indices { escape(value[index], keepingUTF8: false) }
        quote()
    }

    package mutating func integer(_ key: String, _ value: UInt64) {
        self.key(key)
        decimal(value)
    }

    package mutating func flag(_ key: String, _ value: Bool) {
        self.key(key)
        append(value ? "true" : "false")
    }

    /// Nanoseconds as decimal seconds, cut to the microsecond.
    package mutating func seconds(_ key: String, nanoseconds: UInt64) {
        self.key(key)
        decimal(nanoseconds / 1_000_000_000)
        bytes.append(UInt8(ascii: "."))
        padded(nanoseconds % 1_000_000_000 / 1000, digitCount: 6)
    }

    /// 16 hexadecimal digits: a JSON number loses the low bits of 64.
    package mutating func hexadecimal(_ key: String, _ value: UInt64) {
        self.key(key)
        quote()
        for shift in stride(from: UInt64(60), through: 0, by: -4) { bytes.append(Self.digit(value >> shift)) }
        quote()
    }

    package mutating func address(_ key: String, _ value: SocketAddress) {
        self.key(key)
        quote()
        if value.ip.family == .v4 {
            for index in 0..<4 {
                if index > 0 { bytes.append(UInt8(ascii: ".")) }
                decimal(UInt64(value.ip.byte(index)))
            }
            bytes.append(UInt8(ascii: ":"))
            decimal(UInt64(value.port))
        } else {
            append(value.description)
        }
        quote()
    }

    /// A wall-clock moment, nanoseconds since 1970, as RFC 3339 in UTC to the microsecond.
    package mutating func time(_ key: String, nanosecondsSince1970: UInt64) {
        self.key(key)
        quote()
        let seconds = nanosecondsSince1970 / 1_000_000_000
        // Days to a civil date: eras of 400 years of 146,097 days, years counted from March so that the leap day is
        // the last of its year (H. Hinnant, "chrono-compatible low-level date algorithms").
        let days = seconds / 86400 + 719_468
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        padded(yearOfEra + days / 146_097 * 400 + (month <= 2 ? 1 : 0), digitCount: 4)
        bytes.append(UInt8(ascii: "-"))
        padded(month, digitCount: 2)
        bytes.append(UInt8(ascii: "-"))
        padded(dayOfYear - (153 * monthFromMarch + 2) / 5 + 1, digitCount: 2)
        bytes.append(UInt8(ascii: "T"))
        padded(seconds / 3600 % 24, digitCount: 2)
        bytes.append(UInt8(ascii: ":"))
        padded(seconds / 60 % 60, digitCount: 2)
        bytes.append(UInt8(ascii: ":"))
        padded(seconds % 60, digitCount: 2)
        bytes.append(UInt8(ascii: "."))
        padded(nanosecondsSince1970 % 1_000_000_000 / 1000, digitCount: 6)
        bytes.append(UInt8(ascii: "Z"))
        quote()
    }

    private mutating func key(_ key: String) {
        if !isFirstField { bytes.append(UInt8(ascii: ",")) }
        isFirstField = false
        quote()
        append(key)
        quote()
        bytes.append(UInt8(ascii: ":"))
    }

    private mutating func quote() { bytes.append(UInt8(ascii: "\"")) }

    private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private mutating func escape(_ byte: UInt8, keepingUTF8: Bool) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(byte)
        case 0x20..<0x7f:
            bytes.append(byte)
        case 0x80... where keepingUTF8:
            bytes.append(byte)
        default:
            append("\\u00")
            bytes.append(Self.digit(UInt64(byte >> 4)))
            bytes.append(Self.digit(UInt64(byte)))
        }
    }

    private mutating func decimal(_ value: UInt64) {
        var digitCount = 1
        var rest = value / 10
        while rest > 0 {
            digitCount += 1
            rest /= 10
        }
        padded(value, digitCount: digitCount)
    }

    /// The low `digitCount` digits of `value`.
    private mutating func padded(_ value: UInt64, digitCount: Int) {
        let start = bytes.count
        for _ in 0..<digitCount { bytes.append(UInt8(ascii: "0")) }
        var rest = value
        var index = start + digitCount - 1
        while index >= start {
            bytes[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
            index -= 1
        }
    }

    private static func digit(_ value: UInt64) -> UInt8 {
        let low = UInt8(truncatingIfNeeded: value & 0xf)
        return low < 10 ? UInt8(ascii: "0") + low : UInt8(ascii: "a") + low - 10
    }
}
