/// A strict reader of one flat JSON object (RFC 8259), written apart from the writer under test: values are strings,
/// numbers, `true` or `false`, without white space.
struct StrictJSON {
    enum Value: Equatable {
        /// Unicode scalars, as the escapes spell them.
        case string([UInt32])
        case number(String)
        case boolean(Bool)

        static func text(_ text: String) -> Value { .string(text.unicodeScalars.map(\.value)) }
    }

    private let text: [Unicode.Scalar]
    private var index = 0

    /// nil where `line` is not exactly one object, or has a key twice.
    static func object(_ line: String) -> [String: Value]? {
        var reader = StrictJSON(text: Array(line.unicodeScalars))
        guard let object = reader.object(), reader.index == reader.text.count else { return nil }
        return object
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard index < text.count, text[index] == scalar else { return false }
        index += 1
        return true
    }

    private mutating func object() -> [String: Value]? {
        var fields: [String: Value] = [:]
        guard take("{") else { return nil }
        if take("}") { return fields }
        repeat {
            guard let key = string(), take(":"), let value = value() else { return nil }
            let name = String(String.UnicodeScalarView(key.compactMap(Unicode.Scalar.init)))
            guard fields.updateValue(value, forKey: name) == nil else { return nil }
        } while take(",")
        return take("}") ? fields : nil
    }

    private mutating func value() -> Value? {
        guard index < text.count else { return nil }
        if text[index] == "\"" { return string().map { .string($0) } }
        for (word, value) in [("true", true), ("false", false)] where text[index...].starts(with: word.unicodeScalars) {
            index += word.count
            return .boolean(value)
        }
        let start = index
        while index < text.count, "0123456789.".unicodeScalars.contains(text[index]) { index += 1 }
        let number = String(String.UnicodeScalarView(text[start..<index]))
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        guard parts[0] == "0" || !parts[0].hasPrefix("0") else { return nil }
        return .number(number)
    }

    private mutating func string() -> [UInt32]? {
        var scalars: [UInt32] = []
        guard take("\"") else { return nil }
        while index < text.count {
            let scalar = text[index]
            index += 1
            switch scalar {
            case "\"": return scalars
            case "\\":
                guard index < text.count else { return nil }
                let kind = text[index]
                index += 1
                switch kind {
                case "\"", "\\", "/": scalars.append(kind.value)
                case "u":
                    guard index + 4 <= text.count else { return nil }
                    let digits = String(String.UnicodeScalarView(text[index..<index + 4]))
                    guard let value = UInt32(digits, radix: 16) else { return nil }
                    index += 4
                    scalars.append(value)
                default: return nil
                }
            case _ where scalar.value < 0x20: return nil
            default: scalars.append(scalar.value)
            }
        }
        return nil
    }
}
