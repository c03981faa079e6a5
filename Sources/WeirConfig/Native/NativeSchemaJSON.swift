/// The table as a JSON Schema.
extension NativeSchema {
    /// Where the dialect is defined.
    private static let dialect = "https://json-schema.org/draft/2020-12/schema"

    /// What `weir schema` prints: one definition per mapping of the format, and the file's own at the top.
    package static func json() -> JSONText {
        let definitions = shapes.dropFirst().map { ($0.name, object($0)) }
        guard case .object(let root) = object(configuration) else { preconditionFailure("a mapping is an object") }
        return .object(
            [
                ("$schema", .string(dialect)), ("title", "Weir"),
                ("description", "The native format of Weir's configuration files"),
            ] + root + [("$defs", .object(definitions))])
    }

    /// Every mapping of the format, that of a file first, each once.
    package static let shapes: [NativeShape] = {
        var found: [NativeShape] = []
        var names: Set<String> = []
        func visit(_ value: NativeValue) {
            switch value {
            case .mapping(let shape):
                guard names.insert(shape.name).inserted else { return }
                found.append(shape)
                for key in shape.keys { visit(key.value) }
            case .list(let item, _): visit(item)
            case .either(let values): values.forEach(visit)
            default: break
            }
        }
        visit(.mapping(configuration))
        return found
    }()

    private static func object(_ shape: NativeShape) -> JSONText {
        let properties = shape.keys.map { key -> (String, JSONText) in
            guard case .object(var fields) = schema(key.value) else { preconditionFailure("a schema is an object") }
            fields.insert(("description", .string(key.meaning)), at: 0)
            if let own = key.own { fields.append(("default", own)) }
            return (key.name, .object(fields))
        }
        var fields: [(String, JSONText)] = [
            ("type", "object"), ("additionalProperties", false), ("properties", .object(properties)),
        ]
        let required = shape.keys.filter(\.isRequired).map { JSONText.string($0.name) }
        if !required.isEmpty { fields.append(("required", .array(required))) }
        if !shape.rules.isEmpty { fields.append(("allOf", .array(shape.rules.map(schema)))) }
        return .object(fields)
    }

    private static func schema(_ rule: NativeShape.Rule) -> JSONText {
        func required(_ keys: String...) -> JSONText { .object([("required", .array(keys.map { .string($0) }))]) }
        switch rule {
        case .exactlyOne(let keys): return .object([("oneOf", .array(keys.map { required($0) }))])
        case .atLeastOne(let keys): return .object([("anyOf", .array(keys.map { required($0) }))])
        case .excludes(let key, let others):
            return .object([("not", .object([("anyOf", .array(others.map { required(key, $0) }))]))])
        case .needs(let key, let other):
            return .object([("dependentRequired", .object([(key, .array([.string(other)]))]))])
        }
    }

    private static func schema(_ value: NativeValue) -> JSONText {
        switch value {
        case .text: text(longest: nil)
        case .form(let pattern, let example):
            .object([("type", "string"), ("pattern", .string(pattern)), ("examples", [.string(example)])])
        case .words(let words): .object([("type", "string"), ("enum", .array(words.map { .string($0) }))])
        case .number(let range): number(range)
        case .boolean: .object([("type", "boolean")])
        case .duration(let zeroAllowed):
            .object([
                ("type", "string"),
                ("pattern", .string("^" + (zeroAllowed ? "" : "(?=.*[1-9])") + "([0-9]+(ms|s|m|h|d))+$")),
                ("examples", ["500ms", "5s", "1h30m"]),
            ])
        case .size(let range):
            .object([
                (
                    "anyOf",
                    [number(range), .object([("type", "string"), ("pattern", "^[0-9]+(KiB|MiB|GiB|TiB)?$")])]
                ), ("examples", ["16KiB", "1GiB"]),
            ])
        case .rate:
            .object([
                ("type", "string"), ("pattern", "^([1-9][0-9]{0,5}|1000000)/[smh]$"), ("examples", ["500/s", "30/m"]),
            ])
        case .list(let item, let counts):
            .object(
                [("type", "array"), ("items", schema(item))]
                    + (counts.lowerBound > 0 ? [("minItems", .number(counts.lowerBound))] : [])
                    + (counts.upperBound < .max ? [("maxItems", .number(counts.upperBound))] : []))
        case .mapping(let shape): .object([("$ref", .string("#/$defs/\(shape.name)"))])
        case .labels:
            .object([
                ("type", "object"), ("minProperties", 1), ("additionalProperties", text(longest: nil, shortest: 0)),
            ])
        case .customTLVs:
            // Editors that take the keys for numbers show them in decimals.
            .object([
                ("type", "object"), ("additionalProperties", false), ("maxProperties", 4),
                (
                    "patternProperties",
                    .object([("^(0x[eE][0-9a-fA-F]|22[4-9]|23[0-9])$", text(longest: 64))])
                ),
            ])
        case .either(let values): .object([("anyOf", .array(values.map(schema)))])
        }
    }

    private static func number(_ range: ClosedRange<Int>) -> JSONText {
        .object(
            [("type", "integer"), ("minimum", .number(range.lowerBound))]
                + (range.upperBound < .max ? [("maximum", .number(range.upperBound))] : []))
    }

    private static func text(longest: Int?, shortest: Int = 1) -> JSONText {
        var fields: [(String, JSONText)] = [("type", ["string", "number", "boolean"])]
        if shortest > 0 { fields.append(("minLength", .number(shortest))) }
        if let longest { fields.append(("maxLength", .number(longest))) }
        return .object(fields)
    }
}
