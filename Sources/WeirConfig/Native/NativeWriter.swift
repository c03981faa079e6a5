import WeirModel
import WeirNet

/// Writes a configuration in the native format, as the readers of that format (`NativeReader`) take it: each value that is not
/// the default, each part with the place it came from.
///
/// What it writes reads back as an equal `Configuration`, and it looks: what the format cannot say is a problem, never left
/// out without a word. One file per section of the format; this one has the top level and its small parts.
package struct NativeWriter {
    package struct Output: Sendable {
        /// The file.
        package var text: String
        /// What the format cannot say; empty where `text` says everything.
        package var problems: [String]
    }

    let provenance: Provenance
    private(set) var problems: [String] = []

    private init(_ provenance: Provenance) { self.provenance = provenance }

    /// - Parameters:
    ///   - provenance: Where the parts were written; named in comments.
    ///   - head: Lines of comment for the top of the file, without `#`.
    package static func write(
        _ configuration: Configuration, provenance: Provenance = Provenance(), head: [String] = []
    ) -> Output {
        var writer = NativeWriter(provenance)
        let body = writer.root(configuration).document()
        let comments = head.map { YAMLOutput.comment($0) + "\n" }.joined()
        let text = comments + (comments.isEmpty ? "" : "\n") + body
        if writer.problems.isEmpty { writer.readBack(text, configuration) }
        return Output(text: text, problems: writer.problems)
    }

    /// The proof that nothing was lost: the reader of the format is asked.
    private mutating func readBack(_ text: String, _ configuration: Configuration) {
        let result = ConfigReader.read(texts: [(name: "native", text: text)])
        guard let read = result.configuration else {
            problems += result.errors.map { "the native format refuses what is written for it: \($0.message)" }
            return
        }
        if read != configuration { problems.append("the native format reads back as another configuration") }
    }

    mutating func cannotSay(_ part: String, _ what: String) {
        problems.append("\(part): the native format cannot say \(what)")
    }

    // MARK: The top level

    private mutating func root(_ configuration: Configuration) -> YAMLOutput {
        var top = YAMLFields()
        top.add("listeners", configuration.listeners.map { listener($0) })
        top.add("clusters", configuration.clusters.map { cluster($0) })
        top.add("sources", configuration.sources.map { sourcePool($0) })
        top.add("client_labels", configuration.clientLabels.map { clientLabels($0) })
        top.add("policies", configuration.policies.map { policy($0) })
        top.add("destinations", destinations(configuration.destinations), from("destinations"))
        top.add("resolver", resolver(configuration.resolver), from("resolver"))
        if let admin = configuration.admin {
            top.add("admin", .mapping([.init(key: "address", value: .text(admin.address.description))]), from("admin"))
        }
        top.add("log", log(configuration.log), from("log"))
        top.add("workers", configuration.workerCount.map { .word("\($0)") }, from("workers"))
        top.add("steering", word(configuration.steering, unless: .hash), from("steering"))
        top.add("splice", word(configuration.splice, unless: .auto), from("splice"))
        top.add("congestion", word(configuration.congestion, unless: .system), from("congestion"))
        top.add("limits", limits(configuration.limits), from("limits"))
        var drain = YAMLFields()
        drain.add("delay", duration(configuration.drainDelay, "drain", unless: .zero))
        drain.add("timeout", duration(configuration.drainTimeout, "drain", unless: .seconds(300)))
        top.add("drain", drain.mapping, from("drain"))
        var upgrade = YAMLFields()
        upgrade.add("timeout", duration(configuration.upgradeTimeout, "upgrade", unless: .seconds(30)))
        top.add("upgrade", upgrade.mapping, from("upgrade"))
        if let settings = configuration.shadow { top.add("shadow", shadow(settings), from("shadow")) }
        return .mapping(top.fields)
    }

    private mutating func shadow(_ settings: ShadowSettings) -> YAMLOutput? {
        var section = YAMLFields()
        section.add("config", settings.files.map { .text($0) })
        if settings.samples != RateLimit(10) {
            if settings.samples.burst != settings.samples.count { cannotSay("shadow", "a burst of samples") }
            addRate(settings.samples, "shadow", as: "sample", to: &section)
        }
        return section.mapping
    }

    /// The comment of a part; none where it is written nowhere.
    func from(_ part: String) -> [String] { provenance.place(of: part).map { ["from \($0)"] } ?? [] }

    private mutating func destinations(_ policy: DestinationPolicy) -> YAMLOutput? {
        var section = YAMLFields()
        if !policy.allow.isEmpty { section.add("allow", .list(policy.allow.map { .text($0.nativeText) })) }
        if !policy.deny.isEmpty { section.add("deny", .list(policy.deny.map { .text($0.nativeText) })) }
        return section.mapping
    }

    private mutating func resolver(_ settings: ResolverSettings) -> YAMLOutput? {
        let own = ResolverSettings()
        var section = YAMLFields()
        if !settings.servers.isEmpty {
            section.add("servers", .list(settings.servers.map { .text($0.description) }))
        }
        var ttl = YAMLFields()
        ttl.add("min", duration(settings.ttlMin, "resolver", unless: own.ttlMin))
        ttl.add("max", duration(settings.ttlMax, "resolver", unless: own.ttlMax))
        section.add("ttl", ttl.mapping)
        section.add("negative", duration(settings.negativeTTL, "resolver", unless: own.negativeTTL))
        section.add("stale", duration(settings.staleTTL, "resolver", unless: own.staleTTL))
        section.add("timeout", duration(settings.timeout, "resolver", unless: own.timeout))
        switch settings.families {
        case .both: break
        case .v4Only: section.add("families", .word("v4"))
        case .v6Only: section.add("families", .word("v6"))
        }
        section.add("cache_entries", number(settings.cacheEntryCountMax, unless: own.cacheEntryCountMax))
        return section.mapping
    }

    private mutating func log(_ settings: LogSettings) -> YAMLOutput? {
        var section = YAMLFields()
        switch settings.access {
        case .standardOutput: break
        case .none: section.add("access", .word("off"))
        case .file(let path):
            if path.contains("/") {
                section.add("access", .text(path))
            } else {
                cannotSay("log", "a path without a slash, \(quoted(path)): write \(quoted("./\(path)"))")
            }
        }
        return section.mapping
    }

    private mutating func limits(_ limits: ProcessLimits) -> YAMLOutput? {
        var section = YAMLFields()
        section.add("connections", limits.connections.map { .word("\($0)") })
        section.add("buffer_memory", limits.bufferByteCount.map { size($0) })
        addRate(limits.rate, "limits", to: &section)
        return section.mapping
    }
}

/// The keys of a mapping as they gather.
struct YAMLFields {
    private(set) var fields: [YAMLOutput.Field] = []

    /// nil where there is nothing to say.
    var mapping: YAMLOutput? { fields.isEmpty ? nil : .mapping(fields) }

    mutating func add(_ key: String, _ value: YAMLOutput?, _ comments: [String] = []) {
        guard let value else { return }
        fields.append(.init(key: key, value: comments.isEmpty ? value : value.commented(comments)))
    }

    /// A section of parts, each on lines of its own; nothing where there are none.
    mutating func add(_ key: String, _ parts: [YAMLOutput]) {
        if !parts.isEmpty { add(key, YAMLOutput.list(parts).block) }
    }
}

// MARK: Values

extension NativeWriter {
    func number(_ value: Int, unless own: Int) -> YAMLOutput? { value == own ? nil : .word("\(value)") }

    func boolean(_ value: Bool, unless own: Bool) -> YAMLOutput? { value == own ? nil : .word("\(value)") }

    func word<Choice: RawRepresentable<String> & Equatable>(_ value: Choice, unless own: Choice) -> YAMLOutput? {
        value == own ? nil : .word(value.rawValue)
    }

    func blocks(_ blocks: [CIDR]) -> YAMLOutput { .list(blocks.map { .text($0.nativeText) }) }

    func addresses(_ addresses: [IPAddress]) -> YAMLOutput { .list(addresses.map { .text($0.description) }) }

    func serverNames(_ patterns: [ServerNamePattern]) -> YAMLOutput { .list(patterns.map { .text($0.text) }) }

    mutating func duration(_ value: Duration?, _ part: String, unless own: Duration? = nil) -> YAMLOutput? {
        guard let value, value != own else { return nil }
        guard let text = Self.text(of: value) else {
            cannotSay(part, "a time of \(value): it counts milliseconds")
            return nil
        }
        return .word(text)
    }

    private static func text(of duration: Duration) -> String? {
        let (seconds, attoseconds) = duration.components
        let (milliseconds, rest) = attoseconds.quotientAndRemainder(dividingBy: 1_000_000_000_000_000)
        guard duration >= .zero, rest == 0 else { return nil }
        if milliseconds > 0 {
            return seconds < 10 ? "\(seconds * 1000 + milliseconds)ms" : "\(seconds)s\(milliseconds)ms"
        }
        // People say 60s and 90s, but not 3600s.
        if seconds < 120 { return "\(seconds)s" }
        var text = ""
        var left = seconds
        for (unit, size) in [("d", Int64(86400)), ("h", 3600), ("m", 60), ("s", 1)] where left >= size {
            text += "\(left / size)\(unit)"
            left %= size
        }
        return text
    }

    func size(_ byteCount: Int) -> YAMLOutput {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where byteCount > 0 {
            if byteCount & ((1 << shift) - 1) == 0 { return .word("\(byteCount >> shift)\(unit)") }
        }
        return .word("\(byteCount)")
    }

    mutating func addRate(
        _ limit: RateLimit?, _ part: String, as key: String = "rate", to section: inout YAMLFields
    ) {
        guard let limit else { return }
        let units: [(Duration, String)] = [(.seconds(1), "s"), (.seconds(60), "m"), (.seconds(3600), "h")]
        guard let unit = units.first(where: { $0.0 == limit.period })?.1 else {
            return cannotSay(part, "a rate of \(limit.count) in \(limit.period): it counts per second, minute and hour")
        }
        section.add(key, .word("\(limit.count)/\(unit)"))
        if key == "rate" { section.add("burst", number(limit.burst, unless: limit.count)) }
    }
}

extension CIDR {
    /// As people write it: an address alone where it is one.
    fileprivate var nativeText: String { prefixLength == base.bitCount ? "\(base)" : "\(self)" }
}

extension DestinationPolicy.Exemption {
    fileprivate var nativeText: String {
        guard let ports else { return block.nativeText }
        let range = ports.nativeText
        return block.base.family == .v6 ? "[\(block.nativeText)]:\(range)" : "\(block.nativeText):\(range)"
    }
}

extension ClosedRange<UInt16> {
    var nativeText: String { count == 1 ? "\(lowerBound)" : "\(lowerBound)-\(upperBound)" }
}
