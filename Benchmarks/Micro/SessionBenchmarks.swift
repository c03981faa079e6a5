import WeirSession

func registerSessionBenchmarks() {
    measure("session-short", of: ()) { _, count in
        var releasedCount = 0
        for _ in 0..<count where shortSession().contains(.release) { releasedCount += 1 }
        precondition(releasedCount == count)
    }
    measure("session-message", of: chattySession()) { machine, count in
        var sentCount = 0
        // The receive goes on, so a message is a send and nothing else.
        for _ in 0..<count where message(&machine) == .sendUpstream { sentCount += 1 }
        precondition(sentCount == count)
    }
}

/// From accept to release, event for event as the worker tells them: a hello, an answer, FIN from the client, FIN from
/// the upstream. Answers the last actions.
private func shortSession() -> SessionActions {
    var machine = openSession()
    machine.received(from: .upstream, byteCount: 512, hasMore: false)
    machine.queued(to: .downstream)
    _ = machine.next(isScarce: false)
    machine.sent(to: .downstream, chunkDone: true)
    _ = machine.next(isScarce: false)
    machine.ended(.downstream)
    _ = machine.next(isScarce: false)
    machine.ended(.upstream)
    return machine.next(isScarce: false)
}

/// The hello has been sent to the upstream.
private func openSession() -> SessionMachine {
    var machine = SessionMachine(allowsHalfClose: true)
    _ = machine.next(isScarce: false)
    machine.received(from: .downstream, byteCount: 1949, hasMore: false)
    machine.queued(to: .upstream)
    machine.preambleRead()
    machine.connecting(.first)
    _ = machine.next(isScarce: false)
    precondition(machine.connectFinished(.first, isConnected: true))
    _ = machine.next(isScarce: false)
    machine.sent(to: .upstream, chunkDone: true)
    _ = machine.next(isScarce: false)
    return machine
}

/// The client has sent so many small messages that the receive from it goes on by itself.
private func chattySession() -> SessionMachine {
    var machine = openSession()
    while !machine.downstream.isContinuing { _ = message(&machine) }
    return machine
}

/// A message from the client, up to when it has been sent.
private func message(_ machine: inout SessionMachine) -> SessionActions {
    machine.received(from: .downstream, byteCount: 200, hasMore: machine.downstream.isContinuing)
    machine.queued(to: .upstream)
    let actions = machine.next(isScarce: false)
    machine.sent(to: .upstream, chunkDone: true)
    return actions.union(machine.next(isScarce: false))
}
