/// One metric with its samples, as the exposition takes it from outside the workers' cells: the driver, the resolver,
/// reloads, the log.
package struct MetricFamily: Sendable {
    package enum Kind: String, Sendable {
        case counter
        case gauge
    }

    package enum Value: Sendable {
        case integer(UInt64)
        case decimal(Double)
    }

    package struct Sample: Sendable {
        /// Values from configuration or a fixed set, never from the wire (T-15).
        package let labels: [(name: String, value: String)]
        package let value: Value

        package init(_ value: Value, labels: [(name: String, value: String)] = []) {
            self.labels = labels
            self.value = value
        }
    }

    /// `weir_…` with its base unit, and `_total` for a counter.
    package let name: String
    /// One sentence.
    package let help: String
    package let kind: Kind
    package let samples: [Sample]

    package init(_ name: String, help: String, _ kind: Kind, _ samples: [Sample]) {
        self.name = name
        self.help = help
        self.kind = kind
        self.samples = samples
    }

    /// One sample without labels.
    package init(_ name: String, help: String, _ kind: Kind, _ value: Value) {
        self.init(name, help: help, kind, [Sample(value)])
    }
}
