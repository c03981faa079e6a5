import WeirMemory
import WeirNet
import WeirRouting

/// The guard of the present snapshot, for a thread that looks at it seldom: between two questions it holds nothing back, so
/// a reload never waits for it. One thread uses it.
package final class SnapshotGuard {
    private let reader: SnapshotCell<RouteTable>.Reader

    /// `reader`: one that nobody else uses.
    package init(_ snapshot: SnapshotCell<RouteTable>, reader index: Int) { reader = snapshot.reader(index) }

    /// `isLiteral`: the configuration itself writes the address. `privateNames`: its cluster's names may be private.
    package func allows(_ destination: SocketAddress, isLiteral: Bool, privateNames: Bool = false) -> Bool {
        defer { reader.offline() }
        guard let table = reader.adopt() else { preconditionFailure("a reader that was offline is given a snapshot") }
        return table.view.destinationGuard.verdict(
            for: destination, exemptLiteral: isLiteral, privateNames: privateNames) == .allowed
    }
}
