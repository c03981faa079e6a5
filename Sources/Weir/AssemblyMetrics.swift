import CWeir
import Synchronization
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirResolver
import WeirTelemetry
import WeirUpstream

/// What a scrape of a running proxy gets, beside the cells that workers count in.
extension Assembly {
    func metrics() -> String {
        let sources = SourcePortFamilies(limits.ports, now: Instant(nanoseconds: cweir_monotonic_ns()))
        let families = (families() + sources.families()).filter { !$0.samples.isEmpty }
        return Exposition.text(registry, extra: families)
    }

    private func families() -> [MetricFamily] {
        let (counts, lostLineCount) = services.withLock { services in
            (
                services.resolver?.counts ?? services.resolverCounts,
                services.log?.lostLineCount ?? services.lostLineCount
            )
        }
        let statuses = endpointStatuses()
        return [
            MetricFamily(
                "weir_driver_info", help: "The I/O driver in use, and why it is that one.", .gauge,
                [
                    MetricFamily.Sample(
                        .integer(1), labels: [("driver", driver.name.rawValue), ("reason", driver.reason.rawValue)])
                ]),
            MetricFamily(
                "weir_endpoint_checks_total", help: "Active checks of an endpoint that ended, by result.", .counter,
                statuses.flatMap { status in
                    guard let check = status.check else { return [MetricFamily.Sample]() }
                    let labels = [(name: "cluster", value: status.cluster), (name: "endpoint", value: status.endpoint)]
                    return [
                        MetricFamily.Sample(
                            .integer(UInt64(check.count - check.failureCount)), labels: labels + [("result", "success")]
                        ),
                        MetricFamily.Sample(
                            .integer(UInt64(check.failureCount)), labels: labels + [("result", "failure")]),
                    ]
                }),
            MetricFamily(
                "weir_endpoint_available", help: "1 while an endpoint is in the choice of its cluster.", .gauge,
                statuses.map { status in
                    MetricFamily.Sample(
                        .integer(status.standing == .healthy ? 1 : 0),
                        labels: [("cluster", status.cluster), ("endpoint", status.endpoint)])
                }),
            MetricFamily(
                "weir_upstream_sessions_pending", help: "Sessions that are connecting to a cluster.", .gauge,
                watch.withLock { $0.endpoints.pendingCounts }.map { pending in
                    MetricFamily.Sample(.integer(pending.count), labels: [("cluster", pending.cluster)])
                }),
            MetricFamily("weir_workers", help: "Worker threads.", .gauge, .integer(UInt64(workerCount))),
            MetricFamily(
                "weir_sessions_limit", help: "Sessions that may be open at once.", .gauge,
                .integer(UInt64(sessionCountMax))),
            MetricFamily(
                "weir_sessions_open", help: "Sessions that are open now.", .gauge, .integer(UInt64(sessionCount))),
            MetricFamily(
                "weir_memory_limit_bytes", help: "Memory that the limits were derived from.", .gauge,
                .integer(UInt64(capacity.machine.memoryByteCount))),
            MetricFamily(
                "weir_memory_short", help: "1 while most of the memory is used and nobody accepts.", .gauge,
                .integer(limits.isMemoryShort.load(ordering: .relaxed) ? 1 : 0)),
            MetricFamily(
                "weir_buffers_limit", help: "Relay buffers that there are.", .gauge,
                .integer(UInt64(capacity.largeBufferCount * workerCount))),
            MetricFamily(
                "weir_clients_untracked_total",
                help: "Sessions not counted against a limit per client, for want of a place.", .counter,
                .integer(limits.clients.untrackedCount)),
            MetricFamily(
                "weir_client_rates_evicted_total",
                help: "Clients whose rate was forgotten for others, for want of a place.", .counter,
                .integer(limits.clientRates.evictedCount)),
            MetricFamily(
                "weir_dns_lookups_total", help: "Names looked up at a server or in the hosts file.", .counter,
                .integer(counts.table.lookups)),
            MetricFamily(
                "weir_dns_coalesced_total", help: "Requests that joined a lookup in flight.", .counter,
                .integer(counts.table.coalesced)),
            MetricFamily(
                "weir_dns_stale_served_total", help: "Answers given past their TTL because no server answered.",
                .counter,
                .integer(counts.table.staleServed)),
            MetricFamily(
                "weir_dns_cache_entries", help: "Names in the resolver's cache.", .gauge,
                .integer(UInt64(counts.entryCount))),
            MetricFamily(
                "weir_dns_cache_evictions_total", help: "Names that gave way to others in the cache.", .counter,
                .integer(counts.table.evictions)),
            MetricFamily(
                "weir_log_lines_lost_total", help: "Access log lines that could not be written.", .counter,
                .integer(lostLineCount)),
        ]
    }
}
