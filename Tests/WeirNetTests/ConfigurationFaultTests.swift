import Testing
import WeirModel
import WeirNet

@Suite struct ConfigurationFaultTests {
    private func endpoint(_ text: String) -> Endpoint {
        guard let address = SocketAddress(text) else { preconditionFailure("not an address: \(text)") }
        return Endpoint(host: .address(address.ip), port: address.port)
    }

    /// One cluster, one listener, one route; no fault.
    private var sound: Configuration {
        var configuration = Configuration()
        configuration.clusters = [Cluster(name: "c", endpoints: [endpoint("192.0.2.1:443")])]
        var listener = Listener(name: "l", address: SocketAddress(.v4Loopback, port: 8443))
        listener.routes = [Route(name: "r", action: .cluster("c"))]
        configuration.listeners = [listener]
        return configuration
    }

    /// The faults after one change.
    private func faults(_ change: (inout Configuration) -> Void) -> [String] {
        var configuration = sound
        change(&configuration)
        return configuration.faults().map(\.description)
    }

    @Test func aSoundConfigurationHasNone() {
        #expect(sound.faults().isEmpty)
        #expect(Configuration().faults().isEmpty)
        #expect(Configuration.egressDefault().faults().isEmpty)
    }

    @Test func repeatedNamesAreFaults() {
        #expect(
            faults {
                $0.clusters.append($0.clusters[0])
                $0.listeners.append($0.listeners[0])
                $0.listeners[1].address.port = 8444
                $0.listeners[0].routes.append($0.listeners[0].routes[0])
            } == [
                "cluster \"c\": this name is used twice",
                "listener \"l\", route \"r\": this name is used twice",
                "listener \"l\": this name is used twice",
            ])
    }

    @Test func missingNamesAreFaults() {
        #expect(faults { $0.listeners[0].name = "" } == ["listener \"\": has no name"])
        #expect(
            faults { $0.clusters.append(Cluster(name: "", endpoints: [endpoint("192.0.2.1:1")])) }
                == ["cluster \"\": has no name"])
    }

    @Test func anAddressIsListenedOnOnceExceptForPortZero() {
        let second = { (configuration: inout Configuration, port: UInt16) in
            configuration.listeners[0].address.port = port
            configuration.listeners.append(configuration.listeners[0])
            configuration.listeners[1].name = "m"
        }
        #expect(faults { second(&$0, 8443) } == ["listener \"m\": 127.0.0.1:8443 is listened on twice"])
        #expect(faults { second(&$0, 0) }.isEmpty)
    }

    @Test func anUnknownClusterIsAFault() {
        #expect(
            faults { $0.listeners[0].routes[0].action = .cluster("d") }
                == ["listener \"l\", route \"r\": there is no cluster \"d\""])
    }

    @Test func endpointsMustBeUsable() {
        #expect(faults { $0.clusters[0].endpoints = [] } == ["cluster \"c\": has no endpoint"])
        #expect(faults { $0.clusters[0].endpoints[0].weight = 0 } == ["cluster \"c\": weight 0 is not in 1...65535"])
        #expect(faults { $0.clusters[0].endpoints[0].weight = 65535 }.isEmpty)
        #expect(faults { $0.clusters[0].endpoints[0].port = 0 } == ["cluster \"c\": port 0 cannot be connected to"])
        #expect(faults { $0.clusters[0].endpoints[0].priority = -1 } == ["cluster \"c\": priority -1 is below 0"])
        #expect(faults { $0.clusters[0].endpoints[0].maxFails = -1 } == ["cluster \"c\": max_fails -1 is below 0"])
    }

    @Test(arguments: [0, 9, -1]) func attemptsOutsideTheirRangeAreAFault(attempts: Int) {
        #expect(
            faults { $0.clusters[0].upstream.attempts = attempts }
                == ["cluster \"c\": attempts \(attempts) is not in 1...8"])
    }

    @Test func keepaliveIsWhatTheKernelTakes() {
        func faults(_ keepalive: TCPKeepalive) -> [String] {
            self.faults { $0.clusters[0].upstream.keepalive = keepalive }
        }
        #expect(faults(TCPKeepalive(idle: .seconds(1), interval: .seconds(32767), probes: 127)).isEmpty)
        #expect(
            faults(TCPKeepalive(idle: .milliseconds(500), interval: .seconds(32768), probes: 0)) == [
                "cluster \"c\": a keepalive's idle, 0.5 seconds, is not in 1 s...32767 s",
                "cluster \"c\": a keepalive's interval, 32768.0 seconds, is not in 1 s...32767 s",
                "cluster \"c\": a keepalive's probes, 0, are not in 1...127",
            ])
    }

    /// S0-5.
    @Test func sourceAddressesMustBeUsable() {
        let (a, b, c) = (IPAddress(192, 0, 2, 1), IPAddress(192, 0, 2, 2), IPAddress.v6Loopback)
        #expect(faults { $0.clusters[0].upstream.sourceAddresses = [a, b, c] }.isEmpty)
        #expect(
            faults { $0.clusters[0].upstream.sourceAddresses = [a, a.mapped, .v6Any, IPAddress(224, 0, 0, 1)] } == [
                "cluster \"c\": source address ::ffff:192.0.2.1 stands there twice",
                "cluster \"c\": :: cannot be connected from", "cluster \"c\": 224.0.0.1 cannot be connected from",
            ])
    }

    /// S0-5.
    @Test func sourcePoolsMustBeUsable() {
        func faults(_ change: (inout SourcePool) -> Void) -> [String] {
            self.faults {
                var pool = SourcePool(name: "p", addresses: [IPAddress(192, 0, 2, 1)])
                change(&pool)
                $0.sources = [pool]
            }
        }
        let many = (0..<65 as Range<UInt32>).map { IPAddress(v4: 0xc000_0200 + $0) }
        #expect(faults { $0.interface = "a-name-of-15-by" }.isEmpty)
        #expect(faults { $0.name = "" } == ["source \"\": has no name"])
        #expect(faults { $0.addresses = [] } == ["source \"p\": has no address and no interface"])
        #expect(faults { $0.addresses = many } == ["source \"p\": has 65 source addresses; 64 are the most"])
        #expect(faults { $0.interface = "a-name-of-16-byt" }.count == 1)
        #expect(faults { $0.interface = "a/b" }.count == 1)
    }

    /// S0-5.
    @Test func aSourceIsNamedOnceAndAloneAndExists() {
        let pool = SourcePool(name: "p", addresses: [IPAddress(192, 0, 2, 1)])
        #expect(faults { $0.sources = [pool, pool] } == ["source \"p\": this name is used twice"])
        #expect(faults { $0.clusters[0].upstream.source = "p" } == ["cluster \"c\": there is no source \"p\""])
        let both = faults {
            $0.sources = [pool]
            $0.clusters[0].upstream.source = "p"
            $0.clusters[0].upstream.sourceAddresses = pool.addresses
        }
        #expect(both == ["cluster \"c\": has both a source and source addresses"])
    }

    @Test func timeoutsMustLeaveTime() {
        #expect(
            faults { $0.listeners[0].timeouts.preamble = .zero }
                == ["listener \"l\": the preamble timeout of 0.0 seconds is over before it begins"])
        #expect(faults { $0.clusters[0].upstream.connectTimeout = .seconds(-1) }.count == 1)
        #expect(faults { $0.listeners[0].timeouts.session = nil }.isEmpty)
    }

    /// PO-04.
    @Test func aHeaderToSendHasItsBounds() {
        let part = "cluster \"c\": "
        func faults(_ change: (inout SendProxy) -> Void) -> [String] {
            self.faults {
                var options = SendProxy(.v2)
                change(&options)
                $0.clusters[0].upstream.sendProxy = options
            }
        }
        #expect(
            faults {
                $0.padTo = 512
                $0.custom = (0xe0...0xe3).map { SendProxy.CustomTLV($0, String(repeating: "x", count: 64)) }
            }.isEmpty)
        #expect(faults { $0.padTo = 513 } == [part + "a header is padded to 0...512 bytes"])
        #expect(faults { $0.custom = [.init(0xdf, "x")] } == [part + "a custom TLV's type is not in 0xE0...0xEF"])
        #expect(faults { $0.custom = [.init(0xe0, "x"), .init(0xe0, "y")] } == [part + "has a custom TLV twice"])
        #expect(faults { $0.custom = [.init(0xe0, "")] } == [part + "a custom TLV has 1...64 bytes, this one 0"])
        #expect(
            faults { $0.custom = (0xe0...0xe4).map { SendProxy.CustomTLV($0, "x") } } == [
                part + "has 5 custom TLVs; 4 are the most"
            ])
        #expect(
            faults {
                $0.version = .v1
                $0.forwardedTLVs = [.alpn]
            } == [part + "asks of a PROXY v1 header what only v2 has"])
    }

    /// T-08: a listener that believes headers says whose.
    @Test func acceptProxyMustTrustSomebody() {
        #expect(
            faults { $0.listeners[0].acceptProxy = AcceptProxy(from: []) }
                == ["listener \"l\": accept_proxy trusts nobody: list the peers in `from`"])
        #expect(
            faults {
                $0.listeners[0].acceptProxy = AcceptProxy(from: [CIDR(.v4Loopback, prefixLength: 8)])
                $0.listeners[0].acceptProxy?.headerByteCountMax = 15
            } == ["listener \"l\": a PROXY header limit is 16...65535 bytes"])
    }

    @Test func limitsMustLetSomebodyIn() {
        #expect(faults { $0.limits.connections = 0 } == ["limits: connections 0 lets nobody in"])
        #expect(faults { $0.listeners[0].limits.connections = 0 } == ["listener \"l\": connections 0 lets nobody in"])
        #expect(faults { $0.listeners[0].limits.connectionsPerClient = 0 }.count == 1)
        #expect(faults { $0.listeners[0].limits.connectionsPerClient = 1_000_000 }.isEmpty)
        #expect(faults { $0.limits.rate = RateLimit(0) }.count == 2)
        #expect(faults { $0.listeners[0].limits.rate = RateLimit(1, per: .zero) }.count == 1)
        #expect(faults { $0.listeners[0].limits.ratePerClient = RateLimit(1, burst: 1_000_001) }.count == 1)
        #expect(faults { $0.listeners[0].limits.ratePerClient = RateLimit(1_000_000) }.isEmpty)
        #expect(
            faults { $0.listeners[0].hello.byteCountMax = 511 } == [
                "listener \"l\": a hello limit is 512...65536 bytes"
            ])
    }

    @Test func aListenerWithoutRoutesIsAFault() {
        #expect(
            faults { $0.listeners[0].routes = [] }
                == ["listener \"l\": has no route, so every client would be refused"])
    }

    @Test func protocolsMustFitTheirLengthByte() {
        #expect(faults { $0.listeners[0].routes[0].match.alpn = [""] }.count == 1)
        #expect(faults { $0.listeners[0].routes[0].match.alpn = [String(repeating: "a", count: 256)] }.count == 1)
        #expect(faults { $0.listeners[0].routes[0].match.alpn = [String(repeating: "a", count: 255)] }.isEmpty)
    }

    @Test func aForwardNeedsANameAndAPort() {
        let forward = RouteAction.forward(DynamicForward(port: .fixed(0)))
        #expect(
            faults {
                $0.listeners[0].routes[0].action = forward
                $0.listeners[0].detect = []
            } == [
                "listener \"l\", route \"r\": forwards to the server name, but the listener detects none",
                "listener \"l\", route \"r\": port 0 cannot be connected to",
            ])
    }

    /// PP-23: the name may come from a PROXY header.
    @Test func aForwardTakesTheNameOfAProxyHeaderWhereNothingIsDetected() {
        #expect(
            faults {
                $0.listeners[0].routes[0].action = .forward(DynamicForward(port: .fixed(443)))
                $0.listeners[0].detect = []
                $0.listeners[0].acceptProxy = AcceptProxy(from: [CIDR(.v4Loopback, prefixLength: 8)])
            }.isEmpty)
    }

    // T-22
    @Test func noMoreListenersThanThereAreSlotsFor() {
        func listeners(_ count: Int) -> [Listener] {
            (0..<count).map { number in
                var listener = sound.listeners[0]
                listener.name = "number \(number)"
                listener.address = SocketAddress(.v4Loopback, port: UInt16(10_000 + number))
                return listener
            }
        }
        #expect(faults { $0.listeners = listeners(1024) }.isEmpty)
        #expect(faults { $0.listeners = listeners(1025) } == ["listeners: there are 1025, more than 1024"])
    }

    @Test func otherPartsAreCheckedToo() {
        #expect(faults { $0.workerCount = 0 } == ["workers: 0 is not in 1...256"])
        #expect(faults { $0.workerCount = 256 }.isEmpty)
        #expect(faults { $0.resolver.ttlMin = .seconds(400) }.count == 1)
        #expect(faults { $0.resolver.timeout = .zero }.count == 1)
    }

    /// UP-06.
    @Test func healthCheckFaults() {
        func faults(_ kind: HealthCheck.Kind = .http, _ change: (inout HealthCheck) -> Void) -> [String] {
            var check = HealthCheck(kind)
            change(&check)
            return self.faults { $0.clusters[0].healthCheck = check }
        }
        for kind in HealthCheck.Kind.allCases { #expect(faults(kind) { _ in }.isEmpty) }
        #expect(
            faults { $0.interval = .milliseconds(1) } == [
                "cluster \"c\": the health check's interval of 0.001 seconds is not 10 ms...1 d",
                "cluster \"c\": the health check's timeout of 1.0 seconds is longer than its interval of 0.001 seconds",
            ])
        #expect(
            faults { $0.timeout = .zero }
                == ["cluster \"c\": the health check's timeout of 0.0 seconds is over before it begins"])
        #expect(faults { $0.fall = 0 } == ["cluster \"c\": the health check's fall, 0, is not in 1...100"])
        #expect(faults { $0.rise = 101 } == ["cluster \"c\": the health check's rise, 101, is not in 1...100"])
        #expect(faults { $0.jitter = 51 } == ["cluster \"c\": the health check's jitter, 51, is not in 0...50"])
        #expect(faults { $0.port = 0 } == ["cluster \"c\": the health check's port 0 cannot be connected to"])
        #expect(
            faults { $0.path = "/a b" }
                == ["cluster \"c\": the health check's path is not a `/` and at most 1023 visible ASCII characters"])
        #expect(faults { $0.expected = [] } == ["cluster \"c\": the health check expects no status"])
        #expect(
            faults { $0.expected = [99...600] }
                == ["cluster \"c\": the health check expects 99-600, which is not in 100...599"])
    }
}

/// T-01: an open proxy has to be asked for twice, and is named at the start.
@Suite struct OpenProxyTests {
    private func forwarding(
        _ names: [ServerNamePattern], clients: ClientPolicy, routeClients: [CIDR] = []
    ) -> Configuration {
        var configuration = Configuration.egressDefault()
        configuration.listeners[0].clients = clients
        configuration.listeners[0].routes[0].match = RouteMatch(serverNames: names, clients: routeClients)
        return configuration
    }

    @Test func theDefaultIsPrivateNetworksAndWarnsOfNothing() {
        #expect(Configuration.egressDefault().warnings().isEmpty)
        #expect(forwarding([], clients: .privateNetworks).faults().isEmpty)
    }

    @Test func anyNameForPublicClientsWarnsWithTheListener() {
        let configuration = forwarding([.any], clients: .everyone)
        #expect(configuration.faults().isEmpty)
        #expect(
            configuration.warnings().map(\.description) == [
                "listener \"egress\", route \"any\": is an open proxy: clients with public addresses may reach any name"
            ])
    }

    @Test func publicClientsAloneAreNotEnough() {
        #expect(forwarding([], clients: .everyone).faults().count == 1)
    }

    @Test func aListOfNamesIsNotOpen() throws {
        let configuration = forwarding([try ServerNamePattern("*.example.com")], clients: .everyone)
        #expect(configuration.faults().isEmpty)
        #expect(configuration.warnings().isEmpty)
    }

    @Test func theRoutesOwnClientsMayCloseIt() throws {
        let ten = try #require(CIDR("10.0.0.0/8"))
        let everyone = try #require(CIDR("0.0.0.0/0"))
        #expect(forwarding([.any], clients: .everyone, routeClients: [ten]).warnings().isEmpty)
        #expect(forwarding([.any], clients: .everyone, routeClients: [everyone]).warnings().count == 1)
    }

    @Test(arguments: [
        (["+10.0.0.0/8", "-0.0.0.0/0", "-::/0"], true, false),
        (["+10.0.0.0/8"], true, true),
        (["+10.0.0.0/8", "-0.0.0.0/0"], true, true),
        (["+10.0.0.0/7"], false, true),
        (["+203.0.113.0/24"], false, true),
        (["+::ffff:10.0.0.0/104"], false, false),
        (["+fe80::/10", "+100.64.0.0/10", "+fd00::/8"], false, false),
        (["-0.0.0.0/0", "+203.0.113.0/24"], false, false),
    ])
    func rulesAreReadInTheirOrder(rules: [String], otherwiseAllow: Bool, isOpen: Bool) throws {
        let policy = ClientPolicy(
            rules: try rules.map {
                ClientPolicy.Rule(allow: $0.hasPrefix("+"), block: try #require(CIDR(String($0.dropFirst()))))
            },
            otherwiseAllow: otherwiseAllow)
        #expect(forwarding([.any], clients: policy).warnings().isEmpty == !isOpen)
    }
}
