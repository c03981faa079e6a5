/// A YAML document on its way out. What is written here reads back as exactly the same text, here and in other readers of
/// YAML 1.1 and 1.2: what they might take for a number, a truth or a date is quoted.
struct YAMLOutput {
    indirect enum Content {
        /// Written as it is: numbers, durations, words of the format.
        case word(String)
        /// Any text; quoted where it has to be.
        case text(String)
        case list([YAMLOutput])
        case mapping([Field])
    }

    struct Field {
        var key: String
        var value: YAMLOutput
    }

    var content: Content
    /// Lines above it, without `#`.
    var comments: [String] = []
    /// Written on lines of its own, however short it is.
    var isBlock = false

    init(_ content: Content) { self.content = content }

    static func word(_ text: String) -> YAMLOutput { YAMLOutput(.word(text)) }
    static func text(_ text: String) -> YAMLOutput { YAMLOutput(.text(text)) }
    static func list(_ items: [YAMLOutput]) -> YAMLOutput { YAMLOutput(.list(items)) }
    static func mapping(_ fields: [Field]) -> YAMLOutput { YAMLOutput(.mapping(fields)) }

    /// The same on lines of its own.
    var block: YAMLOutput {
        var copy = self
        copy.isBlock = true
        return copy
    }

    func commented(_ lines: [String]) -> YAMLOutput {
        var copy = self
        copy.comments = lines
        return copy
    }

    /// The whole as lines, for the content of a document.
    func document() -> String {
        var printer = YAMLPrinter()
        printer.document(self)
        return printer.lines.map { $0 + "\n" }.joined()
    }

    /// `# line`, with nothing in it that ends a comment or that YAML forbids.
    static func comment(_ line: String) -> String {
        line.isEmpty ? "#" : "# " + line.unicodeScalars.map { $0.isPlainInYAML ? "\($0)" : $0.escapedInYAML }.joined()
    }

    // MARK: On one line

    /// The whole on one line; nil where it has comments or wants lines of its own.
    fileprivate var flow: String? { comments.isEmpty ? ownFlow : nil }

    /// The same but for its own comments, which stand above the line.
    fileprivate var ownFlow: String? {
        if isBlock { return nil }
        switch content {
        case .word(let text): return text
        case .text(let text): return Self.scalar(text)
        case .list(let items):
            let parts = items.compactMap(\.flow)
            return parts.count == items.count ? "[\(parts.joined(separator: ", "))]" : nil
        case .mapping(let fields):
            let parts = fields.compactMap { field in field.value.flow.map { "\(Self.scalar(field.key)): \($0)" } }
            guard parts.count == fields.count else { return nil }
            return parts.isEmpty ? "{}" : "{ \(parts.joined(separator: ", ")) }"
        }
    }

    /// `text` as a scalar that can stand anywhere, as a key too.
    static func scalar(_ text: String) -> String {
        if isPlain(text) { return text }
        return "\""
            + text.unicodeScalars.map { scalar in
                switch scalar {
                case "\"", "\\": "\\\(scalar)"
                case _ where scalar.isPlainInYAML: "\(scalar)"
                default: scalar.escapedInYAML
                }
            }.joined() + "\""
    }

    /// Whether every reader of YAML takes `text` for itself without quotes. Quotes too much rather than too little.
    private static func isPlain(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.last != UInt8(ascii: ":") else { return false }
        let isDigit = { (byte: UInt8) in (48...57).contains(byte) }
        let isLetter = { (byte: UInt8) in (97...122).contains(byte | 0x20) }
        guard isLetter(first) || isDigit(first) || first == UInt8(ascii: "_") || first == UInt8(ascii: "/") else {
            return false
        }
        guard bytes.allSatisfy({ isLetter($0) || isDigit($0) || plainSigns.contains($0) }) else { return false }
        if otherwiseRead.contains(text.lowercased()) { return false }
        // Numbers, also hexadecimal, octal and to the base of sixty, and dates.
        let isNoNumber = bytes.filter { $0 == UInt8(ascii: ".") }.count > 1 || bytes.contains(where: inNoNumber)
        return !isDigit(first) || isNoNumber
    }

    private static let plainSigns: Set<UInt8> = Set("_./-:@+|".utf8)
    private static let otherwiseRead: Set<String> = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]

    /// Letters that stand in no number and no date.
    private static func inNoNumber(_ byte: UInt8) -> Bool {
        let letter = byte | 0x20
        return (UInt8(ascii: "g")...UInt8(ascii: "y")).contains(letter) && !Set("oxt".utf8).contains(letter)
    }
}

/// Turns the tree into lines.
private struct YAMLPrinter {
    /// What fits into so many columns stands on one line.
    private static let width = 110

    private(set) var lines: [String] = []

    mutating func document(_ root: YAMLOutput) {
        guard case .mapping(let fields) = root.content else { preconditionFailure("a document is a mapping here") }
        for field in fields { put(field.value, key: field.key, lead: "", indent: 0) }
    }

    /// `lead` stands before the first line, `indent` spaces before those that follow.
    private mutating func put(_ node: YAMLOutput, key: String?, lead: String, indent: Int) {
        let spaces = String(repeating: " ", count: indent)
        for line in node.comments {
            let place = lead.prefix { $0 == " " }
            lines.append(place + YAMLOutput.comment(line))
        }
        let head = key.map { "\(YAMLOutput.scalar($0)):" }
        if let flow = node.ownFlow {
            let line = lead + [head, flow].compactMap(\.self).joined(separator: " ")
            if node.mustBeFlow || line.unicodeScalars.count <= Self.width { return lines.append(line) }
        }
        if let head { lines.append(lead + head) }
        switch node.content {
        case .word, .text: preconditionFailure("a scalar has one line")
        case .list(let items):
            precondition(key != nil, "a list within a list has one line")
            for item in items { put(item, key: nil, lead: spaces + "  - ", indent: indent + 4) }
        case .mapping(let fields):
            // Behind a `-` the first field stands on its line.
            let inner = key == nil ? indent : indent + 2
            for (index, field) in fields.enumerated() {
                let isFirstOfItem = key == nil && index == 0
                put(
                    field.value, key: field.key,
                    lead: isFirstOfItem ? lead : String(repeating: " ", count: inner), indent: inner)
            }
        }
    }
}

extension YAMLOutput {
    fileprivate var mustBeFlow: Bool {
        switch content {
        case .word, .text: true
        case .list(let items): items.isEmpty
        case .mapping(let fields): fields.isEmpty
        }
    }
}

extension Unicode.Scalar {
    /// Whether it stands for itself between double quotes, and is seen there.
    fileprivate var isPlainInYAML: Bool {
        switch value {
        case 0x20...0x7e: true
        case 0...0xa0, 0xfeff, 0xfffe, 0xffff: false
        default: !Self.unseen.contains(properties.generalCategory) && !properties.isNoncharacterCodePoint
        }
    }

    /// What moves other text about, or is not there to be seen.
    private static let unseen: [Unicode.GeneralCategory] = [.control, .format, .lineSeparator, .paragraphSeparator]

    fileprivate var escapedInYAML: String {
        switch self {
        case "\n": return "\\n"
        case "\t": return "\\t"
        case "\r": return "\\r"
        default: break
        }
        let digits = String(value, radix: 16, uppercase: true)
        let (letter, count) = value <= 0xff ? ("x", 2) : value <= 0xffff ? ("u", 4) : ("U", 8)
        return "\\\(letter)" + String(repeating: "0", count: count - digits.count) + digits
    }
}
