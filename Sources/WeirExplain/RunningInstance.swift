import WeirModel
import WeirNet
import WeirSession

// What a running instance says of itself, as pages of its admin endpoint. docs/PREVIEW.md lists the keys.

/// Its listeners and their routes, with the sessions that are open now.
package struct RunningConfiguration: Sendable, Equatable {
    package struct Listener: Sendable, Equatable {
        package var name: String
        /// As the configuration has it: port 0 is any.
        package var address: SocketAddress
        package var takesIPv4: Bool
        package var routes: [Route]
    }

    package struct Route: Sendable, Equatable {
        package var name: String
        package var onRemoved: LiveSessions
        /// That the route took, and that are open.
        package var sessionCount: Int
    }

    package var listeners: [Listener]

    package init(_ configuration: Configuration, sessionCount: (_ listener: String, _ route: String) -> Int) {
        listeners = configuration.listeners.map { listener in
            let routes = listener.routes.map { route in
                Route(
                    name: route.name, onRemoved: route.onRemoved,
                    sessionCount: sessionCount(listener.name, route.name))
            }
            return Listener(
                name: listener.name, address: listener.address, takesIPv4: listener.takesIPv4, routes: routes)
        }
    }

    package var json: JSONValue {
        .object([
            "listeners": .array(
                listeners.map { listener in
                    .object([
                        "address": .string(listener.address.description), "name": .string(listener.name),
                        "routes": .array(listener.routes.map(\.json)), "takes_ipv4": .flag(listener.takesIPv4),
                    ])
                })
        ])
    }

    /// nil: it is not that page.
    package init?(json: JSONValue) {
        guard let found = json["listeners"]?.array else { return nil }
        listeners = []
        for listener in found {
            guard let name = listener["name"]?.string, let routes = listener["routes"]?.array,
                let address = listener["address"]?.string.flatMap({ SocketAddress($0) })
            else { return nil }
            let all = routes.compactMap { Route(json: $0) }
            guard all.count == routes.count else { return nil }
            // Who says nothing of it knows nothing of it.
            let takesIPv4 = listener["takes_ipv4"]?.flag ?? false
            listeners.append(Listener(name: name, address: address, takesIPv4: takesIPv4, routes: all))
        }
    }
}

extension RunningConfiguration.Route {
    fileprivate var json: JSONValue {
        .object([
            "drain_milliseconds": JSONValue(onRemoved.drainMilliseconds), "name": .string(name),
            "on_removed": .string(onRemoved.word), "sessions": .integer(sessionCount),
        ])
    }

    fileprivate init?(json: JSONValue) {
        guard let name = json["name"]?.string, let count = json["sessions"]?.integer else { return nil }
        switch json["on_removed"]?.string {
        case "keep": onRemoved = .keep
        case "close": onRemoved = .close
        case "drain":
            guard let time = json["drain_milliseconds"]?.integer else { return nil }
            onRemoved = .drain(.milliseconds(time))
        default: return nil
        }
        self.name = name
        sessionCount = count
    }
}

extension LiveSessions {
    /// As native YAML has it.
    var word: String {
        switch self {
        case .keep: "keep"
        case .drain: "drain"
        case .close: "close"
        }
    }

    /// Rounded up; nil: they are not drained.
    var drainMilliseconds: Int? {
        guard case .drain(let time) = self else { return nil }
        let nanoseconds = time.clampedNanoseconds
        return Int(clamping: nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 == 0 ? 0 : 1))
    }
}

/// Server names that its sessions asked for lately, and what it would do now with the last session of each.
package struct SeenDecisions: Sendable, Equatable {
    package struct Name: Sendable, Equatable {
        package var listener: String
        /// `.none`: nobody was named.
        package var serverName: ServerName
        /// Of the last session.
        package var client: IPAddress
        package var peer: IPAddress
        /// Whether a PROXY header named the client.
        package var isProxied: Bool
        /// What the client connected to.
        package var destination: SocketAddress
        package var sessionCount: Int
        /// Since the last session ended.
        package var secondsAgo: Int
        /// Without a look at addresses.
        package var verdict: Verdict

        package init(
            listener: String, serverName: ServerName, client: IPAddress, peer: IPAddress, isProxied: Bool,
            destination: SocketAddress, sessionCount: Int, secondsAgo: Int, verdict: Verdict = Verdict()
        ) {
            self.listener = listener
            self.serverName = serverName
            self.client = client
            self.peer = peer
            self.isProxied = isProxied
            self.destination = destination
            self.sessionCount = sessionCount
            self.secondsAgo = secondsAgo
            self.verdict = verdict
        }

        /// The last session, as far as it is known: without ALPN, and without the destination of a PROXY header.
        package var inquiry: Inquiry {
            var inquiry = Inquiry(peer: peer)
            if isProxied { inquiry.origin = .believed(client: client, destination: nil) }
            inquiry.serverName = serverName
            inquiry.destination = destination
            return inquiry
        }
    }

    package var names: [Name]
    /// Whether no name of that time had to give way to others.
    package var isComplete: Bool
    /// How far back it goes.
    package var spanSeconds: Int

    /// Names of listeners that are gone are left out: nobody asks there any more.
    package init(_ names: [Name], isComplete: Bool, spanSeconds: Int, decidedBy explainer: Explainer) {
        self.isComplete = isComplete
        self.spanSeconds = spanSeconds
        let verdicts = explainer.verdicts(of: names.map { ($0.inquiry, $0.listener) })
        self.names = zip(names, verdicts).compactMap { name, verdict in
            guard let verdict else { return nil }
            var name = name
            name.verdict = verdict
            return name
        }
    }

    package var json: JSONValue {
        .object([
            "complete": .flag(isComplete), "names": .array(names.map(\.json)), "seconds": .integer(spanSeconds),
        ])
    }

    /// nil: it is not that page.
    package init?(json: JSONValue) {
        guard let isComplete = json["complete"]?.flag, let seconds = json["seconds"]?.integer,
            let found = json["names"]?.array
        else { return nil }
        names = found.compactMap { Name(json: $0) }
        guard names.count == found.count else { return nil }
        self.isComplete = isComplete
        spanSeconds = seconds
    }
}

extension SeenDecisions.Name {
    fileprivate var json: JSONValue {
        .object([
            "client": .string(client.description), "destination": .string(destination.description),
            "listener": .string(listener), "peer": .string(peer.description), "proxied": .flag(isProxied),
            "seconds_ago": .integer(secondsAgo), "server_name": serverName.json, "sessions": .integer(sessionCount),
            "verdict": verdict.json,
        ])
    }

    fileprivate init?(json: JSONValue) {
        guard let listener = json["listener"]?.string,
            let serverName = json["server_name"].flatMap(ServerName.init(json:)),
            let client = json["client"]?.string.flatMap({ IPAddress($0) }),
            let peer = json["peer"]?.string.flatMap({ IPAddress($0) }), let isProxied = json["proxied"]?.flag,
            let destination = json["destination"]?.string.flatMap({ SocketAddress($0) }),
            let sessionCount = json["sessions"]?.integer, let secondsAgo = json["seconds_ago"]?.integer,
            let verdict = json["verdict"].flatMap(Verdict.init(json:))
        else { return nil }
        self.init(
            listener: listener, serverName: serverName, client: client, peer: peer, isProxied: isProxied,
            destination: destination, sessionCount: sessionCount, secondsAgo: secondsAgo, verdict: verdict)
    }
}

extension ServerName {
    var json: JSONValue { isNone ? .null : .string(description) }

    fileprivate init?(json: JSONValue) {
        if json == .null {
            self = .none
        } else {
            guard let text = json.string, let name = try? ServerName(text) else { return nil }
            self = name
        }
    }
}

extension Verdict {
    /// nil: it is none that this version knows.
    fileprivate init?(json: JSONValue) {
        guard json["forwarded"]?.flag != nil else { return nil }
        var refusal: CloseReason?
        if let label = json["reason"]?.string {
            guard let found = CloseReason(label: label) else { return nil }
            refusal = found
        }
        self.init(
            refusal: refusal, route: json["route"]?.string, target: json["target"]?.string,
            policy: json["policy"]?.string, source: json["source"]?.string)
    }
}
