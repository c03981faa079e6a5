import Testing
import WeirEngine
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting
import WeirUpstream
import WeirWire

/// What PROXY headers carry beside addresses, from a trusted peer and to an upstream.
@Suite struct ProxyHeaderScenarioTests {
    /// Believes headers from 10.1.0.0/16 and sends v2.
    private func scene(
        _ options: (inout SendProxy) -> Void = { _ in }, _ change: (inout Listener) -> Void = { _ in }
    ) -> Scene {
        Scene { listener, cluster in
            listener.acceptProxy = AcceptProxy(from: [CIDR(ip("10.1.0.0"), prefixLength: 16)])
            listener.clients = .everyone
            var header = SendProxy(.v2)
            options(&header)
            cluster.upstream.sendProxy = header
            change(&listener)
        }
    }

    private func tlv(_ type: UInt8, _ text: String) -> [UInt8] { ProxyHeaderBuilder.tlv(type, Array(text.utf8)) }

    /// Everything a header can carry; authority `Good.test`, ALPN `h2`, unique id `unique`.
    private let everything = ProxyHeaderBuilder(tlvs: ProxyVector.everyTLV, checksum: .right).bytes

    // MARK: Sent

    /// PO-04.
    @Test func customTextAndPaddingAreSent() {
        let scene = scene {
            $0.custom = [SendProxy.CustomTLV(0xef, "zone 1"), SendProxy.CustomTLV(0xe0, "blue")]
            $0.padTo = 64
            $0.crc32c = true
        }
        let proxy = scene.start()
        _ = proxy.client(ProxyHeaderBuilder().bytes + hello())
        // 28 bytes of addresses, 9 and 7 of text, 7 of checksum: a NOOP of 13 is missing.
        let tlvs = tlv(0xef, "zone 1") + tlv(0xe0, "blue") + ProxyHeaderBuilder.tlv(4, [UInt8](repeating: 0, count: 10))
        let header = ProxyHeaderBuilder(tlvs: tlvs, checksum: .right).bytes
        #expect(header.count == 64)
        #expect(proxy.run { proxy.upstreams.first?.received == header + hello() })
    }

    /// PO-04: all that can be asked for at once fits.
    @Test func theLongestHeaderIsSentWhole() throws {
        let scene = scene {
            $0.forwardedTLVs = Set(SendProxy.ForwardedTLV.allCases)
            $0.custom = (0xe0...0xe3).map { SendProxy.CustomTLV($0, String(repeating: "x", count: 64)) }
            $0.crc32c = true
            $0.padTo = 512
        }
        let longest = { (count: Int) in [UInt8](repeating: UInt8(ascii: "y"), count: count) }
        let carried =
            ProxyHeaderBuilder.tlv(2, longest(255)) + ProxyHeaderBuilder.tlv(1, longest(255))
            + ProxyHeaderBuilder.tlv(5, longest(128))
        let proxy = scene.start()
        let received = ProxyHeaderBuilder(family: 0x21, addresses: ProxyHeaderBuilder.inet6, tlvs: carried)
        _ = proxy.client(received.bytes + hello())
        var sent = received
        for type: UInt8 in 0xe0...0xe3 { sent.tlvs += tlv(type, String(repeating: "x", count: 64)) }
        sent.checksum = .right
        #expect(proxy.run { proxy.upstreams.first?.received == sent.bytes + hello() })
    }

    /// PO-07: addresses go on, everything else only where it is asked for.
    @Test func receivedFieldsAreDroppedUnlessListed() {
        let proxy = scene().start()
        _ = proxy.client(everything + hello())
        #expect(proxy.run { proxy.upstreams.first?.received == ProxyHeaderBuilder().bytes + hello() })
    }

    /// PO-07: TLS facts, custom text and NOOPs of the peer never go on, and the checksum is our own.
    @Test(arguments: [
        (SendProxy.ForwardedTLV.authority, ProxyHeaderBuilder.tlv(2, Array("Good.test".utf8))),
        (.alpn, ProxyHeaderBuilder.tlv(1, Array("h2".utf8))),
        (.uniqueID, ProxyHeaderBuilder.tlv(5, Array("unique".utf8))),
    ])
    func listedFieldIsSentOn(field: SendProxy.ForwardedTLV, expected: [UInt8]) {
        let scene = scene {
            $0.forwardedTLVs = [field]
            $0.crc32c = true
        }
        let proxy = scene.start()
        _ = proxy.client(everything + hello())
        let header = ProxyHeaderBuilder(tlvs: expected, checksum: .right).bytes
        #expect(proxy.run { proxy.upstreams.first?.received == header + hello() })
    }

    /// PO-07.
    @Test func receivedFieldIsSentInsteadOfOurOwn() {
        let scene = scene {
            $0.authority = true
            $0.alpn = true
            $0.uniqueID = true
            $0.forwardedTLVs = Set(SendProxy.ForwardedTLV.allCases)
        }
        let proxy = scene.start()
        _ = proxy.client(everything + HelloBuilder(serverName: "GOOD.test", alpn: ["http/1.1"]).records())
        let header = ProxyHeaderBuilder(tlvs: tlv(2, "Good.test") + tlv(1, "h2") + tlv(5, "unique")).bytes
        #expect(proxy.run { (proxy.upstreams.first?.received.count ?? 0) > header.count })
        #expect(proxy.upstreams[0].received.starts(with: header))
    }

    /// PO-07: what did not come is ours where we are asked for it, else absent.
    @Test func ourOwnFieldIsSentWhereNoneCame() {
        let scene = scene {
            $0.authority = true
            $0.forwardedTLVs = Set(SendProxy.ForwardedTLV.allCases)
        }
        let proxy = scene.start()
        _ = proxy.client(ProxyHeaderBuilder().bytes + hello())
        let header = ProxyHeaderBuilder(tlvs: tlv(2, "good.test")).bytes
        #expect(proxy.run { proxy.upstreams.first?.received == header + hello() })
    }

    /// PO-05, PO-07: nothing behind LOCAL is looked at, so nothing of it is sent on.
    @Test func fieldsOfALocalHeaderAreNotSentOn() {
        let proxy = scene { $0.forwardedTLVs = Set(SendProxy.ForwardedTLV.allCases) }.start()
        let received = ProxyHeaderBuilder(
            command: 0x20, family: 0x11, addresses: ProxyHeaderBuilder.inet, tlvs: ProxyVector.everyTLV)
        _ = proxy.client(received.bytes + hello())
        let local = ProxyHeaderBuilder(command: 0x20, family: 0, addresses: []).bytes
        #expect(proxy.run { proxy.upstreams.first?.received == local + hello() })
    }

    // MARK: Believed

    /// PP-23.
    @Test func uniqueIDAndTLSAreInTheRecord() throws {
        let proxy = scene().start()
        let client = proxy.client(everything + hello())
        #expect(proxy.run { !proxy.upstreams.isEmpty })
        proxy.driver.abort(client)
        #expect(proxy.run { proxy.records.count == 1 })
        let entry = try #require(proxy.logEntries.first)
        let id = (0..<entry.proxyUniqueID.byteCount).map { entry.proxyUniqueID[$0] }
        #expect(text(id) == "unique")
        #expect(entry.record.flags.isSuperset(of: [.proxyAccepted, .proxyTLS]))
    }

    /// PP-23: PP2_TYPE_SSL alone does not say that TLS was used; its lowest flag does.
    @Test func tlsIsWhatTheFlagSays() throws {
        let proxy = scene().start()
        let header = ProxyHeaderBuilder(tlvs: ProxyHeaderBuilder.ssl(clientFlags: 6)).bytes
        let client = proxy.client(header)
        proxy.run(for: .milliseconds(10))
        proxy.driver.abort(client)
        #expect(proxy.run { proxy.records.count == 1 })
        let record = try #require(proxy.records.first)
        #expect(record.flags.contains(.proxyAccepted) && !record.flags.contains(.proxyTLS))
    }

    /// PP-23.
    @Test func authorityIsTheServerNameWhereNothingIsDetected() throws {
        let proxy = scene({ _ in }, { $0.detect = [] }).start()
        let client = proxy.client(ProxyHeaderBuilder(tlvs: tlv(2, "Good.Test.")).bytes + Array("payload".utf8))
        #expect(proxy.run { proxy.upstreams.first?.received == ProxyHeaderBuilder().bytes + Array("payload".utf8) })
        proxy.driver.abort(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.records.first?.serverName.description == "good.test")
    }

    /// PP-23: also for a forward to the name itself, which the guard checks like any other.
    @Test func authorityIsForwardedToWhereNothingIsDetected() throws {
        let proxy = scene({ _ in }, { $0.detect = [] }).start()
        var addresses = ResolvedAddresses()
        addresses.append(ip("203.0.114.9"))
        let answer = Answer(status: .found, addresses: addresses, expires: Instant(nanoseconds: 3_600_000_000_000))
        proxy.resolve = { _ in (100_000, answer) }
        _ = proxy.client(ProxyHeaderBuilder(tlvs: tlv(2, "a.forward.test")).bytes + Array("payload".utf8))
        #expect(proxy.run { proxy.upstreams.first.map { text($0.received) } == "payload" })
        #expect(proxy.connects.map(\.destination) == [at("203.0.114.9:443")])
    }

    /// PP-23, T-15: no host name, no server name.
    @Test(arguments: ["10.0.0.1", "good test", "good.test\n", "[::1]"])
    func authorityThatIsNoHostNameIsIgnored(authority: String) {
        let proxy = scene({ _ in }, { $0.detect = [] }).start()
        _ = proxy.client(ProxyHeaderBuilder(tlvs: tlv(2, authority)).bytes)
        #expect(proxy.run { proxy.onlyReason == "local_no_route" })
        #expect(proxy.records.first?.serverName.isNone == true)
    }

    /// PP-23: the client's own word stands where it is read.
    @Test func helloNamesTheServerWhereOneIsRead() {
        let proxy = scene().start()
        _ = proxy.client(ProxyHeaderBuilder(tlvs: tlv(2, "denied.test")).bytes + hello())
        #expect(proxy.run { proxy.upstreams.first?.received == ProxyHeaderBuilder().bytes + hello() })
    }

    /// PP-24.
    @Test func firstOfSeveralAuthoritiesHoldsAndTheOthersAreCounted() {
        let proxy = scene({ $0.forwardedTLVs = [.authority] }, { $0.detect = [] }).start()
        let tlvs = tlv(2, "good.test") + tlv(2, "denied.test") + tlv(2, "other.test")
        _ = proxy.client(ProxyHeaderBuilder(tlvs: tlvs).bytes)
        let header = ProxyHeaderBuilder(tlvs: tlv(2, "good.test")).bytes
        #expect(proxy.run { proxy.upstreams.first?.received == header })
        let metric = proxy.registry.listener("main")
        #expect(proxy.cells.value(metric + ListenerCell.proxyDuplicateAuthority) == 2)
    }

    @Test func aSessionStaysBelowOneKibibyte() {
        #expect(Worker.byteCountPerSession <= 1024)
    }
}
