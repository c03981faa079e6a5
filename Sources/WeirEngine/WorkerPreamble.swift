import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

// Reading a PROXY header, a ClientHello or a request head, and deciding where the session goes.

/// What one stage of the preamble says about the bytes it was given.
private enum StageProgress {
    case needMore
    /// The stage is over; the next byte to read is at this offset.
    case advanced(Int)
    case refused(CloseReason)
}

extension Worker {
    /// Bytes of the preamble came in; `buffer` is ours.
    func readPreamble(_ slot: Int, _ buffer: UInt32, _ byteCount: Int) {
        let preamble = Int(sessions[slot].preamble)
        var offset = 0
        while preambles[preamble].stage != .done {
            if offset == byteCount { break }
            switch consume(slot, preamble, buffer, offset..<byteCount) {
            case .needMore:
                hold(slot, buffer, offset..<byteCount)
                pool.release(buffer)
                return
            case .advanced(let next):
                offset = next
                if sessions[slot].machine.phase == .closing {
                    pool.release(buffer)
                    return
                }
            case .refused(let reason):
                // Held as well: a refusal that finds a default route sends it on. A PROXY header is not payload.
                if preambles[preamble].stage != .proxyHeader { hold(slot, buffer, offset..<byteCount) }
                pool.release(buffer)
                preambleRefused(slot, reason)
                return
            }
        }
        hold(slot, buffer, offset..<byteCount)
        pool.release(buffer)
        if preambles[preamble].stage == .done, sessions[slot].machine.phase == .preamble { preambleRead(slot) }
    }

    /// Gives bytes to the stage that the preamble is in.
    private func consume(_ slot: Int, _ preamble: Int, _ buffer: UInt32, _ range: Range<Int>) -> StageProgress {
        switch preambles[preamble].stage {
        case .proxyHeader:
            guard case .proxyHeader(var parser) = readers[Int(preambles[preamble].reader)] else {
                preconditionFailure("no PROXY header is being read")
            }
            switch pool.withBytes(of: buffer, range, { parser.consume($0) }) {
            // A PROXY header is not payload: an incomplete one is not held but only remembered by its parser.
            case .needMore:
                keepReader(preamble, .proxyHeader(parser))
                return .advanced(range.upperBound)
            case .refused(let refusal): return .refused(.proxy(refusal))
            case .complete(let header, let consumed):
                dropReader(preamble)
                preambles[preamble].stage = nextStage(slot)
                proxyHeaderRead(slot, header)
                return .advanced(range.lowerBound + consumed)
            }
        case .detect:
            let first = pool.withBytes(of: buffer, range) { $0[0] }
            let listener = view.listeners[Int(sessions[slot].listenerSlot)]
            let isHTTP = listener.detectsHTTP && (!listener.detectsTLS || PreambleKind(firstByte: first) == .http)
            preambles[preamble].stage = isHTTP ? .requestHead : .hello
            if isHTTP {
                var parser = HTTPRequestHeadParser()
                return consumeRequestHead(slot, preamble, &parser, buffer, range)
            }
            var parser = ClientHelloParser(byteCountMax: Int(preambles[preamble].helloByteCountMax))
            return consumeHello(slot, preamble, &parser, buffer, range)
        case .hello:
            guard case .hello(var parser) = readers[Int(preambles[preamble].reader)] else {
                preconditionFailure("no hello is being read")
            }
            return consumeHello(slot, preamble, &parser, buffer, range)
        case .requestHead:
            guard case .requestHead(var parser) = readers[Int(preambles[preamble].reader)] else {
                preconditionFailure("no request head is being read")
            }
            return consumeRequestHead(slot, preamble, &parser, buffer, range)
        case .done:
            preconditionFailure("the preamble was read already")
        }
    }

    private func consumeHello(
        _ slot: Int, _ preamble: Int, _ parser: inout ClientHelloParser, _ buffer: UInt32, _ range: Range<Int>
    ) -> StageProgress {
        switch pool.withBytes(of: buffer, range, { parser.consume($0) }) {
        case .needMore:
            keepReader(preamble, .hello(parser))
            return .needMore
        case .refused(let refusal):
            if !refusal.isOtherProtocol { sessions[slot].record.detected = .tls }
            return .refused(.hello(refusal))
        case .complete(let hello):
            dropReader(preamble)
            preambles[preamble].stage = .done
            helloRead(slot, hello)
            return .advanced(range.lowerBound)
        }
    }

    private func consumeRequestHead(
        _ slot: Int, _ preamble: Int, _ parser: inout HTTPRequestHeadParser, _ buffer: UInt32, _ range: Range<Int>
    ) -> StageProgress {
        let progress = pool.withBytes(of: buffer, range) { parser.consume($0) }
        sessions[slot].record.detected = .http
        switch progress {
        case .needMore:
            keepReader(preamble, .requestHead(parser))
            return .needMore
        case .refused(let refusal): return .refused(.http(refusal))
        case .complete(let head):
            dropReader(preamble)
            preambles[preamble].stage = .done
            beginOpening(slot)
            sessions[slot].record.serverName = head.host
            return .advanced(range.lowerBound)
        }
    }

    /// Keeps the parser of a preamble of which more has to come.
    func keepReader(_ preamble: Int, _ reader: PreambleReader) {
        if preambles[preamble].reader >= 0 {
            readers[Int(preambles[preamble].reader)] = reader
            return
        }
        guard let index = readers.allocate(reader) else {
            preconditionFailure("there are as many readers as sessions")
        }
        preambles[preamble].reader = Int32(index)
    }

    func dropReader(_ preamble: Int) {
        guard preambles[preamble].reader >= 0 else { return }
        readers.free(Int(preambles[preamble].reader))
        preambles[preamble].reader = -1
    }

    private func nextStage(_ slot: Int) -> Preamble.Stage {
        let listener = view.listeners[Int(sessions[slot].listenerSlot)]
        return listener.detectsTLS || listener.detectsHTTP ? .detect : .done
    }

    /// What is read from now on goes into the opening, which is made with the first of it.
    @discardableResult
    func beginOpening(_ slot: Int) -> Int {
        if sessions[slot].opening >= 0 { return Int(sessions[slot].opening) }
        let preamble = Int(sessions[slot].preamble)
        guard let opening = openings.allocate(Opening(preambleDeadline: preambles[preamble].preambleDeadline)) else {
            preconditionFailure("there are as many openings as sessions")
        }
        sessions[slot].opening = Int32(opening)
        overlapCount += 1
        return opening
    }

    private func helloRead(_ slot: Int, _ hello: ClientHello) {
        let opening = beginOpening(slot)
        openings[opening].alpn = hello.alpn
        openings[opening].spelling = hello.spelling
        sessions[slot].record.detected = .tls
        sessions[slot].record.serverName = hello.serverName
        let metric = sessions[slot].record.listener
        if metric >= 0 { cells.observe(.hello, at: metric &+ ListenerCell.helloBytes, UInt64(hello.wireByteCount)) }
        if hello.sawECH {
            sessions[slot].record.flags.insert(.echSeen)
            count(metric, ListenerCell.echSeen)
        }
    }

    /// Keeps bytes back for the upstream, in blocks: a session that waits holds as little as it can.
    private func hold(_ slot: Int, _ buffer: UInt32, _ range: Range<Int>) {
        sessions[slot].record.bytesFromClient += UInt64(range.count)
        count(sessions[slot].record.listener, ListenerCell.receivedBytes, UInt64(range.count))
        guard sessions[slot].machine.phase == .preamble else { return }
        var rest = range
        while !rest.isEmpty {
            var tail = sessions[slot].toUpstream.tail
            if tail == BufferPool.none || Int(pool.chunks[Int(tail)].end) == BufferPool.blockByteCount {
                guard let block = pool.takeBlock() else {
                    note(.buffers)
                    end(slot, .other(.outOfBuffers), reset: true)
                    return
                }
                enqueue(slot, to: .upstream, block)
                tail = block
            }
            let room = BufferPool.blockByteCount - Int(pool.chunks[Int(tail)].end)
            let count = min(room, rest.count)
            pool.copy(rest.lowerBound..<rest.lowerBound + count, of: buffer, to: tail)
            rest = rest.lowerBound + count..<rest.upperBound
        }
    }

    private func preambleRead(_ slot: Int) {
        let elapsed = now.nanoseconds(since: sessions[slot].acceptedAt)
        sessions[slot].record.preambleTime = elapsed
        let metric = sessions[slot].record.listener
        if metric >= 0 { cells.observe(.latency, at: metric &+ ListenerCell.preambleSeconds, elapsed) }
        beginOpening(slot)
        releasePreamble(slot)
        sessions[slot].machine.preambleRead()
        decide(slot)
    }

    /// The client's bytes are no preamble that we take. Bytes of another protocol may have a default route; what is
    /// broken never has.
    private func preambleRefused(_ slot: Int, _ reason: CloseReason) {
        guard sessions[slot].machine.phase == .preamble else { return }
        switch reason {
        case .hello(let refusal):
            if refusal.isOtherProtocol, hasDefaultRoute(slot) {
                preambleRead(slot)
            } else if let alert = refusal.alert {
                refuse(slot, reason, alert: alert)
            } else {
                end(slot, reason, reset: true)
            }
        case .http(let refusal):
            refuse(slot, reason, httpStatus: refusal.status)
        case .proxy, .other:
            end(slot, reason, reset: true)
        }
    }

    private func hasDefaultRoute(_ slot: Int) -> Bool {
        view.route(
            listener: Int(sessions[slot].listenerSlot), name: .none, client: sessions[slot].record.client.ip,
            alpn: .none, destination: wantedDestination(slot))
            != nil
    }

    /// Where the client wanted to go: as its PROXY header says, else as its socket does.
    func wantedDestination(_ slot: Int) -> SocketAddress {
        let opening = Int(sessions[slot].opening)
        return (opening >= 0 ? openings[opening].proxiedDestination : nil) ?? sessions[slot].record.local
    }

    // MARK: The decision

    /// Finds the route and starts towards where it leads. Asked again where a reload came between two attempts.
    func decide(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        let listenerSlot = Int(sessions[slot].listenerSlot)
        openings[opening].generation = view.generation
        openings[opening].cluster = -1
        openings[opening].endpoint = -1
        openings[opening].tried = TriedEndpoints()
        openings[opening].endedEarly = TriedEndpoints()
        openings[opening].gatewayDestination = nil
        leaveEndpoint(slot)
        sessions[slot].drainDeadline = .distantFuture
        openings[opening].clusterMetric = -1
        openings[opening].connectionAgeMax = .max
        openings[opening].privateNames = false
        sessions[slot].record.cluster = -1
        sessions[slot].record.endpoint = -1
        guard view.listeners[listenerSlot].exists else {
            end(slot, .other(.listenerRemoved), reset: true)
            return
        }
        if sessions[slot].record.flags.contains(.echSeen), !view.listeners[listenerSlot].allowsECH {
            refuse(slot, .other(.echDenied), alert: .accessDenied, httpStatus: 403)
            return
        }
        let index = view.route(
            listener: listenerSlot, name: sessions[slot].record.serverName, client: sessions[slot].record.client.ip,
            alpn: openings[opening].alpn, destination: wantedDestination(slot))
        guard let index else {
            let isNameless = sessions[slot].record.serverName.isNone && sessions[slot].record.detected != .none
            refuse(
                slot, .other(isNameless ? .serverNameMissing : .noRoute), alert: .unrecognizedName, httpStatus: 421)
            return
        }
        let route = view.routes[index]
        count(sessions[slot].record.route, RouteCell.left)
        sessions[slot].record.route = route.metric
        count(route.metric, RouteCell.sessions)
        if let refusal = enterRoute(slot, route) {
            refuse(slot, .other(refusal), alert: .internalError, httpStatus: 503)
            return
        }
        switch route.action {
        case .deny:
            deny(slot, .routeDenied, route.denial)
        case .forward:
            guard !sessions[slot].record.serverName.isNone else {
                deny(slot, .serverNameMissing, route.denial)
                return
            }
            leaveCluster(slot)
            openings[opening].upstream = view.upstreams[Int(route.upstream)]
            let port = route.forwardPort == 0 ? sessions[slot].record.local.port : route.forwardPort
            startConnecting(slot)
            aim(slot, at: sessions[slot].record.serverName, port)
        case .proxyDestination:
            guard let destination = openings[opening].proxiedDestination else {
                deny(slot, .noDestination, route.denial)
                return
            }
            leaveCluster(slot)
            openings[opening].upstream = view.upstreams[Int(route.upstream)]
            startConnecting(slot)
            aim(slot, at: destination)
        case .originalDestination:
            leaveCluster(slot)
            openings[opening].upstream = view.upstreams[Int(route.upstream)]
            startConnecting(slot)
            // Whom nobody led here wanted the listener itself, which the guard refuses.
            let destination = wantedDestination(slot)
            aim(slot, at: SocketAddress(destination.ip.unmapped, port: destination.port))
        case .cluster:
            aim(slot, atCluster: route.cluster)
        case .split:
            // The same number for the whole session: decided once more after a reload, it stays with its cluster.
            let draw = StableHash.joined(sessions[slot].record.id, instance)
            aim(slot, atCluster: view.cluster(ofSplit: route.cluster, draw: draw))
        }
    }

    /// Connects to an endpoint of a cluster of the present snapshot.
    func aim(_ slot: Int, atCluster index: Int32) {
        let opening = Int(sessions[slot].opening)
        let cluster = view.clusters[Int(index)]
        openings[opening].upstream = view.upstreams[Int(cluster.upstream)]
        openings[opening].clusterMetric = cluster.metric
        openings[opening].connectionAgeMax = cluster.connectionAgeMax
        openings[opening].privateNames = cluster.privateNames
        sessions[slot].record.cluster = cluster.metric
        openings[opening].cluster = index
        startConnecting(slot)
        // Decided once more after a reload, it is in already.
        if sessions[slot].clusterPlace >= 0, sessions[slot].clusterPlace == cluster.place {
            tryNextEndpoint(slot)
            return
        }
        leaveCluster(slot)
        if let refusal = enterCluster(slot, cluster) {
            refuse(slot, .other(refusal), alert: .internalError, httpStatus: 503)
        } else {
            tryNextEndpoint(slot)
        }
    }

    private func startConnecting(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        guard openings[opening].connectDeadline == .distantFuture, let upstream = openings[opening].upstream else {
            return
        }
        openings[opening].connectDeadline = now.advanced(byNanoseconds: upstream.connectTotal)
    }

    private func deny(_ slot: Int, _ reason: CloseReason.Other, _ denial: Denial) {
        switch denial {
        case .unrecognizedName: refuse(slot, .other(reason), alert: .unrecognizedName, httpStatus: 421)
        case .accessDenied: refuse(slot, .other(reason), alert: .accessDenied, httpStatus: 403)
        case .close: refuse(slot, .other(reason))
        case .reset: end(slot, .other(reason), reset: true)
        }
    }
}
