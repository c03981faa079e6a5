import WeirModel
import WeirNet
import WeirTesting
import WeirUpstream
import WeirWire

// The places and spellings that the scenarios share.

func ip(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
    return address
}

func at(_ text: String) -> SocketAddress {
    guard let address = SocketAddress(text) else { preconditionFailure("not an address: \(text)") }
    return address
}

func pattern(_ text: String) -> ServerNamePattern {
    guard let pattern = try? ServerNamePattern(text) else { preconditionFailure("not a pattern: \(text)") }
    return pattern
}

/// One listener and what is behind it.
struct Scene {
    static let listener = at("10.0.0.1:443")
    static let first = at("10.9.0.1:8443")
    static let second = at("10.9.0.2:8443")

    var configuration = Configuration()
    var sizes = SimulatedProxy.Sizes()
    var faults = SimulatedFaults()

    /// TLS; `good.test` goes to a cluster with these endpoints, `*.forward.test` to the name itself.
    init(endpoints: [SocketAddress] = [first], _ change: (inout Listener, inout Cluster) -> Void = { _, _ in }) {
        var listener = Listener(name: "main", address: Self.listener)
        var cluster = Cluster(
            name: "back", endpoints: endpoints.map { Endpoint(host: .address($0.ip), port: $0.port) })
        listener.routes = [
            Route(name: "good", match: RouteMatch(serverNames: [pattern("good.test")]), action: .cluster("back")),
            Route(
                name: "forward", match: RouteMatch(serverNames: [pattern("*.forward.test")]),
                action: .forward(DynamicForward(port: .fixed(443)))),
            Route(
                name: "denied", match: RouteMatch(serverNames: [pattern("denied.test")]), action: .deny(.accessDenied)),
        ]
        change(&listener, &cluster)
        configuration.listeners = [listener]
        configuration.clusters = [cluster]
    }

    /// The first bytes decide nothing: all goes to the cluster.
    static func plain(_ change: (inout Listener, inout Cluster) -> Void = { _, _ in }) -> Scene {
        Scene { listener, cluster in
            listener.detect = []
            listener.routes = [Route(name: "all", action: .cluster("back"))]
            change(&listener, &cluster)
        }
    }

    func start() -> SimulatedProxy { SimulatedProxy(configuration, sizes: sizes, faults: faults) }
}

extension SimulatedProxy {
    /// A client connects and sends `bytes`.
    func client(
        _ bytes: [UInt8] = [], from address: String = "10.1.0.1:50000", to listener: SocketAddress = Scene.listener
    )
        -> SimulatedConnection
    {
        let connection = driver.openClient(from: at(address), to: listener)
        driver.write(bytes, on: connection)
        return connection
    }

    func send(_ bytes: [UInt8], _ connection: SimulatedConnection) { driver.write(bytes, on: connection) }
    func send(_ text: String, _ connection: SimulatedConnection) { driver.write(Array(text.utf8), on: connection) }

    /// The reason of the only session so far.
    var onlyReason: String? { records.count == 1 ? reason(records[0]) : nil }
}

func hello(_ name: String? = "good.test") -> [UInt8] { HelloBuilder(serverName: name).records() }

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// Milliseconds between two moments.
func milliseconds(from start: Instant, to end: Instant?) -> Double? {
    end.map { (Double($0.nanoseconds) - Double(start.nanoseconds)) / 1_000_000 }
}

/// Bytes that tell their place.
func pattern(byteCount: Int) -> [UInt8] {
    Array(repeating: (0..<251).map(UInt8.init), count: byteCount / 251 + 1).flatMap { $0 }.dropLast(
        251 - byteCount % 251)
}

/// The record that carries the alert.
func alert(_ alert: TLSAlert) -> [UInt8] {
    let record = alert.record
    return record.indices.map { record[$0] }
}
