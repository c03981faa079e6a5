/// One word of an nginx file, quotes and escapes undone.
struct NginxWord: Sendable {
    var text: String
    var isQuoted = false
    var position: SourcePosition
}

/// Cuts an nginx file into words, `;`, `{` and `}` by the rules of nginx's own reader:
/// a quote opens only at the start of a word, `#` too; `{` ends a word except right behind `$`; `}` inside a word is
/// part of it; a backslash takes the meaning from the next byte.
struct NginxLexer {
    enum Token {
        case word(NginxWord)
        case semicolon(SourcePosition)
        case open(SourcePosition)
        case close(SourcePosition)
        case end(SourcePosition)
    }

    struct Failure: Error {
        var position: SourcePosition
        var message: String
    }

    private let source: SourceText
    private var index = 0
    private var line = 1
    private var column = 1

    init(_ source: SourceText) {
        self.source = source
        // A byte order mark is no part of the text.
        if source.bytes.starts(with: [0xef, 0xbb, 0xbf]) { index = 3 }
    }

    mutating func next() throws(Failure) -> Token {
        skipSpaceAndComments()
        let position = position
        guard let byte = peek() else { return .end(position) }
        switch byte {
        case UInt8(ascii: ";"):
            advance()
            return .semicolon(position)
        case UInt8(ascii: "{"):
            advance()
            return .open(position)
        case UInt8(ascii: "}"):
            advance()
            return .close(position)
        case UInt8(ascii: "\""), UInt8(ascii: "'"):
            return .word(try quotedWord(byte, position))
        default:
            return .word(plainWord(position))
        }
    }

    private var position: SourcePosition { SourcePosition(source.name, line, column) }

    private func peek(_ distance: Int = 0) -> UInt8? {
        index + distance < source.bytes.count ? source.bytes[index + distance] : nil
    }

    private mutating func advance() {
        index += 1
        if source.bytes[index - 1] == UInt8(ascii: "\n") {
            line += 1
            column = 1
        } else if index == source.bytes.count || source.bytes[index] & 0xc0 != 0x80 {
            // Columns count characters: bytes 10xxxxxx continue one.
            column += 1
        }
    }

    private mutating func skipSpaceAndComments() {
        while let byte = peek() {
            if Self.isSpace(byte) {
                advance()
            } else if byte == UInt8(ascii: "#") {
                while let byte = peek(), byte != UInt8(ascii: "\n") {
                    _ = byte
                    advance()
                }
            } else {
                return
            }
        }
    }

    private mutating func quotedWord(_ quote: UInt8, _ start: SourcePosition) throws(Failure) -> NginxWord {
        advance()
        var bytes: [UInt8] = []
        while let byte = peek(), byte != quote {
            takeByte(byte, into: &bytes)
        }
        guard peek() == quote else { throw Failure(position: start, message: "this quote is not closed") }
        advance()
        if let after = peek(), !Self.isSpace(after), ![UInt8(ascii: ";"), UInt8(ascii: "{")].contains(after) {
            throw Failure(position: position, message: "expected a space, `;` or `{` after the quote")
        }
        return NginxWord(text: String(decoding: bytes, as: UTF8.self), isQuoted: true, position: start)
    }

    private mutating func plainWord(_ start: SourcePosition) -> NginxWord {
        var bytes: [UInt8] = []
        var followsDollar = false
        while let byte = peek() {
            if Self.isSpace(byte) || byte == UInt8(ascii: ";") { break }
            if byte == UInt8(ascii: "{"), !followsDollar { break }
            followsDollar = byte == UInt8(ascii: "$")
            takeByte(byte, into: &bytes)
        }
        return NginxWord(text: String(decoding: bytes, as: UTF8.self), position: start)
    }

    /// Takes one byte, or an escape of two.
    private mutating func takeByte(_ byte: UInt8, into bytes: inout [UInt8]) {
        guard byte == UInt8(ascii: "\\"), let escaped = peek(1) else {
            bytes.append(byte)
            return advance()
        }
        switch escaped {
        case UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "\\"): bytes.append(escaped)
        case UInt8(ascii: "t"): bytes.append(UInt8(ascii: "\t"))
        case UInt8(ascii: "r"): bytes.append(UInt8(ascii: "\r"))
        case UInt8(ascii: "n"): bytes.append(UInt8(ascii: "\n"))
        default: bytes += [byte, escaped]
        }
        advance()
        advance()
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
            || byte == UInt8(ascii: "\n")
    }
}
