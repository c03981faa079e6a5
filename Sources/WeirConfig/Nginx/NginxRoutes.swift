import WeirModel
import WeirNet

/// Routes that decide as a list of rules does: few, named for what they lead to.
///
/// A route table tries an exact name, the longest wildcard, any name, then no constraint, and among equals the first;
/// so rules that ask for a protocol come first, and equal targets share a route.
struct NginxRoutes {
    struct Route {
        var name: String
        var match: RouteMatch
        var target: NginxTarget
        /// Of the first rule that shares it.
        var position: SourcePosition
    }

    private(set) var routes: [Route] = []
    /// Position in `routes` by what may share one.
    private var indices: [Key: Int] = [:]
    private var names: Set<String> = []

    private enum Group: Hashable {
        case named
        /// Any other name.
        case other
        /// Any other name and none.
        case everything
        /// No name.
        case nameless
    }

    private struct Key: Hashable {
        var target: NginxTarget
        var alpn: String?
        var group: Group
    }

    init(_ rules: [NginxRouting.Rule]) {
        var plain: [NginxMap.NameClass: NginxTarget] = [:]
        for rule in rules where rule.alpn == nil { plain[rule.name] = rule.target }
        let others = rules.filter { $0.name == .anyOther }
        let nameless = rules.filter { $0.name == .none }.map(Self.possible)
        let isSplit = Self.mustSplit(others, nameless)
        for rule in rules {
            // A protocol that changes nothing for this name needs no route of its own.
            let isPlain = rule.alpn == nil || plain[rule.name] == rule.target
            if rule.alpn != nil, isPlain { continue }
            switch rule.name {
            case .exact(let name): add(rule, .named, .exact(name))
            case .under(let suffix): add(rule, .named, .wildcard(suffix))
            case .anyOther where isSplit:
                add(rule, .other, .any)
            case .anyOther:
                if !Self.isImplied(rule) { add(rule, .everything, rule.target.needsName ? .any : nil) }
            case .none:
                let rule = Self.possible(rule)
                if isSplit, !Self.isImplied(rule) { add(rule, .nameless, nil) }
            }
        }
    }

    /// A connection that no route takes is refused: nothing is tried after the last route, so it need not refuse.
    private static func isImplied(_ rule: NginxRouting.Rule) -> Bool { rule.alpn == nil && rule.target == .refuse }

    /// A connection without a name cannot go to its name.
    private static func possible(_ rule: NginxRouting.Rule) -> NginxRouting.Rule {
        var rule = rule
        if rule.target.needsName { rule.target = .refuse }
        return rule
    }

    /// Whether other names and no name need routes of their own. A forward counts as doing the same for both, since it
    /// refuses the nameless; but then no route without a constraint may stand beside it, as it would be tried later.
    private static func mustSplit(_ others: [NginxRouting.Rule], _ nameless: [NginxRouting.Rule]) -> Bool {
        for (other, none) in zip(others, nameless) where possible(other).target != none.target { return true }
        return others.contains { $0.target.needsName } && others.contains { !$0.target.needsName }
    }

    private mutating func add(_ rule: NginxRouting.Rule, _ group: Group, _ pattern: ServerNamePattern?) {
        let key = Key(target: rule.target, alpn: rule.alpn, group: group)
        if let index = indices[key] {
            if let pattern { routes[index].match.serverNames.append(pattern) }
            return
        }
        var match = RouteMatch()
        if let pattern { match.serverNames = [pattern] }
        if let alpn = rule.alpn { match.alpn = [alpn] }
        indices[key] = routes.count
        routes.append(
            Route(name: unusedName(rule, group), match: match, target: rule.target, position: rule.position))
    }

    private mutating func unusedName(_ rule: NginxRouting.Rule, _ group: Group) -> String {
        var label: String
        switch group {
        case .other, .everything: label = "default"
        case .nameless: label = "no-name"
        case .named:
            switch rule.target {
            case .cluster(let name): label = name
            case .serverName: label = "server-name"
            case .refuse: label = "refused"
            }
        }
        if let alpn = rule.alpn { label += "-\(alpn)" }
        var name = label
        var number = 2
        while !names.insert(name).inserted {
            name = "\(label)-\(number)"
            number += 1
        }
        return name
    }
}

extension NginxTarget {
    fileprivate var needsName: Bool {
        if case .serverName = self { return true }
        return false
    }
}
