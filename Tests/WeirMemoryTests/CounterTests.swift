import Testing
import WeirMemory

@Suite struct SharedCounterTests {
    @Test func theLimitIsReachedAndNotPassed() {
        let counter = SharedCounter()
        #expect(counter.tryIncrement(limit: 2))
        #expect(counter.tryIncrement(limit: 2))
        #expect(!counter.tryIncrement(limit: 2))
        #expect(counter.value == 2)
        counter.decrement()
        #expect(counter.tryIncrement(limit: 2))
    }

    @Test func aLimitOfZeroLetsNobodyIn() {
        #expect(!SharedCounter().tryIncrement(limit: 0))
    }

    @Test func manyThreadsTogetherStayWithinTheLimit() async {
        let counter = SharedCounter()
        let over = Tally()
        let granted = Tally()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<5000 {
                        guard counter.tryIncrement(limit: 3) else { continue }
                        granted.add()
                        if counter.value > 3 { over.add() }
                        counter.decrement()
                    }
                }
            }
        }
        #expect(over.value == 0)
        #expect(granted.value > 0)
        #expect(counter.value == 0)
    }

    @Test func leavingMoreThanEnteredTraps() async {
        await #expect(processExitsWith: .failure) { SharedCounter().decrement() }
    }
}

/// T-14: connections per client, over all workers.
@Suite struct ConnectionCounterTests {
    private typealias Client = ConnectionCounter.Client

    private static func ticket(_ entry: ConnectionCounter.Entry) -> ConnectionCounter.Ticket? {
        guard case .counted(let ticket) = entry else { return nil }
        return ticket
    }

    private static func isOverLimit(_ entry: ConnectionCounter.Entry) -> Bool {
        guard case .overLimit = entry else { return false }
        return true
    }

    @Test func aClientIsCountedUpToItsLimitAndDown() throws {
        let counter = ConnectionCounter(clientCount: 100)
        let client = Client(high: 1, low: 2)
        let first = try #require(Self.ticket(counter.enter(worker: 0, listener: 0, client: client, limit: 2)))
        let second = try #require(Self.ticket(counter.enter(worker: 1, listener: 0, client: client, limit: 2)))
        #expect(Self.isOverLimit(counter.enter(worker: 0, listener: 0, client: client, limit: 2)))
        #expect(counter.count(listener: 0, client: client) == 2)
        counter.leave(first)
        #expect(counter.count(listener: 0, client: client) == 1)
        #expect(Self.ticket(counter.enter(worker: 0, listener: 0, client: client, limit: 2)) != nil)
        counter.leave(second)
        #expect(counter.count(listener: 0, client: client) == 1)
    }

    @Test func clientsAndListenersAreCountedApart() {
        let counter = ConnectionCounter(clientCount: 100)
        let keys = [(0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3)] as [(Int, UInt64, UInt64)]
        for (listener, high, low) in keys {
            let client = Client(high: high, low: low)
            #expect(Self.ticket(counter.enter(worker: 0, listener: listener, client: client, limit: 1)) != nil)
        }
        for (listener, high, low) in keys {
            #expect(counter.count(listener: listener, client: Client(high: high, low: low)) == 1)
        }
    }

    @Test func aLimitOfZeroLetsNobodyIn() {
        let counter = ConnectionCounter(clientCount: 1)
        let client = Client(high: 1, low: 1)
        #expect(Self.isOverLimit(counter.enter(worker: 0, listener: 0, client: client, limit: 0)))
        #expect(counter.count(listener: 0, client: client) == 0)
    }

    /// The smallest table has one group of sixteen slots.
    @Test func aFullTableLetsPassAndSaysSo() {
        let counter = ConnectionCounter(clientCount: 1)
        var tickets: [ConnectionCounter.Ticket] = []
        for number in 0..<16 as Range<UInt64> {
            let entry = counter.enter(worker: 0, listener: 0, client: Client(high: number, low: 0), limit: 1)
            if let ticket = Self.ticket(entry) { tickets.append(ticket) }
        }
        #expect(tickets.count == 16)
        guard case .untracked = counter.enter(worker: 0, listener: 0, client: Client(high: 16, low: 0), limit: 1) else {
            Issue.record("the seventeenth client was not let pass uncounted")
            return
        }
        #expect(counter.untrackedCount == 1)
        counter.leave(.none)
        counter.leave(tickets[3])
        #expect(Self.ticket(counter.enter(worker: 0, listener: 0, client: Client(high: 16, low: 0), limit: 1)) != nil)
    }

    @Test func tenThousandClientsAllFindRoom() {
        let counter = ConnectionCounter(clientCount: 10_000, key: SipKey(low: 1, high: 2))
        for number in 0..<10_000 as Range<UInt64> {
            _ = counter.enter(worker: 0, listener: 0, client: Client(high: 0, low: number), limit: 1)
        }
        #expect(counter.untrackedCount == 0)
        let counted = (0..<10_000 as Range<UInt64>).count {
            counter.count(listener: 0, client: Client(high: 0, low: $0)) == 1
        }
        #expect(counted == 10_000)
    }

    @Test func leavingTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let counter = ConnectionCounter(clientCount: 1)
            let entry = counter.enter(worker: 0, listener: 0, client: .init(high: 1, low: 1), limit: 1)
            guard case .counted(let ticket) = entry else { return }
            counter.leave(ticket)
            counter.leave(ticket)
        }
    }

    /// Few clients in one group of slots, so that slots are taken, freed and fought for all the time. What each client
    /// really has live is counted beside the table before and after: were a client ever in two slots, it would get
    /// past its limit.
    @Test func noClientPassesItsLimitWhileSlotsComeAndGo() async {
        let counter = ConnectionCounter(clientCount: 4)
        let live = [SharedCounter(), SharedCounter(), SharedCounter()]
        let over = Tally()
        let granted = Tally()
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    var random = UInt64(worker + 1) &* 0x9e37_79b9_7f4a_7c15
                    for _ in 0..<8000 {
                        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                        let which = Int(random >> 33) % live.count
                        let entry = counter.enter(
                            worker: worker, listener: 0, client: .init(high: UInt64(which), low: 0), limit: 1)
                        guard case .counted(let ticket) = entry else { continue }
                        granted.add()
                        if !live[which].tryIncrement(limit: 1) {
                            over.add()
                        } else {
                            live[which].decrement()
                        }
                        counter.leave(ticket)
                    }
                }
            }
        }
        #expect(over.value == 0)
        #expect(granted.value > 0)
        for which in 0..<live.count as Range<Int> {
            #expect(counter.count(listener: 0, client: .init(high: UInt64(which), low: 0)) == 0)
        }
    }
}
