import Testing
import WeirDriverHarness
import WeirEpoll
import WeirHealth
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirTesting
import WeirUpstream
import WeirUring

/// A checker on a driver, turned by the test that owns it.
final class CheckScene {
    struct Change: Equatable {
        var place: Int32
        var verdict: HealthVerdict
    }

    /// A wait longer than this is a failure.
    static let patience: UInt64 = 120_000_000_000

    let checker: Checker
    let line = CheckLine()
    let port = ResolverPort(wakeResolver: {}, wakeWorker: {})
    private let notes: Notes
    private let driver: any Driver

    private final class Notes {
        var changes: [Change] = []
        var judged: [SocketAddress] = []
    }

    var changes: [Change] { notes.changes }
    var judged: [SocketAddress] { notes.judged }

    /// `judge`: which addresses may be connected to.
    init(
        _ kind: DriverKind, slotCount: Int = 64,
        judge: @escaping (SocketAddress, Bool) -> Bool = { _, _ in true }
    ) throws {
        let pool = BufferPool(largeCount: 32, blockCount: slotCount)
        let driver: any Driver
        switch kind {
        case .uring:
            driver = try UringDriver(
                pool: pool, slotCount: slotCount, completionCount: 0, bufferRingCount: 8, submissionCount: 64)
        case .epoll: driver = try EpollDriver(pool: pool, slotCount: slotCount)
        }
        let notes = Notes()
        self.notes = notes
        self.driver = driver
        checker = Checker(
            driver: driver, pool: pool, slotCount: slotCount, resolver: port, line: line, seed: 1,
            judge: { address, isLiteral, _ in
                notes.judged.append(address)
                return judge(address, isLiteral)
            },
            report: { notes.changes.append(Change(place: $0, verdict: $1)) })
    }

    /// A check that soon has its result, or comes to its timeout.
    static func policy(_ kind: HealthCheck.Kind, timeout: Duration = .seconds(20)) -> HealthCheck {
        var policy = HealthCheck(kind)
        policy.interval = .seconds(20)
        policy.timeout = timeout
        return policy
    }

    /// Checks that follow on each other quickly, and have as long as they need.
    static func quick(_ kind: HealthCheck.Kind, timeout: Duration = .seconds(20)) -> HealthCheck {
        var policy = HealthCheck(kind)
        policy.interval = .milliseconds(10)
        policy.timeout = timeout
        return policy
    }

    static func target(
        _ address: SocketAddress, _ policy: HealthCheck, place: Int32 = 0, _ change: (inout Cluster) -> Void = { _ in }
    ) -> CheckTarget {
        target(Endpoint(address), policy, place: place, change)
    }

    static func target(
        _ endpoint: Endpoint, _ policy: HealthCheck, place: Int32 = 0, _ change: (inout Cluster) -> Void = { _ in }
    ) -> CheckTarget {
        var cluster = Cluster(name: "c", endpoints: [endpoint])
        change(&cluster)
        return CheckTarget(place: place, endpoint, of: cluster, policy)
    }

    func check(_ targets: CheckTarget...) { check(targets) }

    func check(_ targets: [CheckTarget]) { _ = line.post(targets) }

    /// Turns until `isTrue`.
    func wait(
        _ what: String, sourceLocation: SourceLocation = #_sourceLocation, until isTrue: (CheckScene) throws -> Bool
    ) throws {
        let limit = driver.now().advanced(byNanoseconds: Self.patience)
        while try !isTrue(self) {
            try #require(driver.now() < limit, "waited in vain: \(what)", sourceLocation: sourceLocation)
            checker.turn()
        }
    }

    /// What the first check of the first target comes to.
    func firstResult(sourceLocation: SourceLocation = #_sourceLocation) throws -> CheckFacts {
        try wait("the first result", sourceLocation: sourceLocation) { scene in
            (scene.line.records.first?.facts.checkCount ?? 0) > 0
        }
        return line.records[0].facts
    }

    func firstResult(_ target: CheckTarget, sourceLocation: SourceLocation = #_sourceLocation) throws -> CheckFacts {
        check(target)
        return try firstResult(sourceLocation: sourceLocation)
    }

    /// Ends the checker; nothing may be left.
    func stop(sourceLocation: SourceLocation = #_sourceLocation) throws {
        line.stop()
        try wait("its end", sourceLocation: sourceLocation) { $0.checker.hasLeft }
        #expect(checker.outstanding.checks == 0, sourceLocation: sourceLocation)
        #expect(checker.outstanding.buffers == 0, sourceLocation: sourceLocation)
    }
}

extension TestConnection {
    /// The head of a request.
    func receiveHead() throws -> String {
        var head = ""
        while !head.hasSuffix("\r\n\r\n") { head += String(decoding: try receive(exactly: 1), as: UTF8.self) }
        return head
    }
}

/// PROXY v2 LOCAL: nobody stands behind the connection.
let localHeader: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x20, 0, 0, 0]

/// A ServerHello as OpenSSL sends it, in a record.
let serverHello: [UInt8] =
    [22, 3, 3, 0, 82, 2, 0, 0, 78, 3, 3] + [UInt8](0..<32) + [32] + [UInt8](0..<32) + [0x13, 0x01, 0]
    + [0, 6, 0, 43, 0, 2, 3, 4]
