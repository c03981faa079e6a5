/// A place in a configuration file, for people: line and column start at one, columns count characters.
struct SourcePosition: Sendable, Hashable {
    var file: String
    // Half the room of an Int: every node of a large file has a position.
    private let shortLine: UInt32
    private var shortColumn: UInt32

    /// 0: the file as a whole.
    var line: Int { Int(shortLine) }
    var column: Int {
        get { Int(shortColumn) }
        set { shortColumn = UInt32(clamping: newValue) }
    }

    init(_ file: String, _ line: Int, _ column: Int) {
        self.file = file
        shortLine = UInt32(clamping: line)
        shortColumn = UInt32(clamping: column)
    }

    /// The file as a whole, where no line can be named.
    static func whole(_ file: String) -> SourcePosition { SourcePosition(file, 0, 0) }
}

extension SourcePosition: CustomStringConvertible {
    var description: String { line == 0 ? file : "\(file):\(line):\(column)" }
}

/// One file as it was read.
struct SourceText: Sendable {
    /// The path as the user or an `include` wrote it.
    let name: String
    let bytes: [UInt8]

    /// Line `number` (from one) without its end; nil where there is none.
    func line(_ number: Int) -> String? {
        guard number >= 1 else { return nil }
        var current = 1
        var start = 0
        while current < number {
            guard let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            start = end + 1
            current += 1
        }
        let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    /// The position of the byte at `offset`; the end of the text for an offset behind it.
    func position(ofByte offset: Int) -> SourcePosition {
        var line = 1
        var column = 1
        for byte in bytes.prefix(max(0, offset)) {
            if byte == UInt8(ascii: "\n") {
                line += 1
                column = 1
            } else if byte & 0xc0 != 0x80 {
                // Bytes 10xxxxxx continue a character that was counted with its first byte.
                column += 1
            }
        }
        return SourcePosition(name, line, column)
    }
}

/// `text` in quotes, fit for a terminal: control characters escaped, at most 60 characters.
func quoted(_ text: String) -> String {
    var result = "\""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == 60 {
            result += "…"
            break
        }
        result +=
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? scalar.escaped(asASCII: true) : "\(scalar)"
    }
    return result + "\""
}
