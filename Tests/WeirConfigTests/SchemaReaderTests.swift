import Testing
import WeirConfig

/// The table of the format's keys (`NativeSchema`) and its readers agree: what the one allows the other takes, and what it
/// does not is refused.
@Suite struct SchemaReaderTests {
    /// What a reader says of a key that it does not know, or of a value that it does not take.
    private func refusals(_ text: String) -> [String] {
        reading(text).errorLines.filter { line in
            ["expected ", "unknown ", "not supported", "has no value", "is no server name", "is not a server name"]
                .contains { line.contains($0) }
        }
    }

    @Test func everyKeyIsReadWithEveryValueThatItMayHave() {
        let files = SampleFiles(values: \.samples).files
        #expect(files.count > 250)
        for (path, text) in files { #expect(refusals(text) == [], "\(path): \(text)") }
    }

    @Test func everyKeyRefusesValuesThatItMayNotHave() {
        let files = SampleFiles(values: \.faultySamples).files
        #expect(files.count > 400)
        for (path, text) in files { #expect(!refusals(text).isEmpty, "\(path): \(text)") }
    }

    @Test func noTwoMappingsShareADefinition() {
        #expect(Set(NativeSchema.shapes.map(\.name)).count == NativeSchema.shapes.count)
        for shape in NativeSchema.shapes {
            #expect(Set(shape.keys.map(\.name)).count == shape.keys.count, "\(shape.name)")
        }
    }

    @Test func everyKeyIsExplained() {
        for shape in NativeSchema.shapes {
            for key in shape.keys { #expect(key.meaning.count > 5, "\(shape.name).\(key.name)") }
        }
    }
}

/// For every key, wherever it may stand, a file for each of some values of it, with no other key than that needs.
private struct SampleFiles {
    private(set) var files: [(path: String, text: String)] = []
    private let values: (NativeValue) -> [String]

    init(values: @escaping (NativeValue) -> [String]) {
        self.values = values
        visit(NativeSchema.configuration, path: "") { $0 }
    }

    /// `whole` puts a mapping of this shape into its file.
    private mutating func visit(_ shape: NativeShape, path: String, whole: (String) -> String) {
        for key in shape.keys {
            let path = "\(path).\(key.name)"
            for value in values(key.value) { files.append((path, whole(shape.mapping(with: key, value)))) }
            guard let inner = key.value.shape else { continue }
            visit(inner, path: path) { whole(shape.mapping(with: key, key.value.holding($0))) }
        }
    }
}

extension NativeShape {
    /// What it needs, and `key`.
    fileprivate func mapping(with key: NativeKey? = nil, _ value: String = "") -> String {
        var fields = key.map { [($0.name, value)] } ?? []
        func add(_ name: String) {
            guard !fields.contains(where: { $0.0 == name }), let key = keys.first(where: { $0.name == name }) else {
                return
            }
            fields.append((name, key.value.samples[0]))
        }
        for key in keys where key.isRequired { add(key.name) }
        for rule in rules {
            switch rule {
            case .exactlyOne(let names), .atLeastOne(let names):
                if !names.contains(where: { name in fields.contains { $0.0 == name } }) { add(names[0]) }
            case .needs(let one, let other):
                if fields.contains(where: { $0.0 == one }) { add(other) }
            case .excludes: break
            }
        }
        return "{ " + fields.map { "\($0.0): \($0.1)" }.joined(separator: ", ") + " }"
    }
}

extension NativeValue {
    /// `mapping` where this value has one.
    fileprivate func holding(_ mapping: String) -> String {
        switch self {
        case .list(let item, _): "[\(item.holding(mapping))]"
        case .either(let values): values.first { $0.shape != nil }?.holding(mapping) ?? mapping
        default: mapping
        }
    }

    fileprivate var samples: [String] {
        switch self {
        case .text: ["x", "443", "true", "\"a b\""]
        case .form(_, let example): ["\"\(example)\""]
        case .words(let words): words
        case .number(let range): ["\(range.lowerBound)", "\(range.upperBound)"]
        case .boolean: ["true", "false"]
        case .duration(let zeroAllowed): ["1s", "500ms", "1h30m", "1d"] + (zeroAllowed ? ["0s"] : [])
        case .size(let range): ["\(range.lowerBound)", range.contains(16384) ? "16KiB" : "1GiB"]
        case .rate: ["500/s", "30/m", "1000000/h"]
        case .list(let item, let counts): item.samples.map { "[\($0)]" } + (counts.lowerBound == 0 ? ["[]"] : [])
        case .mapping(let shape): [shape.mapping()]
        case .labels: ["{ app: billing, \"a b\": \"\" }"]
        case .customTLVs: ["{ 0xE0: x, 0xef: \"a b\" }"]
        case .either(let values): values.flatMap(\.samples)
        }
    }

    fileprivate var faultySamples: [String] {
        switch self {
        case .text: ["[]", "{}", "\"\""]
        case .form: ["[]", "{}", "\"?? \""]
        case .words: ["nonesuch", "[]", "{}"]
        case .number(let range):
            ["x", "1.5", "[]", "\(range.lowerBound - 1)"]
                + (range.upperBound < .max ? ["\(range.upperBound + 1)"] : [])
        case .boolean: ["yes", "1", "[]"]
        case .duration(let zeroAllowed): ["5", "-1s", "5x", "[]"] + (zeroAllowed ? [] : ["0s"])
        case .size(let range): ["16KB", "\(range.lowerBound - 1)", "[]"]
        case .rate: ["500", "0/s", "5/d", "1000001/s"]
        case .list(let item, let counts):
            ["{}", "\"nonesuch %\""] + item.faultySamples.map { "[\($0)]" } + (counts.lowerBound > 0 ? ["[]"] : [])
        case .mapping: ["x", "[]", "{ nonesuch: 1 }"]
        case .labels: ["x", "[]", "{}", "{ a: [] }"]
        case .customTLVs: ["x", "[]", "{ 0xDF: x }", "{ 0xE0: \"\" }"]
        case .either: ["\"nonesuch %\"", "[[]]", "[{ nonesuch: 1 }]"]
        }
    }
}
