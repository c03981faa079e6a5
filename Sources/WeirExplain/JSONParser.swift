extension JSONValue {
    /// Reads one value (RFC 8259). nil: it is none, is nested more than 32 deep, or has a number that is not whole. Of a
    /// key that stands twice the last one holds.
    package init?(parsing text: String) {
        var parser = JSONParser(Array(text.utf8))
        guard let value = parser.value(depth: 0), parser.isAtEnd else { return nil }
        self = value
    }

    /// nil where it is another kind of value.
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
    package var flag: Bool? { if case .flag(let value) = self { value } else { nil } }
    package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }

    /// The member of an object; nil: it has none, or this is no object.
    package subscript(key: String) -> JSONValue? { if case .object(let members) = self { members[key] } else { nil } }
}

/// Goes over the bytes once. They are somebody else's: whatever they are, it ends.
private struct JSONParser {
    private static let depthMax = 32

    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool {
        mutating get {
            skipSpace()
            return position == bytes.count
        }
    }

    mutating func value(depth: Int) -> JSONValue? {
        guard depth <= Self.depthMax else { return nil }
        skipSpace()
        guard position < bytes.count else { return nil }
        switch bytes[position] {
        case UInt8(ascii: "{"): return object(depth)
        case UInt8(ascii: "["): return array(depth)
        case UInt8(ascii: "\""): return string().map { .string($0) }
        case UInt8(ascii: "n"): return takes("null") ? .null : nil
        case UInt8(ascii: "t"): return takes("true") ? .flag(true) : nil
        case UInt8(ascii: "f"): return takes("false") ? .flag(false) : nil
        default: return integer()
        }
    }

    private mutating func object(_ depth: Int) -> JSONValue? {
        position += 1
        var members: [String: JSONValue] = [:]
        if takesMark("}") { return .object(members) }
        repeat {
            skipSpace()
            guard let key = string(), takesMark(":"), let member = value(depth: depth + 1) else { return nil }
            members[key] = member
        } while takesMark(",")
        return takesMark("}") ? .object(members) : nil
    }

    private mutating func array(_ depth: Int) -> JSONValue? {
        position += 1
        var elements: [JSONValue] = []
        if takesMark("]") { return .array(elements) }
        repeat {
            guard let element = value(depth: depth + 1) else { return nil }
            elements.append(element)
        } while takesMark(",")
        return takesMark("]") ? .array(elements) : nil
    }

    private mutating func integer() -> JSONValue? {
        let start = position
        while position < bytes.count, bytes[position] == UInt8(ascii: "-") || isDigit(bytes[position]) { position += 1 }
        return Int(String(decoding: bytes[start..<position], as: UTF8.self)).map { .integer($0) }
    }

    private mutating func string() -> String? {
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { return nil }
        position += 1
        var text = ""
        var plainStart = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                text += String(decoding: bytes[plainStart..<position], as: UTF8.self)
                position += 1
                return text
            case UInt8(ascii: "\\"):
                text += String(decoding: bytes[plainStart..<position], as: UTF8.self)
                guard let escaped = escaped() else { return nil }
                text += escaped
                plainStart = position
            case 0..<0x20: return nil
            default: position += 1
            }
        }
        return nil
    }

    /// One escape, or as many `\u` as stand in a row: two of them may be one character.
    private mutating func escaped() -> String? {
        guard position + 1 < bytes.count else { return nil }
        let plain: String
        switch bytes[position + 1] {
        case UInt8(ascii: "\""): plain = "\""
        case UInt8(ascii: "\\"): plain = "\\"
        case UInt8(ascii: "/"): plain = "/"
        case UInt8(ascii: "b"): plain = "\u{8}"
        case UInt8(ascii: "f"): plain = "\u{c}"
        case UInt8(ascii: "n"): plain = "\n"
        case UInt8(ascii: "r"): plain = "\r"
        case UInt8(ascii: "t"): plain = "\t"
        case UInt8(ascii: "u"): return units()
        default: return nil
        }
        position += 2
        return plain
    }

    private mutating func units() -> String? {
        var units: [UInt16] = []
        while position + 6 <= bytes.count, bytes[position] == UInt8(ascii: "\\"),
            bytes[position + 1] == UInt8(ascii: "u")
        {
            let digits = bytes[position + 2..<position + 6]
            // `UInt16` would take a sign.
            guard digits.allSatisfy({ isDigit($0) || isLetter($0) }),
                let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
            else { return nil }
            units.append(unit)
            position += 6
        }
        return units.isEmpty ? nil : String(decoding: units, as: UTF16.self)
    }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    private func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }

    private mutating func takes(_ word: String) -> Bool {
        guard bytes[position...].starts(with: word.utf8) else { return false }
        position += word.utf8.count
        return true
    }

    private mutating func takesMark(_ mark: Character) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == mark.asciiValue else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while position < bytes.count, Self.isSpace(bytes[position]) { position += 1 }
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x20, 0x09, 0x0a, 0x0d: true
        default: false
        }
    }
}
