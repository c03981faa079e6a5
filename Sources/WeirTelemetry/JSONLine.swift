import WeirNet

/// Lines of JSON (RFC 8259), one object each, written one behind the other into one reused buffer.
///
/// `begin`, any number of fields, `end`. Keys are the caller's literals and are not escaped. Whatever bytes a value
/// holds, the line stays one line of valid ASCII-safe JSON that cannot reach a terminal as a control sequence (T-15).
package struct JSONLine: ~Copyable {
    /// Whole lines, once `end` was called; each ends in a line feed.
    package private(set) var bytes: [UInt8] = []
    /// Lines that were ended.
    package private(set) var count: UInt64 = 0
    private var isFirstField = true
    /// The last time that was written, to the second: most lines follow another of the same second.
    private var writtenSecond = UInt64.max
    private var writtenTime: [UInt8] = []

    package init(capacity: Int = 4096) { bytes.reserveCapacity(capacity) }

    /// Forgets all lines and keeps the memory.
    package mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        count = 0
    }

    package mutating func begin() {
        bytes.append(UInt8(ascii: "{"))
        isFirstField = true
    }

    package mutating func end() {
        bytes.append(UInt8(ascii: "}"))
        bytes.append(UInt8(ascii: "\n"))
        count += 1
    }

    /// Text of ours or of the configuration: valid UTF-8, of which only quotes and controls are escaped.
    package mutating func text(_ key: StaticString, _ value: String) {
        quoted(key, byteCountMax: value.utf8.count * Self.escapedByteCountMax) { output in
            for byte in value.utf8 { Self.escape(byte, keepingUTF8: true, into: &output) }
        }
    }

    /// Bytes that a peer sent. Those outside printable ASCII become `\u00XX`, one for one.
    package mutating func peerBytes(_ key: StaticString, _ value: Span<UInt8>) {
        quoted(key, byteCountMax: value.count * Self.escapedByteCountMax) { output in
            for index in value.indices { Self.escape(value[index], keepingUTF8: false, into: &output) }
        }
    }

    package mutating func integer(_ key: StaticString, _ value: UInt64) {
        field(key, byteCountMax: Self.digitCountMax) { Self.decimal(value, into: &$0) }
    }

    package mutating func flag(_ key: StaticString, _ value: Bool) {
        field(key, byteCountMax: 5) { Self.append(value ? "true" : "false", into: &$0) }
    }

    /// Nanoseconds as decimal seconds, cut to the microsecond.
    package mutating func seconds(_ key: StaticString, nanoseconds: UInt64) {
        field(key, byteCountMax: Self.digitCountMax + 7) { output in
            Self.decimal(nanoseconds / 1_000_000_000, into: &output)
            output.append(UInt8(ascii: "."))
            Self.padded(nanoseconds % 1_000_000_000 / 1000, digitCount: 6, into: &output)
        }
    }

    /// 16 hexadecimal digits: a JSON number loses the low bits of 64.
    package mutating func hexadecimal(_ key: StaticString, _ value: UInt64) {
        quoted(key, byteCountMax: 16) { output in
            for shift in stride(from: UInt64(60), through: 0, by: -4) { output.append(Self.digit(value >> shift)) }
        }
    }

    package mutating func address(_ key: StaticString, _ value: SocketAddress) {
        guard value.ip.family == .v4 else {
            text(key, value.description)
            return
        }
        quoted(key, byteCountMax: 21) { output in
            for index in 0..<4 {
                if index > 0 { output.append(UInt8(ascii: ".")) }
                Self.decimal(UInt64(value.ip.byte(index)), into: &output)
            }
            output.append(UInt8(ascii: ":"))
            Self.decimal(UInt64(value.port), into: &output)
        }
    }

    /// A wall-clock moment, nanoseconds since 1970, as RFC 3339 in UTC to the microsecond.
    package mutating func time(_ key: StaticString, nanosecondsSince1970: UInt64) {
        let second = nanosecondsSince1970 / 1_000_000_000
        if second != writtenSecond {
            writtenSecond = second
            writtenTime.removeAll(keepingCapacity: true)
            writtenTime.append(addingCapacity: 20) { Self.dateAndTime(second, into: &$0) }
        }
        let known = writtenTime
        quoted(key, byteCountMax: 27) { output in
            for byte in known { output.append(byte) }
            Self.padded(nanosecondsSince1970 % 1_000_000_000 / 1000, digitCount: 6, into: &output)
            output.append(UInt8(ascii: "Z"))
        }
    }

    /// `2026-11-21T23:05:01.`, without its fraction.
    private static func dateAndTime(_ second: UInt64, into output: inout OutputSpan<UInt8>) {
        // Days to a civil date: eras of 400 years of 146,097 days, years counted from March so that the leap day is
        // the last of its year (H. Hinnant, "chrono-compatible low-level date algorithms").
        let days = second / 86400 + 719_468
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        padded(yearOfEra + days / 146_097 * 400 + (month <= 2 ? 1 : 0), digitCount: 4, into: &output)
        output.append(UInt8(ascii: "-"))
        padded(month, digitCount: 2, into: &output)
        output.append(UInt8(ascii: "-"))
        padded(dayOfYear - (153 * monthFromMarch + 2) / 5 + 1, digitCount: 2, into: &output)
        output.append(UInt8(ascii: "T"))
        padded(second / 3600 % 24, digitCount: 2, into: &output)
        output.append(UInt8(ascii: ":"))
        padded(second / 60 % 60, digitCount: 2, into: &output)
        output.append(UInt8(ascii: ":"))
        padded(second % 60, digitCount: 2, into: &output)
        output.append(UInt8(ascii: "."))
    }

    // MARK: Fields

    // A field is written into room that is made once for all of it, instead of growing the array byte by byte.

    /// A key, and a value of `byteCountMax` bytes at most.
    private mutating func field(
        _ key: StaticString, byteCountMax: Int, _ value: (inout OutputSpan<UInt8>) -> Void
    ) {
        let isFirst = isFirstField
        isFirstField = false
        bytes.append(addingCapacity: key.utf8CodeUnitCount + 4 + byteCountMax) { output in
            if !isFirst { output.append(UInt8(ascii: ",")) }
            output.append(UInt8(ascii: "\""))
            Self.append(key, into: &output)
            output.append(UInt8(ascii: "\""))
            output.append(UInt8(ascii: ":"))
            value(&output)
        }
    }

    /// The same with a value between quotes.
    private mutating func quoted(
        _ key: StaticString, byteCountMax: Int, _ value: (inout OutputSpan<UInt8>) -> Void
    ) {
        field(key, byteCountMax: byteCountMax + 2) { output in
            output.append(UInt8(ascii: "\""))
            value(&output)
            output.append(UInt8(ascii: "\""))
        }
    }

    private static func append(_ text: StaticString, into output: inout OutputSpan<UInt8>) {
        text.withUTF8Buffer { bytes in
            unsafe output.withUnsafeMutableBufferPointer { room, count in
                precondition(bytes.count <= room.count - count)
                for index in 0..<bytes.count { unsafe room[count + index] = bytes[index] }
                count += bytes.count
            }
        }
    }

    /// Of one byte: `\u00XX`.
    private static let escapedByteCountMax = 6

    private static func escape(_ byte: UInt8, keepingUTF8: Bool, into output: inout OutputSpan<UInt8>) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            output.append(UInt8(ascii: "\\"))
            output.append(byte)
        case 0x20..<0x7f:
            output.append(byte)
        case 0x80... where keepingUTF8:
            output.append(byte)
        default:
            append("\\u00", into: &output)
            output.append(digit(UInt64(byte >> 4)))
            output.append(digit(UInt64(byte)))
        }
    }

    /// Of a `UInt64`.
    private static let digitCountMax = 20

    private static func decimal(_ value: UInt64, into output: inout OutputSpan<UInt8>) {
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var first = digits.count
        var rest = value
        repeat {
            first -= 1
            digits[first] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        } while rest > 0
        for index in first..<digits.count { output.append(digits[index]) }
    }

    /// The low `digitCount` digits of `value`, of ten at most.
    private static func padded(_ value: UInt64, digitCount: Int, into output: inout OutputSpan<UInt8>) {
        var digits = InlineArray<10, UInt8>(repeating: 0)
        // In a register of half the size, which takes half the time to divide.
        var rest = UInt32(truncatingIfNeeded: value)
        for index in stride(from: digitCount - 1, through: 0, by: -1) {
            digits[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        }
        for index in 0..<digitCount { output.append(digits[index]) }
    }

    private static func digit(_ value: UInt64) -> UInt8 {
        let low = UInt8(truncatingIfNeeded: value & 0xf)
        return low < 10 ? UInt8(ascii: "0") + low : UInt8(ascii: "a") + low - 10
    }
}
