import Testing
import WeirSession

/// The machine is tested whole: a walk over the states that legal events can lead to tries every event in each of them.
@Suite struct SessionMachineTests {
    /// What is wrong with a step, in words.
    private func problem(
        _ before: SessionMachine, _ event: Event, _ after: SessionMachine, _ actions: SessionActions
    ) -> String? {
        var flight = Flight(before)
        flight.complete(event)
        flight.carryOut(actions)
        if let problem = flight.problem { return problem }
        if flight != Flight(after) {
            return "\(Flight(after).operations) is said to be in flight, \(flight.operations) is"
        }
        if actions.contains(.release) != (after.phase == .released) { return "\(after.phase) and \(actions)" }
        if actions.contains(.release) && actions.contains(.scheduleWatch) { return "a timer is set with the release" }
        switch after.phase {
        case .preamble:
            let half = after.downstream
            if !half.isReceiving && !half.isStarved { return "nothing is received in the preamble" }
        case .deciding, .connecting:
            if after.downstream.isReceiving { return "the client is received from while \(after.phase)" }
            if after.phase == .connecting && !after.isConnecting(.first) && !after.isConnecting(.second) {
                return "no connect is in flight"
            }
        case .relaying:
            for side in Side.both {
                if let problem = relayProblem(after, side) { return problem }
            }
        case .retrying:
            if after.operationCount == (after.downstream.isWatching ? 1 : 0) { return "retrying waits for nothing" }
            if Flight.starts(actions) { return "\(actions) while retrying" }
        case .refusing:
            let half = after.downstream
            if half.queuedCount > 0 && !half.isSending { return "the answer waits for nothing" }
            if !half.hasEnded && !half.isReceiving && !half.isStarved { return "the refused client is not listened to" }
        case .closing:
            // Each completion then brings the release nearer, so that it is certain.
            if after.operationCount == 0 { return "closing waits for nothing" }
            if before.phase == .closing && Flight.starts(actions) { return "\(actions) while closing" }
        case .released: break
        }
        return nil
    }

    /// Every direction moves, or waits for something that is under way.
    private func relayProblem(_ machine: SessionMachine, _ side: Side) -> String? {
        let half = machine[side]
        let sink = machine[side.other]
        if half.isPumping {
            if half.hasEnded { return "the \(side) is pumped from although it has ended" }
            // A byte that overtakes another is a byte in the wrong place.
            if sink.queuedCount > 0 || half.isReceiving { return "the \(side) is pumped from beside its queue" }
            return nil
        }
        if sink.queuedCount > 0 && !sink.isSending { return "chunks for the \(side.other) wait for nothing" }
        if half.hasEnded {
            if sink.queuedCount == 0 && !sink.isShut { return "the end of the \(side) is not passed on" }
        } else if !half.isReceiving && !half.isStarved && sink.queuedCount == 0 {
            return "the \(side) is not received from although nothing waits"
        }
        return nil
    }

    /// P-12: where buffers are scarce no direction may take a second one.
    private func hoarding(_ machine: SessionMachine, _ event: Event) -> String? {
        if case .connectExpired = event { return nil }
        guard machine.phase == .relaying else { return nil }
        for side in Side.both where machine[side].isContinuing && machine[side.other].queuedCount > 0 {
            if machine[side].isReceiving && !machine[side].isReceiveCancelled {
                return "the \(side) goes on taking scarce buffers"
            }
        }
        return nil
    }

    /// Everything that legal events lead to within `stateCountMax` states, each looked at once.
    private func walk(
        _ fresh: SessionMachine, stateCountMax: Int, only isWanted: (Event) -> Bool = { _ in true }
    ) -> (stateCount: Int, stepCount: Int, problem: String?) {
        var start = fresh
        _ = start.next(isScarce: false)
        // A listener that reads nothing decides at once.
        var other = fresh
        other.preambleRead()
        _ = other.next(isScarce: false)
        var known: Set<SessionMachine> = [start, other]
        var open = [start, other]
        var next = 0
        var stepCount = 0
        while next < open.count, known.count < stateCountMax {
            let machine = open[next]
            next += 1
            for event in machine.legalEvents() where isWanted(event) {
                for isScarce in [false, true] {
                    var after = machine
                    var actions = after.apply(event)
                    // The engine asks for what follows unless all it did was to give up a connect.
                    if case .connectExpired = event {} else { actions.formUnion(after.next(isScarce: isScarce)) }
                    if actions.contains(.dropUpstream) {
                        after.upstreamDropped(queuedCount: after.upstream.queuedCount)
                        actions.remove(.dropUpstream)
                        actions.formUnion(after.next(isScarce: isScarce))
                    }
                    stepCount += 1
                    after.checkInvariants()
                    let hoarding = isScarce ? hoarding(after, event) : nil
                    if let problem = problem(machine, event, after, actions) ?? hoarding {
                        return (known.count, stepCount, "\(event) in \(machine): \(problem)")
                    }
                    if known.insert(after).inserted { open.append(after) }
                }
            }
        }
        return (known.count, stepCount, nil)
    }

    /// A part of the events that is small enough to be walked whole.
    enum Part: CaseIterable {
        /// Bulk transfers, without watches.
        case bulk
        /// The same with watches.
        case watches
        /// Messages too, so that receives go on by themselves.
        case messages
        /// Bulk that is pumped, from the second full receive on.
        case pumps

        func contains(_ event: Event) -> Bool {
            switch event {
            case .watchDue: self == .watches
            case .retry: self == .bulk || self == .watches
            case .bytes(_, let isSmall, _): self == .messages || !isSmall
            case .connected(_, let sendsHeader): !sendsHeader
            case .end(let reset): reset
            default: true
            }
        }
    }

    private static let walks: [(Part, Bool)] = [
        (.bulk, true), (.bulk, false), (.watches, true), (.watches, false), (.messages, true), (.pumps, true),
        (.pumps, false),
    ]

    @Test(arguments: walks)
    func everyEventIsAnsweredInEveryState(part: Part, allowsHalfClose: Bool) {
        let stateCountMax = 100_000
        let machine = SessionMachine(
            allowsHalfClose: allowsHalfClose, bulkByteCount: part == .pumps ? 16384 : .max, bulkReceiveCount: 2)
        let result = walk(machine, stateCountMax: stateCountMax, only: part.contains)
        #expect(result.problem == nil)
        #expect(result.stateCount > 1000 && result.stateCount < stateCountMax)
    }
}

@Suite struct PromptnessTests {
    /// A session whose upstream has just opened, with a hello for it or without.
    private func opened(hasHello: Bool = true) -> SessionMachine {
        var machine = SessionMachine(allowsHalfClose: true, bulkByteCount: 16384, bulkReceiveCount: 1)
        if hasHello {
            _ = machine.next(isScarce: false)
            machine.received(from: .downstream, byteCount: 500, hasMore: false)
            machine.queued(to: .upstream)
        }
        machine.preambleRead()
        machine.connecting(.first)
        _ = machine.connectFinished(.first, isConnected: true)
        return machine
    }

    @Test func theFirstFlightToTheUpstreamSavesTheCall() {
        var machine = opened()
        let actions = machine.next(isScarce: false)
        #expect(actions.contains(.sendUpstream) && !actions.contains(.noDelayUpstream))
    }

    @Test func theSecondFlightDoesNotWaitForAnAcknowledgement() {
        var machine = opened()
        _ = machine.next(isScarce: false)
        machine.sent(to: .upstream, chunkDone: true)
        machine.received(from: .downstream, byteCount: 100, hasMore: false)
        machine.queued(to: .upstream)
        #expect(machine.next(isScarce: false).isSuperset(of: [.sendUpstream, .noDelayUpstream]))
    }

    @Test func aPumpDoesNotWaitForAnAcknowledgement() {
        var machine = opened(hasHello: false)
        _ = machine.next(isScarce: false)
        machine.received(from: .downstream, byteCount: 16384, hasMore: false)
        machine.queued(to: .upstream)
        #expect(!machine.next(isScarce: false).contains(.noDelayUpstream))
        machine.sent(to: .upstream, chunkDone: true)
        #expect(machine.next(isScarce: false).isSuperset(of: [.pumpDownstream, .noDelayUpstream]))
    }
}

@Suite struct LastSegmentTests {
    /// A session that relays and whose upstream has just sent something.
    private func answered(allowsHalfClose: Bool = true, isBeforeEnd: Bool) -> SessionMachine {
        var machine = SessionMachine(allowsHalfClose: allowsHalfClose)
        machine.preambleRead()
        machine.connecting(.first)
        _ = machine.connectFinished(.first, isConnected: true)
        _ = machine.next(isScarce: false)
        machine.received(from: .upstream, byteCount: 500, hasMore: false, isBeforeEnd: isBeforeEnd)
        machine.queued(to: .downstream)
        return machine
    }

    /// What it says, asked once.
    private func isEnding(_ machine: SessionMachine, towards side: Side, isScarce: Bool) -> Bool {
        var machine = machine
        return machine.isEnding(towards: side, isScarce: isScarce)
    }

    @Test func bytesBeforeTheEndWaitForIt() {
        #expect(isEnding(answered(isBeforeEnd: true), towards: .downstream, isScarce: false))
    }

    @Test func otherBytesDoNotWait() {
        #expect(!isEnding(answered(isBeforeEnd: false), towards: .downstream, isScarce: false))
    }

    @Test func theOtherDirectionDoesNotWait() {
        #expect(!isEnding(answered(isBeforeEnd: true), towards: .upstream, isScarce: false))
    }

    @Test func bytesDoNotWaitWhereNoBufferMayBeLeftToFindTheEndWith() {
        #expect(!isEnding(answered(isBeforeEnd: true), towards: .downstream, isScarce: true))
    }

    @Test func bytesDoNotWaitForMoreThanTheNextReceive() {
        var machine = answered(isBeforeEnd: true)
        _ = machine.next(isScarce: false)
        machine.received(from: .upstream, byteCount: 1, hasMore: false, isBeforeEnd: false)
        #expect(!isEnding(machine, towards: .downstream, isScarce: false))
    }

    @Test func bytesThatNothingFollowedArePushedOnce() {
        var machine = answered(isBeforeEnd: true)
        _ = machine.next(isScarce: false)
        machine.sent(to: .downstream, chunkDone: true)
        let answers = (0..<2).map { _ in machine.isHeldInVain(towards: .downstream) }
        #expect(answers == [true, false])
    }

    @Test func bytesThatTheEndFollowedNeedNoPush() {
        var machine = answered(isBeforeEnd: true)
        _ = machine.next(isScarce: false)
        machine.ended(.upstream)
        machine.sent(to: .downstream, chunkDone: true)
        let isHeldInVain = machine.isHeldInVain(towards: .downstream)
        #expect(!isHeldInVain)
    }

    @Test func aRefusalEndsWithItsAnswer() {
        var machine = SessionMachine(allowsHalfClose: true)
        machine.refuse()
        machine.queued(to: .downstream)
        #expect(isEnding(machine, towards: .downstream, isScarce: true))
    }

    @Test func bytesThatAreSentAfterTheEndHasComeGoWithIt() {
        var machine = answered(isBeforeEnd: false)
        _ = machine.next(isScarce: true)
        machine.sent(to: .downstream, chunkDone: false)
        _ = machine.next(isScarce: false)
        #expect(machine.upstream.isReceiving)
        machine.ended(.upstream)
        #expect(isEnding(machine, towards: .downstream, isScarce: true))
    }

    /// A close with bytes unread drops what was held back, and nothing but the close would follow.
    @Test func bytesDoNotWaitWhereOneEndClosesBoth() {
        #expect(!isEnding(answered(allowsHalfClose: false, isBeforeEnd: true), towards: .downstream, isScarce: false))
    }
}

@Suite struct BulkTests {
    /// A session that relays and whose client has exchanged messages, so that its receive goes on by itself.
    private func chatty() -> SessionMachine {
        var machine = SessionMachine(allowsHalfClose: true, bulkByteCount: 16384, bulkReceiveCount: 3)
        machine.preambleRead()
        machine.connecting(.first)
        _ = machine.connectFinished(.first, isConnected: true)
        _ = machine.next(isScarce: false)
        for _ in 0..<3 where !machine.downstream.isContinuing { relay(&machine, byteCount: 100) }
        return machine
    }

    /// The client sends so much and it goes out.
    @discardableResult
    private func relay(_ machine: inout SessionMachine, byteCount: Int) -> SessionActions {
        machine.received(from: .downstream, byteCount: byteCount, hasMore: machine.downstream.isContinuing)
        machine.queued(to: .upstream)
        var actions = machine.next(isScarce: false)
        machine.sent(to: .upstream, chunkDone: true)
        actions.formUnion(machine.next(isScarce: false))
        return actions
    }

    @Test func aReceiveThatGoesOnGivesWayToThePump() {
        var machine = chatty()
        #expect(machine.downstream.isContinuing)
        var actions: SessionActions = []
        for _ in 0..<3 { actions.formUnion(relay(&machine, byteCount: 16384)) }
        #expect(actions.contains(.cancelReceiveDownstream))
        machine.receiveStopped(.downstream, hasMore: false)
        #expect(machine.next(isScarce: false).contains(.pumpDownstream))
    }

    @Test func messagesAfterBulkStopThePumpOnce() {
        var machine = chatty()
        for _ in 0..<3 { relay(&machine, byteCount: 16384) }
        machine.receiveStopped(.downstream, hasMore: false)
        _ = machine.next(isScarce: false)
        var stopCount = 0
        for _ in 0..<10 {
            machine.pumped(from: .downstream, byteCount: 100)
            if machine.next(isScarce: false).contains(.stopPumpDownstream) { stopCount += 1 }
        }
        #expect(stopCount == 1)
        machine.pumpFinished(from: .downstream, hasEnded: false)
        #expect(machine.next(isScarce: false).contains(.receiveDownstream))
    }
}

/// What the kernel or the engine must never say traps, and does not pass for something else.
@Suite struct SessionMachineTrapTests {
    @Test func bytesWithoutAReceiveTrap() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.received(from: .downstream, byteCount: 1, hasMore: false)
        }
    }

    @Test func endWithoutAReceiveTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.ended(.upstream)
        }
    }

    @Test func sendThatWasNotAskedForTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.sent(to: .upstream, chunkDone: true)
        }
    }

    @Test func connectThatWasNotAskedForTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.preambleRead()
            _ = machine.connectFinished(.first, isConnected: true)
        }
    }

    @Test func secondConnectOfALaneTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.preambleRead()
            machine.connecting(.first)
            machine.connecting(.first)
        }
    }

    @Test func connectBeforeTheDecisionTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.connecting(.first)
        }
    }

    @Test func refusalOfAnOpenSessionTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.preambleRead()
            machine.connecting(.first)
            _ = machine.connectFinished(.first, isConnected: true)
            machine.refuse()
        }
    }

    @Test func questionAfterTheReleaseTraps() async {
        await #expect(processExitsWith: .failure) {
            var machine = SessionMachine(allowsHalfClose: true)
            machine.end(reset: true)
            _ = machine.next(isScarce: false)
            _ = machine.next(isScarce: false)
        }
    }
}
