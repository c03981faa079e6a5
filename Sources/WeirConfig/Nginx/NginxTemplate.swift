/// Text with variables in it, as in `$ssl_preread_server_name:$server_port`.
struct NginxTemplate: Sendable, Hashable {
    enum Part: Sendable, Hashable {
        case literal(String)
        case variable(String)
    }

    /// Neighbouring literals are joined and none is empty, so equal texts have equal parts.
    private(set) var parts: [Part] = []

    init(parts: [Part]) {
        for part in parts { append(part) }
    }

    /// Reads `$name` and `${name}`; nil where a `$` begins no name.
    init?(_ text: String) {
        var rest = Substring(text)
        while let dollar = rest.firstIndex(of: "$") {
            append(.literal(String(rest[..<dollar])))
            rest = rest[rest.index(after: dollar)...]
            let isBraced = rest.first == "{"
            if isBraced { rest = rest.dropFirst() }
            let name = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
            guard !name.isEmpty else { return nil }
            rest = rest.dropFirst(name.count)
            if isBraced {
                guard rest.first == "}" else { return nil }
                rest = rest.dropFirst()
            }
            append(.variable(name.lowercased()))
        }
        append(.literal(String(rest)))
    }

    mutating func append(_ part: Part) {
        guard case .literal(let text) = part else { return parts.append(part) }
        if text.isEmpty { return }
        if case .literal(let before)? = parts.last {
            parts[parts.count - 1] = .literal(before + text)
        } else {
            parts.append(part)
        }
    }

    /// The text, where no variable is in it.
    var literal: String? {
        switch parts.first {
        case nil: ""
        case .literal(let text)? where parts.count == 1: text
        default: nil
        }
    }

    var variables: [String] {
        parts.compactMap { part in
            if case .variable(let name) = part { return name }
            return nil
        }
    }
}
