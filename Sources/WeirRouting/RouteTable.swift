import WeirMemory
import WeirModel
import WeirNet

/// What is counted: the parts of a configuration that have metrics.
package enum MetricSubject: Hashable, Sendable {
    case listener(String)
    case route(listener: String, name: String)
    case cluster(String)
    case endpoint(cluster: String, description: String)
    case policy(String)
}

/// A configuration compiled for the loop, and the owner of that memory. Immutable; built off the hot path, published
/// whole, freed when the last reference is gone: nobody may use `view` after that.
package final class RouteTable: Sendable {
    package let view: RouteView
    private let compiled: CompiledConfiguration

    /// Compiles a configuration without faults (`Configuration.faults()`); traps on one that has them.
    ///
    /// - Parameters:
    ///   - slots: A small number for every listener, by name. Kept from table to table it lets the loop know a
    ///     listener again; numbers may be left out.
    ///   - ownListeners: Where this process listens, with the ports that were bound.
    ///   - localAddresses: The addresses of this machine; loopback need not be among them.
    ///   - interfaceIndex: The number of an interface of this machine; nil: there is none of that name, and connects
    ///     of sources that are bound to it fail.
    ///   - metricIndex: Where the counters of a part are; stored as its `metric`.
    ///   - placeIndex: Where all workers keep what they know of a cluster or an endpoint; stored as its `place`. nil: they are
    ///     numbered from 0 on, so places are good for this table only.
    package init(
        compiling configuration: Configuration,
        slots: [String: Int],
        generation: UInt64,
        ownListeners: [SocketAddress] = [],
        localAddresses: [IPAddress] = [],
        key: SipKey = .random(),
        interfaceIndex: (String) -> Int32? = { _ in nil },
        metricIndex: @escaping (MetricSubject) -> Int32,
        placeIndex: ((MetricSubject) -> Int32)? = nil
    ) {
        var compiler = Compiler(
            configuration, slots: slots, key: key, interfaceIndex: interfaceIndex, metricIndex: metricIndex,
            placeIndex: placeIndex)
        compiled = compiler.compile()
        view = compiled.view(
            generation: generation, own: OwnAddresses(listeners: ownListeners, localAddresses: localAddresses))
    }

    /// The same table with other addresses of our own: after a bind, or when the machine's addresses have changed.
    package init(
        _ table: RouteTable, generation: UInt64, ownListeners: [SocketAddress], localAddresses: [IPAddress]
    ) {
        compiled = table.compiled
        view = compiled.view(
            generation: generation, own: OwnAddresses(listeners: ownListeners, localAddresses: localAddresses))
    }

    deinit { view.destinationGuard.own.deallocate() }

    // MARK: Names, for logs and for people

    /// nil for a hole among the slots.
    package func listenerName(_ slot: Int) -> String? { compiled.listenerNames[slot] }
    package func routeName(_ index: Int) -> String { compiled.routeNames[index] }
    package func clusterName(_ index: Int) -> String { compiled.clusterNames[index] }
    /// `host:port` as the configuration wrote it.
    package func endpointDescription(_ index: Int) -> String { compiled.endpointDescriptions[index] }
}

/// The arrays that tables with the same configuration share. Freed with the last such table.
final class CompiledConfiguration: Sendable {
    /// Its own addresses are empty and not used.
    private let arrays: RouteView
    let listenerNames: [String?]
    let routeNames: [String]
    let clusterNames: [String]
    let endpointDescriptions: [String]

    init(
        arrays: RouteView, listenerNames: [String?], routeNames: [String], clusterNames: [String],
        endpointDescriptions: [String]
    ) {
        self.arrays = arrays
        self.listenerNames = listenerNames
        self.routeNames = routeNames
        self.clusterNames = clusterNames
        self.endpointDescriptions = endpointDescriptions
    }

    deinit {
        arrays.deallocate()
        arrays.destinationGuard.own.deallocate()
    }

    func view(generation: UInt64, own: OwnAddresses) -> RouteView {
        var view = arrays
        view.generation = generation
        view.destinationGuard.own = own
        return view
    }
}
