import Glibc
import Synchronization
import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirResolver
import WeirTesting
import WeirUpstream

/// A running resolver, seen through the ports of its workers. Waits are generous and end with their condition.
private final class Bench {
    let resolver: Resolver
    let ports: [ResolverPort]
    private var received: [[ResolverAnswer]]
    private var ticket: UInt64 = 0

    init(
        _ settings: ResolverSettings, portCount: Int = 1, capacity: Int = 1024, system: SystemServers = SystemServers(),
        resolutionDelay: Duration = .seconds(60)
    ) throws {
        let signal = try ResolverSignal()
        let wakes = Wakes()
        ports = (0..<portCount).map { _ in
            ResolverPort(
                requestCount: capacity, answerCount: capacity, wakeResolver: { signal.raise() },
                wakeWorker: { wakes.add() })
        }
        self.wakes = wakes
        received = Array(repeating: [], count: portCount)
        var limits = AnswerTable.Limits()
        limits.resolutionDelay = resolutionDelay.clampedNanoseconds
        resolver = Resolver(settings: settings, signal: signal, ports: ports, system: system, limits: limits)
        try resolver.start()
    }

    final class Wakes: Sendable {
        let count = Atomic<Int>(0)
        func add() { count.wrappingAdd(1, ordering: .relaxed) }
    }

    let wakes: Wakes

    deinit { resolver.stop() }

    @discardableResult
    func ask(_ name: String, port: Int = 0, wakes: Bool = true) throws -> UInt64 {
        ticket += 1
        let request = ResolverRequest(ticket: ticket, name: try ServerName(name))
        try #require(ports[port].requests.push(request))
        if wakes { ports[port].wakeResolver() }
        return ticket
    }

    /// The answers that have come to `port`.
    func answers(port: Int = 0) -> [ResolverAnswer] {
        while let answer = ports[port].answers.pop() { received[port].append(answer) }
        return received[port]
    }

    /// Asks, and waits for the answer.
    func resolve(_ name: String, port: Int = 0) throws -> Answer {
        let ticket = try ask(name, port: port)
        return try answer(ticket, port: port)
    }

    func answer(_ ticket: UInt64, port: Int = 0) throws -> Answer {
        var found: ResolverAnswer?
        try wait("an answer") {
            found = answers(port: port).first { $0.ticket == ticket }
            return found != nil
        }
        return try #require(found).answer
    }
}

private struct GaveUp: Error {
    let what: String
}

private func wait(_ what: String, _ condition: () -> Bool) throws {
    let clock = ContinuousClock()
    let end = clock.now.advanced(by: .seconds(300))
    while !condition() {
        guard clock.now < end else { throw GaveUp(what: what) }
        usleep(500)
    }
}

/// Settings for `servers`, with lifetimes that do not end within a test, and patience with answers that it holds back:
/// beside all other tests it may get no turn for half a minute.
private func settings(_ servers: DNSServer...) -> ResolverSettings {
    var settings = ResolverSettings()
    settings.servers = servers.map(\.address)
    settings.timeout = .seconds(600)
    settings.ttlMin = .zero
    settings.negativeTTL = .seconds(3600)
    return settings
}

private func withServer(_ body: (DNSServer) throws -> Void) throws {
    let server = try DNSServer()
    defer { server.stop() }
    try body(server)
}

private let v4 = IPAddress(192, 0, 2, 1)
private let otherV4 = IPAddress(192, 0, 2, 2)
private let v6 = IPAddress("2001:db8::1")!

/// The whole seconds that `answer` has yet to live, rounded up: a test that takes long sees fewer.
private func secondsLeft(_ answer: Answer) -> UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    let now = Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    return (answer.expires.nanoseconds(since: now) + 999_999_999) / 1_000_000_000
}

/// UDP sockets of this machine that are connected to 127.0.0.1 at `port`.
private func socketCount(to port: UInt16) throws -> Int {
    let hexadecimal = String(port, radix: 16, uppercase: true)
    let remote = "0100007F:" + String(repeating: "0", count: 4 - hexadecimal.count) + hexadecimal
    guard let table = read("/proc/net/udp") else { throw GaveUp(what: "/proc/net/udp") }
    return table.split(separator: "\n").count { line in
        let fields = line.split(separator: " ")
        return fields.count > 2 && fields[2] == remote
    }
}

/// Serial: each test has two threads of its own, and the machine may have few cores.
@Suite(.serialized)
struct ResolverTests {
    // MARK: Answers

    @Test
    func bothFamiliesComeWithTheSmallestTTL() throws {
        try withServer { server in
            server.script("a.test", .a, .records([.address(v4, ttl: 250), .address(otherV4, ttl: 240)]))
            server.script("a.test", .aaaa, .records([.address(v6, ttl: 290)]))
            let bench = try Bench(settings(server))
            let answer = try bench.resolve("a.test")
            #expect(answer.status == .found)
            #expect(answer.addresses == [v4, v6, otherV4])
            #expect(!answer.isStale)
            #expect((100...240).contains(secondsLeft(answer)))
            #expect(bench.wakes.count.load(ordering: .relaxed) == 1)
        }
    }

    @Test
    func theTTLOfAnAliasBoundsTheAnswer() throws {
        try withServer { server in
            let records: [DNSRecord] = [
                .alias("b.test", ttl: 280), .alias("c.test", ttl: 200), .address(v4, ttl: 290),
            ]
            server.script("a.test", .a, .records(records))
            server.script("a.test", .aaaa, .records([.alias("b.test", ttl: 280), .alias("c.test", ttl: 270)]))
            let bench = try Bench(settings(server))
            let answer = try bench.resolve("a.test")
            #expect(answer.addresses == [v4])
            #expect((100...200).contains(secondsLeft(answer)))
        }
    }

    @Test(arguments: [(ResolverSettings.AddressFamilies.v4Only, v4), (.v6Only, v6)])
    func onlyTheWantedFamilyIsAskedFor(families: ResolverSettings.AddressFamilies, expected: IPAddress) throws {
        try withServer { server in
            server.script("a.test", addresses: [v4, v6])
            var settings = settings(server)
            settings.families = families
            let bench = try Bench(settings)
            #expect(try bench.resolve("a.test").addresses == [expected])
            #expect(server.queries.map(\.type) == [expected.family == .v4 ? .a : .aaaa])
        }
    }

    @Test
    func negativeAnswersSayWhichKindTheyAre() throws {
        try withServer { server in
            server.script("empty.test", addresses: [])
            let bench = try Bench(settings(server))
            #expect(try bench.resolve("missing.test").status == .noSuchName)
            #expect(try bench.resolve("empty.test").status == .noAddress)
            #expect(try bench.resolve("missing.test").status == .noSuchName)
            #expect(server.queryCount("missing.test") == 2)
        }
    }

    /// T-16: more than sixteen addresses are cut, whatever the transport.
    @Test
    func manyAddressesAreCapped() throws {
        try withServer { server in
            let many = (0..<60).map { DNSRecord.address(IPAddress(v4: 0xc000_0200 + UInt32($0))) }
            server.script("udp.test", .a, .records(many))
            server.script("tcp.test", .a, .truncated(many))
            let bench = try Bench(settings(server))
            for name in ["udp.test", "tcp.test"] {
                let answer = try bench.resolve(name)
                #expect(answer.addresses.count == 16)
                #expect(answer.addresses[0] == IPAddress(192, 0, 2, 0))
            }
        }
    }

    /// T-16: TC=1 leads to the whole answer over TCP.
    @Test
    func aTruncatedAnswerIsFetchedOverTCP() throws {
        try withServer { server in
            server.script("a.test", .a, .truncated([.address(v4), .address(otherV4)]))
            server.script("a.test", .aaaa, .records([]))
            let bench = try Bench(settings(server))
            #expect(try bench.resolve("a.test").addresses == [v4, otherV4])
            #expect(server.queries.contains { $0.isTCP && $0.type == .a })
        }
    }

    @Test
    func queriesOfferLargerRepliesAndAreNotSearched() throws {
        try withServer { server in
            let bench = try Bench(settings(server))
            #expect(try bench.resolve("single").status == .noSuchName)
            #expect(Set(server.queries.map(\.name)) == ["single"])
            #expect(server.queries.allSatisfy { $0.payloadByteCount == 1232 })
        }
    }

    @Test
    func theHostsFileComesFirst() throws {
        try withServer { server in
            server.script("localhost", addresses: [v4, v6])
            let bench = try Bench(settings(server))
            let answer = try bench.resolve("localhost")
            #expect(answer.status == .found)
            #expect(answer.addresses.contains(.v4Loopback) || answer.addresses.contains(.v6Loopback))
            #expect(!answer.addresses.contains(v4))
            #expect(server.queries.isEmpty)
        }
    }

    /// T-03: the answer that was checked is the one given out; a name that flips shows only with its next lookup.
    @Test
    func aNameThatFlipsKeepsItsFirstAnswerForItsLifetime() throws {
        try withServer { server in
            server.script("a.test", .a, .records([.address(v4, ttl: 0)]), .records([.address(.v4Loopback, ttl: 0)]))
            server.script("a.test", .aaaa, .records([]))
            var settings = settings(server)
            settings.ttlMin = .seconds(200)
            let bench = try Bench(settings)
            for _ in 0..<5 { #expect(try bench.resolve("a.test").addresses == [v4]) }
            #expect(server.queryCount("a.test", .a) == 1)
        }
    }

    // MARK: Coalescing

    @Test
    func manyRequestsForOneNameMakeOneLookup() throws {
        try withServer { server in
            server.script("a.test", .a, .held(.records([.address(v4)])))
            server.script("a.test", .aaaa, .records([]))
            let bench = try Bench(settings(server), portCount: 4)
            for index in 0..<400 { try bench.ask("a.test", port: index % 4) }
            try wait("the query") { server.queryCount("a.test", .a) == 1 }
            try wait("the requests") { bench.resolver.counts.table.coalesced == 399 }
            server.releaseHeld()
            for port in 0..<4 {
                try wait("the answers") { bench.answers(port: port).count == 100 }
                #expect(bench.answers(port: port).allSatisfy { $0.answer.addresses == [v4] })
            }
            #expect(server.queryCount("a.test") == 2)
            #expect(bench.resolver.counts.table.lookups == 1)
        }
    }

    /// RFC 8305 §3: a server that drops AAAA questions must not hold sessions up.
    @Test
    func anUnansweredFamilyDoesNotDelayTheOther() throws {
        try withServer { server in
            server.script("a.test", .a, .records([.address(v4)]))
            server.script("a.test", .aaaa, .held(.records([.address(v6)])))
            let bench = try Bench(settings(server), resolutionDelay: .milliseconds(50))
            #expect(try bench.resolve("a.test").addresses == [v4])
            server.releaseHeld()
            try wait("the lookup's end") { bench.resolver.counts.lookupCount == 0 }
            #expect(try bench.resolve("a.test").addresses == [v4, v6])
        }
    }

    /// A worker that does not read must not stop the others, nor lose an answer. The rings hold four, and the answers
    /// are fetched from the ring only at the end.
    @Test
    func aFullRingDelaysOnlyItsOwnWorker() throws {
        try withServer { server in
            server.script("a.test", .held(.records([.address(v4)])))
            let bench = try Bench(settings(server), portCount: 2, capacity: 4)
            for asked in 1...20 {
                try bench.ask("a.test")
                try wait("the request to be taken") { bench.resolver.counts.waiterCount == asked }
            }
            server.releaseHeld()
            #expect(try bench.resolve("a.test", port: 1).addresses == [v4])
            try wait("every answer") { bench.answers(port: 0).count == 20 }
            #expect(Set(bench.answers(port: 0).map(\.ticket)).count == 20)
            #expect(bench.answers(port: 0).allSatisfy { $0.answer.addresses == [v4] })
        }
    }

    // MARK: Failures

    /// P-19.
    @Test
    func staleAddressesServeWhileTheServerIsGone() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("a.test", .a, .records([.address(v4, ttl: 0)]))
        server.script("a.test", .aaaa, .records([]))
        var settings = settings(server)
        settings.staleTTL = .seconds(3600)
        let bench = try Bench(settings)
        #expect(try !bench.resolve("a.test").isStale)
        server.stop()
        for _ in 0..<3 {
            let answer = try bench.resolve("a.test")
            #expect(answer.addresses == [v4])
            #expect(answer.isStale)
        }
        #expect(try bench.resolve("new.test").status == .serverFailure)
        #expect(bench.resolver.counts.table.staleServed == 3)
    }

    @Test
    func aServerThatAnswersFailureIsAFailure() throws {
        try withServer { server in
            server.script("servfail.test", .serverFailure)
            server.script("refused.test", .refused)
            let bench = try Bench(settings(server))
            #expect(try bench.resolve("servfail.test").status == .serverFailure)
            #expect(try bench.resolve("refused.test").status == .serverFailure)
        }
    }

    @Test
    func aSilentServerTimesOut() throws {
        try withServer { server in
            server.setSilent(true)
            var settings = settings(server)
            settings.timeout = .milliseconds(400)
            let bench = try Bench(settings)
            #expect(try bench.resolve("a.test").status == .timedOut)
            try wait("another try") { server.queryCount("a.test", .a) >= 2 }
        }
    }

    @Test
    func theNextServerIsAskedWhereTheFirstIsDead() throws {
        let dead = try DNSServer()
        dead.stop()
        try withServer { silent in
            silent.setSilent(true)
            try withServer { server in
                server.script("a.test", addresses: [v4, v6])
                var settings = settings(dead, silent, server)
                settings.timeout = .seconds(6)
                let bench = try Bench(settings)
                #expect(try bench.resolve("a.test").addresses == [v4, v6])
            }
        }
    }

    @Test
    func aServerThatIsDeadAtTheStartIsUsedOnceItLives() throws {
        try withServer { server in
            server.script("a.test", addresses: [v4])
            server.setSilent(true)
            var settings = settings(server)
            settings.timeout = .milliseconds(300)
            let bench = try Bench(settings)
            #expect(try bench.resolve("a.test").status == .timedOut)
            server.setSilent(false)
            try wait("the recovery") { (try? bench.resolve("a.test").status) == .found }
        }
    }

    /// T-16: none of these replies may become an address, and the resolver goes on.
    @Test(arguments: DNSDefect.allCases)
    func aBrokenReplyIsNotBelieved(defect: DNSDefect) throws {
        try withServer { server in
            let forged = IPAddress(192, 0, 2, 66)
            server.script("a.test", .broken(defect, [.address(forged)]))
            server.script("b.test", addresses: [v4])
            var settings = settings(server)
            settings.timeout = .milliseconds(400)
            let bench = try Bench(settings)
            let answer = try bench.resolve("a.test")
            #expect(answer.status != .found)
            #expect(answer.addresses.isEmpty)
            try wait("the next name") { (try? bench.resolve("b.test").addresses) == [v4] }
        }
    }

    /// T-16: the true reply is still taken when a forged one came before it.
    @Test
    func aForgedReplyDoesNotHideTheTrueOne() throws {
        try withServer { server in
            server.script(
                "a.test", .a, .broken(.wrongID, [.address(otherV4)]), .records([.address(v4)]))
            server.script("a.test", .aaaa, .records([]))
            var settings = settings(server)
            settings.timeout = .seconds(4)
            let bench = try Bench(settings)
            #expect(try bench.resolve("a.test").addresses == [v4])
        }
    }

    /// T-16.
    @Test
    func anAliasThatLeadsToItselfHasNoAddress() throws {
        try withServer { server in
            let loop: [DNSRecord] = [.alias("b.test"), .alias("a.test"), .alias("b.test")]
            server.script("a.test", .records(loop))
            let bench = try Bench(settings(server))
            #expect(try bench.resolve("a.test").status != .found)
        }
    }

    /// UP-08 "bad reply keeps the old set".
    @Test
    func aBadReplyKeepsTheOldSet() throws {
        try withServer { server in
            server.script("a.test", .a, .records([.address(v4, ttl: 0)]), .serverFailure)
            server.script("a.test", .aaaa, .records([]))
            var settings = settings(server)
            settings.staleTTL = .seconds(3600)
            let bench = try Bench(settings)
            #expect(try bench.resolve("a.test").addresses == [v4])
            let answer = try bench.resolve("a.test")
            #expect(answer.addresses == [v4])
            #expect(answer.isStale)
        }
    }

    // MARK: Servers of the system

    @Test(arguments: ["/nonexistent/resolv.conf", "/proc/self/mem", "/"])
    func aMissingOrUnreadableServersFileMeansLoopback(path: String) throws {
        try withServer { server in
            server.script("a.test", addresses: [v4])
            var settings = ResolverSettings()
            settings.timeout = .seconds(30)
            let bench = try Bench(settings, system: SystemServers(path: path, port: server.address.port))
            #expect(try bench.resolve("a.test").addresses == [v4])
        }
    }

    /// Also shows that a search list and options of the file change nothing about the names asked for.
    @Test
    func aChangedServersFileIsReadAgain() throws {
        try withServer { server in
            server.script("a.test", addresses: [v4])
            let path = "/tmp/weir-resolv-\(getpid()).conf"
            defer { unsafe _ = unlink(path) }
            // 127.0.0.2 is loopback too, and nothing listens there.
            try write("nameserver 127.0.0.2\nsearch example.org\noptions ndots:5 rotate\n", to: path)
            var settings = ResolverSettings()
            settings.timeout = .milliseconds(300)
            let bench = try Bench(settings, system: SystemServers(path: path, port: server.address.port))
            #expect(try bench.resolve("a.test").status != .found)
            try write("nameserver 127.0.0.1\nsearch example.org\noptions ndots:5 rotate\n", to: path)
            try wait("the new server") { (try? bench.resolve("a.test").status) == .found }
            #expect(Set(server.queries.map(\.name)) == ["a.test"])
        }
    }

    // MARK: Reload and end

    /// UP-09, and new servers for new names.
    @Test
    func aReloadKeepsWhatIsKnownAndAsksTheNewServers() throws {
        try withServer { old in
            try withServer { new in
                old.script("a.test", addresses: [v4])
                new.script("b.test", addresses: [otherV4])
                let bench = try Bench(settings(old))
                #expect(try bench.resolve("a.test").addresses == [v4])
                bench.resolver.reconfigure(settings(new))
                #expect(try bench.resolve("b.test").addresses == [otherV4])
                #expect(try bench.resolve("a.test").addresses == [v4])
                #expect(new.queryCount("a.test") == 0)
                #expect(old.queryCount("b.test") == 0)
            }
        }
    }

    @Test
    func aLookupInFlightOutlivesAReload() throws {
        try withServer { old in
            try withServer { new in
                old.script("a.test", .held(.records([.address(v4)])))
                new.script("b.test", addresses: [otherV4])
                let bench = try Bench(settings(old))
                let ticket = try bench.ask("a.test")
                try wait("both questions") { old.queryCount("a.test") == 2 }
                bench.resolver.reconfigure(settings(new))
                #expect(try bench.resolve("b.test").addresses == [otherV4])
                old.releaseHeld()
                #expect(try bench.answer(ticket).addresses == [v4])
            }
        }
    }

    @Test
    func stoppingAnswersEveryRequestAndLeavesNoSocket() throws {
        try withServer { server in
            server.setSilent(true)
            let bench = try Bench(settings(server), portCount: 2)
            for index in 0..<100 { try bench.ask("host-\(index).test", port: index % 2) }
            try wait("a question") { server.queries.count > 10 }
            #expect(try socketCount(to: server.address.port) > 0)
            bench.resolver.stop()
            for port in 0..<2 {
                let answers = bench.answers(port: port)
                #expect(answers.count == 50)
                #expect(answers.allSatisfy { $0.answer.status == .cancelled })
            }
            #expect(try socketCount(to: server.address.port) == 0)
            bench.resolver.stop()
        }
    }

    @Test
    func aResolverThatNeverStartedStopsToo() throws {
        let signal = try ResolverSignal()
        let resolver = Resolver(settings: ResolverSettings(), signal: signal, ports: [])
        resolver.stop()
        #expect(resolver.counts.entryCount == 0)
    }

    /// RFC 5452 §9.2: c-ares 1.18 alone would keep one port for as long as it is busy.
    @Test
    func sourcePortsChangeEvenUnderSteadyLoad() throws {
        try withServer { server in
            server.script("busy.test", .held(.noSuchName))
            let bench = try Bench(settings(server))
            // Keeps the first channel busy for the whole test.
            try bench.ask("busy.test")
            try wait("the busy question") { server.queryCount("busy.test") == 2 }
            for index in 0..<400 { _ = try bench.resolve("host-\(index).test") }
            let ports = Set(server.queries.filter { $0.name != "busy.test" }.map(\.sourcePort))
            #expect(ports.count > 1)
            #expect(bench.resolver.counts.channelsOpened > 2)
            server.releaseHeld()
        }
    }

    @Test
    func theThreadHasItsNameAndBlocksSignals() throws {
        try withServer { server in
            server.script("a.test", addresses: [v4])
            let bench = try Bench(settings(server))
            _ = try bench.resolve("a.test")
            let status = try #require(threadStatus(named: "weir-resolver"))
            let blocked = try #require(status.split(separator: "\n").first { $0.hasPrefix("SigBlk:") })
            let mask = try #require(UInt64(blocked.split(separator: "\t")[1], radix: 16))
            for signal in [SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGUSR1] {
                #expect(mask & (1 << UInt64(signal - 1)) != 0)
            }
        }
    }
}

private func write(_ text: String, to path: String) throws {
    guard let file = unsafe fopen(path, "w") else { throw GaveUp(what: path) }
    unsafe fputs(text, file)
    unsafe fclose(file)
}

/// /proc's status of the first thread of this process with that name.
private func threadStatus(named name: String) -> String? {
    guard let directory = unsafe opendir("/proc/self/task") else { return nil }
    defer { unsafe _ = closedir(directory) }
    while let entry = unsafe readdir(directory) {
        let thread = unsafe withUnsafePointer(to: &entry.pointee.d_name) { start in
            unsafe String(cString: UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self))
        }
        guard let status = read("/proc/self/task/\(thread)/status") else { continue }
        if status.hasPrefix("Name:\t\(name)\n") { return status }
    }
    return nil
}

private func read(_ path: String) -> String? {
    guard let file = unsafe fopen(path, "r") else { return nil }
    defer { unsafe _ = fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 8192)
    while true {
        let count = unsafe fread(&buffer, 1, buffer.count, file)
        if count == 0 { return String(decoding: bytes, as: UTF8.self) }
        bytes += buffer[..<count]
    }
}
