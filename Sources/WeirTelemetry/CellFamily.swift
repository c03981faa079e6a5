/// Under which name cells are exposed. docs/OPERATIONS.md lists the same names for people.
package struct CellFamily {
    package enum Source {
        case counter(Int32)
        /// Consecutive counters, told apart by `label`.
        case counters(Int32, label: String, values: [String])
        case gauge(Int32)
        /// A gauge of which the worker that is furthest behind counts.
        case gaugeMinimum(Int32)
        /// What began and has not ended.
        case difference(Int32, minus: Int32)
        case histogram(Int32, HistogramScale)
    }

    package let name: String
    let help: String
    package let source: Source

    init(_ name: String, _ help: String, _ source: Source) {
        self.name = name
        self.help = help
        self.source = source
    }

    var kind: String {
        switch source {
        case .counter, .counters: "counter"
        case .gauge, .gaugeMinimum, .difference: "gauge"
        case .histogram: "histogram"
        }
    }

    /// The cells this family reads, as offsets.
    package var cells: [Int32] {
        switch source {
        case .counter(let cell), .gauge(let cell), .gaugeMinimum(let cell): [cell]
        case .counters(let first, _, let values): (0..<Int32(values.count)).map { first + $0 }
        case .difference(let began, let ended): [began, ended]
        case .histogram(let first, _): (0..<HistogramScale.cellCount).map { first + $0 }
        }
    }

    package static func listener(reasonLabels: [String]) -> [CellFamily] {
        [
            CellFamily(
                "weir_accepted_connections_total", "Connections taken from the accept queue.",
                .counter(ListenerCell.accepted)),
            CellFamily(
                "weir_accept_errors_total", "Failed accepts by error.",
                .counters(ListenerCell.acceptErrors, label: "error", values: ListenerCell.acceptErrorLabels)),
            CellFamily(
                "weir_accept_pauses_total", "Times that accepting stopped for want of something.",
                .counter(ListenerCell.acceptPauses)),
            CellFamily(
                "weir_accept_resumes_total", "Times that accepting went on after a pause.",
                .counter(ListenerCell.acceptResumes)),
            CellFamily("weir_sessions_opened_total", "Sessions that began.", .counter(ListenerCell.opened)),
            CellFamily(
                "weir_sessions_closed_total", "Connections that ended, refused ones included, by side and reason.",
                .counters(ListenerCell.closedByReason, label: "reason", values: reasonLabels)),
            CellFamily(
                "weir_sessions_active", "Sessions that are open.",
                .difference(ListenerCell.opened, minus: ListenerCell.closed)),
            CellFamily(
                "weir_session_seconds", "Time from accept to close.",
                .histogram(ListenerCell.sessionSeconds, .session)),
            CellFamily(
                "weir_preamble_seconds", "Time from accept to the end of a complete preamble.",
                .histogram(ListenerCell.preambleSeconds, .latency)),
            CellFamily(
                "weir_hello_bytes", "Length of complete ClientHello messages.",
                .histogram(ListenerCell.helloBytes, .hello)),
            CellFamily(
                "weir_ech_hellos_total", "Hellos that carried encrypted_client_hello.", .counter(ListenerCell.echSeen)),
            CellFamily(
                "weir_proxy_headers_total", "PROXY headers taken and believed.",
                .counter(ListenerCell.proxyAccepted)),
            CellFamily(
                "weir_proxy_duplicate_authority_total", "Authorities in PROXY headers beyond the first, which holds.",
                .counter(ListenerCell.proxyDuplicateAuthority)),
            CellFamily(
                "weir_downstream_received_bytes_total", "Bytes received from clients.",
                .counter(ListenerCell.receivedBytes)),
            CellFamily(
                "weir_downstream_sent_bytes_total", "Bytes sent to clients.", .counter(ListenerCell.sentBytes)),
        ]
    }

    package static let route = [
        CellFamily(
            "weir_route_sessions_total", "Sessions that a route took, denials included.", .counter(RouteCell.sessions)),
        CellFamily(
            "weir_route_sessions_active", "Sessions that a route took and that are open.",
            .difference(RouteCell.sessions, minus: RouteCell.left)),
    ]

    package static let policy = [
        CellFamily(
            "weir_policy_sessions_total", "Sessions that a policy decided about.", .counter(PolicyCell.sessions))
    ]

    package static let cluster = [
        CellFamily(
            "weir_upstream_connect_attempts_total", "Connects to a cluster's endpoints that were begun.",
            .counter(ClusterCell.connectAttempts)),
        CellFamily(
            "weir_upstream_connect_failures_total", "Connects that failed, by error.",
            .counters(ClusterCell.connectFailures, label: "error", values: ClusterCell.connectFailureLabels)),
        CellFamily(
            "weir_upstream_early_closes_total", "Connections that an endpoint ended before its first byte.",
            .counter(ClusterCell.earlyCloses)),
        CellFamily(
            "weir_upstream_retries_total", "Those of them after which another address or endpoint was asked.",
            .counter(ClusterCell.retries)),
        CellFamily(
            "weir_upstream_refused_total", "Sessions that a cluster's limits refused, by limit.",
            .counters(ClusterCell.refusedConnections, label: "limit", values: ClusterCell.refusalLabels)),
        CellFamily(
            "weir_upstream_connect_seconds", "Time that successful connects took.",
            .histogram(ClusterCell.connectSeconds, .latency)),
        CellFamily(
            "weir_upstream_sessions_opened_total", "Sessions connected to a cluster.", .counter(ClusterCell.opened)),
        CellFamily(
            "weir_upstream_sessions_active", "Sessions connected to a cluster now.",
            .difference(ClusterCell.opened, minus: ClusterCell.closed)),
    ]

    package static let endpoint = [
        CellFamily(
            "weir_endpoint_connect_attempts_total", "Connects to an endpoint that were begun.",
            .counter(EndpointCell.connectAttempts)),
        CellFamily(
            "weir_endpoint_connect_failures_total", "Connects to an endpoint that failed.",
            .counter(EndpointCell.connectFailures)),
        CellFamily(
            "weir_endpoint_ejections_total", "Times that an endpoint was ejected because connects to it failed.",
            .counter(EndpointCell.ejections)),
        CellFamily(
            "weir_endpoint_sessions_opened_total", "Sessions connected to an endpoint.", .counter(EndpointCell.opened)),
        CellFamily(
            "weir_endpoint_sessions_active", "Sessions connected to an endpoint now.",
            .difference(EndpointCell.opened, minus: EndpointCell.closed)),
    ]

    package static func worker(guardRuleLabels: [String]) -> [CellFamily] {
        [
            CellFamily(
                "weir_dns_cache_hits_total", "Names answered from a worker's cache.", .counter(WorkerCell.dnsCacheHits)),
            CellFamily(
                "weir_dns_queries_total", "Names that workers asked the resolver for.", .counter(WorkerCell.dnsQueries)),
            CellFamily(
                "weir_guard_denied_total", "Resolved addresses refused by the destination guard, by rule.",
                .counters(WorkerCell.guardDenied, label: "rule", values: guardRuleLabels)),
            CellFamily(
                "weir_relayed_bytes_total", "Bytes relayed, both directions together.",
                .counter(WorkerCell.relayedBytes)),
            CellFamily(
                "weir_pumped_bytes_total", "Those of them that were moved in bulk, by splice or in a large buffer.",
                .counter(WorkerCell.pumpedBytes)),
            CellFamily("weir_pumps_active", "Directions that move in bulk now.", .gauge(WorkerCell.pumps)),
            CellFamily(
                "weir_pumps_refused_total", "Times that bulk found neither a pipe nor a large buffer free.",
                .counter(WorkerCell.pumpsRefused)),
            CellFamily(
                "weir_buffers_outstanding", "Relay buffers in use.", .gauge(WorkerCell.buffersOutstanding)),
            CellFamily(
                "weir_preamble_blocks_outstanding", "Blocks that hold a preamble back.",
                .gauge(WorkerCell.blocksOutstanding)),
            CellFamily(
                "weir_sessions_opening", "Sessions whose upstream is not open yet, or could still be exchanged.",
                .gauge(WorkerCell.sessionsOpening)),
            CellFamily(
                "weir_buffers_starved_total", "Receives that found no free buffer.",
                .counter(WorkerCell.buffersStarved)),
            CellFamily(
                "weir_receive_pauses_total", "Directions that stopped receiving for want of a buffer.",
                .counter(WorkerCell.receivePauses)),
            CellFamily(
                "weir_receive_resumes_total", "Such directions that went on, or whose session ended.",
                .counter(WorkerCell.receiveResumes)),
            CellFamily(
                "weir_shortages_total", "Times that something was refused, paused or lost for want of this.",
                .counters(WorkerCell.shortages, label: "kind", values: Shortage.allCases.map(\.label))),
            CellFamily(
                "weir_log_records_dropped_total", "Session records dropped because the log lagged behind.",
                .counter(WorkerCell.logDropped)),
            CellFamily(
                "weir_driver_completion_overflows_total", "Completion queue overflows; must stay zero.",
                .counter(WorkerCell.completionOverflows)),
            CellFamily(
                "weir_driver_enters_total", "Calls into the kernel to submit or wait.", .counter(WorkerCell.enters)),
            CellFamily("weir_worker_turns_total", "Turns of the workers' loops.", .counter(WorkerCell.turns)),
            CellFamily(
                "weir_snapshot_adoptions_total", "Times that a worker took up a new configuration.",
                .counter(WorkerCell.adoptions)),
            CellFamily(
                "weir_snapshot_generation", "Generation of the oldest configuration that a worker uses.",
                .gaugeMinimum(WorkerCell.snapshotGeneration)),
        ]
    }
}
