import Synchronization
import Weir
import WeirAdmin
import WeirExplain

/// What a running instance says of itself to `weir check --against`, on its admin endpoint.
final class PreviewPages: Sendable {
    private static let span = Duration.seconds(3600)

    private let proxy: Proxy
    private let settings: @Sendable () -> Configuration
    /// Of the configuration that was in force when it was asked last: to compile one takes longer than to ask it.
    private let explainer = Mutex<Explainer?>(nil)

    /// `settings`: those in force.
    init(_ proxy: Proxy, settings: @escaping @Sendable () -> Configuration) {
        self.proxy = proxy
        self.settings = settings
    }

    var tables: [AdminTable] {
        [
            AdminTable("/config", help: "listeners and routes, and their sessions", contentType: AdminTable.json) {
                [self] in configuration
            },
            AdminTable("/names", help: "server names of the last hour", contentType: AdminTable.json) {
                [self] in names
            },
        ]
    }

    private var configuration: String {
        let running = RunningConfiguration(settings()) { proxy.sessionCount(listener: $0, route: $1) }
        return running.json.text + "\n"
    }

    private var names: String {
        let (sightings, isComplete) = proxy.sightings(within: Self.span)
        let names = sightings.map { seen in
            SeenDecisions.Name(
                listener: seen.listener, serverName: seen.serverName, client: seen.client.ip, peer: seen.peer.ip,
                isProxied: seen.isProxied, destination: seen.local, sessionCount: Int(clamping: seen.sessionCount),
                secondsAgo: Int(seen.age.components.seconds))
        }
        let seen = SeenDecisions(
            names, isComplete: isComplete, spanSeconds: Int(Self.span.components.seconds), decidedBy: current())
        return seen.json.text + "\n"
    }

    private func current() -> Explainer {
        let configuration = settings()
        return explainer.withLock { known in
            if let known, known.configuration == configuration { return known }
            let fresh = Explainer(configuration, localAddresses: LocalAddresses.current())
            known = fresh
            return fresh
        }
    }
}
