import WeirNet

/// A `map` block: a variable whose value depends on another text.
struct NginxMap {
    /// What decides.
    enum Source {
        case serverName
        case alpn
        /// A text that is known once the listener is: `$server_port`, another map.
        case text(NginxTemplate)
    }

    struct Value {
        var template: NginxTemplate
        var word: NginxWord
    }

    let source: Source
    /// Where the source is written.
    let sourceWord: NginxWord
    /// In the order written, each once: what `hostnames` keys and plain names ask for.
    private(set) var patterns: [NameClass] = []
    /// Keys as text, in the order written.
    private(set) var keys: [String] = []
    private var exact: [ServerName: Value] = [:]
    /// By the suffix. `.suffix` stands here and in `exact`.
    private var under: [ServerName: Value] = [:]
    private var byText: [String: Value] = [:]
    private var otherwise: Value?
    /// Variables that the values refer to.
    private(set) var variables: Set<String> = []

    /// What kind of connection a route is being written for.
    enum NameClass: Hashable {
        case exact(ServerName)
        /// Any name below this one.
        case under(ServerName)
        /// Any name that no map has.
        case anyOther
        /// No name at all.
        case none
    }

    /// Reads the block; nil, and reported, where the source is nothing that a route can ask.
    init?(_ directive: NginxDirective, _ values: NginxValues) {
        sourceWord = directive.arguments[0]
        guard let template = NginxTemplate(sourceWord.text) else {
            values.expected("a text with variables", sourceWord)
            return nil
        }
        switch template.parts {
        case [.variable("ssl_preread_server_name")]: source = .serverName
        case [.variable("ssl_preread_alpn_protocols")]: source = .alpn
        default: source = .text(template)
        }
        var seen: [String: SourcePosition] = [:]
        let entries = directive.block ?? []
        let hasHostnames = entries.contains { $0.name == "hostnames" && $0.arguments.isEmpty && !$0.word.isQuoted }
        for entry in entries { read(entry, hasHostnames, &seen, values) }
    }

    private mutating func read(
        _ entry: NginxDirective, _ hasHostnames: Bool, _ seen: inout [String: SourcePosition], _ values: NginxValues
    ) {
        let findings = values.findings
        if entry.block != nil { return findings.error(entry.position, "a `map` holds no blocks") }
        if entry.arguments.isEmpty {
            if entry.name == "hostnames" { return }
            if entry.name == "volatile" {
                return findings.notice(entry.position, "\"volatile\" has no effect here")
            }
        }
        guard entry.arguments.count == 1 else {
            return findings.error(
                entry.position,
                "an entry of a `map` is a key and a value; \(quoted(entry.name)) has "
                    + "\(entry.arguments.count) values")
        }
        guard let template = NginxTemplate(entry.arguments[0].text) else {
            return values.expected("a text in which `$` begins a variable", entry.arguments[0])
        }
        let value = Value(template: template, word: entry.arguments[0])
        let canonical = entry.name.lowercased()
        if let first = seen[canonical] {
            return findings.error(entry.position, "key \(quoted(entry.name)) repeats line \(first.line)")
        }
        seen[canonical] = entry.position
        variables.formUnion(template.variables)
        if entry.name == "default" {
            otherwise = value
        } else if entry.name.hasPrefix("~") {
            findings.error(
                entry.position,
                "regular expressions are not supported: list the names, or use `*.suffix` with `hostnames`")
        } else {
            // As in nginx, a backslash takes the meaning from the first character.
            let key = entry.name.hasPrefix("\\") ? String(entry.name.dropFirst()) : entry.name
            readKey(key, value, entry.word, hasHostnames, values)
        }
    }

    private mutating func readKey(
        _ key: String, _ value: Value, _ word: NginxWord, _ hasHostnames: Bool, _ values: NginxValues
    ) {
        let findings = values.findings
        switch source {
        case .alpn:
            if key.contains(",") {
                return findings.error(word.position, "a list of protocols as a key is not supported: name one protocol")
            }
            if !key.isEmpty {
                findings.notice(
                    word.position, "\(quoted(key)) is taken where the client offers it, alone or among others")
            }
            fallthrough
        case .text:
            // Looked up as nginx does, without regard to case; a protocol goes into its route as it is written.
            keys.append(key)
            byText[key.lowercased()] = value
        case .serverName where key.isEmpty:
            byText[""] = value
        case .serverName:
            readName(key, value, word, hasHostnames, values)
        }
    }

    private mutating func readName(
        _ key: String, _ value: Value, _ word: NginxWord, _ hasHostnames: Bool, _ values: NginxValues
    ) {
        let isWildcard = key.hasPrefix("*.") || key.hasPrefix(".")
        if isWildcard, !hasHostnames {
            return values.findings.warning(
                word.position, "\(quoted(key)) matches nothing: the `map` has no `hostnames`")
        }
        if key.hasSuffix(".*") {
            return values.findings.error(
                word.position, "\(quoted(key)) is not supported: a wildcard stands at the front, as in *.example.com")
        }
        do {
            let isBoth = key.hasPrefix(".")
            let name = try ServerName(String(key.dropFirst(isBoth ? 1 : key.hasPrefix("*.") ? 2 : 0)))
            // As in nginx, `.x` beside `x` or `*.x` is a contradiction.
            let first = (isBoth || !isWildcard ? exact[name] : nil) ?? (isWildcard ? under[name] : nil)
            if let first {
                return values.findings.error(
                    word.position, "\(quoted(key)) is already given by the entry of line \(first.word.position.line)")
            }
            if isBoth || !isWildcard {
                exact[name] = value
                patterns.append(.exact(name))
            }
            if isWildcard {
                under[name] = value
                patterns.append(.under(name))
            }
        } catch {
            values.findings.error(word.position, "\(quoted(key)) is not a server name: \(error.explanation)")
        }
    }

    /// The value for connections of this class; nil: none, which nginx takes for the empty text.
    func value(for name: NameClass) -> Value? {
        switch name {
        case .exact(let name): exact[name] ?? inherited(name) ?? otherwise
        case .under(let suffix): under[suffix] ?? inherited(suffix) ?? otherwise
        case .anyOther: otherwise
        case .none: byText[""] ?? otherwise
        }
    }

    func value(for text: String) -> Value? { byText[text.lowercased()] ?? otherwise }

    /// The value of the nearest suffix above `name`.
    private func inherited(_ name: ServerName) -> Value? {
        var text = Substring(name.description)
        while let dot = text.firstIndex(of: ".") {
            text = text[text.index(after: dot)...]
            if let suffix = try? ServerName(String(text)), let value = under[suffix] { return value }
        }
        return nil
    }
}
