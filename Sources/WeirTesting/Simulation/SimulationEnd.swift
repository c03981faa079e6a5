import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirWire

// What is left of a day once it is over.

extension Simulation {
    func checkEnd() {
        // What was taken from the worker and reached nobody was not looked at yet.
        for client in clients { check(client) }
        for upstream in upstreams { check(upstream) }
        for client in clients { checkEnd(client) }
        for upstream in upstreams { checkReset(upstream.connection, upstream.client) }
        let left = proxy.outstanding()
        if !left.isEmpty { fail("still out: \(left.joined(separator: ", "))") }
        var opened = 0
        for worker in proxy.workers {
            for connection in worker.driver.connections where connection.openedAt != nil && connection.closedAt == nil {
                fail("connection \(connection.id) was never closed")
            }
            for base in listenerBases { opened += Int(worker.cells.value(base + ListenerCell.opened)) }
            tallyTurnedAway(worker)
        }
        checkClientLimits()
        if opened != proxy.records.count { fail("\(opened) sessions left \(proxy.records.count) records") }
        checkBytes()
        checkRecords()
    }

    func gather() {
        tally.dayCount = 1
        if proxy.workers.count > 1 { tally.add(.severalWorkers) }
        tally += proxy.tally
        for cluster in day.configuration.clusters {
            tally.add(
                .retriedElsewhere, Int(proxy.registry.sum(proxy.registry.cluster(cluster.name) + ClusterCell.retries)))
        }
        for record in proxy.records { tally.reasons[proxy.reason(record), default: 0] += 1 }
        for worker in proxy.workers {
            tally += worker.driver.tally
            for connection in worker.driver.connections { tally.byteCount += connection.received.count }
        }
    }

    private func tallyTurnedAway(_ worker: SimulatedWorker) {
        let played: [(CloseReason.Other, Played)] = [
            (.connectionLimit, .turnedAwayByProcessLimit), (.listenerLimit, .turnedAwayByListenerLimit),
            (.listenerRemoved, .turnedAwayByRemoval), (.stopped, .turnedAwayByEnd),
            (.clientAborted, .turnedAwayByReset),
        ]
        for (reason, played) in played {
            let code = Int32(CloseReason.other(reason).code)
            let count = listenerBases.reduce(0) { $0 + worker.cells.value($1 + ListenerCell.closedByReason + code) }
            // The same reason may end sessions.
            let label = reason.label
            let ended = proxy.records.count { proxy.reason($0) == label && Int($0.worker) == worker.index }
            tally.add(played, Int(count) - ended)
        }
    }

    private func checkClientLimits() {
        for address in Set(clients.map(\.connection.farAddress.ip)) {
            for slot in proxy.limits.listeners.indices.prefix(8)
            where proxy.limits.clients.count(listener: slot, client: address.limitKey) != 0 {
                fail("\(address) is still counted on listener \(slot)")
            }
        }
    }

    /// What listeners count is what the records say.
    private func checkBytes() {
        let fromClients = proxy.records.reduce(0) { $0 + $1.bytesFromClient }
        let fromUpstreams = proxy.records.reduce(0) { $0 + $1.bytesFromUpstream }
        let received = listenerBases.reduce(0) { $0 + proxy.registry.sum($1 + ListenerCell.receivedBytes) }
        let sent = listenerBases.reduce(0) { $0 + proxy.registry.sum($1 + ListenerCell.sentBytes) }
        if received != fromClients || sent != fromUpstreams {
            fail("records count \(fromClients) and \(fromUpstreams) bytes, the listeners \(received) and \(sent)")
        }
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
            if connection.sawEndAt == nil && !connection.hasLackedMemory {
                fail("client \(client.number) was refused without FIN")
            }
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
    private var wasStarved: Bool { proxy.workers.contains { $0.driver.tally[.emptyRing] > 0 } }

    /// What faults of the day may make of a client.
    private func isExcused(_ client: Client, _ outcome: SimulatedOutcome) -> Bool {
        let faults = day.faults
        if client.connection.openedAt == nil { return true }
        switch outcome {
        case .reset:
            // Turned away for want of something, too slow for its deadline for want of buffers, or connected to an
            // upstream that was gone before it had heard who speaks.
            return day.isCrowded || day.clientLimit != nil || (wasStarved && day.unhealthy > 0)
                || client.connection.hasLackedMemory
                || upstreams.contains {
                    $0.client == nil && (!$0.party.isHealthy || $0.connection.hasLackedMemory)
                }
        case .http(503):
            return day.hasBreakers
        case .alert(.internalError), .http(502):
            return day.hasBreakers || faults.noDescriptor > 0 || faults.noMemory > 0 || faults.noSourcePort > 0
                || day.descriptorLimit < .max || wasStarved
        case .end:
            // The same where no protocol has an answer.
            return !client.hasAnswer && isExcused(client, .alert(.internalError))
        case .relayed, .alert, .http: return false
        }
    }

    /// A healthy client and a healthy upstream lose nothing and part in peace.
    private func checkRelayed(_ client: Client) {
        guard let upstream = client.upstream ?? client.heard, upstream.party.isHealthy else { return }
        if client.connection.hasLackedMemory || upstream.connection.hasLackedMemory { return }
        guard passesHalfClose(client) else { return }
        let isPatient: (SimulatedParty) -> Bool = { if case .afterReadingEnd = $0.ending { true } else { false } }
        // Both wait for the other's end: the idle timeout ends it.
        if isPatient(client.party) && isPatient(upstream.party) { return }
        // Others may hold all buffers for as long as they like.
        if wasStarved && day.unhealthy > 0 { return }
        let toUpstream = client.party.outgoing.count - client.headerCount
        let who = "client \(client.number) with upstream \(upstream.number)"
        if client.connection.deliveredCount != upstream.party.outgoing.count {
            fail(
                "\(who): \(client.connection.deliveredCount) of \(upstream.party.outgoing.count) bytes came to the client"
            )
        }
        if upstream.connection.deliveredCount - (upstream.headerCount ?? 0) != toUpstream {
            fail("\(who): \(upstream.connection.deliveredCount) of \(toUpstream) bytes came to the upstream")
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
        let isOpening = upstream.map { ($0.connection.openedAt ?? .distantFuture) > arrived } ?? true
        if isOpening && wasStarved { return }
        let slack = 30_000_000 + slack
        let limit = arrived.advanced(byNanoseconds: slack)
        guard let closed = connection.closedAt, closed <= limit else {
            fail("connection \(connection.id) was open 50 ms after its reset at \(arrived.nanoseconds)")
            return
        }
        guard let client, let upstream, passesHalfClose(client) else { return }
        // Another upstream is asked instead of one that said nothing, and the client does not hear of it.
        if connection.isUpstream, connection !== upstream.connection || isGoneEarly(upstream) { return }
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
                || client.heard != nil && record.bytesFromUpstream < UInt64(client.connection.received.count)
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
        let timeouts = [CloseReason.Other.idleTimedOut, .halfCloseTimedOut, .sessionTimedOut, .connectionAge]
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
