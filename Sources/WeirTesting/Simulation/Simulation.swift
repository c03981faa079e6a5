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

/// One simulated day of a worker: a seed chooses the configuration, the clients, the upstreams, the faults and the
/// orders in between; every byte and every end is checked against what the far ends did.
///
/// A far end says bytes that nobody else says, and starts by saying who it is. So it shows at once when a byte is lost,
/// repeated, changed, or comes to somebody else; the other checks need the end of the day.
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
        /// Something happened that excuses every outcome.
        var isDisturbed = false
        /// Who got its bytes, and whose bytes it got.
        var upstream: Upstream?
        var heard: Upstream?
        var checkedCount = 0

        init(
            number: Int, party: SimulatedParty, listener: String, headerCount: Int,
            endpoints: (source: SocketAddress, destination: SocketAddress)?, allowed: Set<SimulatedOutcome>,
            hasAnswer: Bool
        ) {
            self.number = number
            self.party = party
            self.listener = listener
            self.headerCount = headerCount
            self.endpoints = endpoints
            self.allowed = allowed
            self.hasAnswer = hasAnswer
        }

        var connection: SimulatedConnection { party.connection }
    }

    final class Upstream {
        let number: Int
        let party: SimulatedParty
        /// Bytes of the PROXY header that came first; nil: not all of it has come.
        var headerCount: Int?
        var header: ProxyHeader?
        var client: Client?
        var checkedCount = 0

        init(number: Int, party: SimulatedParty) {
            self.number = number
            self.party = party
        }

        var connection: SimulatedConnection { party.connection }
    }

    package let seed: UInt64
    package let proxy: SimulatedProxy
    private var day: SimulatedDay
    private var random: SimulatedRandom
    private(set) var clients: [Client] = []
    private(set) var upstreams: [Upstream] = []
    private var startedCount = 0
    private var ordersLeft = 0
    private var isStopping = false
    private var hasJumped = false
    private var removedListeners: Set<String> = []
    /// All that ever were, by name.
    private var listeners: [String: Listener] = [:]
    private var listenerBases: [Int32] = []
    /// By the id of their connection.
    private var clientOf: [Int: Client] = [:]
    private var upstreamOf: [Int: Upstream] = [:]
    private var dirty: [SimulatedConnection] = []

    /// What the day was made of, for those who ask whether the days are worth their time.
    package struct Tally: Sendable {
        package var turnCount = 0
        package var byteCount = 0
        /// Sessions by the label of their reason.
        package var reasons: [String: Int] = [:]
        /// Sessions of which every byte was expected to arrive, and did.
        package var completeCount = 0
        package var emptyRingCount = 0

        package init() {}

        package static func += (sum: inout Tally, other: Tally) {
            sum.turnCount += other.turnCount
            sum.byteCount += other.byteCount
            sum.reasons.merge(other.reasons) { $0 + $1 }
            sum.completeCount += other.completeCount
            sum.emptyRingCount += other.emptyRingCount
        }
    }
    package private(set) var tally = Tally()

    /// What was wrong, in words. Empty: nothing.
    package private(set) var failures: [String] = []
    /// Set: what happens is told.
    package var trace: ((String) -> Void)? {
        didSet { proxy.driver.trace = trace }
    }

    /// `planted`: a fault that the checks must find.
    package init(seed: UInt64, planted: PlantedFault? = nil) {
        self.seed = seed
        day = SimulatedDay(seed: seed)
        random = SimulatedRandom(seed: seed ^ 0x636c_6965_6e74)
        proxy = SimulatedProxy(day.configuration, seed: seed, sizes: day.sizes, faults: day.faults)
        proxy.driver.descriptorLimit = day.descriptorLimit
        proxy.driver.planted = planted
        proxy.driver.plantedAfter = random.below(4)
        for listener in day.configuration.listeners { know(listener) }
        proxy.plan = { [unowned self] in plan($0) }
        proxy.resolve = { [unowned self] in answer($0) }
        proxy.onUpstream = { [unowned self] in accepted($0) }
        proxy.onChange = { [unowned self] in changed($0) }
        proxy.onMoment = { [unowned self] in called($0) }
    }

    private func know(_ listener: Listener) {
        guard listeners.updateValue(listener, forKey: listener.name) == nil else { return }
        listenerBases.append(proxy.registry.listener(listener.name))
    }

    private func fail(_ what: String) {
        trace?("\(proxy.now.story) FAILURE \(what)")
        // One cause has many effects; the first ones tell.
        if failures.count < 8 { failures.append(what) }
    }

    // MARK: The day

    /// Runs the day to its end and checks what is left of it.
    package func run() {
        for _ in 0..<day.sessionCount {
            proxy.after(random.within(0...day.spread)) { [unowned self] in startClient() }
        }
        ordersLeft = day.orders.count
        for order in day.orders {
            proxy.after(order.at) { [unowned self] in
                carryOut(order.order)
                ordersLeft -= 1
            }
        }
        turn(within: .seconds(120)) { [unowned self] in isQuiet }
        if !proxy.worker.hasLeft {
            // What is still on its way arrives.
            turn(within: .seconds(1)) { false }
            proxy.stop()
            turn(within: .seconds(10)) { [unowned self] in proxy.worker.hasLeft }
            if !proxy.worker.hasLeft { fail("the worker has not left 10 s after its stop") }
        }
        checkEnd()
    }

    private func turn(within duration: Duration, until condition: () -> Bool) {
        let end = proxy.now.advanced(byNanoseconds: duration.clampedNanoseconds)
        var sameTimeCount = 0
        while !condition() && !proxy.worker.hasLeft && proxy.now < end && failures.isEmpty {
            let before = proxy.now
            proxy.turn()
            tally.turnCount += 1
            check()
            sameTimeCount = proxy.now.nanoseconds(since: before) < 10_000 ? sameTimeCount + 1 : 0
            if sameTimeCount > 20_000 { fail("the worker turns round and round at \(proxy.now.nanoseconds)") }
        }
    }

    private var isQuiet: Bool {
        startedCount == day.sessionCount && ordersLeft == 0 && proxy.worker.outstanding.sessions == 0
            && clients.allSatisfy {
                $0.connection.closedAt != nil || $0.connection.sawResetAt != nil || $0.connection.hasFarReset
            }
    }

    private func carryOut(_ order: SimulatedDay.Order) {
        trace?("\(proxy.now.story) ORDER \(order)")
        switch order {
        case .reload: if !isStopping { proxy.reload(day.changed(proxy.configuration)) }
        case .removeListener:
            if isStopping { return }
            var next = proxy.configuration
            guard next.listeners.count > 1, let removed = next.listeners.popLast() else { return }
            removedListeners.insert(removed.name)
            for client in clients where client.listener == removed.name && client.upstream == nil {
                client.isDisturbed = true
            }
            proxy.reload(next)
        case .addListener:
            if isStopping { return }
            let next = day.extended(proxy.configuration)
            for listener in next.listeners { know(listener) }
            proxy.reload(next)
        case .jump(let nanoseconds):
            hasJumped = true
            disturb()
            proxy.driver.jump(nanoseconds)
        case .drain:
            isStopping = true
            disturbUnpaired()
            proxy.stopListening()
        case .endSessions:
            disturb()
            proxy.endSessions()
        case .stop:
            isStopping = true
            disturb()
            proxy.stop()
        }
    }

    private func disturb() { for client in clients { client.isDisturbed = true } }

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
        let connection = proxy.driver.openClient(from: script.address, to: listener.address)
        let party = SimulatedParty(connection, script.header + script.stream)
        party.preambleCount = script.header.count + script.preambleCount
        party.preamblePiece =
            random.chance(400) ? .max : max(random.scaled(1, party.preambleCount + 1), party.preambleCount / 25)
        give(party, window: connection.inboundWindow, readWindow: connection.outboundWindow)
        script.shape(party)
        let client = Client(
            number: number, party: party, listener: listener.name, headerCount: script.header.count,
            endpoints: script.endpoints, allowed: script.allowed,
            hasAnswer: script.hasAnswer)
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
        guard random.chance(day.unhealthy) else { return }
        party.vanishes = random.chance(200)
        switch random.below(4) {
        case 0: party.resetAfter = random.scaled(0, party.outgoing.count)
        case 1: party.readsAtMost = random.scaled(0, 30_000)
        case 2: party.ending = .never
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
            connection, tag + SimulatedContent.bytes(of: seed << 16 | UInt64(number) << 1, count: count))
        party.preambleCount = tag.count
        give(party, window: window, readWindow: connection.outboundWindow)
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
            proxy.driver.shutDown(party.connection)
        }
        guard let next = party.act(proxy.driver) else { return }
        party.isCalled = true
        proxy.driver.call(-1 - party.connection.id, at: next)
    }

    private func called(_ number: Int) {
        guard let party = clientOf[-1 - number]?.party ?? upstreamOf[-1 - number]?.party else { return }
        party.isCalled = false
        act(party)
    }

    // MARK: Every turn

    private func check() {
        for connection in dirty {
            if let client = clientOf[connection.id] {
                check(client)
            } else if let upstream = upstreamOf[connection.id] {
                check(upstream)
            }
        }
        dirty.removeAll(keepingCapacity: true)
        let live = proxy.worker.outstanding.sessions
        var counted = 0
        for base in listenerBases {
            counted +=
                Int(proxy.cells.value(base + ListenerCell.opened)) - Int(proxy.cells.value(base + ListenerCell.closed))
        }
        if counted != live { fail("\(counted) sessions are counted open, \(live) are") }
        if proxy.limits.sessions.value != live {
            fail("the limit counts \(proxy.limits.sessions.value) of \(live) sessions")
        }
    }

    /// What came to a client is what one upstream says, from its first byte on.
    private func check(_ client: Client) {
        let received = client.connection.received
        guard received.count > client.checkedCount else { return }
        if client.heard == nil {
            // An alert, a status line or somebody who says who it is.
            guard received[0] == UInt8(ascii: "U") else {
                if received[0] != 0x15 && received[0] != UInt8(ascii: "H") {
                    fail("client \(client.number) got bytes of nobody")
                }
                return
            }
            guard received.count >= SimulatedContent.tagByteCount else { return }
            let number = SimulatedContent.number(inTag: received[..<SimulatedContent.tagByteCount])
            guard let number, number < upstreams.count else {
                fail("client \(client.number) got bytes of nobody")
                return
            }
            client.heard = upstreams[number]
            if let other = clients.first(where: { $0 !== client && $0.heard === upstreams[number] }) {
                fail("clients \(client.number) and \(other.number) both got bytes of upstream \(number)")
            }
        }
        guard let upstream = client.heard else { return }
        compare(
            received, from: 0, checked: &client.checkedCount, with: upstream.party.outgoing, from: 0,
            written: upstream.connection.sent.count, "client \(client.number) of upstream \(upstream.number)")
    }

    /// What came to an upstream is its PROXY header and what one client says, from its first byte on.
    private func check(_ upstream: Upstream) {
        let received = upstream.connection.received
        if upstream.headerCount == nil { readHeader(upstream) }
        guard let headerCount = upstream.headerCount, received.count > headerCount else { return }
        if upstream.client == nil { identify(upstream, headerCount) }
        guard let client = upstream.client else { return }
        compare(
            received, from: headerCount, checked: &upstream.checkedCount, with: client.party.outgoing,
            from: client.headerCount, written: client.connection.sent.count,
            "upstream \(upstream.number) of client \(client.number)")
    }

    private func compare(
        _ received: [UInt8], from start: Int, checked: inout Int, with outgoing: [UInt8], from first: Int, written: Int,
        _ whose: @autoclosure () -> String
    ) {
        let count = received.count - start
        guard first + count <= written else {
            fail("\(whose()): \(count) bytes came of \(written - first)")
            return
        }
        if let place = firstDifference(
            received, from: start + checked, outgoing, from: first + checked, count: count - checked)
        {
            fail("\(whose()): byte \(checked + place) is another")
        }
        checked = count
    }

    private func readHeader(_ upstream: Upstream) {
        let received = upstream.connection.received
        var parser = ProxyHeaderParser(byteCountMax: 4096, acceptIPv4InTCP6: false)
        switch parser.consume(received.span) {
        case .needMore: break
        case .refused(let refusal): fail("upstream \(upstream.number) got a PROXY header that is \(refusal)")
        case .complete(let header, let consumed):
            upstream.headerCount = consumed
            upstream.header = header
        }
    }

    private func identify(_ upstream: Upstream, _ headerCount: Int) {
        let received = upstream.connection.received
        let count = received.count - headerCount
        let candidates = clients.filter { client in
            client.upstream == nil && client.connection.sent.count - client.headerCount >= count
                && firstDifference(
                    received, from: headerCount, client.party.outgoing, from: client.headerCount, count: count) == nil
        }
        if candidates.isEmpty {
            fail("upstream \(upstream.number) got bytes of nobody, or of somebody who speaks with another")
        } else if candidates.count == 1, let client = candidates.first {
            upstream.client = client
            client.upstream = upstream
            trace?("\(proxy.now.story) PAIR client \(client.number) upstream \(upstream.number)")
            checkHeader(upstream, client)
        }
    }

    private func checkHeader(_ upstream: Upstream, _ client: Client) {
        guard let options = day.headers[upstream.connection.farAddress], let header = upstream.header else { return }
        if header.source != client.endpoints?.source || header.destination != client.endpoints?.destination {
            fail("upstream \(upstream.number) got a PROXY header for \(String(describing: header.source))")
        }
        if options.version == .v2 && (header.command == .local) != (client.endpoints == nil) {
            fail("upstream \(upstream.number) got a PROXY header with command \(header.command)")
        }
        if options.version == .v2 && options.crc32c && client.endpoints != nil && !header.crcVerified {
            fail("upstream \(upstream.number) got a PROXY header without its checksum")
        }
    }

    // MARK: The end

    private func checkEnd() {
        // What was taken from the worker and reached nobody was not looked at yet.
        for client in clients { check(client) }
        for upstream in upstreams { check(upstream) }
        for client in clients { checkEnd(client) }
        for upstream in upstreams { checkReset(upstream.connection, upstream.client) }
        let left = proxy.outstanding()
        if !left.isEmpty { fail("still out: \(left.joined(separator: ", "))") }
        for connection in proxy.driver.connections where connection.openedAt != nil && connection.closedAt == nil {
            fail("connection \(connection.id) was never closed")
        }
        var opened = 0
        for base in listenerBases {
            opened += Int(proxy.cells.value(base + ListenerCell.opened))
            var reasons: UInt64 = 0
            for code in CloseReason.labels.indices {
                reasons += proxy.cells.value(base + ListenerCell.closedByReason + Int32(code))
            }
            let closed = proxy.cells.value(base + ListenerCell.closed)
            // Clients that are turned away have a reason and no session.
            if reasons < closed { fail("\(closed) sessions closed for \(reasons) reasons") }
        }
        for address in Set(clients.map(\.connection.farAddress.ip)) {
            for slot in proxy.limits.listeners.indices.prefix(8)
            where proxy.limits.clients.count(listener: slot, client: address.limitKey) != 0 {
                fail("\(address) is still counted on listener \(slot)")
            }
        }
        if opened != proxy.records.count { fail("\(opened) sessions left \(proxy.records.count) records") }
        checkRecords()
        tally.emptyRingCount = proxy.driver.emptyRingCount
        for record in proxy.records { tally.reasons[proxy.reason(record), default: 0] += 1 }
        for connection in proxy.driver.connections { tally.byteCount += connection.received.count }
    }

    private func checkEnd(_ client: Client) {
        let connection = client.connection
        checkReset(connection, client)
        if let heard = client.heard, let upstream = client.upstream, heard !== upstream {
            fail("client \(client.number) spoke to upstream \(upstream.number) and heard \(heard.number)")
        }
        guard client.party.isHealthy, !client.isDisturbed, failures.isEmpty else { return }
        let outcome = outcome(of: client)
        if !client.allowed.contains(outcome) && !isExcused(client, outcome) {
            let record = proxy.records.first { $0.peer == client.connection.farAddress }
            let reason = record.map { proxy.reason($0) } ?? "no record"
            let allowed = client.allowed.map { "\($0)" }.sorted()
            fail("client \(client.number) met \(outcome) (\(reason)), allowed are \(allowed)")
        }
        switch outcome {
        case .relayed: checkRelayed(client)
        case .alert, .http, .end:
            if connection.sawEndAt == nil { fail("client \(client.number) was refused without FIN") }
        case .reset: break
        }
    }

    private func outcome(of client: Client) -> SimulatedOutcome {
        let received = client.connection.received
        if client.heard != nil || client.upstream != nil { return .relayed }
        if received.count == 7, received[0] == 0x15, let alert = TLSAlert(rawValue: received[6]) {
            return .alert(alert)
        }
        let line = String(decoding: received.prefix(12), as: UTF8.self)
        if line.hasPrefix("HTTP/1.1 "), let status = Int(line.dropFirst(9)) { return .http(status) }
        return client.connection.sawEndAt != nil && client.connection.sawResetAt == nil ? .end : .reset
    }

    /// All buffers of the pool were out at some moment.
    private var wasStarved: Bool { proxy.driver.emptyRingCount > 0 }

    /// What faults of the day may make of a client.
    private func isExcused(_ client: Client, _ outcome: SimulatedOutcome) -> Bool {
        let faults = day.faults
        if client.connection.openedAt == nil { return true }
        switch outcome {
        case .reset:
            // Turned away for want of something, too slow for its deadline for want of buffers, or connected to an
            // upstream that was gone before it had heard who speaks.
            return day.isCrowded || day.clientLimit != nil || (wasStarved && day.unhealthy > 0)
                || upstreams.contains { $0.client == nil && !$0.party.isHealthy }
        case .alert(.internalError), .http(502):
            return faults.noDescriptor > 0 || faults.noSourcePort > 0 || day.descriptorLimit < .max || wasStarved
        case .end:
            // The same where no protocol has an answer.
            return !client.hasAnswer && isExcused(client, .alert(.internalError))
        case .relayed, .alert, .http: return false
        }
    }

    /// A healthy client and a healthy upstream lose nothing and part in peace.
    private func checkRelayed(_ client: Client) {
        guard let upstream = client.upstream ?? client.heard, upstream.party.isHealthy else { return }
        guard passesHalfClose(client) else { return }
        let isPatient: (SimulatedParty) -> Bool = { if case .afterReadingEnd = $0.ending { true } else { false } }
        // Both wait for the other's end: the idle timeout ends it.
        if isPatient(client.party) && isPatient(upstream.party) { return }
        // Others may hold all buffers for as long as they like.
        if wasStarved && day.unhealthy > 0 { return }
        let toUpstream = client.party.outgoing.count - client.headerCount
        let who = "client \(client.number) with upstream \(upstream.number)"
        if client.connection.received.count != upstream.party.outgoing.count {
            fail(
                "\(who): \(client.connection.received.count) of \(upstream.party.outgoing.count) bytes came to the client"
            )
        }
        if upstream.connection.received.count - (upstream.headerCount ?? 0) != toUpstream {
            fail("\(who): \(upstream.connection.received.count) of \(toUpstream) bytes came to the upstream")
        }
        tally.completeCount += 1
        for connection in [client.connection, upstream.connection]
        where connection.sawResetAt != nil || connection.sawEndAt == nil {
            fail("\(who): connection \(connection.id) did not end with FIN")
        }
    }

    private func passesHalfClose(_ client: Client) -> Bool {
        listeners[client.listener]?.halfClose ?? false
    }

    /// RS-06: a reset of one side is seen and passed on within 50 ms, and what the machine itself took longer.
    private func checkReset(_ connection: SimulatedConnection, _ client: Client?) {
        guard let arrived = connection.resetArrivedAt, let opened = connection.openedAt, opened < arrived, !hasJumped
        else {
            return
        }
        if let closed = connection.closedAt, closed <= arrived { return }
        let upstream = client?.upstream ?? client?.heard
        // Who waits for a buffer before the relay is not watched: its deadline is near.
        if upstream == nil && wasStarved { return }
        let faults = day.faults
        let slack =
            50_000_000 + 8 * (faults.delay.upperBound + faults.turnTime.upperBound) + 3 * faults.stallTime.upperBound
        let limit = arrived.advanced(byNanoseconds: slack)
        guard let closed = connection.closedAt, closed <= limit else {
            fail("connection \(connection.id) was open 50 ms after its reset at \(arrived.nanoseconds)")
            return
        }
        guard let client, let upstream, passesHalfClose(client) else { return }
        let other = client.connection === connection ? upstream.connection : client.connection
        guard other.resetArrivedAt == nil else { return }
        if let closed = other.closedAt, closed <= arrived { return }
        // It had ended, and all it had sent was passed on with its end.
        if connection.endArrived && other.hasNearEnded && other.nearResetAt == nil { return }
        if let reset = other.nearResetAt, reset <= limit { return }
        fail("connection \(other.id) was not reset within 50 ms after \(connection.id) at \(arrived.nanoseconds)")
    }

    private func checkRecords() {
        var recordOf: [SocketAddress: SessionRecord] = [:]
        for record in proxy.records {
            if recordOf.updateValue(record, forKey: record.peer) != nil { fail("two records for \(record.peer)") }
        }
        for client in clients {
            guard let record = recordOf[client.connection.farAddress] else { continue }
            if !hasJumped { checkDeadlines(client, record) }
            let upstream = client.upstream ?? client.heard
            let said = client.party.outgoing.count - client.headerCount
            if record.bytesFromClient > UInt64(said) {
                fail("the record of client \(client.number) counts \(record.bytesFromClient) of \(said) bytes")
            }
            guard let upstream else { continue }
            if !client.isDisturbed { checkAbruptEnd(client, upstream, record) }
            if record.bytesFromUpstream > UInt64(upstream.party.outgoing.count)
                || record.bytesFromUpstream < UInt64(client.connection.received.count)
            {
                fail("the record of client \(client.number) counts \(record.bytesFromUpstream) bytes from its upstream")
            }
            // RS-12
            if CloseReason.labels[Int(record.reason)] == CloseReason.Other.finished.label
                && !client.isDisturbed && passesHalfClose(client)
            {
                let came = upstream.connection.received.count - (upstream.headerCount ?? 0)
                if upstream.client != nil && record.bytesFromClient != UInt64(came) {
                    fail("the record of client \(client.number) counts \(record.bytesFromClient) bytes, \(came) came")
                }
            }
        }
    }

    /// What a deadline of ours cut off does not look complete.
    private func checkAbruptEnd(_ client: Client, _ upstream: Upstream, _ record: SessionRecord) {
        let label = proxy.reason(record)
        let timeouts = [CloseReason.Other.idleTimedOut, .halfCloseTimedOut, .sessionTimedOut]
        guard timeouts.contains(where: { $0.label == label }) else { return }
        for connection in [client.connection, upstream.connection]
        where connection.nearResetAt == nil && connection.resetArrivedAt == nil {
            fail("connection \(connection.id) was closed with FIN after \(label)")
        }
    }

    /// Nothing takes longer than its deadline allows, or ends before it.
    private func checkDeadlines(_ client: Client, _ record: SessionRecord) {
        guard let listener = listeners[client.listener] else { return }
        let timeouts = listener.timeouts
        // Timers tick every 4 ms; then operations come home.
        let slack =
            20_000_000 + 8 * (day.faults.delay.upperBound + day.faults.turnTime.upperBound) + 3
            * day.faults.stallTime.upperBound
        func expect(_ what: String, _ time: UInt64?, atMost limit: UInt64) {
            guard let time, time > limit + slack else { return }
            fail("client \(client.number): \(what) after \(time) ns, the limit is \(limit)")
        }
        func expect(_ what: String, _ time: UInt64, atLeast limit: UInt64) {
            if time < limit { fail("client \(client.number): \(what) after \(time) ns already, the limit is \(limit)") }
        }
        let hello = timeouts.hello.clampedNanoseconds
        let preamble = timeouts.preamble.clampedNanoseconds
        expect("preamble", record.preambleTime, atMost: hello)
        switch proxy.reason(record) {
        case CloseReason.Other.helloTimedOut.label, CloseReason.Other.proxyTimedOut.label:
            expect("hello timeout", record.totalTime, atMost: hello)
            expect("hello timeout", record.totalTime, atLeast: hello)
        case CloseReason.Other.idleTimedOut.label:
            expect("idle timeout", record.totalTime, atLeast: timeouts.idle.clampedNanoseconds)
        case CloseReason.Other.halfCloseTimedOut.label:
            expect("half-close timeout", record.totalTime, atLeast: timeouts.halfClose.clampedNanoseconds)
        case CloseReason.Other.sessionTimedOut.label:
            let session = timeouts.session?.clampedNanoseconds ?? .max
            expect("session timeout", record.totalTime, atLeast: session)
            expect("session timeout", record.totalTime, atMost: session)
        default:
            // It never relayed: its preamble, or a refusal and the second for which it is listened to afterwards.
            if record.connectTime == nil { expect("refusal", record.totalTime, atMost: preamble + 1_000_000_000) }
        }
    }
}
