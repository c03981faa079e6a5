import Glibc
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// Chooses the source address of the next connect, for one worker, and takes a port for it from the ledger of all.
///
/// Members of the pool whose ports towards the destination are used up, or that are excluded for it, are passed over. Where
/// all that are left are excluded, the one whose exclusion ends first is tried: it may be the destination that is at fault.
///
/// Owned by one thread. Nothing is allocated except in `init`.
package struct SourceSelector: ~Copyable {
    package struct Choice: BitwiseCopyable, Sendable, Equatable {
        package let address: IPAddress
        /// Among the pool's members of its family; a bit of the mask of tried ones.
        package let member: Int
        package let entry: PortLedger.Entry
    }

    package enum Outcome: BitwiseCopyable, Sendable, Equatable {
        case connect(Choice)
        /// No untried member has a port left towards the destination.
        case exhausted
        /// Every member has been tried, or the pool has none of the destination's family.
        case noneLeft
    }

    /// Pools that take turns of their own; beyond, pools share them, which costs evenness and nothing else.
    private static let turnCount = 1024

    /// Who is next, by pool and family.
    private let turns: FlatArray<UInt32>

    /// `rotation`: so that workers do not all begin with the same address.
    package init(rotation: Int = 0) {
        turns = FlatArray(repeating: UInt32(truncatingIfNeeded: rotation), count: Self.turnCount * 2)
    }

    deinit { turns.deallocate() }

    /// The next source of `pool` towards `destination`, with a port reserved. `client`: a hash of its address. `tried`: a bit
    /// for each member that this connection is done with.
    package func next(
        of pool: CompiledSources, in view: RouteView, _ ledger: PortLedger, worker: Int, to destination: SocketAddress,
        client: UInt64, tried: UInt64 = 0, now: Instant
    ) -> Outcome {
        let members = pool.members(of: destination.ip.family)
        // Those that another worker was faster on.
        var passed = tried
        var isAnyLeft = false
        for index in 0..<members.indices.count where tried & 1 << UInt64(index) == 0 { isAnyLeft = true }
        guard isAnyLeft else { return .noneLeft }
        while true {
            let found = best(pool, members, view, ledger, destination, client, passed, now)
            guard found.member >= 0 else { return .exhausted }
            let address = view.sourceAddresses[Int(members.first) + found.member]
            switch ledger.reserve(worker: worker, from: address, to: destination, now: now) {
            case .exhausted:
                break
            case .untracked:
                advanceTurn(pool, members, destination, found.member)
                return .connect(Choice(address: address, member: found.member, entry: .none))
            case .granted(let entry):
                if !found.isTrial || ledger.takeTrial(entry, now: now) {
                    advanceTurn(pool, members, destination, found.member)
                    return .connect(Choice(address: address, member: found.member, entry: entry))
                }
                // Excluded once more: look again.
                ledger.release(entry, leavesTimeWait: false, now: now)
                continue
            }
            passed |= 1 << UInt64(found.member)
        }
    }

    /// A connect that was chosen here failed with errno `code`; its port is still to be released. Where it is the source that
    /// is to blame, and another of the pool got through to the destination since it last did, it is excluded; where no answer came,
    /// only if that was after this connect began, as a destination that stalls for a while stalls for all.
    ///
    /// `ETIMEDOUT` stands for our own deadline as well.
    package func failed(
        _ choice: Choice, of pool: CompiledSources, in view: RouteView, _ ledger: PortLedger,
        to destination: SocketAddress, code: Int32, startedAt: Instant, now: Instant
    ) {
        ledger.failed(choice.entry, code, now: now)
        guard choice.entry.isCounted else { return }
        let own = ledger.standing(from: choice.address, to: destination, now: now)
        guard Self.isFaultOfSource(code, used: own.used, limit: ledger.limit) else { return }
        let members = pool.members(of: destination.ip.family)
        for index in members.indices where index - Int(members.first) != choice.member {
            let other = ledger.standing(from: view.sourceAddresses[index], to: destination, now: now)
            if other.succeededAt > own.succeededAt, code != ETIMEDOUT || other.succeededAt >= startedAt {
                return ledger.exclude(choice.entry, now: now)
            }
        }
    }

    /// Whether errno `code` may come from the source address rather than from the destination. EADDRNOTAVAIL says both "no
    /// port is free" and "this address is not on this machine": the former where seven eighths of the ports towards the
    /// destination are counted as used.
    package static func isFaultOfSource(_ code: Int32, used: Int, limit: Int) -> Bool {
        switch code {
        case ENETUNREACH, EHOSTUNREACH, ETIMEDOUT: true
        case EADDRNOTAVAIL: used < limit - limit / 8
        default: false
        }
    }

    // MARK: Choosing

    private struct Found {
        var member = -1
        var isTrial = false
    }

    /// The best of the members that are neither passed nor full. Excluded ones come after all others.
    private func best(
        _ pool: CompiledSources, _ members: Extent, _ view: RouteView, _ ledger: PortLedger,
        _ destination: SocketAddress, _ client: UInt64, _ passed: UInt64, _ now: Instant
    ) -> Found {
        let count = Int(members.count)
        let start = Int(turns[turn(pool, destination)] % UInt32(count))
        var found = Found()
        var least: UInt64 = 0
        var leastExcluded = UInt64.max
        var excluded = -1
        for step in 0..<count {
            let member = (start + step) % count
            if passed & 1 << UInt64(member) != 0 { continue }
            let address = view.sourceAddresses[Int(members.first) + member]
            let standing = ledger.standing(from: address, to: destination, now: now)
            if standing.used >= ledger.limit { continue }
            if case .until(let end) = standing.exclusion {
                if excluded < 0 || end.nanoseconds < leastExcluded {
                    (excluded, leastExcluded) = (member, end.nanoseconds)
                }
                continue
            }
            let rank = rank(pool.select, address, destination, client, used: standing.used, step: step)
            if found.member < 0 || rank < least {
                found = Found(member: member, isTrial: standing.exclusion == .trialDue)
                least = rank
            }
        }
        return found.member >= 0 ? found : Found(member: excluded)
    }

    /// The least is next; among equals the first from whose turn it is.
    private func rank(
        _ select: SourcePool.Select, _ address: IPAddress, _ destination: SocketAddress, _ client: UInt64, used: Int,
        step: Int
    ) -> UInt64 {
        switch select {
        case .leastPorts: UInt64(used)
        case .roundRobin: UInt64(step)
        // Rendezvous: everyone draws a lot with each member, so one that leaves moves only its own.
        case .clientHash: StableHash.joined(StableHash.of(address), client)
        case .destinationHash: StableHash.joined(StableHash.of(address), StableHash.of(destination))
        }
    }

    private func turn(_ pool: CompiledSources, _ destination: SocketAddress) -> Int {
        (Int(pool.number) & (Self.turnCount - 1)) * 2 + (destination.ip.family == .v4 ? 0 : 1)
    }

    private func advanceTurn(_ pool: CompiledSources, _ members: Extent, _ destination: SocketAddress, _ member: Int) {
        turns[turn(pool, destination)] = UInt32(member + 1)
    }
}
