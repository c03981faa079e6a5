import WeirModel
import WeirNet

/// The pool of source addresses of an upstream, as the loop reads it.
package struct CompiledSources: BitwiseCopyable, Sendable {
    /// Among `RouteView.sourceAddresses`.
    package let v4: Extent
    package let v6: Extent
    package let select: SourcePool.Select
    /// Tells it from the other pools of its view; -1 for `none`.
    package let number: Int32
    /// What their sockets are bound to: the index of an interface; 0: none, below: one that there is not.
    package let interface: Int32
    /// SO_MARK; 0: none.
    package let mark: UInt32

    /// The kernel chooses.
    package static let none = CompiledSources(
        v4: .empty, v6: .empty, select: .leastPorts, number: -1, interface: 0, mark: 0)

    package var isNone: Bool { v4.isEmpty && v6.isEmpty }

    /// The members that can connect to an address of `family`.
    package func members(of family: IPAddress.Family) -> Extent { family == .v4 ? v4 : v6 }
}

/// Lays pools of source addresses out one behind the other, each with its IPv4 addresses first.
struct SourceLayout {
    private(set) var addresses: [IPAddress] = []
    private var named: [String: CompiledSources] = [:]
    private var count: Int32 = 0

    /// `interfaceIndex`: the number of an interface of this machine; nil: there is none of that name.
    init(_ pools: [SourcePool], interfaceIndex: (String) -> Int32?) {
        for pool in pools {
            let interface = pool.interface.map { interfaceIndex($0) ?? -1 } ?? 0
            // Bound to an interface only, the kernel chooses among its addresses.
            let members = pool.addresses.isEmpty ? [IPAddress.v4Any, .v6Any] : pool.addresses
            let sources = add(members, pool.select, interface, pool.mark)
            precondition(named.updateValue(sources, forKey: pool.name) == nil, "two sources of one name")
        }
    }

    func sources(named name: String) -> CompiledSources {
        guard let sources = named[name] else { preconditionFailure("there is no source \(name)") }
        return sources
    }

    mutating func sources(of options: UpstreamOptions) -> CompiledSources {
        if let name = options.source { return sources(named: name) }
        if options.sourceAddresses.isEmpty { return .none }
        return add(options.sourceAddresses, .leastPorts, 0, 0)
    }

    private mutating func add(
        _ members: [IPAddress], _ select: SourcePool.Select, _ interface: Int32, _ mark: UInt32
    ) -> CompiledSources {
        let all = members.map(\.unmapped)
        let v4 = append(all.filter { $0.family == .v4 })
        let v6 = append(all.filter { $0.family == .v6 })
        count += 1
        return CompiledSources(v4: v4, v6: v6, select: select, number: count - 1, interface: interface, mark: mark)
    }

    private mutating func append(_ members: [IPAddress]) -> Extent {
        addresses += members
        return Extent(first: addresses.count - members.count, count: members.count)
    }
}
