import Testing
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

@Suite("S2-6: the client's address decides") struct HashTests {
    private static let clients = 0..<20_000

    /// Whom each client is served by.
    private func servers(_ bench: ClusterBench) -> [Int] { Self.clients.map { bench.plan(attempts: 1, client: $0)[0] } }

    @Test func aClientKeepsItsEndpoint() {
        let bench = ClusterBench((1...10).map { endpoint($0) }, balance: .sourceHash)
        #expect(servers(bench) == servers(bench))
    }

    @Test(arguments: [2, 3, 5, 10, 50, 200])
    func whenOneOfManyLeavesNoMoreThanItsClientsAndAHundredthMove(count: Int) {
        let endpoints = (1...count).map { endpoint($0) }
        let bench = ClusterBench(endpoints, balance: .sourceHash)
        let before = servers(bench)
        let leaver = count / 2 + 1
        bench.adopt(endpoints.filter { $0 != endpoint(leaver) })
        let after = servers(bench)
        let movedCount = zip(before, after).count { $0 != $1 }
        let ownCount = before.count { $0 == leaver }
        #expect(movedCount - ownCount <= Self.clients.count / 100)
        #expect(Double(ownCount) / Double(Self.clients.count) <= 1 / Double(count) + 0.01)
    }

    @Test func whenOneRestsItsClientsMoveAndComeBack() {
        let bench = ClusterBench((1...5).map { endpoint($0) }, balance: .sourceHash)
        let before = servers(bench)
        bench.fail(3)
        let meanwhile = servers(bench)
        #expect(zip(before, meanwhile).allSatisfy { $0 == $1 || $0 == 3 && $1 != 3 })
        // To all the others, not to one.
        #expect(Set(zip(before, meanwhile).filter { $0.0 == 3 }.map(\.1)) == [1, 2, 4, 5])
        bench.pass(.seconds(11))
        bench.succeed(3)
        #expect(servers(bench) == before)
    }

    @Test func aSessionTriesEachEndpointOnceWhateverTheClient() {
        let bench = ClusterBench((1...4).map { endpoint($0) }, balance: .sourceHash)
        for client in 0..<200 { #expect(bench.plan(attempts: 8, client: client).sorted() == [1, 2, 3, 4]) }
    }

    @Test func aBackupServesOnlyWhileTheOthersRest() {
        var backup = endpoint(2)
        backup.priority = 1
        let bench = ClusterBench([endpoint(1), backup], balance: .sourceHash)
        #expect(Set(servers(bench)) == [1])
        bench.fail(1)
        #expect(Set(servers(bench)) == [2])
    }

    @Test func addressesOfIPv4MappedIntoIPv6AreTheSameClient() throws {
        let mapped = try #require(IPAddress("::ffff:192.0.2.7"))
        #expect(StableHash.of(mapped) == StableHash.of(IPAddress(192, 0, 2, 7)))
    }

    @Test func oneEndpointNeedsNoTable() {
        #expect(MaglevTable.slots([("10.0.0.1:443", 7)]) == [0])
    }

    @Test func equalWeightsHaveEqualSlots() {
        let slots = MaglevTable.slots((1...7).map { ("10.0.0.\($0):443", 1) })
        let counts = (0..<7).map { index in slots.count { $0 == index } }
        #expect(counts.max()! - counts.min()! <= 1)
    }

    @Test func slotsFollowWeights() {
        let weights = [1, 2, 7]
        let slots = MaglevTable.slots(weights.enumerated().map { ("10.0.0.\($0.offset):443", $0.element) })
        for (index, weight) in weights.enumerated() {
            let share = Double(slots.count { $0 == index }) / Double(slots.count)
            #expect(abs(share - Double(weight) / 10) < 0.01)
        }
    }
}
