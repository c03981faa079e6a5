import CAllocationCounter
import Glibc
import Synchronization
import Weir
import WeirMemory
import WeirModel
import WeirNet
import WeirTesting

// Counts the heap allocations of the worker threads while sessions of every kind come and go: the budget is 0 after
// warm-up. An executable of its own because the promise is about optimised code, and tests are built without
// optimisation, where Swift allocates what it otherwise keeps on the stack. `tools/test` builds and runs it.
//
// `WEIR_IO=epoll` or `uring` says on which I/O driver. Writes a line per kind of session, and to the file named by its argument a report in JUnit's format. Ends with 1 where
// something was allocated, after the stacks of the first allocations.

/// Sessions per kind: first uncounted, then counted.
let sessionCount = 2000
/// Clients at once, so that batches of every size come up.
let clientCount = 4

struct Bench {
    let proxy: Proxy
    let origin: TestOrigin
    let kinds: [(name: String, run: @Sendable () throws -> Void)]
}

func makeBench() throws -> Bench {
    let server = try DNSServer()
    let origin = try TestOrigin.echo()
    server.script("forward.test", addresses: [.v4Loopback], ttl: 3600)
    server.script("endpoint.test", addresses: [.v4Loopback], ttl: 3600)
    let closed = try TestListener().address

    var configuration = Configuration()
    configuration.workerCount = 2
    configuration.log.access = .none
    configuration.limits.connections = 4096
    configuration.resolver.servers = [server.address]
    configuration.destinations.allow = [.init(CIDR(.v4Loopback, prefixLength: 32))]

    func cluster(_ name: String, _ endpoints: Endpoint...) -> Cluster { Cluster(name: name, endpoints: endpoints) }
    func endpoint(_ address: SocketAddress) -> Endpoint { Endpoint(host: .address(address.ip), port: address.port) }
    var refused = cluster("refused", endpoint(closed), endpoint(origin.address))
    refused.endpoints[0].maxFails = 0
    var announced = cluster("announced", endpoint(origin.address))
    var sendProxy = SendProxy(.v2)
    (sendProxy.authority, sendProxy.alpn, sendProxy.uniqueID, sendProxy.crc32c) = (true, true, true, true)
    announced.upstream.sendProxy = sendProxy
    configuration.clusters = [
        cluster("origin", endpoint(origin.address)),
        cluster("named", Endpoint(host: .name(try ServerName("endpoint.test")), port: origin.address.port)),
        refused, announced,
    ]

    func to(_ cluster: String, _ name: String) throws -> Route {
        Route(name: name, match: RouteMatch(serverNames: [try ServerNamePattern(name)]), action: .cluster(cluster))
    }
    var main = Listener(name: "main", address: SocketAddress(.v4Loopback, port: 0))
    main.detect = [.tls, .http]
    main.limits.connectionsPerClient = 100_000
    main.routes = [
        try to("origin", "origin.test"), try to("origin", "*.wildcard.test"), try to("named", "named.test"),
        try to("refused", "refused.test"), try to("announced", "announced.test"),
        Route(
            name: "forward", match: RouteMatch(serverNames: [try ServerNamePattern("*.test")]),
            action: .forward(DynamicForward(port: .fixed(origin.address.port)))),
    ]
    var trusting = main
    trusting.name = "trusting"
    trusting.acceptProxy = AcceptProxy(from: [CIDR(.v4Loopback, prefixLength: 32)])
    trusting.clients = .everyone
    var choosy = main
    choosy.name = "choosy"
    choosy.clients = .allowing([])
    configuration.listeners = [main, trusting, choosy]

    var options = Proxy.Options()
    if let value = unsafe getenv("WEIR_IO") {
        guard let driver = unsafe Proxy.DriverChoice(rawValue: String(cString: value)) else { throw Unexpected() }
        options.driver = driver
    }
    let proxy = try Proxy.start(configuration, options: options)
    let addresses = proxy.listeners.map(\.address)
    @Sendable func connect(_ listener: Int = 0) throws -> TestConnection {
        try TestConnection.connect(to: addresses[listener])
    }
    /// Relays a hello and ends in order; `announcedByteCount` bytes come back before it.
    @Sendable func relay(_ name: String, announcedByteCount: Int = 0) throws {
        let client = try connect()
        let hello = try client.sendHello(name, alpn: ["h2"])
        try check(try client.receive(exactly: announcedByteCount + hello.count).suffix(hello.count) == hello)
        client.finish()
        try check(try client.receive() == [])
    }
    let stream = TestStream(seed: 1)
    return Bench(
        proxy: proxy, origin: origin,
        kinds: [
            ("exact name to an address", { try relay("origin.test") }),
            ("wildcard name to an address", { try relay("a.b.wildcard.test") }),
            ("to an endpoint by name", { try relay("named.test") }),
            ("forward to the server name", { try relay("forward.test") }),
            ("second endpoint after a refusal", { try relay("refused.test") }),
            // Signature and head 16, addresses 12, authority 3 + 14, ALPN 3 + 2, unique id 3 + 16, CRC32C 3 + 4.
            ("PROXY header sent", { try relay("announced.test", announcedByteCount: 76) }),
            (
                "PROXY header taken",
                {
                    let client = try connect(1)
                    try client.send("PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\r\n")
                    let hello = try client.sendHello("origin.test")
                    try check(try client.receive(exactly: hello.count) == hello)
                    client.finish()
                    try check(try client.receive() == [])
                }
            ),
            (
                "HTTP request",
                {
                    let client = try connect()
                    let head = "GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n"
                    try client.send(head)
                    try check(try client.receive(exactly: head.utf8.count) == Array(head.utf8))
                    client.finish()
                    try check(try client.receive() == [])
                }
            ),
            (
                "twenty messages",
                {
                    let client = try connect()
                    let hello = try client.sendHello("origin.test")
                    try check(try client.receive(exactly: hello.count) == hello)
                    for _ in 0..<20 {
                        try client.send([1, 2, 3])
                        try check(try client.receive(exactly: 3) == [1, 2, 3])
                    }
                    client.finish()
                    try check(try client.receive() == [])
                }
            ),
            (
                "64 KiB each way",
                {
                    let client = try connect()
                    let hello = try client.sendHello("origin.test")
                    try check(try client.receive(exactly: hello.count) == hello)
                    try client.send(stream, byteCount: 1 << 16)
                    client.finish()
                    try client.receive(stream, byteCount: 1 << 16)
                    try check(try client.receive() == [])
                }
            ),
            (
                "reset by the client",
                {
                    let client = try connect()
                    let hello = try client.sendHello("origin.test")
                    try check(try client.receive(exactly: hello.count) == hello)
                    client.reset()
                }
            ),
            (
                "name without a route",
                {
                    let client = try connect()
                    try client.sendHello(nil)
                    try check(try client.receiveAll().count == 7)
                }
            ),
            (
                "name that does not exist",
                {
                    let client = try connect()
                    try client.sendHello("missing.test")
                    try check(try client.receiveAll().count == 7)
                }
            ),
            (
                "client that may not",
                {
                    // The reset may come before the connect has returned.
                    do { try check(try connect(2).ending() == .reset) } catch TestFailure.reset {}
                }
            ),
            (
                "broken hello",
                {
                    let client = try connect()
                    try client.send([0x16, 3, 1, 0, 4, 2, 0, 0, 0])
                    try check(try client.receiveAll().count == 7)
                }
            ),
        ])
}

struct Unexpected: Error {}

func check(_ condition: Bool) throws {
    if !condition { throw Unexpected() }
}

/// Runs `sessionCount` sessions of a kind, `clientCount` at once, and waits for their end.
func run(_ bench: Bench, _ session: @escaping @Sendable () throws -> Void) throws {
    let failure = Mutex<(any Error)?>(nil)
    let threads = try (0..<clientCount).map { _ in
        try SystemThread(name: "client") {
            do {
                for _ in 0..<sessionCount / clientCount { try session() }
            } catch {
                failure.withLock { $0 = error }
            }
        }
    }
    for thread in threads { thread.join() }
    if let error = failure.withLock({ $0 }) { throw error }
    while bench.proxy.sessionCount > 0 { usleep(1000) }
}

/// Writes a report in JUnit's format: a test case per kind.
func writeReport(_ counts: [(name: String, count: UInt64)], to path: String) {
    var text = "<testsuite name=\"AllocationCheck\">\n"
    for (name, count) in counts {
        let failure = count == 0 ? "" : "<failure message=\"\(count) heap allocations\"/>"
        text += "  <testcase classname=\"AllocationCheck\" name=\"\(name)\">\(failure)</testcase>\n"
    }
    text += "</testsuite>\n"
    guard let file = unsafe fopen(path, "w") else { return }
    unsafe fputs(text, file)
    unsafe fclose(file)
}

guard allocation_counter_works() != 0 else {
    print("this build cannot count")
    exit(2)
}
// What is counted is seen at all.
unsafe allocation_counter_start("weir-worker")
try SystemThread(name: "weir-worker-x") { allocation_counter_allocate() }.join()
guard allocation_counter_stop() > 0 else {
    print("an allocation was not counted")
    exit(2)
}

let bench = try makeBench()
for kind in bench.kinds { try run(bench, kind.run) }
var counts: [(name: String, count: UInt64)] = []
for kind in bench.kinds {
    unsafe allocation_counter_start("weir-worker")
    try run(bench, kind.run)
    let count = allocation_counter_stop()
    counts.append((kind.name, count))
    print("\(count) heap allocations in \(sessionCount) sessions: \(kind.name)")
    if count > 0 {
        fflush(nil)
        allocation_counter_print(STDOUT_FILENO)
    }
}
bench.proxy.stop()
if CommandLine.arguments.count > 1 { writeReport(counts, to: CommandLine.arguments[1]) }
exit(counts.allSatisfy { $0.count == 0 } ? 0 : 1)
