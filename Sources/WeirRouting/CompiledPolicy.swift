import WeirMemory
import WeirModel
import WeirNet

/// A policy as the loop reads it.
package struct CompiledPolicy: BitwiseCopyable, Sendable {
    package enum Action: BitwiseCopyable, Sendable {
        case sources(CompiledSources)
        case gateways(cluster: Int32)
        case route
    }

    package let metric: Int32
    package let action: Action

    // Matching. A table of no step, an extent of no element: no such constraint.
    let clients: AddressTable
    let labelled: AddressTable
    let names: Extent
    let destinations: AddressTable
}

/// A pattern of names that is compared with one name.
struct CompiledPattern: BitwiseCopyable, Sendable {
    private enum Kind: UInt8, BitwiseCopyable {
        case exact
        case wildcard
        case any
    }

    private let kind: Kind
    private let name: ServerName

    init(_ pattern: ServerNamePattern) {
        switch pattern {
        case .exact(let name): (kind, self.name) = (.exact, name)
        case .wildcard(let suffix): (kind, name) = (.wildcard, suffix)
        case .any: (kind, name) = (.any, .none)
        }
    }

    func holds(for other: ServerName) -> Bool {
        if other.isNone { return false }
        switch kind {
        case .any: return true
        case .exact: return other == name
        case .wildcard:
            let start = other.byteCount - name.byteCount
            guard start > 1, other[start - 1] == UInt8(ascii: ".") else { return false }
            for index in 0..<name.byteCount where other[start + index] != name[index] { return false }
            return true
        }
    }
}

extension RouteView {
    /// The first policy that holds for a connection of `client` to `name`, perhaps `.none`, at `destination`; nil: none does.
    /// Time grows with the number of policies.
    package func policy(client: IPAddress, name: ServerName, destination: IPAddress) -> Int? {
        if policies.count == 0 { return nil }
        return policies.indices.first {
            failing(policy: $0, client: client, name: name, destination: destination) == nil
        }
    }

    /// The first constraint of a policy that does not hold for that connection; nil: all do.
    package func failing(
        policy index: Int, client: IPAddress, name: ServerName, destination: IPAddress
    ) -> PolicyConstraint? {
        let policy = policies[index]
        let (client, destination) = (client.unmapped, destination.unmapped)
        if policy.clients.count > 0, policy.clients.value(of: client, in: steps) == 0 { return .clients }
        if policy.labelled.count > 0, policy.labelled.value(of: client, in: steps) == 0 { return .clientLabels }
        if policy.destinations.count > 0, policy.destinations.value(of: destination, in: steps) == 0 {
            return .destinations
        }
        let names = policy.names
        return names.isEmpty || names.indices.contains { policyNames[$0].holds(for: name) } ? nil : .serverNames
    }
}
