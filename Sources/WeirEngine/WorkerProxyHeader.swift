import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirWire

// The PROXY header that a trusted peer sent, and the one that an upstream gets.

extension Worker {
    // MARK: Received

    /// The header that opens the connection has been read.
    func proxyHeaderRead(_ slot: Int, _ header: ProxyHeader) {
        let opening = beginOpening(slot)
        guard let kept = proxyHeaders.allocate(header) else {
            preconditionFailure("there are as many PROXY headers as sessions")
        }
        openings[opening].proxyHeader = Int32(kept)
        let metric = sessions[slot].record.listener
        sessions[slot].record.flags.insert(.proxyAccepted)
        count(metric, ListenerCell.proxyAccepted)
        if header.duplicateAuthorityCount > 0 {
            count(metric, ListenerCell.proxyDuplicateAuthority, UInt64(header.duplicateAuthorityCount))
        }
        if let source = header.source {
            sessions[slot].record.client = source
            openings[opening].proxiedDestination = header.destination
        } else {
            openings[opening].isLocalConnection = true
        }
        if !header.uniqueID.isEmpty {
            guard let id = proxyUniqueIDs.allocate(header.uniqueID) else {
                preconditionFailure("there are as many unique ids as sessions")
            }
            sessions[slot].proxyUniqueID = Int32(id)
        }
        // PP2_CLIENT_SSL
        if let ssl = header.ssl, ssl.clientFlags & 1 != 0 { sessions[slot].record.flags.insert(.proxyTLS) }
        let listener = view.listeners[Int(sessions[slot].listenerSlot)]
        if !listener.detectsTLS, !listener.detectsHTTP { takeAuthority(slot, header) }
        if isOwnUniqueID(header) {
            // T-07: what we sent out has come back in.
            denied(slot, .ownListener)
            end(slot, .other(.destinationDenied), reset: true)
            return
        }
        _ = admitClient(slot)
    }

    /// Where nothing else is read, the peer's word is the server name; bytes that are no host name are none.
    private func takeAuthority(_ slot: Int, _ header: ProxyHeader) {
        let name = header.authority.withBytes { try? ServerName(canonicalizing: $0) }
        guard let name else { return }
        sessions[slot].record.serverName = name
    }

    // MARK: Sent

    /// Puts a PROXY header before everything else that waits for the upstream.
    func sendProxyHeader(_ slot: Int, _ options: CompiledSendProxy) {
        guard let block = pool.takeBlock() else {
            note(.buffers)
            end(slot, .other(.outOfBuffers), reset: true)
            return
        }
        let opening = Int(sessions[slot].opening)
        let isLocal = openings[opening].isLocalConnection
        let source: SocketAddress? = isLocal ? nil : sessions[slot].record.client
        let destination: SocketAddress? =
            isLocal
            ? nil
            : openings[opening].gatewayDestination ?? openings[opening].proxiedDestination
                ?? sessions[slot].record.local
        pool.append(to: block) { output in
            switch options.version {
            case .v1:
                return ProxyHeaderEncoder.writeV1(source: source, destination: destination, into: &output)
            case .v2:
                var header = ProxyHeaderEncoder.V2(source: source, destination: destination, into: &output)
                appendAuthority(slot, options, to: &header, &output)
                appendALPN(slot, options, to: &header, &output)
                appendUniqueID(slot, options, to: &header, &output)
                for index in 0..<options.customCount {
                    options.custom[index].value.withBytes {
                        header.append(.custom(options.custom[index].type), $0, into: &output)
                    }
                }
                return header.finish(checksum: options.crc32c, byteCountMin: options.padTo, into: &output)
            }
        }
        let head = sessions[slot].toUpstream.head
        pool.chunks[Int(block)].next = head
        sessions[slot].toUpstream.head = block
        if head == BufferPool.none { sessions[slot].toUpstream.tail = block }
        openings[opening].hasHeaderQueued = true
        sessions[slot].machine.queued(to: .upstream)
    }

    // What the peer's header said is sent on where that is asked for (PO-07), else what we know ourselves. Nothing else
    // of that header goes any further, its TLS facts never.

    private func appendAuthority(
        _ slot: Int, _ options: CompiledSendProxy, to header: inout ProxyHeaderEncoder.V2,
        _ output: inout MutableSpan<UInt8>
    ) {
        let opening = Int(sessions[slot].opening)
        let received = Int(openings[opening].proxyHeader)
        if options.forwardsAuthority, received >= 0, !proxyHeaders[received].authority.isEmpty {
            proxyHeaders[received].authority.withBytes { header.append(.authority, $0, into: &output) }
        } else if options.authority, sessions[slot].record.detected == .tls, !sessions[slot].record.serverName.isNone {
            openings[opening].spelling.withBytes(of: sessions[slot].record.serverName) {
                header.append(.authority, $0, into: &output)
            }
        }
    }

    private func appendALPN(
        _ slot: Int, _ options: CompiledSendProxy, to header: inout ProxyHeaderEncoder.V2,
        _ output: inout MutableSpan<UInt8>
    ) {
        let opening = Int(sessions[slot].opening)
        let received = Int(openings[opening].proxyHeader)
        if options.forwardsALPN, received >= 0, !proxyHeaders[received].alpn.isEmpty {
            proxyHeaders[received].alpn.withBytes { header.append(.alpn, $0, into: &output) }
        } else if options.alpn, !openings[opening].alpn.isEmpty {
            openings[opening].alpn.withBytes { encoded in
                header.append(.alpn, encoded.extracting(1..<1 + Int(encoded[0])), into: &output)
            }
        }
    }

    private func appendUniqueID(
        _ slot: Int, _ options: CompiledSendProxy, to header: inout ProxyHeaderEncoder.V2,
        _ output: inout MutableSpan<UInt8>
    ) {
        let received = Int(sessions[slot].proxyUniqueID)
        if options.forwardsUniqueID, received >= 0 {
            proxyUniqueIDs[received].withBytes { header.append(.uniqueID, $0, into: &output) }
        } else if options.uniqueID {
            let bytes = uniqueID(sessions[slot].record.id)
            header.append(.uniqueID, bytes.span, into: &output)
        }
    }

    /// This process and the session, in 16 bytes.
    private func uniqueID(_ session: UInt64) -> InlineArray<16, UInt8> {
        var bytes = InlineArray<16, UInt8>(repeating: 0)
        for index in 0..<8 {
            bytes[index] = UInt8(truncatingIfNeeded: instance >> UInt64(56 - 8 * index))
            bytes[8 + index] = UInt8(truncatingIfNeeded: session >> UInt64(56 - 8 * index))
        }
        return bytes
    }

    /// Whether a PROXY header carries a unique id that this process made.
    private func isOwnUniqueID(_ header: ProxyHeader) -> Bool {
        guard header.uniqueID.byteCount == 16 else { return false }
        let own = uniqueID(0)
        for index in 0..<8 where header.uniqueID[index] != own[index] { return false }
        return true
    }
}
