import WeirModel
import WeirNet

// How the names that two documents ask for stand to each other.

extension ServerNamePattern {
    /// Whether every name that `other` takes is taken too.
    func covers(_ other: ServerNamePattern) -> Bool {
        switch (self, other) {
        case (.any, _): true
        case (.exact, _): self == other
        case (.wildcard(let suffix), .exact(let name)): name.description.hasSuffix(".\(suffix)")
        case (.wildcard(let suffix), .wildcard(let narrower)):
            suffix == narrower || narrower.description.hasSuffix(".\(suffix)")
        case (.wildcard, .any): false
        }
    }

    /// Whether one of these takes every name that this takes.
    func isCovered(by patterns: Set<ServerNamePattern>) -> Bool {
        patterns.contains(self) || wider.contains(where: patterns.contains)
    }

    /// The names that both mean, which is one of the two or none.
    func intersection(_ other: ServerNamePattern) -> ServerNamePattern? {
        if covers(other) { return other }
        return other.covers(self) ? self : nil
    }

    /// The patterns that mean these names and more, the narrowest first.
    var wider: [ServerNamePattern] {
        var text: Substring
        switch self {
        case .any: return []
        case .exact(let name): text = Substring(name.description)
        case .wildcard(let suffix): text = Substring(suffix.description)
        }
        var found: [ServerNamePattern] = []
        while let dot = text.firstIndex(of: ".") {
            text = text[text.index(after: dot)...]
            if let suffix = try? ServerName(String(text)) { found.append(.wildcard(suffix)) }
        }
        return found + [.any]
    }
}

extension RouteMatch {
    /// Whether nothing but the server name decides.
    var isNameOnly: Bool {
        clients.isEmpty && alpn.isEmpty && destinations.isEmpty && exceptDestinations.isEmpty
            && destinationPorts.isEmpty
    }
}
