import Glibc
import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream

// The local end of connects: which source address, and the port that it holds in the ledger of all workers.

extension Worker {
    /// What a connect is made from.
    enum Source {
        /// The kernel chooses; its port is counted all the same, under no address.
        case any(PortLedger.Entry, Outlet)
        case chosen(SourceSelector.Choice, Outlet)
        /// Every port of the pool towards the destination is taken: nothing to wait for.
        case exhausted
        /// Each of the pool has been tried.
        case noneLeft
        /// The pool is that of a snapshot that is gone: decide again.
        case stale
    }

    /// Takes a port of the session's pool towards `destination`. The caller starts the connect and says so to `sourceTaken`.
    func takeSource(_ slot: Int, _ lane: Lane, _ destination: SocketAddress) -> Source {
        let opening = Int(sessions[slot].opening)
        guard let pool = openings[opening].upstream?.sources, !pool.isNone else {
            return .any(anyPort(towards: destination), .any)
        }
        let members = pool.members(of: destination.ip.family)
        if members.count == 1, view.generation == openings[opening].generation,
            view.sourceAddresses[Int(members.first)].isUnspecified
        {
            // Of an interface the kernel chooses the address, and only it knows what ports that has.
            return .any(.none, Outlet(interface: pool.interface, mark: pool.mark))
        }
        guard openings[opening].generation == view.generation else { return .stale }
        let outcome = sources.next(
            of: pool, in: view, limits.ports, worker: index, to: destination,
            client: StableHash.of(sessions[slot].record.client.ip), tried: openings[opening].triedSources(lane),
            now: now)
        switch outcome {
        case .connect(let choice): return .chosen(choice, Outlet(interface: pool.interface, mark: pool.mark))
        case .exhausted: return .exhausted
        case .noneLeft: return .noneLeft
        }
    }

    /// Where the kernel chooses the address there is mostly one towards a destination. Whether a port is left is the kernel's to
    /// say, which may have more than one.
    private func anyPort(towards destination: SocketAddress) -> PortLedger.Entry {
        let source: IPAddress = destination.ip.family == .v4 ? .v4Any : .v6Any
        guard case .granted(let entry) = limits.ports.reserve(worker: index, from: source, to: destination, now: now)
        else {
            return .none
        }
        return entry
    }

    /// The lane's connect holds that port from here on. `choice`: of a pool.
    func sourceTaken(_ slot: Int, _ lane: Lane, _ entry: PortLedger.Entry, _ choice: SourceSelector.Choice?) {
        openings[Int(sessions[slot].opening)][lane].source = choice
        setSourcePort(slot, lane, entry)
    }

    /// The lane's connect came home, and its socket is the session's upstream, which keeps the port.
    func sourceConnected(_ slot: Int, _ lane: Lane) {
        let startedAt = openings[Int(sessions[slot].opening)][lane].startedAt
        limits.ports.succeeded(sourcePort(slot, lane), after: now.nanoseconds(since: startedAt), now: now)
    }

    /// The lane's connect came home with `result`, and its socket, if there is one, is closed. `isFailure`: the session still
    /// wanted it.
    func sourceReturned(_ slot: Int, _ lane: Lane, _ result: Int32, isFailure: Bool) {
        let entry = sourcePort(slot, lane)
        if result >= 0 {
            limits.ports.succeeded(entry, now: now)
        } else if isFailure {
            // Only our own deadline cancels a connect while the session goes on connecting.
            sourceFailed(slot, lane, result == -ECANCELED ? ETIMEDOUT : -result)
        }
        // One that connected after all is closed by us, and so first.
        limits.ports.release(entry, leavesTimeWait: result >= 0, now: now)
        setSourcePort(slot, lane, .none)
    }

    private func sourceFailed(_ slot: Int, _ lane: Lane, _ code: Int32) {
        let opening = Int(sessions[slot].opening)
        guard let choice = openings[opening][lane].source else {
            limits.ports.failed(sourcePort(slot, lane), code, now: now)
            return
        }
        if code == EADDRNOTAVAIL { openings[opening].addTriedSource(choice.member, lane) }
        guard let pool = openings[opening].upstream?.sources, openings[opening].generation == view.generation else {
            limits.ports.failed(choice.entry, code, now: now)
            return
        }
        sources.failed(
            choice, of: pool, in: view, limits.ports, to: openings[opening][lane].address, code: code,
            startedAt: openings[opening][lane].startedAt, now: now)
    }

    /// The session's sockets are closed. Whose FIN went out first keeps the port in TIME_WAIT, unless RST ended it.
    func releaseSourcePorts(_ slot: Int, isReset: Bool) {
        let upstream = sessions[slot].machine.upstream
        let leavesTimeWait = !isReset && (sessions[slot].sentUpstreamEndFirst || !upstream.hasEnded)
        limits.ports.release(sessions[slot].firstSourcePort, leavesTimeWait: leavesTimeWait, now: now)
        limits.ports.release(sessions[slot].secondSourcePort, leavesTimeWait: leavesTimeWait, now: now)
        setSourcePort(slot, .first, .none)
        setSourcePort(slot, .second, .none)
    }

    private func sourcePort(_ slot: Int, _ lane: Lane) -> PortLedger.Entry {
        lane == .first ? sessions[slot].firstSourcePort : sessions[slot].secondSourcePort
    }

    private func setSourcePort(_ slot: Int, _ lane: Lane, _ entry: PortLedger.Entry) {
        if lane == .first { sessions[slot].firstSourcePort = entry } else { sessions[slot].secondSourcePort = entry }
    }
}

extension Opening {
    fileprivate func triedSources(_ lane: Lane) -> UInt64 { lane == .first ? firstTriedSources : secondTriedSources }

    fileprivate mutating func addTriedSource(_ member: Int, _ lane: Lane) {
        let bit = 1 << UInt64(member) as UInt64
        if lane == .first { firstTriedSources |= bit } else { secondTriedSources |= bit }
    }

    /// The lane's next address may be tried from every source.
    mutating func forgetTriedSources(_ lane: Lane) {
        if lane == .first { firstTriedSources = 0 } else { secondTriedSources = 0 }
    }

    /// The lane's last address is the next one again.
    mutating func stepBack(_ lane: Lane) {
        if lane == .first { firstPosition -= 1 } else { secondPosition -= 1 }
    }
}
