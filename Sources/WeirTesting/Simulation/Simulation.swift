import WeirEngine
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

/// One simulated day of a proxy: a seed chooses the configuration, the number of workers, the clients, the upstreams,
/// the faults and the orders in between; every byte and every end is checked against what the far ends did.
///
/// A far end says bytes that nobody else says, and starts by saying who it is. So it shows at once when a byte is lost,
/// repeated, changed, or comes to somebody else (SimulationStreams). After every turn the books must balance: buffers,
/// descriptors, operations, counters, limits, deadlines (SimulatedLedger, SimulationBooks). What is left are the checks
/// that need the whole day (SimulationEnd).
package final class Simulation {
    /// A client and what is known about it.
    final class Client {
        let number: Int
        let party: SimulatedParty
        let listener: String
        /// Bytes of a PROXY header before what is relayed.
        let headerCount: Int
        /// What a PROXY header sent on must say; nil: that it is a local connection.
        let endpoints: (source: SocketAddress, destination: SocketAddress)?
        var allowed: Set<SimulatedOutcome>
        let hasAnswer: Bool
        /// Where it may be led.
        let places: Set<SocketAddress>
        /// Something happened that excuses every outcome.
        var isDisturbed = false
        /// Who got its bytes, and whose bytes it got.
        var upstream: Upstream?
        var heard: Upstream?
        var checkedCount = 0

        init(
            number: Int, party: SimulatedParty, listener: String, headerCount: Int,
            endpoints: (source: SocketAddress, destination: SocketAddress)?, allowed: Set<SimulatedOutcome>,
            hasAnswer: Bool, places: Set<SocketAddress>
        ) {
            self.number = number
            self.party = party
            self.listener = listener
            self.headerCount = headerCount
            self.endpoints = endpoints
            self.allowed = allowed
            self.hasAnswer = hasAnswer
            self.places = places
        }

        var connection: SimulatedConnection { party.connection }
    }

    final class Upstream {
        let number: Int
        let party: SimulatedParty
        /// Bytes of the PROXY header that came first; nil: not all of it has come.
        var headerCount: Int?
        var header: ProxyHeader?
        /// The simulation holds it; the two would hold each other.
        unowned var client: Client?
        var checkedCount = 0

        init(number: Int, party: SimulatedParty) {
            self.number = number
            self.party = party
        }

        var connection: SimulatedConnection { party.connection }
    }

    package let seed: UInt64
    package let proxy: SimulatedProxy
    var day: SimulatedDay
    private var random: SimulatedRandom
    private(set) var clients: [Client] = []
    private(set) var upstreams: [Upstream] = []
    private var startedCount = 0
    private var ordersLeft = 0
    private var isStopping = false
    var hasJumped = false
    private var removedListeners: Set<String> = []
    /// All that ever were, by name.
    var listeners: [String: Listener] = [:]
    var listenerBases: [Int32] = []
    var timeouts: [String: SimulatedTimeouts] = [:]
    /// One for each worker.
    let ledgers: [SimulatedLedger]
    /// When the clock last jumped.
    var jumpedAt = Instant(nanoseconds: 0)
    /// Clients that were counted against their limit, so that it is seen when they are not taken out of it.
    var countedClients: Set<SimulatedLedger.Counted> = []
    /// By the id of their connection.
    var clientOf: [Int: Client] = [:]
    var upstreamOf: [Int: Upstream] = [:]
    var dirty: [SimulatedConnection] = []

    package var tally = SimulatedTally()

    /// What was wrong, in words. Empty: nothing.
    package private(set) var failures: [String] = []
    /// Set: what happens is told.
    package var trace: ((String) -> Void)? {
        didSet {
            for worker in proxy.workers {
                let name = proxy.workers.count > 1 ? "worker \(worker.index) " : ""
                worker.driver.trace = trace.map { trace in { trace(name + $0) } }
            }
        }
    }

    /// `planted`: a fault that the checks must find.
    package init(seed: UInt64, planted: PlantedFault? = nil) {
        self.seed = seed
        day = SimulatedDay(seed: seed)
        random = SimulatedRandom(seed: seed ^ 0x636c_6965_6e74)
        proxy = SimulatedProxy(
            day.configuration, seed: seed, sizes: day.sizes, faults: day.faults, planted: planted)
        ledgers = proxy.workers.map { SimulatedLedger($0) }
        let skipCount = random.below(4)
        for worker in proxy.workers {
            worker.driver.descriptorLimit = day.descriptorLimit
            worker.driver.onBrokenRule = { [unowned self] in fail($0) }
            worker.planter?.skipCount = skipCount
            worker.planter?.otherPlace = { [unowned self] in day.anotherPlace(than: $0) }
            worker.planter?.miscount = { [unowned self, unowned worker] in if let planted { miscount(planted, worker) }
            }
        }
        for ledger in ledgers { ledger.fail = { [unowned self] in fail($0) } }
        proxy.answersTwice = day.answersTwice
        for listener in day.configuration.listeners { know(listener) }
        proxy.plan = { [unowned self] in plan($0) }
        proxy.resolve = { [unowned self] in answer($0) }
        proxy.onUpstream = { [unowned self] in accepted($0) }
        proxy.onChange = { [unowned self] in changed($0) }
        proxy.onMoment = { [unowned self] in called($0) }
    }

    /// What a planted fault does to counts.
    private func miscount(_ fault: PlantedFault, _ worker: SimulatedWorker) {
        switch fault {
        case .forgottenLeave: _ = proxy.limits.sessions.tryIncrement(limit: .max)
        case .forgottenClientLeave:
            guard let client = clients.first else { return }
            _ = proxy.limits.clients.enter(
                worker: worker.index, listener: 0, client: client.connection.farAddress.ip.limitKey, limit: 1000)
        case .forgottenEndpointLeave: _ = proxy.board.enter(endpoint: 0, limit: .max)
        case .repeatedCount: worker.cells.add(listenerBases[0] + ListenerCell.closed, 1)
        default: break
        }
    }

    private func know(_ listener: Listener) {
        guard listeners.updateValue(listener, forKey: listener.name) == nil else { return }
        listenerBases.append(proxy.registry.listener(listener.name))
        // Its timeouts are asked for after every turn.
        timeouts[listener.name] = SimulatedTimeouts(listener)
    }

    func fail(_ what: String) {
        trace?("\(proxy.now.story) FAILURE \(what)")
        // One cause has many effects; the first ones tell.
        if failures.count < 8 { failures.append(what) }
    }

    // MARK: The day

    /// Runs the day to its end and checks what is left of it.
    package func run() {
        for _ in 0..<day.sessionCount {
            var moment = random.within(0...day.spread)
            if random.chance(200), let order = day.orders.last {
                // Some come in the very moment of an order, which is when least is certain.
                moment = order.at - min(order.at, random.within(0...day.faults.latency.upperBound * 2))
            }
            proxy.after(moment) { [unowned self] in startClient() }
        }
        ordersLeft = day.orders.count
        for order in day.orders {
            proxy.after(order.at) { [unowned self] in begin(order.order) }
        }
        turn(within: .seconds(120)) { [unowned self] in isQuiet }
        if !proxy.hasLeft && failures.isEmpty {
            // What is still on its way arrives.
            turn(within: .seconds(1)) { false }
            proxy.stop()
            turn(within: .seconds(10)) { [unowned self] in proxy.hasLeft }
            if !proxy.hasLeft { fail("a worker has not left 10 s after its stop") }
        }
        // A day that was broken off has much left.
        if failures.isEmpty { checkEnd() }
        gather()
    }

    private func turn(within duration: Duration, until condition: () -> Bool) {
        let end = proxy.now.advanced(byNanoseconds: duration.clampedNanoseconds)
        var sameTimeCount = 0
        while !condition() && proxy.now < end && failures.isEmpty {
            let before = proxy.now
            guard let worker = proxy.turn() else { break }
            tally.turnCount += 1
            checkStreams()
            checkBooks(worker)
            sameTimeCount = proxy.now.nanoseconds(since: before) < 10_000 ? sameTimeCount + 1 : 0
            if sameTimeCount > 20_000 { fail("a worker turns round and round at \(proxy.now.nanoseconds)") }
        }
    }

    private var isQuiet: Bool {
        startedCount == day.sessionCount && ordersLeft == 0
            && proxy.workers.allSatisfy { $0.worker.outstanding.sessions == 0 }
            && clients.allSatisfy {
                $0.connection.closedAt != nil || $0.connection.sawResetAt != nil || $0.connection.hasFarReset
            }
    }

    /// Carries `order` out, once a reload that is under way is over.
    private func begin(_ order: SimulatedDay.Order) {
        if proxy.isReloading {
            proxy.after(200_000) { [unowned self] in begin(order) }
        } else {
            carryOut(order)
            ordersLeft -= 1
        }
    }

    private func carryOut(_ order: SimulatedDay.Order) {
        trace?("\(proxy.now.story) ORDER \(order)")
        switch order {
        case .reload:
            if isStopping { return }
            tally.add(.reload)
            if isAnyoneOpening { tally.add(.reloadWhileOpening) }
            proxy.reload(day.changed(proxy.configuration))
        case .removeListener:
            if isStopping { return }
            var next = proxy.configuration
            guard next.listeners.count > 1, let removed = next.listeners.popLast() else { return }
            tally.add(.listenerRemoved)
            removedListeners.insert(removed.name)
            for client in clients where client.listener == removed.name && client.upstream == nil {
                client.isDisturbed = true
            }
            proxy.reload(next)
        case .addListener:
            if isStopping { return }
            tally.add(.listenerAdded)
            let next = day.extended(proxy.configuration)
            for listener in next.listeners { know(listener) }
            proxy.reload(next)
        case .check:
            guard let place = anyEndpoint() else { return }
            proxy.setHealth(place, random.pick([.healthy, .unhealthy]))
        case .endEndpoint:
            guard let place = anyEndpoint() else { return }
            disturb()
            let reason: CloseReason.Other = random.pick([.endpointUnhealthy, .endpointRemoved])
            proxy.endSessions(ofEndpoint: place, reason, after: reason == .endpointRemoved ? 20_000_000 : 0)
        case .endRoute:
            let listener = random.pick(proxy.configuration.listeners)
            disturb()
            proxy.endSessions(ofRoute: random.pick(listener.routes).name, listener: listener.name)
        case .jump(let nanoseconds):
            hasJumped = true
            disturb()
            proxy.jump(nanoseconds)
            jumpedAt = proxy.workers.map { $0.driver.now() }.max() ?? proxy.now
        case .drain:
            isStopping = true
            tally.add(.drain)
            disturbUnpaired()
            proxy.stopListening()
        case .endSessions:
            tally.add(.drainDeadline)
            disturb()
            proxy.endSessions()
        case .stop:
            isStopping = true
            tally.add(.stop)
            if isAnyoneOpening { tally.add(.stopWhileOpening) }
            disturb()
            proxy.stop()
        }
    }

    /// The place of one.
    private func anyEndpoint() -> Int32? {
        let view = proxy.table.view
        guard view.endpoints.count > 0 else { return nil }
        return view.endpoints[random.below(view.endpoints.count)].place
    }

    /// Somebody was accepted and has no upstream yet.
    private var isAnyoneOpening: Bool { proxy.workers.contains { $0.worker.outstanding.openings > 0 } }

    func disturb() { for client in clients { client.isDisturbed = true } }

    private func disturbUnpaired() { for client in clients where client.upstream == nil { client.isDisturbed = true } }

    // MARK: Places

    private func plan(_ destination: SocketAddress) -> SimulatedConnectPlan {
        guard let host = day.hosts[destination] else {
            fail("a connect to \(destination), which nobody may reach")
            return .silence
        }
        return day.plan(for: host)
    }

    private func answer(_ name: ServerName) -> (UInt64, Answer)? {
        guard let known = day.names[name] else {
            fail("the resolver was asked for \(name)")
            return nil
        }
        guard let answer = known.answer else { return nil }
        if known.isGuarded { tally.add(.guardedAnswer) }
        return (random.within(known.delay), answer)
    }

    // MARK: Far ends

    private func startClient() {
        startedCount += 1
        let number = clients.count
        // Also one that has left.
        let listener = random.pick(
            random.chance(200) ? day.configuration.listeners : proxy.configuration.listeners)
        var script = SimulatedScript(random: &random, listener: listener, number: number, day: day)
        // SO_REUSEPORT: the kernel gives a connection to one of those who listen.
        let open = proxy.workers.filter { $0.driver.isListening(on: listener.address) }
        let worker = random.pick(open.isEmpty ? proxy.workers : open)
        let connection = worker.driver.openClient(from: script.address, to: listener.address)
        let party = SimulatedParty(connection, worker.driver, script.header + script.stream)
        party.preambleCount = script.header.count + script.preambleCount
        party.preamblePiece =
            random.chance(400) ? .max : max(random.scaled(1, party.preambleCount + 1), party.preambleCount / 25)
        give(party, window: connection.inboundWindow, readWindow: connection.outboundWindow)
        script.shape(party)
        for played in script.played { tally.add(played) }
        let client = Client(
            number: number, party: party, listener: listener.name, headerCount: script.header.count,
            endpoints: script.endpoints, allowed: script.allowed,
            hasAnswer: script.hasAnswer, places: script.places)
        if removedListeners.contains(listener.name) || isStopping { client.isDisturbed = true }
        if let trace {
            trace(
                "\(proxy.now.story) CLIENT \(number) connection \(connection.id) \(listener.name) \(script.kind) allowed \(script.allowed.map { "\($0)" }.sorted())"
            )
        }
        clients.append(client)
        clientOf[connection.id] = client
        act(party)
    }

    /// How fast, and how it leaves.
    private func give(_ party: SimulatedParty, window: Int, readWindow: Int) {
        let payload = party.outgoing.count - party.preambleCount
        if random.chance(500) {
            party.pace.writeByteCount = max(random.scaled(1, 20_000), payload / 12)
            party.pace.writePause = random.within(0...UInt64(random.pick([1_000, 1_000_000, 20_000_000])))
        }
        if random.chance(300) {
            party.pace.readByteCount = max(random.scaled(1, 60_000), 3000)
            party.pace.readPause = random.within(0...UInt64(random.pick([1_000, 1_000_000, 20_000_000])))
        }
        party.ending = random.chance(600) ? .afterWriting : .afterReadingEnd
        if random.chance(40) {
            // Gone as soon as it has said where it wants to go (RS-07).
            party.resetAfter = party.preambleCount
            return
        }
        guard random.chance(day.unhealthy) else { return }
        party.vanishes = random.chance(200)
        switch random.below(4) {
        case 0: party.resetAfter = random.scaled(0, party.outgoing.count)
        case 1:
            tally.add(.stalledReader)
            party.readsAtMost = random.scaled(0, 30_000)
        case 2:
            tally.add(.silentParty)
            party.ending = .never
        default:
            party.readsAtMost = random.scaled(0, 30_000)
            party.resetAfter = random.scaled(0, party.outgoing.count)
        }
    }

    private func accepted(_ connection: SimulatedConnection) {
        let number = upstreams.count
        let window = connection.inboundWindow
        let count = random.scaled(0, min(random.chance(50) ? 400_000 : 60_000, window * 20))
        let tag = SimulatedContent.tag(number)
        let party = SimulatedParty(
            connection, proxy.workers[connection.worker].driver,
            tag + SimulatedContent.bytes(of: seed << 16 | UInt64(number) << 1, count: count))
        party.preambleCount = tag.count
        give(party, window: window, readWindow: connection.outboundWindow)
        if random.chance(day.slamming) { party.resetAfter = 0 }
        let upstream = Upstream(number: number, party: party)
        if day.headers[connection.farAddress] == nil { upstream.headerCount = 0 }
        trace?("\(proxy.now.story) UPSTREAM \(number) connection \(connection.id) \(connection.farAddress)")
        upstreams.append(upstream)
        upstreamOf[connection.id] = upstream
        act(party)
    }

    private func changed(_ connection: SimulatedConnection) {
        dirty.append(connection)
        guard let party = clientOf[connection.id]?.party ?? upstreamOf[connection.id]?.party else { return }
        if !party.isCalled { act(party) }
    }

    private func act(_ party: SimulatedParty) {
        if clientOf[party.connection.id] != nil, party.connection.hasReadEnd,
            party.connection.received.first != UInt8(ascii: "U")
        {
            // Refused: it hangs up.
            party.ending = .afterWriting
            party.driver.shutDown(party.connection)
        }
        guard let next = party.act() else { return }
        party.isCalled = true
        party.driver.call(-1 - party.connection.id, at: next)
    }

    private func called(_ number: Int) {
        guard let party = clientOf[-1 - number]?.party ?? upstreamOf[-1 - number]?.party else { return }
        party.isCalled = false
        act(party)
    }
}
