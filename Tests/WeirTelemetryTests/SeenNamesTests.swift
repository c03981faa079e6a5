import Testing
import WeirNet
import WeirTelemetry

@Suite("Names that were seen (T-21)")
struct SeenNamesTests {
    private func record(
        _ name: String, listener: Int32 = 7, client: UInt8 = 1, endedAt: UInt64 = 100, hasPreamble: Bool = true
    ) -> SessionRecord {
        var found = SessionRecord(
            id: 1, client: SocketAddress(IPAddress(10, 0, 0, client), port: 1),
            peer: SocketAddress(IPAddress(10, 0, 0, client), port: 1),
            local: SocketAddress(IPAddress(10, 0, 0, 254), port: 443))
        found.listener = listener
        if !name.isEmpty, let serverName = try? ServerName(name) { found.serverName = serverName }
        found.acceptedAt = endedAt - 10
        found.totalTime = 10
        found.preambleTime = hasPreamble ? 5 : nil
        return found
    }

    private func texts(_ names: SeenNames, since moment: UInt64 = 0) -> [String] {
        names.since(moment).names.map { seen in
            "\(seen.listener) \(seen.serverName.isNone ? "-" : seen.serverName.description) \(seen.count)"
        }
    }

    @Test func aNameIsCountedAndTheLatestStandsFirst() {
        var names = SeenNames()
        for name in ["a.test", "b.test", "a.test", ""] { names.note(record(name)) }
        #expect(texts(names) == ["7 - 1", "7 a.test 2", "7 b.test 1"])
    }

    @Test func theLastSessionIsTheOneThatIsRemembered() {
        var names = SeenNames()
        names.note(record("a.test", client: 1))
        names.note(record("a.test", client: 2, endedAt: 300))
        let found = names.since(0).names
        #expect(found.map(\.client.ip) == [IPAddress(10, 0, 0, 2)])
        #expect(found.map(\.lastSeenAt) == [300])
    }

    @Test func listenersHaveTheirOwn() {
        var names = SeenNames()
        names.note(record("a.test", listener: 7))
        names.note(record("a.test", listener: 8))
        #expect(texts(names) == ["8 a.test 1", "7 a.test 1"])
    }

    @Test func aSessionThatSaidNothingIsNotInIt() {
        var names = SeenNames()
        names.note(record("", hasPreamble: false))
        #expect(names.since(0).names.isEmpty)
    }

    @Test func whatIsOlderIsLeftOut() {
        var names = SeenNames()
        names.note(record("old.test", endedAt: 100))
        names.note(record("new.test", endedAt: 200))
        #expect(texts(names, since: 101) == ["7 new.test 1"])
    }

    @Test func theOneThatNobodyHasAskedForTheLongestGivesWay() {
        var names = SeenNames(capacity: 3)
        for name in ["a.test", "b.test", "c.test", "a.test", "d.test"] { names.note(record(name)) }
        #expect(texts(names) == ["7 d.test 1", "7 a.test 2", "7 c.test 1"])
    }

    @Test(arguments: [(UInt64(100), false), (101, true)])
    func whetherThatIsAllIsKnown(_ moment: UInt64, _ isComplete: Bool) {
        var names = SeenNames(capacity: 1)
        names.note(record("a.test", endedAt: 100))
        names.note(record("b.test", endedAt: 200))
        #expect(names.since(moment).isComplete == isComplete)
    }

    /// Against a list that does the same in the plainest way, with names that come and go.
    @Test func itIsWhatAPlainListWouldBe() {
        var names = SeenNames(capacity: 50)
        var plain: [(name: String, count: Int)] = []
        var random = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            let name = "n\(Int.random(in: 0..<80, using: &random)).test"
            names.note(record(name))
            let known = plain.firstIndex { $0.name == name }
            let count = known.map { plain.remove(at: $0).count } ?? 0
            if plain.count == 50 { plain.removeLast() }
            plain.insert((name, count + 1), at: 0)
        }
        #expect(texts(names) == plain.map { "7 \($0.name) \($0.count)" })
    }
}
