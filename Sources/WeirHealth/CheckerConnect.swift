import Glibc
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirUpstream

// From a check that is due to an open connection, and the end of both.

extension Checker {
    // MARK: Start

    func start(_ index: Int) {
        guard let target = targets[index] else { preconditionFailure("a check is due of a target that is gone") }
        let deadline = now.advanced(byNanoseconds: target.target.policy.timeout.clampedNanoseconds)
        guard let slot = checks.allocate(Check(target: index, deadline: deadline)) else {
            preconditionFailure("a check starts where there is a slot")
        }
        targets[index]?.slot = Int32(slot)
        switch target.target.host {
        case .address(let ip): addressesKnown(slot, ResolvedAddresses(ip), areLiteral: true)
        case .name(let name): resolve(slot, name)
        }
    }

    private func resolve(_ slot: Int, _ name: ServerName) {
        if let answer = answers.lookup(name, now: now) {
            resolved(slot, answer)
            return
        }
        let ticket = UInt64(checks.generation(of: slot)) << 32 | UInt64(slot)
        guard resolver.requests.push(ResolverRequest(ticket: ticket, name: name)) else {
            conclude(slot, .resolverOverloaded)
            return
        }
        hasNewRequests = true
    }

    /// The resolver answered a check, perhaps one that has ended since.
    func answered(_ answer: ResolverAnswer) {
        answers.insert(answer.answer, for: answer.name, now: now)
        let slot = Int(answer.ticket & 0xffff_ffff)
        guard slot < checks.capacity,
            checks.isLive(slot, generation: UInt32(truncatingIfNeeded: answer.ticket >> 32)),
            checks[slot].phase == .resolving
        else { return }
        resolved(slot, answer.answer)
    }

    private func resolved(_ slot: Int, _ answer: Answer) {
        if let failure = CheckFailure(answer.status) {
            conclude(slot, failure)
        } else {
            addressesKnown(slot, answer.addresses, areLiteral: false)
        }
    }

    /// Leaves out what the guard refuses and what no source address fits, and connects to the very ones that are left.
    private func addressesKnown(_ slot: Int, _ addresses: ResolvedAddresses, areLiteral: Bool) {
        guard let target = targets[Int(checks[slot].target)]?.target else { return }
        var isDenied = false
        for position in 0..<addresses.count {
            let address = addresses[position]
            guard target.hasSource(address.family) else { continue }
            if judge(SocketAddress(address, port: target.port), areLiteral, target.privateNames) {
                checks[slot].addresses.append(address)
            } else {
                isDenied = true
            }
        }
        if checks[slot].addresses.isEmpty {
            conclude(slot, isDenied ? .destinationDenied : .unreachable)
        } else {
            connectNext(slot)
        }
    }

    // MARK: Connects

    /// Connects to the next address. It has an even share of the time that is left.
    private func connectNext(_ slot: Int) {
        let (position, count) = (checks[slot].position, checks[slot].addresses.count)
        let left = checks[slot].deadline.nanoseconds(since: now)
        guard position < count, left > 0 else {
            conclude(slot, checks[slot].lastFailure)
            return
        }
        let index = Int(checks[slot].target)
        guard let target = targets[index]?.target, let opening = targets[index]?.opening else { return }
        let address = checks[slot].addresses[position]
        checks[slot].position += 1
        checks[slot].phase = .connecting
        checks[slot].isConnecting = true
        checks[slot].connectStartedAt = now
        schedule.setDeadline(index, now.advanced(byNanoseconds: left / UInt64(count - position)))
        operations.append(
            Operation(
                token(slot, .connect),
                .connect(
                    to: SocketAddress(address, port: target.port),
                    from: address.family == .v4 ? target.sourceV4 : target.sourceV6, through: target.outlet,
                    sendsFirst: !opening.isEmpty)))
    }

    func connectCompleted(_ slot: Int, _ result: Int32) {
        checks[slot].isConnecting = false
        if result >= 0 { checks[slot].socket = Socket(rawValue: result) }
        guard checks[slot].phase == .connecting else {
            releaseIfHome(slot)
            return
        }
        if result >= 0 {
            checks[slot].connectTime = now.nanoseconds(since: checks[slot].connectStartedAt)
            opened(slot)
        } else {
            attemptFailed(slot, result == -ETIMEDOUT ? .connectTimedOut : CheckFailure(code: -result))
        }
    }

    /// This address does not do. The next one may.
    func attemptFailed(_ slot: Int, _ failure: CheckFailure) {
        checks[slot].lastFailure = failure
        let hasMore = checks[slot].position < checks[slot].addresses.count && checks[slot].deadline > now
        guard hasMore, !failure.isOwnShortage else {
            conclude(slot, failure)
            return
        }
        checks[slot].phase = .retrying
        cancelAll(slot)
        releaseIfHome(slot)
    }

    // MARK: Time

    /// A check has come to its deadline, or to that of a part of it.
    func expired(_ index: Int) {
        guard let slot = targets[index].map({ Int($0.slot) }), slot >= 0 else { return }
        switch checks[slot].phase {
        case .resolving: conclude(slot, .resolverTimedOut)
        case .connecting: attemptFailed(slot, .connectTimedOut)
        case .talking: attemptFailed(slot, .timedOut)
        case .holding: conclude(slot, .success)
        case .retrying: conclude(slot, checks[slot].lastFailure)
        case .closing: preconditionFailure("a check that has its result has no deadline")
        }
    }

    // MARK: End

    /// Nobody waits for the check any more.
    func end(_ slot: Int) {
        checks[slot].phase = .closing
        cancelAll(slot)
        releaseIfHome(slot)
    }

    private func cancelAll(_ slot: Int) {
        if checks[slot].isConnecting { operations.append(Operation(.silent, .cancelConnect(token(slot, .connect)))) }
        if checks[slot].isSending { operations.append(Operation(.silent, .cancel(token(slot, .send)))) }
        if checks[slot].isReceiving { operations.append(Operation(.silent, .cancel(token(slot, .receive)))) }
    }

    /// Once every operation is home: closes the socket, and goes on with the next address or gives the slot back.
    func releaseIfHome(_ slot: Int) {
        guard checks[slot].isHome else { return }
        releaseBlock(slot)
        if !checks[slot].socket.isNone {
            // With RST: a FIN would leave a port in TIME_WAIT for each check.
            operations.append(Operation(.silent, .reset(checks[slot].socket)))
            checks[slot].socket = .none
        }
        switch checks[slot].phase {
        case .retrying:
            checks[slot].sentCount = 0
            connectNext(slot)
        case .closing:
            checks.free(slot)
        case .resolving, .connecting, .talking, .holding:
            preconditionFailure("a check was given up that goes on")
        }
    }

    func releaseBlock(_ slot: Int) {
        guard checks[slot].block != BufferPool.none else { return }
        pool.release(checks[slot].block)
        checks[slot].block = BufferPool.none
    }
}

extension CheckTarget {
    /// Where local addresses are configured, only their families are used.
    fileprivate func hasSource(_ family: IPAddress.Family) -> Bool {
        if sourceV4 == nil && sourceV6 == nil { return true }
        return (family == .v4 ? sourceV4 : sourceV6) != nil
    }
}
