import Testing
import WeirDriverHarness
import WeirHealth
import WeirMemory
import WeirModel
import WeirNet
import WeirTesting
import WeirUpstream

/// Many targets, their lists, names and the guard (UP-06, S1-3).
@Suite struct CheckerTests {
    private static func name(_ text: String) throws -> ServerName { try ServerName(text) }

    private func named(_ name: ServerName, _ port: UInt16, _ policy: HealthCheck) -> CheckTarget {
        CheckScene.target(Endpoint(host: .name(name), port: port), policy)
    }

    /// The question that the checker has asked.
    private func question(_ scene: CheckScene) throws -> ResolverRequest {
        var request: ResolverRequest?
        try scene.wait("a question") { scene in
            request = scene.port.requests.pop()
            return request != nil
        }
        return try #require(request)
    }

    private func answer(_ scene: CheckScene, _ request: ResolverRequest, _ answer: Answer) {
        _ = scene.port.answers.push(ResolverAnswer(ticket: request.ticket, name: request.name, answer: answer))
    }

    private func found(_ addresses: ResolvedAddresses) -> Answer {
        Answer(status: .found, addresses: addresses, expires: .distantFuture)
    }

    // MARK: Many

    /// UP-06: forty endpoints, one of which refuses, one of which is silent.
    @Test(arguments: DriverKind.here) func fortyEndpointsAreCheckedSideBySide(on driver: DriverKind) throws {
        let origin = try TestOrigin { connection in
            _ = try connection.receive()
            try connection.send(serverHello)
            _ = try connection.receiveAll()
        }
        let silent = try TestListener()
        let deaf = try Loopback.bound()
        let scene = try CheckScene(driver)
        var policy = CheckScene.policy(.tls, timeout: .seconds(2))
        policy.interval = .seconds(2)
        scene.check(
            (0..<40).map { index in
                let address = index == 7 ? deaf.address : index == 11 ? silent.address : origin.address
                return CheckScene.target(address, policy, place: Int32(100 + index))
            })
        try scene.wait("a result of each") { scene in
            scene.line.records.count == 40 && scene.line.records.allSatisfy { $0.facts.checkCount > 0 }
        }
        let unhealthy = scene.line.records.filter { $0.facts.verdict == .unhealthy }
        #expect(unhealthy.map(\.place) == [107, 111])
        #expect(unhealthy[0].facts.lastFailure == .refused)
        #expect(Set(scene.changes.map(\.place)) == [107, 111])
        try scene.stop()
        origin.stop()
    }

    @Test(arguments: DriverKind.here) func checksThatFindNoSlotWaitForOne(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver, slotCount: 2)
        let policy = CheckScene.quick(.tls, timeout: .milliseconds(10))
        scene.check((0..<20).map { CheckScene.target(origin.address, policy, place: $0) })
        try scene.wait("three results of each") { scene in
            scene.line.records.count == 20 && scene.line.records.allSatisfy { $0.facts.checkCount >= 3 }
        }
        #expect(scene.line.records.allSatisfy { $0.facts.failureCount >= 3 })
        try scene.stop()
    }

    /// S1-3.
    @Test(arguments: DriverKind.here)
    func endpointThatDiesAndComesBackIsReportedOnceEach(on driver: DriverKind) throws {
        var origin = try TestOrigin.echo()
        let address = origin.address
        let scene = try CheckScene(driver)
        scene.check(CheckScene.target(address, CheckScene.quick(.tcp), place: 5))
        try scene.wait("successes") { ($0.line.records.first?.facts.checkCount ?? 0) >= 5 }
        #expect(scene.changes == [])
        origin.stop()
        try scene.wait("its death") { $0.changes.count == 1 }
        origin = try TestOrigin.echo(port: address.port)
        try scene.wait("its return") { $0.changes.count == 2 }
        #expect(
            scene.changes == [
                CheckScene.Change(place: 5, verdict: .unhealthy), CheckScene.Change(place: 5, verdict: .healthy),
            ])
        #expect(scene.line.records[0].facts.failureCount >= 2)
        try scene.stop()
        origin.stop()
    }

    // MARK: Lists

    @Test(arguments: DriverKind.here) func reloadKeepsWhatIsKnownAndTellsItAtTheNewPlace(on driver: DriverKind) throws {
        let deaf = try Loopback.bound()
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let dead = CheckScene.target(deaf.address, CheckScene.policy(.tcp), place: 1)
        let facts = try scene.firstResult(dead)
        var moved = dead
        moved.place = 2
        let number = scene.line.post([CheckScene.target(origin.address, CheckScene.policy(.tcp), place: 1), moved])
        #expect(!scene.line.hasAdopted(number))
        try scene.wait("the list") { $0.line.hasAdopted(number) }
        #expect(
            scene.changes == [
                CheckScene.Change(place: 1, verdict: .unhealthy), CheckScene.Change(place: 2, verdict: .unhealthy),
            ])
        let record = scene.line.records[1]
        #expect(record.place == 2)
        #expect(record.facts.checkCount == facts.checkCount)
        #expect(record.facts.verdict == .unhealthy)
        try scene.stop()
    }

    /// The check at hand goes on over a reload, so frequent reloads keep nobody from being found out.
    @Test(arguments: DriverKind.here) func checkAtHandOutlivesAReload(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let target = CheckScene.target(origin.address, CheckScene.policy(.tls, timeout: .milliseconds(200)))
        scene.check(target)
        try scene.wait("a result") { scene in
            scene.check(target)
            return (scene.line.records.first?.facts.checkCount ?? 0) > 0
        }
        #expect(scene.line.records[0].facts.lastResult == .failure)
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func targetThatLeavesTakesItsCheckAlong(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        scene.check(CheckScene.target(origin.address, CheckScene.policy(.tls)))
        var connection: TestConnection?
        try scene.wait("a connection") { _ in
            connection = try origin.acceptIfAny()
            return connection != nil
        }
        scene.check([])
        try scene.wait("its end") { $0.checker.outstanding.checks == 0 && $0.line.records.isEmpty }
        #expect(scene.changes == [])
        try scene.stop()
        #expect(try connection?.ending() == .reset)
    }

    @Test(arguments: DriverKind.here) func endpointThatStandsTwiceIsTwoTargets(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        let target = CheckScene.target(origin.address, CheckScene.quick(.tcp))
        scene.check(target, target)
        try scene.wait("a result of each") { scene in
            scene.line.records.count == 2 && scene.line.records.allSatisfy { $0.facts.checkCount > 0 }
        }
        try scene.stop()
    }

    @Test func targetsOfAConfigurationAreThoseThatMayServe() throws {
        var configuration = Configuration()
        var plain = Cluster(name: "plain", endpoints: [Endpoint(SocketAddress(.v4Loopback, port: 1))])
        plain.balance = .sourceHash
        var checked = Cluster(
            name: "checked",
            endpoints: [
                Endpoint(SocketAddress(.v4Loopback, port: 1)), Endpoint(SocketAddress(.v4Loopback, port: 2)),
                Endpoint(host: .name(try Self.name("a.example")), port: 3),
            ])
        checked.healthCheck = HealthCheck(.tls)
        checked.endpoints[0].isDown = true
        configuration.clusters = [plain, checked]
        let targets = CheckTarget.all(of: configuration) { cluster, endpoint in Int32(cluster * 10 + endpoint) }
        #expect(targets.map(\.place) == [11, 12])
        #expect(targets.map(\.endpoint) == ["127.0.0.1:2", "a.example:3"])
        #expect(targets[0].serverName.isNone)
        #expect(targets[1].serverName == (try Self.name("a.example")))
    }

    // MARK: Names and the guard

    @Test(arguments: DriverKind.here) func nameIsResolvedAndItsAddressChecked(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        scene.check(named(try Self.name("a.example"), origin.address.port, CheckScene.policy(.tcp)))
        let request = try question(scene)
        #expect(request.name == (try Self.name("a.example")))
        answer(scene, request, found([.v4Loopback]))
        #expect(try scene.firstResult().lastResult == .success)
        #expect(scene.judged == [origin.address])
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func answerIsAskedForOnlyOnceWhileItHolds(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver)
        scene.check(named(try Self.name("a.example"), origin.address.port, CheckScene.quick(.tcp)))
        answer(scene, try question(scene), found([.v4Loopback]))
        try scene.wait("three results") { ($0.line.records.first?.facts.checkCount ?? 0) >= 3 }
        #expect(scene.port.requests.pop() == nil)
        try scene.stop()
    }

    /// One address of a name that serves is enough.
    @Test(arguments: DriverKind.here) func nextAddressIsTriedWhereOneRefuses(on driver: DriverKind) throws {
        let origin = try TestListener(on: IPAddress(127, 0, 0, 3))
        let scene = try CheckScene(driver)
        scene.check(named(try Self.name("a.example"), origin.address.port, CheckScene.policy(.tcp)))
        answer(scene, try question(scene), found([IPAddress(127, 0, 0, 4), IPAddress(127, 0, 0, 3)]))
        #expect(try scene.firstResult().lastResult == .success)
        try scene.stop()
    }

    /// Each has a share of the timeout, so a silent one leaves the next its time.
    @Test(arguments: DriverKind.here) func nextAddressIsTriedWhereOneIsSilent(on driver: DriverKind) throws {
        let silent = try TestListener(on: IPAddress(127, 0, 0, 3))
        let origin = try TestOrigin(on: IPAddress(127, 0, 0, 4), port: silent.address.port) { connection in
            _ = try connection.receive()
            try connection.send(serverHello)
            _ = try connection.receiveAll()
        }
        let scene = try CheckScene(driver)
        let policy = CheckScene.policy(.tls, timeout: .seconds(2))
        scene.check(named(try Self.name("a.example"), silent.address.port, policy))
        answer(scene, try question(scene), found([IPAddress(127, 0, 0, 3), IPAddress(127, 0, 0, 4)]))
        #expect(try scene.firstResult().lastResult == .success)
        try scene.stop()
        origin.stop()
    }

    /// T-02: a check connects nowhere that a session may not.
    @Test(arguments: DriverKind.here) func deniedAddressIsNotConnectedTo(on driver: DriverKind) throws {
        let origin = try TestListener()
        let scene = try CheckScene(driver) { _, isLiteral in isLiteral }
        scene.check(named(try Self.name("a.example"), origin.address.port, CheckScene.policy(.tcp)))
        answer(scene, try question(scene), found([.v4Loopback]))
        #expect(try scene.firstResult().lastFailure == .destinationDenied)
        #expect(try origin.acceptIfAny() == nil)
        try scene.stop()
    }

    @Test(
        arguments: DriverKind.here,
        [(AnswerStatus.noSuchName, CheckFailure.nameNotFound), (.serverFailure, .resolverFailed)])
    func nameWithoutAddressesFails(
        on driver: DriverKind, outcome: (status: AnswerStatus, failure: CheckFailure)
    ) throws {
        let scene = try CheckScene(driver)
        scene.check(named(try Self.name("a.example"), 1, CheckScene.policy(.tcp)))
        answer(scene, try question(scene), Answer(outcome.status))
        let facts = try scene.firstResult()
        #expect(facts.lastFailure == outcome.failure)
        #expect(facts.verdict == .unhealthy)
        try scene.stop()
    }

    /// It was the resolver that had too much to do.
    @Test(arguments: DriverKind.here) func overloadedResolverSaysNothingOfTheEndpoint(on driver: DriverKind) throws {
        let scene = try CheckScene(driver)
        scene.check(named(try Self.name("a.example"), 1, CheckScene.policy(.tcp)))
        answer(scene, try question(scene), Answer(.refusedTooMany))
        let facts = try scene.firstResult()
        #expect(facts.lastResult == .inconclusive)
        #expect(facts.verdict == .healthy)
        #expect(facts.failureCount == 0)
        try scene.stop()
    }

    @Test(arguments: DriverKind.here) func nameThatIsNotAnsweredTimesOut(on driver: DriverKind) throws {
        let scene = try CheckScene(driver)
        let policy = CheckScene.policy(.tcp, timeout: .milliseconds(50))
        scene.check(named(try Self.name("a.example"), 1, policy))
        let request = try question(scene)
        #expect(try scene.firstResult().lastFailure == .resolverTimedOut)
        // Late, and for a check that is over.
        answer(scene, request, found([.v4Loopback]))
        scene.checker.turn()
        try scene.stop()
    }
}
