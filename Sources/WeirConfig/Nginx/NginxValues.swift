import WeirNet

/// How nginx writes values. Each reports what it expected where something else stands, and then gives nil.
struct NginxValues {
    let findings: Findings

    /// nginx counts plain numbers in seconds; `M` is a month of 30 days and `y` a year of 365.
    private static let timeUnits: [String: Duration] = [
        "": .seconds(1), "ms": .milliseconds(1), "s": .seconds(1), "m": .seconds(60), "h": .seconds(3600),
        "d": .seconds(86400), "w": .seconds(604_800), "M": .seconds(2_592_000), "y": .seconds(31_536_000),
    ]

    func expected(_ what: String, _ word: NginxWord) {
        findings.error(word.position, "expected \(what), found \(quoted(word.text))")
    }

    func time(_ word: NginxWord) -> Duration? {
        let compact = word.text.filter { $0 != " " }
        guard let value = amounts(compact, units: Self.timeUnits) else {
            expected("a time such as 500ms, 30s, 5m or 1h", word)
            return nil
        }
        return value
    }

    /// A time that may not be zero: nginx takes zero for "at once", which no one means.
    func timeAboveZero(_ word: NginxWord) -> Duration? {
        guard let value = time(word) else { return nil }
        guard value > .zero else {
            expected("a time above zero", word)
            return nil
        }
        return value
    }

    func byteCount(_ word: NginxWord) -> Int? {
        let digits = word.text.prefix { $0.isASCII && $0.isNumber }
        let units = ["": 1, "k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20, "g": 1 << 30, "G": 1 << 30]
        guard let count = decimal(digits), let unit = units[String(word.text.dropFirst(digits.count))], count < 1 << 32
        else {
            expected("a size such as 4096, 16k or 1m", word)
            return nil
        }
        return count * unit
    }

    func flag(_ word: NginxWord) -> Bool? {
        switch word.text {
        case "on": return true
        case "off": return false
        default:
            expected("on or off", word)
            return nil
        }
    }

    func integer(_ word: NginxWord, _ range: ClosedRange<Int>) -> Int? {
        guard let value = decimal(word.text), range.contains(value) else {
            expected("a number \(range.lowerBound)...\(range.upperBound)", word)
            return nil
        }
        return value
    }

    func block(_ word: NginxWord) -> CIDR? {
        guard let block = CIDR(word.text) else {
            expected("an address or a block such as 10.0.0.0/8", word)
            return nil
        }
        let host = String(word.text.prefix { $0 != "/" })
        if let address = IPAddress(host), address != block.base {
            findings.warning(word.position, "\(quoted(word.text)) has bits behind its prefix; it means \(block)")
        }
        return block
    }

    /// Splits `name=value`; the value keeps its position.
    func parameter(_ word: NginxWord) -> (name: String, value: NginxWord)? {
        guard let equals = word.text.firstIndex(of: "=") else { return nil }
        let name = String(word.text[..<equals])
        var value = word
        value.text = String(word.text[word.text.index(after: equals)...])
        // Quotes and escapes are gone; without them the column is exact.
        if !word.isQuoted { value.position.column += name.unicodeScalars.count + 1 }
        return (name, value)
    }
}
