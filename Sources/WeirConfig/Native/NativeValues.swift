import WeirModel
import WeirNet

/// One YAML mapping whose keys have been checked.
struct NativeSection {
    let position: SourcePosition
    /// The keys that are known, present and not null. They are few, so no table is made of them.
    fileprivate(set) var entries: [YAMLNode.Entry]
    fileprivate let shape: NativeShape
    fileprivate let misplaced: [String]

    /// A key that the format's table has not is nobody's to ask for.
    subscript(key: String) -> YAMLNode? {
        assert(shape.names.contains(key) || misplaced.contains(key), "\(key) is in no table of NativeSchema")
        for index in entries.indices where entries[index].key == key { return entries[index].value }
        return nil
    }
}

/// How values are read from nodes. Each reports what it expected where something else stands, and then gives nil.
extension NativeReader {
    static let durationUnits: [String: Duration] = [
        "ms": .milliseconds(1), "s": .seconds(1), "m": .seconds(60), "h": .seconds(3600), "d": .seconds(86400),
    ]

    /// `misplaced` are keys that the mapping does not have, but that its reader has something to say about.
    func section(_ node: YAMLNode, _ shape: NativeShape, misplaced: [String] = []) -> NativeSection? {
        let what = shape.what
        guard case .mapping(let entries) = node.content else {
            expected("a mapping for \(what)", node)
            return nil
        }
        func isKnown(_ key: String) -> Bool { shape.names.contains(key) || misplaced.contains(key) }
        func isUsable(_ entry: borrowing YAMLNode.Entry) -> Bool { isKnown(entry.key) && !entry.value.isNull }
        var section = NativeSection(position: node.position, entries: entries, shape: shape, misplaced: misplaced)
        if entries.allSatisfy(isUsable) { return section }
        section.entries.removeAll { !isUsable($0) }
        for entry in entries where !isUsable(entry) {
            if isKnown(entry.key) {
                findings.error(entry.position, "\(quoted(entry.key)) has no value")
            } else if shape.later.contains(entry.key) {
                findings.error(entry.position, "\(quoted(entry.key)) in \(what) is not supported yet")
            } else {
                findings.error(
                    entry.position,
                    "unknown key \(quoted(entry.key)) in \(what)\(suggestion(for: entry.key, among: shape.names + shape.later))"
                )
            }
        }
        return section
    }

    func expected(_ what: String, _ node: YAMLNode) {
        findings.error(node.position, "expected \(what), found \(node.kind)")
    }

    func list(_ node: YAMLNode, of what: String) -> [YAMLNode]? {
        guard case .sequence(let items) = node.content else {
            expected("a list of \(what)", node)
            return nil
        }
        return items
    }

    func text(_ node: YAMLNode, _ what: String) -> String? {
        guard case .scalar(let text, _) = node.content, !text.isEmpty, !node.isNull else {
            expected(what, node)
            return nil
        }
        return text
    }

    /// Reads each item; items that are wrong are reported and left out.
    func items<Value>(_ node: YAMLNode, of what: String, _ read: (YAMLNode) -> Value?) -> [Value]? {
        list(node, of: what)?.compactMap(read)
    }

    func integer(_ node: YAMLNode, _ range: ClosedRange<Int>) -> Int? {
        guard case .scalar(let text, _) = node.content, let value = decimal(text), range.contains(value) else {
            let upTo = range.upperBound == .max ? " or more" : "...\(range.upperBound)"
            expected("a number \(range.lowerBound)\(upTo)", node)
            return nil
        }
        return value
    }

    func boolean(_ node: YAMLNode) -> Bool? {
        guard case .scalar(let text, isPlain: true) = node.content, text == "true" || text == "false" else {
            expected("true or false", node)
            return nil
        }
        return text == "true"
    }

    func duration(_ node: YAMLNode, zeroAllowed: Bool = false) -> Duration? {
        guard case .scalar(let text, _) = node.content, let value = amounts(text, units: Self.durationUnits) else {
            expected("a duration such as 500ms, 1s, 5m or 1h", node)
            return nil
        }
        guard zeroAllowed || value > .zero else {
            expected("a duration above zero", node)
            return nil
        }
        return value
    }

    func byteCount(_ node: YAMLNode, _ range: ClosedRange<Int>) -> Int? {
        guard case .scalar(let text, _) = node.content, let value = Self.byteCount(text) else {
            expected("a size such as 4096, 16KiB or 1GiB", node)
            return nil
        }
        guard range.contains(value) else {
            let upTo = range.upperBound == .max ? " or more" : "...\(range.upperBound)"
            expected("a size of \(range.lowerBound)\(upTo) bytes", node)
            return nil
        }
        return value
    }

    private static func byteCount(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let units = ["": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40]
        guard let count = decimal(digits), let unit = units[String(text.dropFirst(digits.count))] else { return nil }
        let product = count.multipliedReportingOverflow(by: unit)
        return product.overflow ? nil : product.partialValue
    }

    /// A section's `rate`, with its `burst` where there is one.
    func rate(_ section: NativeSection) -> RateLimit? {
        let burst = section["burst"].flatMap { integer($0, RateLimit.countRange) }
        guard let node = section["rate"] else {
            if let node = section["burst"] { findings.error(node.position, "a burst without `rate` has no effect") }
            return nil
        }
        guard case .scalar(let text, _) = node.content, let limit = RateLimit(text) else {
            expected("a rate such as 500/s, 30/m or 1000/h, of 1...\(RateLimit.countRange.upperBound)", node)
            return nil
        }
        return RateLimit(limit.count, per: limit.period, burst: burst)
    }

    /// One of a few words; `later` are words of the format that cannot be used yet.
    func word<Value>(_ node: YAMLNode, _ choices: [(String, Value)], later: [String] = []) -> Value? {
        let names = choices.map(\.0)
        guard case .scalar(let text, _) = node.content else {
            expected(names.joined(separator: " or "), node)
            return nil
        }
        if let choice = choices.first(where: { $0.0 == text }) { return choice.1 }
        if later.contains(text) {
            findings.error(
                node.position, "\(quoted(text)) is not supported yet; use \(names.joined(separator: " or "))")
        } else if let nearest = nearestWord(to: text, among: names + later) {
            findings.error(node.position, "unknown value \(quoted(text)); did you mean \(quoted(nearest))?")
        } else {
            expected(names.joined(separator: " or "), node)
        }
        return nil
    }

    func port(_ node: YAMLNode) -> UInt16? {
        integer(node, 1...65535).map { UInt16($0) }
    }

    func address(_ node: YAMLNode) -> IPAddress? {
        guard case .scalar(let text, _) = node.content, let address = IPAddress(text) else {
            expected("an IP address", node)
            return nil
        }
        return address
    }

    func socketAddress(_ node: YAMLNode) -> SocketAddress? {
        guard case .scalar(let text, _) = node.content, let address = SocketAddress(text) else {
            expected("an address with port such as 0.0.0.0:443 or \"[::]:443\"", node)
            return nil
        }
        return address
    }

    func block(_ node: YAMLNode) -> CIDR? {
        guard case .scalar(let text, _) = node.content, let block = CIDR(text) else {
            expected("a block of addresses such as 10.0.0.0/8, or one address", node)
            return nil
        }
        warnAboutHostBits(text, block, node.position)
        return block
    }

    /// `10.1.2.3/8` is more likely a slip of the length than meant as 10.0.0.0/8.
    func warnAboutHostBits(_ text: String, _ block: CIDR, _ position: SourcePosition) {
        let host = text.prefix { $0 != "/" }
        if let address = IPAddress(String(host)), address != block.base {
            findings.warning(position, "\(quoted(text)) has bits behind its prefix; it means \(block)")
        }
    }
}
