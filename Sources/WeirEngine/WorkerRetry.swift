import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream

// Until the upstream's first byte: what it was sent is kept, and where it is gone before, the next one gets it.

extension Worker {
    /// The upstream is open. Whether its session keeps its `Opening` until the first byte, because somebody else could serve
    /// it.
    ///
    /// Only a hello may be sent twice, or nothing at all: of a request nobody knows what it has done.
    func mayBeGone(_ slot: Int, _ opening: Int, _ upstream: CompiledUpstream) -> Bool {
        guard upstream.retriesEarlyClose else { return false }
        guard sessions[slot].record.detected == .tls || sessions[slot].toUpstream.isEmpty else { return false }
        // What came while another upstream was being dropped.
        if sessions[slot].machine.downstream.hasEnded || openings[opening].hasMore { return false }
        // Its answer judges those before.
        return hasAlternative(opening) || openings[opening].endedEarly.count > 0
    }

    /// There is another address, or another endpoint, and an attempt left to try it. `isAsked`: whether another endpoint can be
    /// had now, which takes a look at all.
    private func hasAlternative(_ opening: Int, isAsked: Bool = false) -> Bool {
        guard attemptsLeft(opening) > 0 else { return false }
        if openings[opening].firstPosition < openings[opening].firstAddresses.count { return true }
        if openings[opening].secondPosition < openings[opening].secondAddresses.count { return true }
        guard openings[opening].cluster >= 0 else { return false }
        // After a reload it is decided anew.
        guard openings[opening].generation == view.generation else { return true }
        let (cluster, tried) = (Int(openings[opening].cluster), openings[opening].tried)
        if tried.count >= min(Int(view.clusters[cluster].endpoints.count), TriedEndpoints.countMax) { return false }
        return !isAsked || balancer.hasAnother(cluster: cluster, than: tried, now: now)
    }

    /// The upstream has said something, or has been sent more than may be sent twice: it is the one.
    func proved(_ slot: Int, hasSpoken: Bool) {
        let opening = Int(sessions[slot].opening)
        if openings[opening].endpoint >= 0, openings[opening].generation == view.generation {
            balancer.succeeded(endpoint: Int(openings[opening].endpoint), now: now)
            // The same bytes were good enough for this one. What no endpoint answers is the client's doing, who must not be
            // able to have endpoints ejected.
            if hasSpoken { blameThoseBefore(opening) }
        }
        releaseOpening(slot)
    }

    private func blameThoseBefore(_ opening: Int) {
        for position in 0..<openings[opening].endedEarly.count {
            let endpoint = openings[opening].endedEarly[position]
            if balancer.failed(endpoint: endpoint, now: now) {
                count(view.endpoints[endpoint].metric, EndpointCell.ejections)
            }
        }
    }

    /// The head of what goes to the upstream has been sent: kept for another one, but for our PROXY header.
    func keepSent(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        let head = takeHead(of: &sessions[slot].toUpstream)
        if openings[opening].hasHeaderQueued {
            openings[opening].hasHeaderQueued = false
            pool.release(head)
            return
        }
        let first = pool.chunks[Int(head)].first
        pool.chunks[Int(head)].begin = first
        append(head, to: &openings[opening].sent)
    }

    /// Until then an upstream that is gone gives way to another.
    func retryDeadline(_ opening: Int) -> Instant {
        min(openings[opening].connectDeadline, openings[opening].preambleDeadline)
    }

    /// One side of a session whose upstream has said nothing yet has ended or failed, with an errno or 0. True where
    /// another upstream is looked for instead.
    func upstreamIsGone(_ slot: Int, _ side: Side, _ code: Int32) -> Bool {
        guard side == .upstream else {
            // A client that leaves says nothing about the upstream, and has nothing to be retried.
            releaseOpening(slot)
            return false
        }
        let opening = Int(sessions[slot].opening)
        count(openings[opening].clusterMetric, ClusterCell.earlyCloses)
        openings[opening].lastError = code
        openings[opening].lastReason = .upstreamClosedEarly
        if openings[opening].endpoint >= 0, openings[opening].generation == view.generation {
            openings[opening].endedEarly.append(Int(openings[opening].endpoint))
        }
        guard now < retryDeadline(opening), hasAlternative(opening, isAsked: true) else {
            releaseOpening(slot)
            return false
        }
        count(openings[opening].clusterMetric, ClusterCell.retries)
        sessions[slot].machine.retry()
        return true
    }

    /// Everything that named the upstream is home: closes it and goes on to the next address or endpoint.
    func dropUpstream(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        operations.append(Operation(.silent, .reset(sessions[slot].upstream)))
        sessions[slot].upstream = .none
        releaseSourcePorts(slot, isReset: true)
        sessions[slot].sentUpstreamEndFirst = false
        sessions[slot].record.code = 0
        sessions[slot].record.connectTime = nil
        count(openings[opening].clusterMetric, ClusterCell.closed)
        count(sessions[slot].record.endpoint, EndpointCell.closed)
        if openings[opening].hasHeaderQueued {
            openings[opening].hasHeaderQueued = false
            pool.release(takeHead(of: &sessions[slot].toUpstream))
        }
        // What was sent, then what was not, each from its beginning on.
        var queue = openings[opening].sent
        openings[opening].sent = SendQueue()
        var queuedCount: UInt16 = 0
        var buffer = queue.head
        while buffer != BufferPool.none {
            queuedCount += 1
            buffer = pool.chunks[Int(buffer)].next
        }
        while !sessions[slot].toUpstream.isEmpty {
            let chunk = takeHead(of: &sessions[slot].toUpstream)
            let first = pool.chunks[Int(chunk)].first
            pool.chunks[Int(chunk)].begin = first
            append(chunk, to: &queue)
            queuedCount += 1
        }
        sessions[slot].toUpstream = queue
        sessions[slot].machine.upstreamDropped(queuedCount: queuedCount)
        tryAgain(slot)
        advance(slot)
        if sessions.isLive(slot) { schedule(slot) }
    }
}
