import WeirModel
import WeirNet
import WeirWire

// Whose bytes came where, looked at whenever some did.

extension Simulation {
    func checkStreams() {
        for connection in dirty {
            if let client = clientOf[connection.id] {
                check(client)
            } else if let upstream = upstreamOf[connection.id] {
                check(upstream)
            }
        }
        dirty.removeAll(keepingCapacity: true)
    }

    /// What came to a client is what one upstream says, from its first byte on.
    func check(_ client: Client) {
        let received = client.connection.received
        guard received.count > client.checkedCount else { return }
        if client.heard == nil {
            // An alert, a status line or somebody who says who it is.
            guard received[0] == UInt8(ascii: "U") else {
                if received[0] != 0x15 && received[0] != UInt8(ascii: "H") {
                    fail("client \(client.number) got bytes of nobody")
                }
                return
            }
            guard received.count >= SimulatedContent.tagByteCount else { return }
            let number = SimulatedContent.number(inTag: received[..<SimulatedContent.tagByteCount])
            guard let number, number < upstreams.count else {
                fail("client \(client.number) got bytes of nobody")
                return
            }
            client.heard = upstreams[number]
            if let other = clients.first(where: { $0 !== client && $0.heard === upstreams[number] }) {
                fail("clients \(client.number) and \(other.number) both got bytes of upstream \(number)")
            }
        }
        guard let upstream = client.heard else { return }
        compare(
            received, from: 0, checked: &client.checkedCount, with: upstream.party.outgoing, from: 0,
            written: upstream.connection.sent.count, "client \(client.number) of upstream \(upstream.number)")
    }

    /// What came to an upstream is its PROXY header and what one client says, from its first byte on.
    func check(_ upstream: Upstream) {
        let received = upstream.connection.received
        if upstream.headerCount == nil { readHeader(upstream) }
        guard let headerCount = upstream.headerCount, received.count > headerCount else { return }
        if upstream.client == nil { identify(upstream, headerCount) }
        guard let client = upstream.client else { return }
        compare(
            received, from: headerCount, checked: &upstream.checkedCount, with: client.party.outgoing,
            from: client.headerCount, written: client.connection.sent.count,
            "upstream \(upstream.number) of client \(client.number)")
    }

    private func compare(
        _ received: [UInt8], from start: Int, checked: inout Int, with outgoing: [UInt8], from first: Int, written: Int,
        _ whose: @autoclosure () -> String
    ) {
        let count = received.count - start
        guard first + count <= written else {
            fail("\(whose()): \(count) bytes came of \(written - first)")
            return
        }
        if let place = firstDifference(
            received, from: start + checked, outgoing, from: first + checked, count: count - checked)
        {
            fail("\(whose()): byte \(checked + place) is another")
        }
        checked = count
    }

    private func readHeader(_ upstream: Upstream) {
        let received = upstream.connection.received
        var parser = ProxyHeaderParser(byteCountMax: 4096, acceptIPv4InTCP6: false)
        switch parser.consume(received.span) {
        case .needMore: break
        case .refused(let refusal): fail("upstream \(upstream.number) got a PROXY header that is \(refusal)")
        case .complete(let header, let consumed):
            upstream.headerCount = consumed
            upstream.header = header
        }
    }

    private func identify(_ upstream: Upstream, _ headerCount: Int) {
        let received = upstream.connection.received
        let count = received.count - headerCount
        // What was on its way to one that is gone may arrive after another has been asked.
        let isGone = isGoneEarly(upstream)
        let candidates = clients.filter { client in
            (isGone || client.upstream.map(isGoneEarly) ?? true)
                && client.connection.sent.count - client.headerCount >= count
                && firstDifference(
                    received, from: headerCount, client.party.outgoing, from: client.headerCount, count: count) == nil
        }
        if candidates.isEmpty {
            fail("upstream \(upstream.number) got bytes of nobody, or of somebody who speaks with another")
        } else if candidates.count == 1, let client = candidates.first, !isGone || client.upstream == nil {
            upstream.client = client
            client.upstream = upstream
            trace?("\(proxy.now.story) PAIR client \(client.number) upstream \(upstream.number)")
            if !client.places.contains(upstream.connection.farAddress) {
                fail("client \(client.number) was led to \(upstream.connection.farAddress), where it does not belong")
            }
            checkHeader(upstream, client)
        }
    }

    /// It left before anything that it said was heard, so that somebody else may have been asked instead. What a reset drops
    /// was not heard.
    func isGoneEarly(_ upstream: Upstream) -> Bool {
        let connection = upstream.connection
        if clients.contains(where: { $0.heard === upstream }) { return false }
        return connection.hasFarReset || connection.hasFarEnded && connection.sent.isEmpty
    }

    private func checkHeader(_ upstream: Upstream, _ client: Client) {
        guard let options = day.headers[upstream.connection.farAddress], let header = upstream.header else { return }
        if header.source != client.endpoints?.source || header.destination != client.endpoints?.destination {
            fail("upstream \(upstream.number) got a PROXY header for \(String(describing: header.source))")
        }
        if options.version == .v2 && (header.command == .local) != (client.endpoints == nil) {
            fail("upstream \(upstream.number) got a PROXY header with command \(header.command)")
        }
        if options.version == .v2 && options.crc32c && client.endpoints != nil && !header.crcVerified {
            fail("upstream \(upstream.number) got a PROXY header without its checksum")
        }
    }
}
