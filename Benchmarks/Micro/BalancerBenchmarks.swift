import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

func registerBalancerBenchmarks() {
    for endpointCount in [3, 1000] {
        measure("balancer-turns-\(endpointCount)", of: Choices(endpointCount, .roundRobin)) { $0.run($1) }
        measure("balancer-hash-\(endpointCount)", of: Choices(endpointCount, .sourceHash)) { $0.run($1) }
        measure("balancer-least-\(endpointCount)", of: Choices(endpointCount, .leastConnections)) { $0.run($1) }
        measure("balancer-random-\(endpointCount)", of: Choices(endpointCount, .random)) { $0.run($1) }
    }
}

private struct Choices: ~Copyable {
    private let table: RouteTable
    private let board = EndpointBoard()
    private var balancer: Balancer
    private let now = Instant(nanoseconds: 1_000_000_000_000)

    init(_ endpointCount: Int, _ balance: Cluster.Balance) {
        let endpoints = (1...endpointCount).map { number in
            Endpoint(host: .address(IPAddress(v4: 0x0a00_0000 + UInt32(number))), port: 443)
        }
        var configuration = Configuration()
        configuration.clusters = [Cluster(name: "servers", endpoints: endpoints)]
        configuration.clusters[0].balance = balance
        table = RouteTable(compiling: configuration, slots: [:], generation: 1, metricIndex: { _ in 0 })
        balancer = Balancer(view: table.view, board: board)
    }

    /// Each for a session that ends at once.
    mutating func run(_ count: Int) {
        for index in 0..<count {
            let client = StableHash.of(IPAddress(v4: UInt32(truncatingIfNeeded: index)))
            let endpoint = balancer.choose(cluster: 0, client: client, tried: TriedEndpoints(), now: now)
            board.leave(endpoint: Int32(endpoint ?? -1))
        }
    }
}
