import WeirMemory
import WeirNet

/// Where this process itself listens: a connection there would come back in and go round until descriptors run out.
package struct OwnAddresses: BitwiseCopyable, Sendable {
    /// Listeners, each with its bound port; few, so they are walked.
    private let listeners: FlatArray<SocketAddress>
    /// 1 for each address of this machine, loopback included.
    private let local: AddressTable
    private let steps: FlatArray<AddressStep>

    /// `listeners` may be unspecified addresses, which take every local address as theirs (`::` also IPv4 ones).
    init(listeners: [SocketAddress], localAddresses: [IPAddress]) {
        self.listeners = FlatArray(
            listeners.filter { $0.port != 0 }.map { SocketAddress($0.ip.unmapped, port: $0.port) })
        var steps: [AddressStep] = []
        var rules = [
            AddressTable.Rule(CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8), 1),
            AddressTable.Rule(CIDR(.v6Loopback, prefixLength: 128), 1),
        ]
        for address in localAddresses {
            let address = address.unmapped
            rules.append(AddressTable.Rule(CIDR(address, prefixLength: address.bitCount), 1))
        }
        local = AddressTable(rules, otherwise: 0, appendingTo: &steps)
        self.steps = FlatArray(steps)
    }

    func deallocate() {
        listeners.deallocate()
        steps.deallocate()
    }

    /// Whether a connection to `address` (not mapped) and `port` would reach a listener of ours.
    func contains(_ address: IPAddress, port: UInt16) -> Bool {
        for index in listeners.indices where listeners[index].port == port {
            let listener = listeners[index].ip
            // Linux connects 0.0.0.0 and :: to the loopback of their family.
            let reached =
                address.isUnspecified ? (address.family == .v4 ? IPAddress.v4Loopback : IPAddress.v6Loopback) : address
            if listener == reached { return true }
            guard listener.isUnspecified, listener.family == .v6 || reached.family == .v4 else { continue }
            if local.value(of: reached, in: steps) != 0 { return true }
        }
        return false
    }
}
