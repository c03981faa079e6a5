import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry

// What a worker says it holds, for whoever keeps an account of his own beside it: the simulation, after every turn.

/// What one live session holds and has in flight.
package struct SessionAccount: BitwiseCopyable {
    package let slot: Int
    /// As its tokens carry it.
    package let generation: UInt32
    package let machine: SessionMachine
    package let downstream: Socket
    package let upstream: Socket
    package let listenerSlot: Int
    /// Counted on the board: as its route's, its endpoint's, its cluster's, and among those that connect.
    package let isRoutes: Bool
    package let isEndpoints: Bool
    package let isClusters: Bool
    package let isPending: Bool
    /// Counted against its client's limit, under this address.
    package let countedClient: ConnectionCounter.Client?
    package let toDownstream: UInt32
    package let toUpstream: UInt32
    /// What was sent to the upstream and is kept for another one.
    package let sent: UInt32
}

extension Worker {
    package func forEachSession(_ body: (SessionAccount) -> Void) {
        for slot in 0..<sessions.touchedCount where sessions.isLive(slot) {
            body(
                SessionAccount(
                    slot: slot, generation: generation(slot), machine: sessions[slot].machine,
                    downstream: sessions[slot].downstream, upstream: sessions[slot].upstream,
                    listenerSlot: Int(sessions[slot].listenerSlot),
                    isRoutes: sessions[slot].routePlace >= 0,
                    isEndpoints: sessions[slot].endpointPlace >= 0, isClusters: sessions[slot].clusterPlace >= 0,
                    isPending: sessions[slot].isPending,
                    countedClient: sessions[slot].clientTicket.isCounted
                        ? sessions[slot].record.client.ip.limitKey : nil,
                    toDownstream: sessions[slot].toDownstream.head, toUpstream: sessions[slot].toUpstream.head,
                    sent: sessions[slot].opening < 0
                        ? BufferPool.none : openings[Int(sessions[slot].opening)].sent.head))
        }
    }

    /// Whether `ticket`, which a resolver was given, still names the session that asked.
    package func isAwaited(_ ticket: UInt64) -> Bool {
        let slot = Int(ticket & 0xffff_ffff)
        return slot < sessions.touchedCount && isTenant(slot, UInt32(truncatingIfNeeded: ticket >> 32))
    }

    /// Whether the slot that `ticket` names has a tenant now.
    package func isTaken(_ ticket: UInt64) -> Bool {
        let slot = Int(ticket & 0xffff_ffff)
        return slot < sessions.touchedCount && sessions.isLive(slot)
    }

    /// Listeners with an accept in flight.
    package var acceptingCount: Int { listeners.count { $0.isAccepting } }

    /// Whether the listener in `slot` has an accept in flight.
    package func isAccepting(_ slot: Int) -> Bool { slot < listeners.count && listeners[slot].isAccepting }

    /// What the next turn hands over first.
    package var pendingOperations: [Operation] { operations }
}
