/// JSON (RFC 8259) as a value, written with its keys in order, so that equal values are equal text.
package enum JSONValue: Sendable, Equatable {
    case null
    case flag(Bool)
    case integer(Int)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    /// `null` where there is none.
    package init(_ text: String?) { self = text.map { .string($0) } ?? .null }
    package init(_ number: Int?) { self = number.map { .integer($0) } ?? .null }

    /// Pure ASCII, indented by two, without a line end behind it.
    package var text: String {
        var output = ""
        write(to: &output, indent: "")
        return output
    }

    private func write(to output: inout String, indent: String) {
        switch self {
        case .null: output += "null"
        case .flag(let value): output += value ? "true" : "false"
        case .integer(let value): output += String(value)
        case .string(let value): Self.write(value, to: &output)
        case .array(let elements):
            Self.write("[", "]", elements.count, to: &output, indent) { index, output, indent in
                elements[index].write(to: &output, indent: indent)
            }
        case .object(let members):
            let keys = members.keys.sorted()
            Self.write("{", "}", keys.count, to: &output, indent) { index, output, indent in
                Self.write(keys[index], to: &output)
                output += ": "
                members[keys[index]]?.write(to: &output, indent: indent)
            }
        }
    }

    private static func write(
        _ open: String, _ close: String, _ count: Int, to output: inout String, _ indent: String,
        _ element: (Int, inout String, String) -> Void
    ) {
        output += open
        for index in 0..<count {
            output += index == 0 ? "\n" : ",\n"
            output += indent + "  "
            element(index, &output, indent + "  ")
        }
        if count > 0 { output += "\n" + indent }
        output += close
    }

    private static func write(_ text: String, to output: inout String) {
        output += "\""
        for unit in text.utf16 {
            switch unit {
            case 0x22: output += "\\\""
            case 0x5c: output += "\\\\"
            case 0x20..<0x7f: output.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default:
                let digits = String(unit, radix: 16)
                output += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
        output += "\""
    }
}
