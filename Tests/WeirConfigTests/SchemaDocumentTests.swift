import Testing
import WeirConfig

/// docs/CONFIGURATION.md has every key of the format (`NativeSchema`), and no other; what it says of ranges and of defaults is
/// so.
@Suite struct SchemaDocumentTests {
    /// What the tables of a section are about.
    private static let subjects: [String: NativeShape] = {
        let shapes = Dictionary(uniqueKeysWithValues: NativeSchema.shapes.map { ($0.name, $0) })
        let names = [
            "Top level": "configuration", "Listeners": "listener", "Routes": "route", "Clusters": "cluster",
            "Health": "outlier_detection", "Sources": "source", "Health checks": "health_check", "Policies": "policy",
            "Client labels": "client_labels", "Destinations": "destinations", "Resolver": "resolver",
            "Log and limits": "configuration", "Manifests": "manifests",
        ]
        return names.compactMapValues { shapes[$0] }
    }()

    private struct Row {
        var subject: NativeShape
        var keys: [String]
        var type: String
        var own: String
    }

    /// The rows of all tables of keys of the native format.
    private func rows() throws -> [Row] {
        var rows: [Row] = []
        var subject: NativeShape?
        var isTable = false
        for line in try DocumentTests.text().split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("## nginx") { break }
            if line.hasPrefix("### ") { subject = Self.subjects[String(line.dropFirst(4))] }
            if line.hasPrefix("| key |") { isTable = true }
            guard line.hasPrefix("|") else {
                isTable = false
                continue
            }
            let cells = line.split(separator: "|").map { $0.trimmed }
            guard isTable, cells.count >= 3, cells[0].hasPrefix("`") else { continue }
            rows.append(
                Row(
                    subject: try #require(subject, "no subject: \(line)"), keys: Self.keys(cells[0]), type: cells[1],
                    own: cells[2]))
        }
        return rows
    }

    /// The texts in backquotes; one that begins with a dot stands beside the one before.
    private static func keys(_ cell: String) -> [String] {
        var keys: [String] = []
        for (index, part) in cell.split(separator: "`", omittingEmptySubsequences: false).enumerated()
        where !index.isMultiple(of: 2) {
            if part.hasPrefix("."), let last = keys.last, let dot = last.lastIndex(of: ".") {
                keys.append(String(last[..<dot]) + String(part))
            } else {
                keys.append(String(part))
            }
        }
        return keys
    }

    /// The keys on the way to `path`, from the outside in; nil where the format has no such key.
    private func way(_ path: String, from subject: NativeShape) -> [(shape: NativeShape, key: NativeKey)]? {
        var shape: NativeShape? = subject
        var way: [(NativeShape, NativeKey)] = []
        for name in path.split(separator: ".").map({ $0.hasSuffix("[]") ? String($0.dropLast(2)) : String($0) }) {
            guard let current = shape, let key = current.keys.first(where: { $0.name == name }) else { return nil }
            way.append((current, key))
            shape = key.value.shape
        }
        return way
    }

    @Test func everyKeyOfTheDocumentIsInTheTable() throws {
        for row in try rows() {
            for key in row.keys { #expect(way(key, from: row.subject) != nil, "\(row.subject.name).\(key)") }
        }
    }

    @Test func everyKeyOfTheTableIsInTheDocument() throws {
        var documented: Set<String> = []
        for row in try rows() {
            for key in row.keys {
                for (shape, key) in way(key, from: row.subject) ?? [] { documented.insert("\(shape.name).\(key.name)") }
            }
        }
        for shape in NativeSchema.shapes {
            let missing = shape.keys.map { "\(shape.name).\($0.name)" }.filter { !documented.contains($0) }
            #expect(missing == [])
        }
    }

    @Test func rangesOfTheDocumentAreThoseOfTheTable() throws {
        for row in try rows() {
            for path in row.keys {
                guard let key = way(path, from: row.subject)?.last?.key, let range = key.value.range,
                    row.type.contains("...")
                else { continue }
                let text = "\(range.lowerBound)...\(range.upperBound)"
                #expect(row.type.replacing(",", with: "").contains(text), "\(path): \(row.type)")
            }
        }
    }

    @Test func defaultsOfTheDocumentAreThoseOfTheTable() throws {
        for row in try rows() {
            for path in row.keys {
                // A row without a type sends the reader to another.
                guard !row.type.isEmpty, let own = way(path, from: row.subject)?.last?.key.own else { continue }
                let text = own.text().replacing("\"", with: "")
                #expect(row.own.contains(text), "\(path): \(row.own) is not \(text)")
            }
        }
    }

    @Test func everyWordOfTheTableIsInTheDocument() throws {
        let rows = try rows()
        for row in rows {
            for path in row.keys {
                // What a mapping of the same name has, has a row of its own.
                guard case .words(let words) = way(path, from: row.subject)?.last?.key.value else { continue }
                let text = try DocumentTests.text()
                for word in words { #expect(text.contains("`\(word)`"), "\(path): \(word)") }
            }
        }
    }
}

extension NativeValue {
    fileprivate var range: ClosedRange<Int>? {
        switch self {
        case .number(let range), .size(let range): range
        case .either(let values): values.lazy.compactMap(\.range).first
        default: nil
        }
    }
}

extension Substring {
    fileprivate var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
