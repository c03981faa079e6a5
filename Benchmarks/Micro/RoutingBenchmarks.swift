import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

func registerRoutingBenchmarks() {
    // The curve: looking up is to cost the same however many routes there are.
    for routeCount in [10, 100, 1000, 10_000, 100_000] {
        measure("route-exact-\(routeCount)", of: Lookups(routeCount) { "host-\($0).example.com" }) {
            $0.run($1, foundCount: $1)
        }
        measure("route-wildcard-\(routeCount)", of: Lookups(routeCount) { "www.a.zone-\($0).example.net" }) {
            $0.run($1, foundCount: $1)
        }
        measure("route-miss-\(routeCount)", of: Lookups(routeCount) { "host-\($0).example.org" }) {
            $0.run($1, foundCount: 0)
        }
    }
}

/// Half of the routes have an exact name, half a wildcard. Each operation of a round asks for another name, as far as
/// there are so many, so that a large table is read all over.
private struct Lookups {
    private let table: RouteTable
    private let names: FlatArray<ServerName>

    init(_ routeCount: Int, name: (Int) -> String) {
        let half = routeCount / 2
        var listener = Listener(name: "main", address: SocketAddress(.v4Any, port: 443))
        listener.routes =
            (0..<half).map { Self.route("host-\($0).example.com") }
            + (0..<half).map { Self.route("*.zone-\($0).example.net") }
        var configuration = Configuration()
        configuration.listeners = [listener]
        table = RouteTable(
            compiling: configuration, slots: ["main": 0], generation: 1, key: SipKey(low: 1, high: 2),
            metricIndex: { _ in 0 })
        // 7919 is prime: the names do not follow the order in which the routes were written.
        names = FlatArray((0..<1000).map { index in valid { try ServerName(name(index * 7919 % half)) } })
    }

    private static func route(_ pattern: String) -> Route {
        Route(
            name: pattern, match: RouteMatch(serverNames: [valid { try ServerNamePattern(pattern) }]),
            action: .deny(.close))
    }

    func run(_ count: Int, foundCount: Int) {
        precondition(count == names.count)
        let view = table.view
        let client = IPAddress(192, 0, 2, 1)
        var total = 0
        for index in 0..<count
        where view.route(listener: 0, name: names[index], client: client, alpn: .none) != nil {
            total += 1
        }
        precondition(total == foundCount)
    }
}

private func valid<Value>(_ make: () throws -> Value) -> Value {
    do { return try make() } catch { preconditionFailure("\(error)") }
}
