import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

func registerSourceBenchmarks() {
    measure("source-of-3-pairs-10000", of: Sources(pairCount: 10_000)) { $0.run($1) }
}

/// Connects from a pool of three addresses to one destination after the other.
private struct Sources: ~Copyable {
    private let table: RouteTable
    private let ledger = PortLedger(limit: 28_232)
    private var selector = SourceSelector(rotation: 0)
    private let destinations: [SocketAddress]
    private let now = Instant(nanoseconds: 1_000_000_000_000)

    /// `pairCount`: entries of the ledger, which stay as they are.
    init(pairCount: Int) {
        var configuration = Configuration()
        var cluster = Cluster(name: "c", endpoints: [Endpoint(host: .address(.v4Loopback), port: 443)])
        cluster.upstream.sourceAddresses = (1...3).map { IPAddress(192, 0, 2, $0) }
        configuration.clusters = [cluster]
        table = RouteTable(compiling: configuration, slots: [:], generation: 1, metricIndex: { _ in 0 })
        destinations = (0..<pairCount / 3).map { SocketAddress(IPAddress(v4: 0x0a00_0000 + UInt32($0)), port: 443) }
        for destination in destinations {
            for source in cluster.upstream.sourceAddresses {
                _ = ledger.reserve(worker: 0, from: source, to: destination, now: now)
            }
        }
    }

    mutating func run(_ count: Int) {
        let pool = table.view.upstreams[0].sources
        for index in 0..<count {
            let outcome = selector.next(
                of: pool, in: table.view, ledger, worker: 0, to: destinations[index % destinations.count],
                client: UInt64(index), tried: 0, now: now)
            guard case .connect(let choice) = outcome else { preconditionFailure("no port is left") }
            ledger.release(choice.entry, leavesTimeWait: false, now: now)
        }
    }
}
