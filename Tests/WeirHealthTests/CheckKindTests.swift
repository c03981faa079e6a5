import Testing
import WeirDriverHarness
import WeirHealth
import WeirModel
import WeirNet
import WeirTesting
import WeirUpstream

/// What each kind of check says of each kind of endpoint, over real sockets on both drivers (UP-06).
@Suite struct CheckKindTests {
    private static let short = Duration.milliseconds(50)

    private func expectSuccess(_ facts: CheckFacts, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(facts.lastResult == .success, "\(facts)", sourceLocation: sourceLocation)
        #expect(facts.verdict == .healthy, sourceLocation: sourceLocation)
        #expect(facts.lastLatency != nil, sourceLocation: sourceLocation)
    }

    private func expect(
        _ facts: CheckFacts, _ failure: CheckFailure, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(facts.lastResult == .failure, "\(facts)", sourceLocation: sourceLocation)
        #expect(facts.lastFailure == failure, sourceLocation: sourceLocation)
        #expect(facts.verdict == .unhealthy, sourceLocation: sourceLocation)
        #expect(facts.changedAt != nil, sourceLocation: sourceLocation)
    }

    /// Where the machine is slow, its time may be over before the connection is open.
    private func expectTimeout(_ facts: CheckFacts, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(facts.lastResult == .failure, "\(facts)", sourceLocation: sourceLocation)
        #expect(
            facts.lastFailure == .timedOut || facts.lastFailure == .connectTimedOut, sourceLocation: sourceLocation)
        #expect(facts.verdict == .unhealthy, sourceLocation: sourceLocation)
    }

    /// One check of an endpoint that serves as `service` says.
    private func result(
        _ driver: DriverKind, _ policy: HealthCheck, sendProxy: SendProxy.Version? = nil,
        _ service: @escaping TestOrigin.Service
    ) throws -> CheckFacts {
        let origin = try TestOrigin(serving: service)
        defer { origin.stop() }
        let scene = try CheckScene(driver)
        let target = CheckScene.target(origin.address, policy) { cluster in
            cluster.upstream.sendProxy = sendProxy.map { SendProxy($0) }
        }
        let facts = try scene.firstResult(target)
        try scene.stop()
        return facts
    }

    // MARK: Connecting

    @Test(arguments: DriverKind.here, HealthCheck.Kind.allCases)
    func refusedConnectFails(on driver: DriverKind, kind: HealthCheck.Kind) throws {
        let deaf = try Loopback.bound()
        let scene = try CheckScene(driver)
        expect(try scene.firstResult(CheckScene.target(deaf.address, CheckScene.policy(kind))), .refused)
        #expect(scene.changes == [CheckScene.Change(place: 0, verdict: .unhealthy)])
        try scene.stop()
    }

    /// Its backlog is full, so the kernel does not answer.
    @Test(arguments: DriverKind.here) func connectThatIsNotAnsweredTimesOut(on driver: DriverKind) throws {
        let listener = try Loopback.listening(backlog: 0)
        let waiting = try Loopback.connected(to: listener)
        defer { waiting.close() }
        let scene = try CheckScene(driver)
        let policy = CheckScene.policy(.tcp, timeout: Self.short)
        expect(try scene.firstResult(CheckScene.target(listener.address, policy)), .connectTimedOut)
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func ownPortOfTheCheckIsConnectedTo(on driver: DriverKind) throws {
        let origin = try TestListener()
        let deaf = try Loopback.bound()
        let scene = try CheckScene(driver)
        var policy = CheckScene.policy(.tcp)
        policy.port = origin.address.port
        expectSuccess(try scene.firstResult(CheckScene.target(deaf.address, policy)))
        try scene.stop()
    }

    /// No port is left in TIME_WAIT.
    @Test(arguments: DriverKind.here) func connectionEndsWithReset(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        expectSuccess(try scene.firstResult(CheckScene.target(origin.address, CheckScene.policy(.tcp))))
        try scene.stop()
        #expect(try origin.accept().ending() == .reset)
    }

    @Test(arguments: DriverKind.here) func originSeesTheSourceAddress(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let source = IPAddress(127, 0, 0, 2)
        scene.check(
            CheckScene.target(origin.address, CheckScene.policy(.tls)) { $0.upstream.sourceAddresses = [source] })
        var connection: TestConnection?
        try scene.wait("a connection") { _ in
            connection = try origin.acceptIfAny()
            return connection != nil
        }
        #expect(connection?.peer.ip == source)
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func addressWithoutASourceOfItsFamilyFails(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let facts = try scene.firstResult(
            CheckScene.target(origin.address, CheckScene.policy(.tcp)) { $0.upstream.sourceAddresses = [.v6Loopback] })
        expect(facts, .unreachable)
        try scene.stop()
    }

    // MARK: tcp

    @Test(arguments: DriverKind.here) func connectIsAllThatTCPAsks(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        expectSuccess(try scene.firstResult(CheckScene.target(origin.address, CheckScene.policy(.tcp))))
        #expect(scene.changes == [])
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func tcpSendsTheHeaderOfAClusterThatSendsOne(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let target = CheckScene.target(origin.address, CheckScene.policy(.tcp)) { cluster in
            cluster.upstream.sendProxy = SendProxy(.v2)
        }
        expectSuccess(try scene.firstResult(target))
        try scene.stop()
        #expect(try origin.accept().receive(exactly: localHeader.count) == localHeader)
    }

    // MARK: proxy

    @Test(arguments: DriverKind.here) func silentEndpointHasTakenTheLocalHeader(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.proxy, timeout: .seconds(1))) { connection in
            guard try connection.receive(exactly: localHeader.count) == localHeader else { return }
            _ = try connection.receive()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here) func versionOfTheClusterIsSent(on driver: DriverKind) throws {
        let line = Array("PROXY UNKNOWN\r\n".utf8)
        let facts = try result(driver, CheckScene.policy(.proxy, timeout: .seconds(1)), sendProxy: .v1) { connection in
            guard try connection.receive(exactly: line.count) == line else { return }
            _ = try connection.receive()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here) func endpointThatSpeaksHasTakenTheHeader(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.proxy)) { connection in
            try connection.send("220 mail\r\n")
            _ = try connection.receiveAll()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here) func endpointThatClosesHasRefusedTheHeader(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.proxy)) { connection in
            _ = try connection.receive(exactly: localHeader.count)
        }
        expect(facts, .closed)
    }

    @Test(arguments: DriverKind.here) func endpointThatResetsHasRefusedTheHeader(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.proxy)) { connection in
            _ = try connection.receive(exactly: localHeader.count)
            connection.reset()
        }
        expect(facts, .reset)
    }

    // MARK: tls

    @Test(arguments: DriverKind.here) func serverHelloIsSuccess(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls)) { connection in
            _ = try connection.receive()
            try connection.send(serverHello)
            _ = try connection.receiveAll()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here) func serverHelloInPiecesIsSuccess(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls)) { connection in
            _ = try connection.receive()
            for byte in serverHello { try connection.send([byte]) }
            _ = try connection.receiveAll()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here) func helloComesBehindALocalHeader(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls), sendProxy: .v2) { connection in
            guard try connection.receive(exactly: localHeader.count) == localHeader,
                try connection.receive(exactly: 1) == [22]
            else { return }
            try connection.send(serverHello)
            _ = try connection.receiveAll()
        }
        expectSuccess(facts)
    }

    @Test(arguments: DriverKind.here, HealthCheck.Kind.allCases.filter { $0 == .tls || $0 == .http })
    func silentEndpointTimesOut(on driver: DriverKind, kind: HealthCheck.Kind) throws {
        let facts = try result(driver, CheckScene.policy(kind, timeout: Self.short)) { _ = try $0.receiveAll() }
        expectTimeout(facts)
    }

    @Test(arguments: DriverKind.here) func halfAServerHelloTimesOut(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls, timeout: Self.short)) { connection in
            try connection.send(Array(serverHello.dropLast()))
            _ = try connection.receiveAll()
        }
        expectTimeout(facts)
    }

    @Test(arguments: DriverKind.here) func alertFails(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls)) { connection in
            _ = try connection.receive()
            try connection.send([21, 3, 3, 0, 2, 2, 40])
            _ = try connection.receiveAll()
        }
        expect(facts, .tlsAlert)
    }

    @Test(arguments: DriverKind.here) func anotherProtocolFailsATLSCheck(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.tls)) { connection in
            _ = try connection.receive()
            try connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")
            _ = try connection.receiveAll()
        }
        expect(facts, .malformedAnswer)
    }

    @Test(arguments: DriverKind.here, HealthCheck.Kind.allCases.filter { $0 == .tls || $0 == .http })
    func resetFails(on driver: DriverKind, kind: HealthCheck.Kind) throws {
        let facts = try result(driver, CheckScene.policy(kind)) { connection in
            _ = try connection.receive()
            connection.reset()
        }
        expect(facts, .reset)
    }

    @Test(arguments: DriverKind.here, HealthCheck.Kind.allCases.filter { $0 == .tls || $0 == .http })
    func endWithoutAnAnswerFails(on driver: DriverKind, kind: HealthCheck.Kind) throws {
        let facts = try result(driver, CheckScene.policy(kind)) { connection in
            _ = try connection.receive()
            connection.finish()
            _ = try connection.receiveAll()
        }
        expect(facts, .closed)
    }

    // MARK: http

    @Test(arguments: DriverKind.here) func expectedStatusIsSuccess(on driver: DriverKind) throws {
        var policy = CheckScene.policy(.http)
        policy.path = "/healthz"
        policy.serverName = try ServerName("a.example")
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        scene.check(CheckScene.target(origin.address, policy))
        var connection: TestConnection?
        try scene.wait("a connection") { _ in
            connection = try origin.acceptIfAny()
            return connection != nil
        }
        // The request goes out in the turn after the one in which the connect completed.
        scene.checker.turn()
        let head = try #require(connection).receiveHead()
        #expect(head.hasPrefix("GET /healthz HTTP/1.1\r\nHost: a.example:\(origin.address.port)\r\n"))
        try connection?.send("HTTP/1.1 204 \r\n")
        expectSuccess(try scene.firstResult())
        try scene.stop()
    }

    @Test(arguments: DriverKind.here, [(404, true), (500, false), (200, false), (301, true)])
    func statusDecides(on driver: DriverKind, status: (code: Int, isExpected: Bool)) throws {
        var policy = CheckScene.policy(.http)
        policy.expected = [300...399, 404...404]
        let facts = try result(driver, policy) { connection in
            _ = try connection.receiveHead()
            try connection.send("HTTP/1.1 \(status.code) x\r\nContent-Length: 0\r\n\r\n")
            _ = try connection.receiveAll()
        }
        if status.isExpected { expectSuccess(facts) } else { expect(facts, .status) }
    }

    @Test(arguments: DriverKind.here) func halfAStatusLineTimesOut(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.http, timeout: Self.short)) { connection in
            try connection.send("HTTP/1.1 200 O")
            _ = try connection.receiveAll()
        }
        expectTimeout(facts)
    }

    @Test(arguments: DriverKind.here) func endlessHeadFails(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.http)) { connection in
            try connection.send("HTTP/1.1 200 " + String(repeating: "x", count: 100_000))
            _ = try connection.receiveAll()
        }
        expect(facts, .malformedAnswer)
    }

    @Test(arguments: DriverKind.here) func anotherProtocolFailsAnHTTPCheck(on driver: DriverKind) throws {
        let facts = try result(driver, CheckScene.policy(.http)) { connection in
            try connection.send("SSH-2.0-OpenSSH_9.9\r\n")
            _ = try connection.receiveAll()
        }
        expect(facts, .malformedAnswer)
    }
}
