/// The text of a scrape, in Prometheus text format 0.0.4.
package struct Exposition {
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private var bytes: [UInt8] = []

    private init() { bytes.reserveCapacity(1 << 16) }

    /// Everything that `registry` counts, summed over its workers; then `extra`; then the process itself.
    package static func text(
        _ registry: MetricRegistry, extra: [MetricFamily] = [], process: ProcessFigures? = .current()
    ) -> String {
        var exposition = Exposition()
        let entries = registry.entries()
        func of(_ kind: MetricSubject.Kind) -> [MetricRegistry.Entry] { entries.filter { $0.subject.kind == kind } }
        exposition.add(CellFamily.listener(reasonLabels: registry.reasonLabels), of(.listener), registry)
        exposition.add(CellFamily.route, of(.route), registry)
        exposition.add(CellFamily.cluster, of(.cluster), registry)
        exposition.add(CellFamily.endpoint, of(.endpoint), registry)
        exposition.add(CellFamily.policy, of(.policy), registry)
        for family in CellFamily.worker(guardRuleLabels: registry.guardRuleLabels) {
            exposition.header(family.name, family.help, family.kind)
            exposition.samples(family, base: 0, labels: [], registry)
        }
        for family in extra + (process?.families ?? []) { exposition.add(family) }
        return String(decoding: exposition.bytes, as: UTF8.self)
    }

    /// The format wants all samples of a family together, so subjects are the inner loop.
    private mutating func add(
        _ families: [CellFamily], _ entries: [MetricRegistry.Entry], _ registry: MetricRegistry
    ) {
        for family in families where !entries.isEmpty {
            header(family.name, family.help, family.kind)
            for entry in entries { samples(family, base: entry.base, labels: entry.subject.labels, registry) }
        }
    }

    private mutating func add(_ family: MetricFamily) {
        header(family.name, family.help, family.kind.rawValue)
        for item in family.samples { sample(family.name, item.labels, item.value) }
    }

    private mutating func samples(
        _ family: CellFamily, base: Int32, labels: [(name: String, value: String)], _ registry: MetricRegistry
    ) {
        switch family.source {
        case .counter(let cell), .gauge(let cell):
            sample(family.name, labels, .integer(registry.sum(base + cell)))
        case .counters(let first, let label, let values):
            for (index, value) in values.enumerated() {
                sample(family.name, labels + [(label, value)], .integer(registry.sum(base + first + Int32(index))))
            }
        case .gaugeMinimum(let cell):
            sample(family.name, labels, .integer(registry.workers.map { $0.value(base + cell) }.min() ?? 0))
        case .difference(let began, let ended):
            // The end is read first: a session that closes in between is then seen as open, never as below zero.
            let endedCount = registry.sum(base + ended)
            let beganCount = registry.sum(base + began)
            sample(family.name, labels, .integer(beganCount > endedCount ? beganCount - endedCount : 0))
        case .histogram(let first, let scale):
            var count: UInt64 = 0
            for index in 0...HistogramScale.boundCount {
                count += registry.sum(base + first + Int32(index))
                let bound =
                    index < HistogramScale.boundCount
                    ? Self.decimal(Double(scale.bounds[index]) / scale.divisor) : "+Inf"
                sample(family.name + "_bucket", labels + [("le", bound)], .integer(count))
            }
            let sum = registry.sum(base + first + HistogramScale.sumOffset)
            sample(family.name + "_sum", labels, .decimal(Double(sum) / scale.divisor))
            sample(family.name + "_count", labels, .integer(count))
        }
    }

    private mutating func header(_ name: String, _ help: String, _ kind: String) {
        append("# HELP \(name) ")
        // In a help text a quote stands for itself.
        for byte in help.utf8 { escape(byte, quotes: false) }
        append("\n# TYPE \(name) \(kind)\n")
    }

    private mutating func sample(
        _ name: String, _ labels: [(name: String, value: String)], _ value: MetricFamily.Value
    ) {
        append(name)
        for (index, label) in labels.enumerated() {
            append(index == 0 ? "{" : ",")
            append(label.name)
            append("=\"")
            for byte in label.value.utf8 { escape(byte, quotes: true) }
            append("\"")
        }
        append(labels.isEmpty ? " " : "} ")
        switch value {
        case .integer(let integer): append(String(integer))
        case .decimal(let decimal): append(Self.decimal(decimal))
        }
        append("\n")
    }

    private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private mutating func escape(_ byte: UInt8, quotes: Bool) {
        switch byte {
        case UInt8(ascii: "\\"): append("\\\\")
        case UInt8(ascii: "\n"): append("\\n")
        case UInt8(ascii: "\"") where quotes: append("\\\"")
        default: bytes.append(byte)
        }
    }

    /// As Go's ParseFloat reads it; whole numbers without a fraction, so that `le="1"` is spelled as the field does.
    private static func decimal(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        let text = value.description
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }
}
