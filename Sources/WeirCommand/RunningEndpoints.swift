/// How the endpoints of a running instance stand, from its table for people.
package struct RunningEndpoints: Sendable, Equatable {
    private struct Key: Hashable {
        let cluster: String
        let endpoint: String
    }

    private var standings: [Key: String] = [:]

    /// nil: it is not that table.
    package init?(table: String) {
        var lines = table.split(separator: "\n")[...]
        guard let head = lines.popFirst() else { return nil }
        var columns: [(name: String, start: Int)] = []
        var previous: Character = " "
        for (position, character) in head.enumerated() {
            if character != " " {
                if previous == " " { columns.append(("", position)) }
                columns[columns.count - 1].name.append(character)
            }
            previous = character
        }
        func index(_ name: String) -> Int? { columns.firstIndex { $0.name == name } }
        guard let cluster = index("CLUSTER"), let endpoint = index("ENDPOINT"), let status = index("STATUS"),
            let remaining = index("FOR")
        else { return nil }
        for line in lines {
            let characters = Array(line)
            func field(_ column: Int) -> String {
                let start = min(columns[column].start, characters.count)
                let end =
                    column + 1 < columns.count ? min(columns[column + 1].start, characters.count) : characters.count
                var text = characters[start..<end]
                while text.last == " " { text.removeLast() }
                return String(text)
            }
            let time = field(remaining)
            standings[Key(cluster: field(cluster), endpoint: field(endpoint))] =
                field(status) + (time == "-" ? "" : " for \(time)")
        }
    }

    /// `HEALTHY`, `RESTING for 7.2s`; nil: it has no such endpoint.
    package func standing(of endpoint: String, in cluster: String) -> String? {
        standings[Key(cluster: cluster, endpoint: endpoint)]
    }
}
