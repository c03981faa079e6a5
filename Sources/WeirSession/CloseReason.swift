import WeirWire

/// Why a session closed: one code, the same in metric, log and test. The label names the side and what it did.
package enum CloseReason: Sendable, BitwiseCopyable, Equatable {
    /// The client's ClientHello was refused.
    case hello(HelloRefusal)
    /// The peer's PROXY header was refused.
    case proxy(ProxyRefusal)
    /// The client's request head was refused.
    case http(HTTPRefusal)
    case other(Other)

    package enum Other: UInt8, Sendable, BitwiseCopyable, CaseIterable {
        /// Both sides ended and every byte was delivered.
        case finished

        // The client, or whoever it is.
        case clientDenied
        case clientAborted
        case clientAbortedConnect
        case helloTimedOut
        case proxyUntrusted
        case proxyAborted
        case proxyTimedOut
        case downstreamReset
        case downstreamTimedOut

        // The other end.
        case nameNotFound
        case nameHasNoAddress
        case resolverFailed
        case resolverTimedOut
        case connectRefused
        case connectTimedOut
        case connectReset
        case connectUnreachable
        case connectFailed
        case upstreamReset
        case upstreamTimedOut
        case upstreamClosedEarly

        // Ourselves: a rule, a limit, a deadline, an order.
        case noRoute
        case routeDenied
        case serverNameMissing
        case noDestination
        case echDenied
        case destinationDenied
        case connectionLimit
        case listenerLimit
        case clientLimit
        case connectionRate
        case listenerRate
        case clientRate
        case routeLimit
        case routeRate
        case clusterLimit
        case clusterPending
        case clusterRate
        case noEndpoint
        case outOfBuffers
        case outOfDescriptors
        case outOfMemory
        case outOfSourcePorts
        case resolverOverloaded
        case listenerRemoved
        case idleTimedOut
        case halfCloseTimedOut
        case sessionTimedOut
        case connectionAge
        case endpointUnhealthy
        case endpointRemoved
        case routeRemoved
        case drainTimedOut
        case stopped
        case ioFailed

        package var label: String {
            switch self {
            case .finished: "finished"
            case .clientDenied: "downstream_denied"
            case .clientAborted: "downstream_preamble_abort"
            case .clientAbortedConnect: "downstream_connect_abort"
            case .helloTimedOut: "downstream_preamble_timeout"
            case .proxyUntrusted: "pp_untrusted"
            case .proxyAborted: "pp_abort"
            case .proxyTimedOut: "pp_timeout"
            case .downstreamReset: "downstream_reset"
            case .downstreamTimedOut: "downstream_timeout"
            case .nameNotFound: "upstream_dns_no_such_name"
            case .nameHasNoAddress: "upstream_dns_no_address"
            case .resolverFailed: "upstream_dns_failure"
            case .resolverTimedOut: "upstream_dns_timeout"
            case .connectRefused: "upstream_connect_refused"
            case .connectTimedOut: "upstream_connect_timeout"
            case .connectReset: "upstream_connect_reset"
            case .connectUnreachable: "upstream_connect_unreachable"
            case .connectFailed: "upstream_connect_failed"
            case .upstreamReset: "upstream_reset"
            case .upstreamTimedOut: "upstream_timeout"
            case .upstreamClosedEarly: "upstream_early_close"
            case .noRoute: "local_no_route"
            case .routeDenied: "local_route_denied"
            case .serverNameMissing: "local_no_server_name"
            case .noDestination: "local_no_destination"
            case .echDenied: "local_ech_denied"
            case .destinationDenied: "local_destination_denied"
            case .connectionLimit: "local_connection_limit"
            case .listenerLimit: "local_listener_limit"
            case .clientLimit: "local_client_limit"
            case .connectionRate: "local_connection_rate"
            case .listenerRate: "local_listener_rate"
            case .clientRate: "local_client_rate"
            case .routeLimit: "local_route_limit"
            case .routeRate: "local_route_rate"
            case .clusterLimit: "local_cluster_limit"
            case .clusterPending: "local_cluster_pending_limit"
            case .clusterRate: "local_cluster_rate"
            case .noEndpoint: "local_no_endpoint"
            case .outOfBuffers: "local_buffers_exhausted"
            case .outOfDescriptors: "local_descriptors_exhausted"
            case .outOfMemory: "local_memory_exhausted"
            case .outOfSourcePorts: "local_source_exhausted"
            case .resolverOverloaded: "local_dns_overloaded"
            case .listenerRemoved: "local_listener_removed"
            case .idleTimedOut: "local_idle_timeout"
            case .halfCloseTimedOut: "local_half_close_timeout"
            case .sessionTimedOut: "local_session_timeout"
            case .connectionAge: "local_connection_age"
            case .endpointUnhealthy: "local_endpoint_unhealthy"
            case .endpointRemoved: "local_endpoint_removed"
            case .routeRemoved: "local_route_removed"
            case .drainTimedOut: "local_drain_deadline"
            case .stopped: "local_stopped"
            case .ioFailed: "local_io_failed"
            }
        }

        /// The session's result in the words that nginx's users know (`$status`).
        var status: UInt16 {
            switch self {
            case .finished, .downstreamReset, .downstreamTimedOut, .upstreamReset, .upstreamTimedOut, .idleTimedOut,
                .halfCloseTimedOut, .sessionTimedOut, .connectionAge, .endpointUnhealthy, .endpointRemoved,
                .routeRemoved,
                .drainTimedOut, .stopped:
                200
            case .clientAborted, .clientAbortedConnect, .helloTimedOut, .proxyUntrusted, .proxyAborted, .proxyTimedOut,
                .serverNameMissing, .noDestination:
                400
            case .clientDenied, .noRoute, .routeDenied, .echDenied, .destinationDenied: 403
            case .outOfBuffers, .outOfDescriptors, .outOfMemory, .outOfSourcePorts, .listenerRemoved, .ioFailed: 500
            case .nameNotFound, .nameHasNoAddress, .resolverFailed, .resolverTimedOut, .connectRefused,
                .connectTimedOut, .connectReset, .connectUnreachable, .connectFailed, .upstreamClosedEarly:
                502
            case .connectionLimit, .listenerLimit, .clientLimit, .connectionRate, .listenerRate, .clientRate,
                .routeLimit, .routeRate,
                .clusterLimit, .clusterPending, .clusterRate, .noEndpoint, .resolverOverloaded:
                503
            }
        }
    }

    /// `labels[code]` is the label; codes are dense from 0.
    package var code: Int {
        switch self {
        case .other(let reason): Int(reason.rawValue)
        case .hello(let refusal): Self.helloBase + Int(refusal.rawValue)
        case .proxy(let refusal): Self.proxyBase + Int(refusal.rawValue)
        case .http(let refusal): Self.httpBase + Int(refusal.rawValue)
        }
    }

    private static let helloBase = Other.allCases.count
    private static let proxyBase = helloBase + HelloRefusal.allCases.count
    private static let httpBase = proxyBase + ProxyRefusal.allCases.count

    /// The reason of that label; nil: there is none.
    package init?(label: String) {
        if let reason = Other.allCases.first(where: { $0.label == label }) {
            self = .other(reason)
        } else if let refusal = HelloRefusal.allCases.first(where: { $0.label == label }) {
            self = .hello(refusal)
        } else if let refusal = ProxyRefusal.allCases.first(where: { $0.label == label }) {
            self = .proxy(refusal)
        } else if let refusal = HTTPRefusal.allCases.first(where: { $0.label == label }) {
            self = .http(refusal)
        } else {
            return nil
        }
    }

    /// Every label, by code.
    package static let labels: [String] =
        Other.allCases.map(\.label) + HelloRefusal.allCases.map(\.label) + ProxyRefusal.allCases.map(\.label)
        + HTTPRefusal.allCases.map(\.label)

    /// 200, 400, 403, 500, 502 or 503.
    package var status: UInt16 {
        switch self {
        case .hello, .proxy, .http: 400
        case .other(let reason): reason.status
        }
    }
}
