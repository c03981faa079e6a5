import WeirModel
import WeirNet

/// What would become of a running instance's listeners, sessions and lately seen names under another configuration.
package struct Comparison: Sendable, Equatable {
    package struct Listener: Sendable, Equatable {
        package var name: String
        package var address: SocketAddress
    }

    /// A route that is gone and has sessions.
    package struct LostRoute: Sendable, Equatable {
        package var listener: String
        package var route: String
        package var sessionCount: Int
        /// By the configuration that runs.
        package var onRemoved: LiveSessions
    }

    package struct ChangedName: Sendable, Equatable {
        package var seen: SeenDecisions.Name
        /// nil: nobody listens there any more.
        package var after: Verdict?
    }

    package var opened: [Listener] = []
    package var closed: [Listener] = []
    package var lost: [LostRoute] = []
    /// The most asked for first.
    package var changed: [ChangedName] = []
    package var seenNameCount: Int
    /// Whether these are all names of that time.
    package var isComplete: Bool
    package var spanSeconds: Int

    /// `next`: of the configuration that does not run yet.
    package init(of next: Explainer, with running: RunningConfiguration, seen: SeenDecisions) {
        seenNameCount = seen.names.count
        isComplete = seen.isComplete
        spanSeconds = seen.spanSeconds
        let listeners = next.configuration.listeners
        // Whoever connects comes to an address, whatever its listener is called.
        let heirs = Dictionary(listeners.map { ($0.socketKey, $0.name) }, uniquingKeysWith: { first, _ in first })
        var heirOfName: [String: String] = [:]
        let keys = Set(running.listeners.map(\.socketKey))
        opened = listeners.filter { !keys.contains($0.socketKey) }.map { .init(name: $0.name, address: $0.address) }
        for listener in running.listeners {
            if let heir = heirs[listener.socketKey] {
                heirOfName[listener.name] = heir
            } else {
                closed.append(.init(name: listener.name, address: listener.address))
            }
        }
        lost = Self.lost(listeners, running)
        // No listener is called nothing.
        let verdicts = next.verdicts(of: seen.names.map { ($0.inquiry, heirOfName[$0.listener] ?? "") })
        changed = zip(seen.names, verdicts).compactMap { name, after in
            after == name.verdict ? nil : ChangedName(seen: name, after: after)
        }
        changed.sort { $0.seen.sessionCount > $1.seen.sessionCount }
    }

    /// Routes are known by the names of their listener and their own, as a reload knows them.
    private static func lost(_ next: [WeirModel.Listener], _ running: RunningConfiguration) -> [LostRoute] {
        let routes = Dictionary(
            next.map { ($0.name, Set($0.routes.map(\.name))) }, uniquingKeysWith: { first, _ in first })
        return running.listeners.flatMap { listener in
            let staying = routes[listener.name] ?? []
            return listener.routes.filter { !staying.contains($0.name) && $0.sessionCount > 0 }.map {
                LostRoute(
                    listener: listener.name, route: $0.name, sessionCount: $0.sessionCount, onRemoved: $0.onRemoved)
            }
        }
    }

    /// No listener closes, no session loses its route, and no name is decided about in another way.
    package var isHarmless: Bool { closed.isEmpty && lost.isEmpty && changed.isEmpty }
}

extension RunningConfiguration.Listener {
    /// As `Listener.socketKey` has it.
    fileprivate var socketKey: String {
        var listener = WeirModel.Listener(name: name, address: address)
        listener.takesIPv4 = takesIPv4
        return listener.socketKey
    }
}

// MARK: For people

extension Comparison {
    /// Of the names that are listed.
    private static let nameCountMax = 100

    /// Lines, each with its end. Names are quoted and escaped.
    package var text: String {
        var lines: [String] = []
        if !opened.isEmpty || !closed.isEmpty { lines.append("listeners") }
        lines += opened.map { "  opened: \($0.name.quoted) at \($0.address)" }
        lines += closed.map { "  closed: \($0.name.quoted) at \($0.address)" }
        if !lost.isEmpty { lines.append("sessions that lose their route") }
        lines += lost.map {
            "  listener \($0.listener.quoted), route \($0.route.quoted): \($0.sessionCount), \($0.onRemoved.clause)"
        }
        if !changed.isEmpty {
            lines.append("server names of \(span) whose decision changes: \(changed.count) of \(seenNameCount)")
        }
        lines += changed.prefix(Self.nameCountMax).flatMap(\.lines)
        if changed.count > Self.nameCountMax { lines.append("  and \(changed.count - Self.nameCountMax) more") }
        if !isComplete { lines.append("not all: more names were seen in \(span) than the running instance remembers") }
        if isHarmless { lines.append("nothing changes for anybody; server names of \(span): \(seenNameCount)") }
        return lines.map { $0 + "\n" }.joined()
    }

    private var span: String { spanSeconds == 3600 ? "the last hour" : "the last \(spanSeconds) s" }
}

extension Comparison.ChangedName {
    fileprivate var lines: [String] {
        let name = seen.serverName.isNone ? "without a name" : seen.serverName.description.quoted
        let sessions = "\(seen.sessionCount) session\(seen.sessionCount == 1 ? "" : "s")"
        return [
            "  \(name) at listener \(seen.listener.quoted): \(sessions), the last from \(seen.client) "
                + "\(seen.secondsAgo) s ago",
            "    now: \(seen.verdict)", "    then: \(after?.description ?? "nobody listens there")",
        ]
    }
}

extension LiveSessions {
    /// What becomes of them.
    fileprivate var clause: String {
        switch self {
        case .keep: "which go on to their own end (on_removed: keep)"
        case .close: "which are reset at once (on_removed: close)"
        case .drain:
            "which go on for at most \((drainMilliseconds ?? 0).secondsText) and are reset then (on_removed: drain)"
        }
    }
}

extension Int {
    /// Of milliseconds: `30 s`, `1500 ms`.
    fileprivate var secondsText: String { self % 1000 == 0 ? "\(self / 1000) s" : "\(self) ms" }
}

// MARK: As data

extension Comparison {
    package var json: JSONValue {
        .object([
            "complete": .flag(isComplete), "harmless": .flag(isHarmless),
            "listeners": .object([
                "closed": .array(closed.map(\.json)), "opened": .array(opened.map(\.json)),
            ]),
            "names": .array(changed.map(\.json)), "names_seen": .integer(seenNameCount),
            "seconds": .integer(spanSeconds), "sessions": .array(lost.map(\.json)),
        ])
    }
}

extension Comparison.Listener {
    fileprivate var json: JSONValue {
        .object(["address": .string(address.description), "name": .string(name)])
    }
}

extension Comparison.LostRoute {
    fileprivate var json: JSONValue {
        .object([
            "drain_milliseconds": JSONValue(onRemoved.drainMilliseconds), "listener": .string(listener),
            "on_removed": .string(onRemoved.word), "route": .string(route), "sessions": .integer(sessionCount),
        ])
    }
}

extension Comparison.ChangedName {
    fileprivate var json: JSONValue {
        .object([
            "after": after?.json ?? .null, "before": seen.verdict.json, "client": .string(seen.client.description),
            "listener": .string(seen.listener), "seconds_ago": .integer(seen.secondsAgo),
            "server_name": seen.serverName.json, "sessions": .integer(seen.sessionCount),
        ])
    }
}
