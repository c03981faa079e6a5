import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

/// One cluster under the balancers of some workers, with endpoints known by their number, 1...: the last octets of their
/// address.
final class ClusterBench {
    private var cluster: Cluster
    private var table: RouteTable
    let board = EndpointBoard()
    private let workers: Workers
    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)

    /// Noncopyable ones have no array that could be read from.
    private final class Workers {
        var first: Balancer
        var second: Balancer

        init(_ view: RouteView, _ board: EndpointBoard, _ rotation: Int) {
            first = Balancer(view: view, board: board, rotation: rotation, seed: 7)
            second = Balancer(view: view, board: board, rotation: rotation + 1, seed: 8)
        }
    }

    init(
        _ endpoints: [Endpoint], balance: Cluster.Balance = .roundRobin, rotation: Int = 0,
        _ change: (inout Cluster) -> Void = { _ in }
    ) {
        cluster = Cluster(name: "c", endpoints: endpoints)
        cluster.balance = balance
        change(&cluster)
        table = Self.table(cluster, board, now, generation: 1)
        workers = Workers(table.view, board, rotation)
    }

    private static func table(
        _ cluster: Cluster, _ board: EndpointBoard, _ now: Instant, generation: UInt64
    ) -> RouteTable {
        var configuration = Configuration()
        configuration.clusters = [cluster]
        return board.withPlaces(now: now) { places in
            RouteTable(
                compiling: configuration, slots: [:], generation: generation, metricIndex: { _ in 0 },
                placeIndex: places)
        }
    }

    func adopt(_ endpoints: [Endpoint], cluster name: String = "c") {
        cluster.name = name
        cluster.endpoints = endpoints
        let next = Self.table(cluster, board, now, generation: table.view.generation + 1)
        workers.first.adopt(next.view)
        workers.second.adopt(next.view)
        table = next
        board.forgetGone()
    }

    func pass(_ duration: Duration) { now = now.advanced(byNanoseconds: duration.clampedNanoseconds) }

    private func number(_ index: Int) -> Int {
        guard case .address(let address) = table.view.endpoints[index].host else { return -1 }
        return (Int(address.byte(2)) - 2) << 8 + Int(address.byte(3))
    }

    func index(_ number: Int) -> Int { table.view.endpoints.indices.first { self.number($0) == number } ?? -1 }
    func place(_ number: Int) -> Int32 { table.view.endpoints[index(number)].place }
    var clusterRecord: CompiledCluster { table.view.clusters[0] }

    // MARK: Sessions

    /// The endpoint that a session of `worker` gets, which it holds until `leave`.
    func take(tried: [Int] = [], client: Int = 0, worker: Int = 0) -> Int? {
        var set = TriedEndpoints()
        for one in tried { set.append(index(one)) }
        let hash = StableHash.of(IPAddress(v4: 0xc000_0200 + UInt32(client)))
        let chosen =
            worker == 0
            ? workers.first.choose(cluster: 0, client: hash, tried: set, now: now)
            : workers.second.choose(cluster: 0, client: hash, tried: set, now: now)
        return chosen.map(number)
    }

    func leave(_ one: Int) { board.leave(endpoint: place(one)) }

    /// Whom a session would try one after the other.
    func plan(attempts: Int = 3, client: Int = 0) -> [Int] {
        var tried: [Int] = []
        while tried.count < attempts, let next = take(tried: tried, client: client) {
            leave(next)
            tried.append(next)
        }
        return tried
    }

    /// A session: endpoints are tried until one is not dead. Who served, or nil.
    func session(dead: Set<Int> = [], attempts: Int = 3, worker: Int = 0) -> Int? {
        var tried: [Int] = []
        while tried.count < attempts, let next = take(tried: tried, worker: worker) {
            leave(next)
            guard dead.contains(next) else {
                succeed(next)
                return next
            }
            fail(next)
            tried.append(next)
        }
        return nil
    }

    /// How many of `count` sessions each endpoint served; 0 stands for none.
    func split(_ count: Int, dead: Set<Int> = []) -> [Int: Int] {
        var served: [Int: Int] = [:]
        for _ in 0..<count { served[session(dead: dead) ?? 0, default: 0] += 1 }
        return served
    }

    /// True where it was ejected for it.
    @discardableResult
    func fail(_ one: Int, worker: Int = 0) -> Bool {
        worker == 0
            ? workers.first.failed(endpoint: index(one), now: now)
            : workers.second.failed(endpoint: index(one), now: now)
    }

    func succeed(_ one: Int) { workers.first.succeeded(endpoint: index(one), now: now) }
    func isOut(_ one: Int) -> Bool { workers.first.isOut(endpoint: index(one), now: now) }

    /// What active checks say of it.
    func report(_ one: Int, _ health: EndpointBoard.Health) {
        board.setHealth(place(one), health, now: now)
    }
}

func endpoint(
    _ number: Int, weight: Int = 1, priority: Int = 0, isDown: Bool = false, maxFails: Int = 1
) -> Endpoint {
    var endpoint = Endpoint(
        host: .address(IPAddress(192, 0, UInt8(2 + number >> 8), UInt8(number & 0xff))), port: 443)
    endpoint.weight = weight
    endpoint.priority = priority
    endpoint.isDown = isDown
    endpoint.maxFails = maxFails
    endpoint.failTimeout = .seconds(10)
    return endpoint
}
