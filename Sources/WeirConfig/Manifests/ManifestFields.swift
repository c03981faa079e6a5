import WeirModel
import WeirNet

/// A mapping of a manifest, and which of its fields have been read.
///
/// Values of the wrong type are errors, as they are to the API server. What is understood but cannot be done is reported
/// with `unsupported`, which `--strict` makes an error.
final class ManifestFields {
    let position: SourcePosition
    /// `spec.servers[0]`; empty for the whole document.
    let path: String
    private let findings: Findings
    private let title: Title
    private let entries: [String: YAMLNode.Entry]
    private let order: [String]
    private var unread: Set<String>
    private var children: [ManifestFields] = []

    /// nil, and reported, where `node` is no mapping.
    init?(_ node: YAMLNode, of parent: ManifestFields?, path: String, _ findings: Findings) {
        title = parent?.title ?? Title()
        guard case .mapping(let entries) = node.content else {
            findings.error(node.position, "\(title.heading(path))expected a mapping, found \(node.kind)")
            return nil
        }
        position = node.position
        self.path = path
        self.findings = findings
        order = entries.map(\.key)
        self.entries = Dictionary(entries.map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        unread = Set(order)
        parent?.children.append(self)
    }

    // MARK: Reading

    /// Whether it is written and has a value.
    func has(_ key: String) -> Bool { entries[key].map { !$0.value.isNull } ?? false }

    /// Every key, in the order written.
    var keys: [String] { order }

    /// The value as it stands, read; nil where it is missing or null.
    func node(_ key: String) -> YAMLNode? {
        unread.remove(key)
        guard let entry = entries[key], !entry.value.isNull else { return nil }
        return entry.value
    }

    /// Where the key is written; where the mapping begins if it is not.
    func position(of key: String) -> SourcePosition { entries[key]?.position ?? position }

    func fields(_ key: String) -> ManifestFields? {
        node(key).flatMap { ManifestFields($0, of: self, path: join(key), findings) }
    }

    /// The mappings of a list; empty where it is missing.
    func list(_ key: String) -> [ManifestFields] {
        items(key).enumerated().compactMap { index, item in
            ManifestFields(item, of: self, path: "\(join(key))[\(index)]", findings)
        }
    }

    /// The scalars of a list; empty where it is missing.
    func texts(_ key: String) -> [ManifestText] {
        items(key).compactMap { item in
            guard case .scalar(let value, _) = item.content, !item.isNull else {
                wrong(item, key, "text")
                return nil
            }
            return ManifestText(value: value, position: item.position)
        }
    }

    func text(_ key: String) -> ManifestText? {
        guard let node = node(key) else { return nil }
        guard case .scalar(let value, _) = node.content else {
            wrong(node, key, "text")
            return nil
        }
        return ManifestText(value: value, position: node.position)
    }

    /// The scalar entries of a mapping, such as labels and annotations.
    func texts(of key: String) -> [String: ManifestText] {
        guard let section = fields(key) else { return [:] }
        var texts: [String: ManifestText] = [:]
        for name in section.keys { texts[name] = section.text(name) }
        return texts
    }

    /// A label without a value has the empty one: left out, it would select more than it says.
    func labels(_ key: String) -> [String: String] {
        guard let section = fields(key) else { return [:] }
        var labels: [String: String] = [:]
        for name in section.keys { labels[name] = section.text(name)?.value ?? "" }
        return labels
    }

    func integer(_ key: String, _ range: ClosedRange<Int>) -> Int? {
        guard let text = text(key) else { return nil }
        guard let value = decimal(text.value), range.contains(value) else {
            let upTo = range.upperBound == .max ? " or more" : "...\(range.upperBound)"
            error(text.position, key, "expected a number \(range.lowerBound)\(upTo), found \(quoted(text.value))")
            return nil
        }
        return value
    }

    func port(_ key: String) -> UInt16? { integer(key, 1...65535).map { UInt16($0) } }

    func boolean(_ key: String) -> Bool? {
        guard let text = text(key) else { return nil }
        guard text.value == "true" || text.value == "false" else {
            error(text.position, key, "expected true or false, found \(quoted(text.value))")
            return nil
        }
        return text.value == "true"
    }

    /// A duration as Go and Protocol Buffers write it: `1.5s`, `500ms`, `1h30m`.
    func duration(_ key: String) -> Duration? {
        guard let text = text(key) else { return nil }
        guard let value = goDuration(text.value) else {
            error(text.position, key, "expected a duration such as 500ms, 1s or 1h30m, found \(quoted(text.value))")
            return nil
        }
        return value
    }

    // MARK: Reporting

    /// Fields that ask nothing of a proxy: they need no reader.
    func passOver(_ keys: String...) {
        if keys.isEmpty {
            unread = []
            children = []
        } else {
            unread.subtract(keys)
        }
    }

    /// Reports the field, where it is written, as one that cannot be done.
    func unsupported(_ key: String, _ message: String) {
        unread.remove(key)
        guard let entry = entries[key], !entry.value.isNull else { return }
        findings.unsupported(entry.position, "\(heading(join(key)))\(message)")
    }

    /// Reports what stands at `position` as something that cannot be done.
    func unsupported(at position: SourcePosition, _ message: String) {
        findings.unsupported(position, "\(heading(path))\(message)")
    }

    /// Says something that whoever wrote it should know, and that takes nothing away.
    func say(_ position: SourcePosition, _ message: String) {
        findings.notice(position, "\(heading(path))\(message)")
    }

    func error(_ position: SourcePosition, _ key: String, _ message: String) {
        findings.error(position, "\(heading(join(key)))\(message)")
    }

    func reportUnread() {
        for key in order where unread.contains(key) {
            guard let entry = entries[key], !entry.value.isNull else { continue }
            findings.unsupported(entry.position, "\(heading(join(key)))has no effect: it is not known here")
        }
        for child in children { child.reportUnread() }
        passOver()
    }

    /// What names the document in every report about a part of it.
    func adopt(title: String) { self.title.text = title }

    /// `Gateway istio-system/blackhole: spec.servers[0].tls: `.
    private func heading(_ path: String) -> String { title.heading(path) }

    private final class Title {
        var text = ""

        func heading(_ path: String) -> String {
            [text, path].filter { !$0.isEmpty }.map { "\($0): " }.joined()
        }
    }

    private func join(_ key: String) -> String { [path, key].filter { !$0.isEmpty }.joined(separator: ".") }

    private func items(_ key: String) -> [YAMLNode] {
        guard let node = node(key) else { return [] }
        guard case .sequence(let items) = node.content else {
            wrong(node, key, "a list")
            return []
        }
        return items
    }

    private func wrong(_ node: YAMLNode, _ key: String, _ what: String) {
        error(node.position, key, "expected \(what), found \(node.kind)")
    }
}

// MARK: Addresses and names

extension ManifestFields {
    /// An IP address; nil, and reported where something else is written.
    func address(_ key: String) -> IPAddress? {
        guard let text = text(key) else { return nil }
        guard let address = IPAddress(text.value) else {
            error(text.position, key, "expected an IP address, found \(quoted(text.value))")
            return nil
        }
        return address
    }

    /// The IP addresses of a list; others are reported.
    func addresses(_ key: String) -> [IPAddress] {
        texts(key).compactMap { text in
            if let address = IPAddress(text.value) { return address }
            error(text.position, key, "expected an IP address, found \(quoted(text.value))")
            return nil
        }
    }

    /// The blocks of a list of addresses and CIDRs; what is none is an error.
    func blocks(_ key: String) -> [CIDR] { texts(key).compactMap { block($0, key) } }

    func block(_ text: ManifestText, _ key: String) -> CIDR? {
        guard let block = CIDR(text.value) else {
            error(text.position, key, "expected an address or a block such as 10.0.0.0/8, found \(quoted(text.value))")
            return nil
        }
        return block
    }

    /// A host of a list of host names and wildcards; what is none is an error.
    func pattern(_ text: ManifestText, _ key: String) -> ServerNamePattern? {
        guard let pattern = try? ServerNamePattern(text.value) else {
            error(
                text.position, key,
                "expected a host such as a.example.com or *.example.com, found \(quoted(text.value))")
            return nil
        }
        return pattern
    }
}

/// Reads Go's durations (time.ParseDuration): decimal fractions, the units h, m, s, ms, us and ns; not negative.
func goDuration(_ text: String) -> Duration? {
    let units: [String: Double] = ["h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9]
    if text == "0" { return .zero }
    var rest = Substring(text)
    var seconds = 0.0
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
        let digits = rest.prefix { ("0"..."9").contains($0) || $0 == "." }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix { !("0"..."9").contains($0) && $0 != "." }
        rest = rest.dropFirst(unit.count)
        guard digits.contains(where: { $0 != "." }), let count = Double(digits), let size = units[String(unit)] else {
            return nil
        }
        seconds += count * size
    }
    // A hundred years, as everywhere.
    guard seconds <= 3_155_760_000 else { return nil }
    return .nanoseconds(Int64((seconds * 1e9).rounded()))
}
