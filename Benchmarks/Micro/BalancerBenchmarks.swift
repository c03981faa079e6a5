import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

func registerBalancerBenchmarks() {
    for endpointCount in [3, 1000] {
        measure("balancer-plan-\(endpointCount)", of: Plans(endpointCount, .roundRobin)) { $0.run($1) }
        measure("balancer-hash-\(endpointCount)", of: Plans(endpointCount, .sourceHash)) { $0.run($1) }
    }
}

private struct Plans: ~Copyable {
    private let table: RouteTable
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
        balancer = Balancer(view: table.view)
    }

    /// As many endpoints to try as by default.
    mutating func run(_ count: Int) {
        var total = 0
        for index in 0..<count {
            let client = StableHash.of(IPAddress(v4: UInt32(truncatingIfNeeded: index)))
            total += balancer.plan(cluster: 0, client: client, now: now, attempts: 3).count
        }
        precondition(total == 3 * count)
    }
}
