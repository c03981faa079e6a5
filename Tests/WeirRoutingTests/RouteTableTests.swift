import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

@Suite struct RouteTableTests {
    @Test func slotsAreKeptAndMayHaveHoles() {
        let table = RouteTable(
            compiling: configuration([listener("a", [route("r")]), listener("b", port: 444, [route("s")])]),
            slots: ["a": 3, "b": 1, "gone": 4], generation: 7, metricIndex: { _ in 0 })
        #expect(table.view.generation == 7)
        #expect(
            (0..<5).map { table.view.listeners[$0].exists } == [false, true, false, true, false])
        #expect(table.view.listeners.count == RouteView.slotCount)
        #expect((0..<5).map { table.listenerName($0) } == [nil, "b", nil, "a", nil])
        #expect(table.routeName("", listener: 3) == "r")
        #expect(table.routeName("", listener: 1) == "s")
    }

    @Test func everySettingOfAListenerIsCarriedOver() throws {
        var one = listener("l", port: 8443, [route("r")])
        one.detect = [.tls, .http]
        one.hello.byteCountMax = 4096
        one.hello.allowECH = false
        one.timeouts.preamble = .seconds(1)
        one.timeouts.hello = .seconds(2)
        one.timeouts.idle = .seconds(3)
        one.timeouts.halfClose = .seconds(4)
        one.timeouts.session = .milliseconds(5)
        one.limits.connections = 6
        one.limits.connectionsPerClient = 7
        one.halfClose = false
        one.acceptProxy = AcceptProxy(from: [block("10.0.0.0/8")])
        one.acceptProxy?.headerByteCountMax = 8
        one.acceptProxy?.acceptIPv4InTCP6 = true
        let table = table(configuration([one]))
        let compiled = table.view.listeners[0]
        #expect(compiled.address == SocketAddress(.v4Any, port: 8443))
        #expect(compiled.detectsTLS && compiled.detectsHTTP)
        #expect(compiled.helloByteCountMax == 4096)
        #expect(!compiled.allowsECH)
        #expect(compiled.preambleTimeout == 1_000_000_000)
        #expect(compiled.helloTimeout == 2_000_000_000)
        #expect(compiled.idleTimeout == 3_000_000_000)
        #expect(compiled.halfCloseTimeout == 4_000_000_000)
        #expect(compiled.sessionTimeout == 5_000_000)
        #expect(compiled.connectionsMax == 6)
        #expect(compiled.connectionsPerClientMax == 7)
        #expect(!compiled.passesHalfClose)
        #expect(compiled.acceptsProxy)
        #expect(compiled.proxyHeaderByteCountMax == 8)
        #expect(compiled.acceptsIPv4InTCP6)
    }

    @Test func whatIsNotLimitedIsAtItsMaximum() {
        let table = table(configuration([listener("l", [route("r")])]))
        let compiled = table.view.listeners[0]
        #expect(compiled.sessionTimeout == .max)
        #expect(compiled.connectionsMax == .max)
        #expect(compiled.connectionsPerClientMax == .max)
        #expect(compiled.rate.isNone && compiled.ratePerClient.isNone)
        #expect(!compiled.acceptsProxy)
    }

    /// T-14: the interval is rounded up, so that a rate is never passed.
    @Test func ratesBecomeIntervals() {
        #expect(RateBound(RateLimit(500, burst: 1000)) == RateBound(interval: 2_000_000, burst: 1000))
        #expect(RateBound(RateLimit(30, per: .seconds(60))) == RateBound(interval: 2_000_000_000, burst: 30))
        #expect(RateBound(RateLimit(3)) == RateBound(interval: 333_333_334, burst: 3))
        #expect(RateBound(RateLimit(1_000_000, per: .milliseconds(1), burst: 1)).interval == 1)
    }

    @Test func actionsPointAtWhatTheyName() {
        var options = UpstreamOptions()
        options.attempts = 5
        options.connectTimeout = .milliseconds(250)
        options.sendProxy = SendProxy(.v2)
        options.sourceAddresses = [ip("2001:db8::9"), ip("192.0.2.9")]
        var clusters = [
            Cluster(name: "c", endpoints: [Endpoint(host: .address(ip("192.0.2.1")), port: 1)]),
            Cluster(name: "d", endpoints: [Endpoint(host: .address(ip("192.0.2.2")), port: 2)]),
        ]
        clusters[1].upstream.attempts = 2
        let routes = [
            route("r0", action: .cluster("d")),
            route("r1", action: .forward(DynamicForward(port: .fixed(443), upstream: options))),
            route("r2", action: .forward(DynamicForward(port: .listener))),
            route("r3", action: .deny(.reset)),
        ]
        let table = table(configuration([listener("l", routes)], clusters))
        let view = table.view
        #expect(view.routes.indices.map { view.routes[$0].action } == [.cluster, .forward, .forward, .deny])
        #expect(view.routes.indices.map { view.routes[$0].cluster } == [1, -1, -1, -1])
        #expect(view.routes.indices.map { view.routes[$0].forwardPort } == [0, 443, 0, 0])
        #expect(view.routes[3].denial == .reset)
        #expect(view.routes[3].upstream == -1)
        #expect(view.upstreams[Int(view.routes[0].upstream)].attempts == 2)
        #expect(view.routes[0].upstream == view.clusters[1].upstream)
        let upstream = view.upstreams[Int(view.routes[1].upstream)]
        #expect(upstream.attempts == 5)
        #expect(upstream.connectTimeout == 250_000_000)
        #expect(upstream.sendProxy?.version == .v2)
        #expect(upstream.sources.v4.indices.map { view.sourceAddresses[$0] } == [ip("192.0.2.9")])
        #expect(upstream.sources.v6.indices.map { view.sourceAddresses[$0] } == [ip("2001:db8::9")])
        #expect(view.upstreams[Int(view.routes[2].upstream)].sources.isNone)
        #expect(view.upstreams[Int(view.routes[2].upstream)].sendProxy == nil)
    }

    /// S0-5.
    @Test func aPoolIsSharedByWhoeverNamesIt() {
        var pool = SourcePool(name: "p", addresses: [ip("2001:db8::9"), ip("192.0.2.9"), ip("::ffff:192.0.2.8")])
        pool.select = .clientHash
        pool.interface = "eth1"
        pool.mark = 7
        var lost = SourcePool(name: "q", addresses: [ip("192.0.2.7")])
        lost.interface = "eth9"
        var (named, nameless) = (UpstreamOptions(), UpstreamOptions())
        named.source = "p"
        nameless.source = "q"
        var clusters = ["a", "b", "c"].map {
            Cluster(name: $0, endpoints: [Endpoint(host: .address(ip("192.0.2.1")), port: 1)])
        }
        clusters[0].upstream = named
        clusters[1].upstream = nameless
        clusters[2].upstream = named
        var configuration = configuration([], clusters)
        configuration.sources = [pool, lost]
        let view = RouteTable(
            compiling: configuration, slots: [:], generation: 1, interfaceIndex: { $0 == "eth1" ? 3 : nil },
            metricIndex: { _ in 0 })
        let sources = view.view.clusters.indices.map {
            view.view.upstreams[Int(view.view.clusters[$0].upstream)].sources
        }
        #expect(sources.map(\.number) == [0, 1, 0])
        #expect(sources[0].v4.indices.map { view.view.sourceAddresses[$0] } == [ip("192.0.2.9"), ip("192.0.2.8")])
        #expect(sources[0].v6.indices.map { view.view.sourceAddresses[$0] } == [ip("2001:db8::9")])
        #expect(sources[0].select == .clientHash)
        #expect(sources.map(\.interface) == [3, -1, 3])
        #expect(sources.map(\.mark) == [7, 0, 7])
    }

    /// PO-04, PO-07.
    @Test func everyOptionOfASentHeaderIsCarriedOver() throws {
        var options = UpstreamOptions()
        var header = SendProxy(.v2)
        header.authority = true
        header.crc32c = true
        header.forwardedTLVs = [.uniqueID]
        header.custom = [
            SendProxy.CustomTLV(0xe3, "blue"), SendProxy.CustomTLV(0xe0, String(repeating: "x", count: 64)),
        ]
        header.padTo = 300
        options.sendProxy = header
        let table = table(
            configuration([
                listener("l", [route("r", action: .forward(DynamicForward(port: .fixed(443), upstream: options)))])
            ]))
        let compiled = try #require(table.view.upstreams[0].sendProxy)
        #expect(compiled.version == .v2)
        #expect(compiled.authority && compiled.crc32c && !compiled.alpn && !compiled.uniqueID)
        #expect(compiled.forwardsUniqueID && !compiled.forwardsAuthority && !compiled.forwardsALPN)
        #expect(compiled.padTo == 300)
        #expect(compiled.customCount == 2)
        let custom = (0..<compiled.customCount).map { index in
            let value = compiled.custom[index].value
            let bytes = (0..<value.byteCount).map { value[$0] }
            return SendProxy.CustomTLV(compiled.custom[index].type, String(decoding: bytes, as: UTF8.self))
        }
        #expect(custom == header.custom)
    }

    @Test func endpointsLieInTheOrderOfTheirPriority() throws {
        var endpoints = (1...4).map { Endpoint(host: .address(ip("192.0.2.\($0)")), port: 443) }
        endpoints[0].priority = 1
        endpoints[1].weight = 9
        endpoints[2].isDown = true
        endpoints[3].host = .name(serverName("b.example"))
        endpoints[3].maxFails = 3
        endpoints[3].failTimeout = .seconds(2)
        let table = table(configuration([], [Cluster(name: "c", endpoints: endpoints)]))
        let view = table.view
        #expect(table.clusterName(0) == "c")
        #expect(view.clusters[0].endpoints.indices == 0..<4)
        #expect(
            (0..<4).map { table.endpointDescription($0) } == [
                "192.0.2.2:443", "192.0.2.3:443", "b.example:443", "192.0.2.1:443",
            ])
        #expect((0..<4).map { view.endpoints[$0].priority } == [0, 0, 0, 1])
        #expect((0..<4).map { view.endpoints[$0].weight } == [9, 1, 1, 1])
        #expect((0..<4).map { view.endpoints[$0].isDown } == [false, true, false, false])
        #expect(view.endpoints[2].maxFails == 3)
        #expect(view.endpoints[2].failTimeout == 2_000_000_000)
        guard case .name(let name) = view.endpoints[2].host, case .address(let address) = view.endpoints[3].host else {
            Issue.record("the hosts are of another kind")
            return
        }
        #expect(view.hostNames[Int(name)] == serverName("b.example"))
        #expect(address == ip("192.0.2.1"))
    }

    @Test func everyPartHasTheMetricThatTheCallerChose() {
        let cluster = Cluster(name: "c", endpoints: [Endpoint(host: .address(ip("192.0.2.1")), port: 443)])
        let indices: [MetricSubject: Int32] = [
            .listener("l"): 11, .route(listener: "l", name: "r"): 12, .cluster("c"): 13,
            .endpoint(cluster: "c", description: "192.0.2.1:443"): 14,
        ]
        let table = RouteTable(
            compiling: configuration([listener("l", [route("r")])], [cluster]), slots: ["l": 0], generation: 1,
            metricIndex: { indices[$0] ?? -1 })
        #expect(table.view.listeners[0].metric == 11)
        #expect(table.view.routes[0].metric == 12)
        #expect(table.view.clusters[0].metric == 13)
        #expect(table.view.endpoints[0].metric == 14)
    }

    @Test("UP-13: a published table replaces the old one for every reader") func tablesArePublishedWhole() {
        let cell = SnapshotCell(table(configuration([listener("l", [route("old", ["a.example"])])])), readerCount: 1)
        let reader = cell.reader(0)
        let before = reader.adopt()
        #expect(before?.routeName("a.example") == "old")
        let epoch = cell.publish(table(configuration([listener("l", [route("new", ["a.example"])])])))
        let after = reader.adopt()
        #expect(after?.routeName("a.example") == "new")
        #expect(cell.readersHaveAdopted(epoch))
    }

    /// Ten thousand routes with everything on them compile at once: no time is measured here, but a quadratic compile
    /// would not end within the suite's limit.
    @Test(.timeLimit(.minutes(1))) func manyRoutesWithClientsCompile() {
        let blocks = (0..<64).map { "10.\($0).0.0/16" }
        let routes = (0..<10_000).map { number in
            route(
                "r\(number)", ["h\(number).example", "*.h\(number).example"], clients: number % 100 == 0 ? blocks : [])
        }
        let table = table(configuration([listener("l", routes)]))
        #expect(table.routeName("h9999.example") == "r9999")
        #expect(table.routeName("a.h5000.example", client: "10.63.0.1") == "r5000")
        #expect(table.routeName("a.h5000.example", client: "10.64.0.1") == nil)
    }
}
