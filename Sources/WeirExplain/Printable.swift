extension String {
    /// The text between quotes, on one line, without anything that a terminal acts upon or a reader cannot see (T-15).
    package var quoted: String { "\"" + escaped(quotes: true) + "\"" }

    /// The same without quotes, for words that need none.
    package var printable: String { escaped(quotes: false) }

    private func escaped(quotes: Bool) -> String {
        var output = ""
        for scalar in unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
                output += "\\u{\(String(scalar.value, radix: 16))}"
            default:
                if quotes, scalar == "\"" || scalar == "\\" { output += "\\" }
                output.unicodeScalars.append(scalar)
            }
        }
        return output
    }
}

extension Sequence where Element == String {
    /// `a, b and 3 more`.
    func listed(atMost countMax: Int = 4) -> String {
        let all = Array(self)
        if all.count <= countMax + 1 { return all.joined(separator: ", ") }
        return all.prefix(countMax).joined(separator: ", ") + " and \(all.count - countMax) more"
    }
}
