/// One mapping of the native format: its keys, as `NativeSchema` declares them.
package struct NativeShape: Sendable {
    /// Its name among the definitions of the JSON Schema.
    package let name: String
    /// What messages call it.
    package let what: String
    /// In the order in which messages list them.
    package let keys: [NativeKey]
    /// Of the keys, in their order.
    let names: [String]
    package let rules: [Rule]
    /// Keys of the format that cannot be used yet.
    let later: [String]

    /// What must hold between keys.
    package enum Rule: Sendable {
        case exactlyOne([String])
        case atLeastOne([String])
        /// The first goes with none of the others.
        case excludes(String, [String])
        /// The first needs the second.
        case needs(String, String)
    }

    init(_ name: String, _ what: String, _ keys: [NativeKey], rules: [Rule] = [], later: [String] = []) {
        self.name = name
        self.what = what
        self.keys = keys
        names = keys.map(\.name)
        self.rules = rules
        self.later = later
    }
}

/// One key of a mapping.
package struct NativeKey: Sendable {
    package let name: String
    package let value: NativeValue
    /// What is taken where the key is absent; nil where nothing is, or where that depends on others.
    package let own: JSONText?
    package let isRequired: Bool
    /// For people, in the words of docs/CONFIGURATION.md.
    package let meaning: String

    init(
        _ name: String, _ value: NativeValue, own: JSONText? = nil, required isRequired: Bool = false, _ meaning: String
    ) {
        self.name = name
        self.value = value
        self.own = own
        self.isRequired = isRequired
        self.meaning = meaning
    }
}

/// What may stand behind a key.
package indirect enum NativeValue: Sendable {
    /// Any text that is not empty; what YAML takes for a number or a truth is taken for its text.
    case text
    /// Text of a form, as a regular expression, with an example of it.
    case form(String, example: String)
    case words([String])
    case number(ClosedRange<Int>)
    case boolean
    /// Amounts with their units.
    case duration(zeroAllowed: Bool)
    /// In bytes, or with a unit.
    case size(ClosedRange<Int>)
    /// New sessions per second, minute or hour.
    case rate
    case list(NativeValue, counts: ClosedRange<Int>)
    case mapping(NativeShape)
    /// Text by text.
    case labels
    /// Text by the type of a TLV.
    case customTLVs
    case either([NativeValue])

    package static let duration = duration(zeroAllowed: false)

    static func list(_ item: NativeValue) -> NativeValue { .list(item, counts: 0 ... .max) }
    static func atLeastOne(_ item: NativeValue) -> NativeValue { .list(item, counts: 1 ... .max) }

    /// The mapping that stands here, or in the items of the list that does; nil where there is none.
    package var shape: NativeShape? {
        switch self {
        case .mapping(let shape): shape
        case .list(let item, _): item.shape
        case .either(let values): values.lazy.compactMap(\.shape).first
        default: nil
        }
    }
}

// MARK: Forms

extension NativeValue {
    private static let digits = "[0-9]{1,5}"
    private static let v4 = "[0-9]{1,3}(\\.[0-9]{1,3}){3}"
    private static let v6 = "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*"
    private static let label = "[A-Za-z0-9_-]{1,63}"
    private static let prefix = "(/[0-9]{1,3})?"

    static let address = form("^(\(v4)|\(v6))$", example: "10.0.0.1")
    static let socketAddress = form("^(\(v4)|\\[\(v6)\\]):\(digits)$", example: "0.0.0.0:443")
    static let nameServer = form("^(\(v4)(:\(digits))?|\(v6)|\\[\(v6)\\](:\(digits))?)$", example: "10.0.0.53")
    static let block = form("^(\(v4)|\(v6))\(prefix)$", example: "10.0.0.0/8")
    static let exemption = form(
        "^(\(v4)\(prefix)(:\(digits)(-\(digits))?)?|\(v6)\(prefix)|\\[\(v6)\(prefix)\\]:\(digits)(-\(digits))?)$",
        example: "10.0.0.0/8:443")
    static let endpointAddress = form(
        "^(\\[\(v6)\\]|\(label)(\\.\(label))*\\.?):\(digits)$", example: "name.example:443")
    static let serverName = form("^\(label)(\\.\(label))*\\.?$", example: "name.example")
    static let serverNamePattern = form(
        "^(\\*|(\\*\\.)?\(label)(\\.\(label))*\\.?)$", example: "*.example.com")
    static let interface = either([
        form("^[^\\s/:]{1,15}$", example: "eth0"), .number(0...999_999_999_999_999),
    ])
    static let path = form("^/[\\x21-\\x7e]{0,1023}$", example: "/healthz")
    static let status = either([.number(100...599), form("^[1-5][0-9]{2}(-[1-5][0-9]{2})?$", example: "200-299")])
    static let ports = either([.number(1...65535), form("^\(digits)(-\(digits))?$", example: "8000-8999")])
    static let keepaliveTime = form("^(?=.*[1-9])([0-9]+(ms|s|m|h))+$", example: "60s")
    static let mark = either([.number(1...4_294_967_295), form("^0x[0-9a-fA-F]{1,8}$", example: "0x10")])
}

/// JSON as text, its keys in the order in which they are put.
package indirect enum JSONText: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral
{
    case string(String)
    case number(Int)
    case boolean(Bool)
    case array([JSONText])
    case object([(String, JSONText)])

    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .number(value) }
    package init(booleanLiteral value: Bool) { self = .boolean(value) }
    package init(arrayLiteral elements: JSONText...) { self = .array(elements) }

    /// Over many lines, indented by `indent` and two spaces a level.
    package func text(indent: String = "") -> String {
        let inner = indent + "  "
        switch self {
        case .string(let text): return Self.quoted(text)
        case .number(let number): return "\(number)"
        case .boolean(let value): return "\(value)"
        case .array(let items):
            // Lists of words are read more easily side by side.
            let isLong = items.contains { if case .object = $0 { true } else { false } }
            if !isLong { return "[" + items.map { $0.text(indent: inner) }.joined(separator: ", ") + "]" }
            return "[\n" + items.map { inner + $0.text(indent: inner) }.joined(separator: ",\n") + "\n\(indent)]"
        case .object(let fields):
            if fields.isEmpty { return "{}" }
            let lines = fields.map { "\(inner)\(Self.quoted($0.0)): \($0.1.text(indent: inner))" }
            return "{\n" + lines.joined(separator: ",\n") + "\n\(indent)}"
        }
    }

    /// RFC 8259 §7.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\u{0}"..."\u{1f}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
