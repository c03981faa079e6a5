import CWeir
import Glibc
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

// What every scenario needs: a small configuration, a running proxy, its metrics, and patience.

extension Configuration {
    /// Two workers, one listener called `main` on a free port, nothing written.
    static func listening(detect: Set<DetectedProtocol> = [.tls], _ routes: Route...) -> Configuration {
        var configuration = Configuration()
        configuration.workerCount = 2
        configuration.log.access = .none
        configuration.limits.connections = 256
        configuration.listeners = [.local("main", detect: detect, routes)]
        return configuration
    }

    /// The only listener, or the first.
    var main: Listener {
        get { listeners[0] }
        set { listeners[0] = newValue }
    }

    /// Adds a cluster of these addresses; adjust it by `body`.
    func cluster(
        _ name: String, _ addresses: SocketAddress..., adjusted body: (inout Cluster) -> Void = { _ in }
    ) -> Configuration {
        var cluster = Cluster(name: name, endpoints: addresses.map { Endpoint(host: .address($0.ip), port: $0.port) })
        body(&cluster)
        var configuration = self
        configuration.clusters.append(cluster)
        return configuration
    }

    func adjusted(_ body: (inout Configuration) -> Void) -> Configuration {
        var configuration = self
        body(&configuration)
        return configuration
    }
}

extension Listener {
    /// On a free port of 127.0.0.1.
    static func local(_ name: String, detect: Set<DetectedProtocol> = [.tls], _ routes: [Route]) -> Listener {
        var listener = Listener(name: name, address: SocketAddress(.v4Loopback, port: 0))
        listener.detect = detect
        listener.routes = routes
        return listener
    }
}

extension Route {
    /// To the cluster; `names` as in a configuration file, none: every connection.
    static func to(_ cluster: String, _ names: String...) -> Route {
        Route(name: "to \(cluster)", match: RouteMatch(serverNames: names.map(pattern)), action: .cluster(cluster))
    }

    /// To the server name itself.
    static func forward(port: DynamicForward.Port, adjusted body: (inout UpstreamOptions) -> Void = { _ in }) -> Route {
        var forward = DynamicForward(port: port)
        body(&forward.upstream)
        return Route(name: "forward", match: RouteMatch(serverNames: [.any]), action: .forward(forward))
    }

    static func deny(_ denial: Denial, _ names: String...) -> Route {
        Route(name: "deny \(denial)", match: RouteMatch(serverNames: names.map(pattern)), action: .deny(denial))
    }

    private static func pattern(_ text: String) -> ServerNamePattern {
        do { return try ServerNamePattern(text) } catch { preconditionFailure("\(text) is no pattern: \(error)") }
    }
}

extension Proxy.Options {
    /// What `WEIR_IO` asks the tests to run on: `uring` or `epoll`; nothing: what a user gets.
    static var forTests: Proxy.Options {
        var options = Proxy.Options()
        if let value = unsafe getenv("WEIR_IO") {
            guard let driver = unsafe Proxy.DriverChoice(rawValue: String(cString: value)) else {
                preconditionFailure("WEIR_IO is none of \(Proxy.DriverChoice.allCases)")
            }
            options.driver = driver
        }
        return options
    }
}

extension Proxy {
    /// The overload that tests call, on the driver that they are to run on.
    static func start(_ configuration: Configuration) throws(StartFailure) -> Proxy {
        try start(configuration, options: .forTests)
    }

    /// Where the first listener is.
    var address: SocketAddress { listeners[0].address }

    func connect(_ listener: Int = 0, from source: IPAddress? = nil) throws -> TestConnection {
        try TestConnection.connect(to: listeners[listener].address, from: source)
    }

    /// How the proxy ends a connection on which nothing is said. A reset may come before the connect has returned.
    func endingOfSilence(_ listener: Int = 0) throws -> TestConnection.Ending {
        do { return try connect(listener).ending() } catch TestFailure.reset { return .reset }
    }

    /// The sum of all samples of a metric whose labels include these: `metric("weir_…_total", "reason=\"finished\"")`.
    func metric(_ name: String, _ labels: String...) -> Int {
        var sum = 0
        for line in metrics().split(separator: "\n") where line.hasPrefix(name) {
            let rest = line.dropFirst(name.count)
            guard rest.first == "{" || rest.first == " ", labels.allSatisfy({ rest.contains($0) }) else { continue }
            sum += rest.split(separator: " ").last.flatMap { Int($0) } ?? 0
        }
        return sum
    }

    /// Waits until `count` connections have ended for this reason; records an issue where it is another number.
    func expectClosed(_ count: Int, _ reason: String, sourceLocation: SourceLocation = #_sourceLocation) {
        let label = "reason=\"\(reason)\""
        eventually("\(count) sessions closed by \(reason)", sourceLocation: sourceLocation) {
            metric("weir_sessions_closed_total", label) == count
        }
    }

    /// A client that has sent a hello, and the origin's end after it has received it.
    func relayed(to origin: TestListener, _ name: String = "good.test") throws -> (
        client: TestConnection, upstream: TestConnection
    ) {
        let client = try connect()
        let hello = try client.sendHello(name)
        let upstream = try origin.accept()
        #expect(try upstream.receive(exactly: hello.count) == hello)
        return (client, upstream)
    }

    /// What a client that asks for `name` by TLS gets until FIN.
    func answer(to name: String?, _ listener: Int = 0) throws -> [UInt8] {
        let client = try connect(listener)
        try client.sendHello(name)
        return try client.receiveAll()
    }

    /// The same as text.
    func textAnswer(to name: String?, _ listener: Int = 0) throws -> String {
        String(decoding: try answer(to: name, listener), as: UTF8.self)
    }
}

/// What a client of this address gets until FIN, as text.
func textAnswer(at address: SocketAddress) throws -> String {
    let client = try TestConnection.connect(to: address)
    try client.sendHello("a.test")
    return String(decoding: try client.receiveAll(), as: UTF8.self)
}

/// The record that carries a fatal TLS alert (RFC 8446 §6).
func alert(_ code: UInt8) -> [UInt8] { [0x15, 3, 1, 0, 2, 2, code] }

/// Waits until `condition` holds, however long a busy machine takes; records an issue where it never does.
func eventually(
    _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool
) rethrows {
    let deadline = ContinuousClock.now + TestConnection.patience
    while ContinuousClock.now < deadline {
        if try condition() { return }
        usleep(1000)
    }
    Issue.record(what, sourceLocation: sourceLocation)
}

/// An address where nobody listens: connects are refused. Somebody else may take it, but not by chance in a test's time.
func refusingAddress(_ ip: IPAddress = .v4Loopback) throws -> SocketAddress {
    let listener = try TestListener(on: ip)
    defer { listener.close() }
    return listener.address
}
