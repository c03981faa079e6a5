import ArgumentParser
import WeirNet

/// `weir-load`: clients of a proxy, and the origin behind it, in one thread.
@main
struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weir-load",
        abstract: "Measures an L4 proxy: clients before it and the origin behind it, on one core.",
        discussion: """
            Every client begins with a TLS hello of 517 bytes that names bench.test. Prints one line of JSON for the
            window after the warm-up. Pin it: taskset -c 1 weir-load …
            """,
        subcommands: [Connections.self, Messages.self, Bulk.self])
}

struct CommonOptions: ParsableArguments {
    enum Role: String, ExpressibleByArgument, CaseIterable {
        case both
        case client
        case origin
    }

    @Option(help: "ADDRESS:PORT of the proxy; several are used in turn.")
    var to: [String] = ["127.0.0.1:7100"]
    @Option(help: "ADDRESS:PORT that the origin listens on; several may be given.")
    var origin: [String] = ["127.0.0.1:7001"]
    @Option(help: "Which ends run in this process.")
    var role = Role.both
    @Option(help: "Seconds that are measured.")
    var seconds = 3.0
    @Option(help: "Seconds before, that are not.")
    var warmUp = 1.0
    @Option(help: "Seconds over which the load grows from nothing, before the warm-up.")
    var ramp = 0.0
    @Option(help: "Process whose CPU time and memory are read; several may be given.")
    var watch: [Int32] = []

    mutating func validate() throws {
        guard seconds > 0, warmUp >= 0, ramp >= 0 else { throw ValidationError("times are not negative") }
    }

    func destinations() throws -> [SocketAddress] { role == .origin ? [] : try to.map(Self.address) }
    func origins() throws -> [SocketAddress] { role == .client ? [] : try origin.map(Self.address) }

    private static func address(_ text: String) throws -> SocketAddress {
        guard let address = SocketAddress(text) else { throw RunFailure.badAddress(text) }
        return address
    }
}

struct Connections: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Short connections: connect, hello, 512 bytes, end.")

    @OptionGroup var common: CommonOptions
    @Option(help: "Connections at once; with --rate the most there may be.")
    var concurrency = 128
    @Option(help: "Connections per second, whatever the proxy does; latency counts from when each was due.")
    var rate: Double?

    mutating func run() throws {
        let run = Run(
            options: common, shape: .answerAndClose, name: "connections", concurrency: concurrency, rate: rate)
        try run.measure(ConnectionLoad(concurrency: concurrency, rate: rate, ramp: common.ramp))
    }
}

struct Messages: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Persistent connections that exchange messages with the origin. With --rate 0 an idle herd.")

    @OptionGroup var common: CommonOptions
    @Option(help: "Connections.")
    var concurrency = 64
    @Option(help: "Bytes of a message, and of its answer.")
    var size = 64
    @Option(help: "Messages per second over all connections, whatever the proxy does; 0: none.")
    var rate: Double?
    @Option(help: "Connections opened per second.")
    var openRate = 5000.0

    mutating func validate() throws {
        guard size > 0, size <= LoadRing.chunkByteCountMax else {
            throw ValidationError("a message has 1 to 1048576 bytes")
        }
    }

    mutating func run() throws {
        let load = MessageLoad(
            connectionCount: concurrency, byteCount: size, rate: rate, openRate: openRate, ramp: common.ramp)
        let run = Run(
            options: common, shape: .echo(byteCount: size), name: "messages", concurrency: concurrency, rate: rate)
        try run.measure(load) { load.isOpen }
    }
}

struct Bulk: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Streams without an end.")

    enum Direction: String, ExpressibleByArgument, CaseIterable {
        case down
        case up
        case both
    }

    @OptionGroup var common: CommonOptions
    @Option(help: "Streams at once.")
    var concurrency = 1
    @Option(help: "To the client, to the origin, or both at once.")
    var direction = Direction.down

    mutating func run() throws {
        let shape = Shape.bulk(down: direction != .up, up: direction != .down)
        let run = Run(options: common, shape: shape, name: "bulk", concurrency: concurrency, rate: nil)
        try run.measure(BulkLoad(streamCount: concurrency, up: direction != .down, ramp: common.ramp))
    }
}
