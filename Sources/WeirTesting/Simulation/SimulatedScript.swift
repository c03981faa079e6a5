import WeirModel
import WeirNet
import WeirWire

/// What one client of a simulated day sends, and what may come of it.
struct SimulatedScript {
    let kind: String
    let address: SocketAddress
    /// A PROXY header.
    private(set) var header: [UInt8] = []
    /// What is relayed, its preamble first.
    private(set) var stream: [UInt8] = []
    private(set) var preambleCount = 0
    /// nil: a local connection.
    private(set) var endpoints: (source: SocketAddress, destination: SocketAddress)?
    private(set) var allowed: Set<SimulatedOutcome>
    /// Where it may be led.
    private(set) var places: Set<SocketAddress> = []
    private(set) var played: [Played] = []
    /// Its protocol has a way to say no.
    private(set) var hasAnswer = true
    /// Sends no more than the preamble, or a part of it, and not in time.
    private let slowness: Slowness

    private enum Slowness {
        case none
        /// Stops before the end of the preamble.
        case silent
        /// Stops in the middle of its PROXY header.
        case silentInHeader
        /// Sends the preamble byte by byte, slower than its deadline.
        case dripping
    }

    init(random: inout SimulatedRandom, listener: Listener, number: Int, day: SimulatedDay) {
        let owner = day.contentOwner &+ UInt64(number) << 1 | 1
        let isTrusted = listener.acceptProxy == nil || !random.chance(50)
        let host = day.clientLimit == nil ? UInt8(number) : 0
        let isStranger = listener.clients != .everyone && random.chance(30)
        address = SocketAddress(
            isStranger
                ? IPAddress(172, 32, host, 1) : isTrusted ? IPAddress(10, 1, host, 1) : IPAddress(10, 2, host, 1),
            port: UInt16(20_000 + number))
        endpoints = (address, listener.address)
        allowed = []
        var kind = listener.name
        // A broken one is refused as soon as it shows.
        var isWhole = false

        // The preamble.
        if listener.detect.isEmpty {
            stream = Array(SimulatedContent.bytes(of: owner, count: 16))
            hasAnswer = false
            allowed = Self.plainOutcomes(listener, day)
            places = day.places(ofFirstRouteOf: listener)
        } else if listener.detect.contains(.http) && random.chance(500) {
            let name = Self.chosenName(&random, day)
            (stream, allowed) = Self.request(name, owner, listener, day)
            places = day.places(ofName: name.map(Self.canonical), on: listener)
            isWhole = true
            kind += " http"
        } else {
            if day.hasDefaultRoute.contains(SimulatedDay.kind(listener)) && random.chance(100) {
                // Neither a record of TLS nor a request.
                stream = Array("#\(owner)".utf8)
                allowed = [.relayed]
                places = day.places(ofName: nil, on: listener)
                hasAnswer = false
            } else if random.chance(100) {
                (stream, allowed) = Self.brokenHello(&random, listener, day)
                played.append(.brokenHello)
            } else {
                let name = Self.chosenName(&random, day)
                (stream, allowed) = Self.hello(&random, name, owner, listener, day)
                places = day.places(ofName: name.map(Self.canonical), on: listener)
                isWhole = true
            }
            kind += " tls"
        }
        preambleCount = stream.count
        if random.chance(700) {
            let window = Int(day.faults.windowByteCount.upperBound)
            let count = random.scaled(0, min(random.chance(50) ? 400_000 : 60_000, window * 10))
            stream += SimulatedContent.bytes(of: owner ^ 0x7061_796c_6f61_64, count: count)
        }

        var slowness = Slowness.none
        if listener.acceptProxy != nil && random.chance(40) {
            slowness = .silentInHeader
            played.append(.stalledHeader)
        } else if isWhole && preambleCount >= 60 && random.chance(40) {
            slowness = random.chance(500) ? .silent : .dripping
            played.append(slowness == .silent ? .stalledPreamble : .drippedPreamble)
        }
        self.slowness = slowness
        self.kind = "\(kind) \(slowness)"
        if day.clientLimit != nil { played.append(.sharedClientAddress) }

        // What is before it.
        if listener.acceptProxy != nil {
            if !isTrusted { played.append(.untrustedPeer) }
            addHeader(&random)
        }
        if slowness == .dripping && day.mayPauseAccepting {
            // All of it may have come before it is accepted, which is when its time begins.
            allowed.insert(.reset)
        } else if slowness != .none {
            allowed = [.reset]
        }
        if isStranger || !isTrusted { allowed = [.reset] }
    }

    /// Takes effect on how the client behaves.
    mutating func shape(_ party: SimulatedParty) {
        switch slowness {
        case .none: break
        case .silent:
            party.outgoingLimit = max(1, party.preambleCount / 2)
            party.ending = .never
        case .silentInHeader:
            party.outgoingLimit = max(1, header.count / 2)
            party.ending = .never
        case .dripping:
            party.preamblePiece = 1
            party.pace.writePause = 100_000_000
        }
    }

    private static func plainOutcomes(_ listener: Listener, _ day: SimulatedDay) -> Set<SimulatedOutcome> {
        guard case .cluster(let name)? = listener.routes.first?.action else { return [] }
        // Without a protocol there is no answer but the end.
        var outcomes = day.clusterOutcomes[name] ?? []
        if outcomes.contains(.alert(.internalError)) { outcomes.insert(.end) }
        return outcomes
    }

    private static func chosenName(_ random: inout SimulatedRandom, _ day: SimulatedDay) -> String? {
        switch random.below(20) {
        case 0..<8: "solid.test"
        case 8: "Solid.TEST."
        case 9, 10: "a\(random.below(9)).shaky.test"
        case 11: "dead.test"
        case 12: "named.test"
        case 13: random.pick(["denied.test", "closed.test", "reset.test"])
        case 14: "unknown.test"
        case 15: nil
        default: random.pick(day.forwardNames)
        }
    }

    private static func canonical(_ name: String) -> String {
        let lower = name.lowercased()
        return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }

    private static func hello(
        _ random: inout SimulatedRandom, _ name: String?, _ owner: UInt64, _ listener: Listener, _ day: SimulatedDay
    ) -> ([UInt8], Set<SimulatedOutcome>) {
        let unique = Array(SimulatedContent.bytes(of: owner, count: 32))
        var builder = HelloBuilder(serverName: name, alpn: random.chance(500) ? ["h2", "http/1.1"] : [])
        builder.random = unique
        if random.chance(300) { builder.extensions?.insert(.postQuantumKeyShare, at: random.below(2)) }
        if random.chance(30) { builder = builder.padded(toMessageByteCount: random.between(4000, 15_000)) }
        var cuts: [Int] = []
        if random.chance(200) {
            for _ in 0..<random.between(1, 4) { cuts.append(random.between(1, builder.message.count - 1)) }
            cuts = Array(Set(cuts)).sorted()
        }
        var outcomes = day.outcomes(ofName: name.map(canonical), on: listener)
        if random.chance(30) {
            builder.extensions?.append(.encryptedClientHello)
            if day.refusesECH.contains(SimulatedDay.kind(listener)) { outcomes = [.alert(.accessDenied)] }
        }
        return (builder.records(splitAt: cuts), outcomes.filter { if case .http = $0 { false } else { true } })
    }

    /// Broken in one of the ways that the parser's own tests know.
    private static func brokenHello(
        _ random: inout SimulatedRandom, _ listener: Listener, _ day: SimulatedDay
    ) -> ([UInt8], Set<SimulatedOutcome>) {
        let isDefaultRouted = day.hasDefaultRoute.contains(SimulatedDay.kind(listener))
        let mayBeHTTP = listener.detect.contains(.http)
        let vector = random.pick(
            broken.filter { vector in
                // Capitals begin a request; what is no TLS at all takes the default route.
                if mayBeHTTP && (0x41...0x5a).contains(vector.bytes[0]) { return false }
                return !isDefaultRouted || vector.expected != .refused(.notTLS)
            })
        guard case .refused(let refusal) = vector.expected else { preconditionFailure("\(vector) is not refused") }
        return (vector.bytes, [refusal.alert.map { .alert($0) } ?? .reset])
    }

    private static let broken = HelloVector.all.filter {
        !$0.isAccepted && $0.byteCountMax == 16384 && $0.bytes.count < 2000
    }
    private static let brokenHeaders = ProxyVector.all.filter {
        !$0.isAccepted && $0.byteCountMax == 4096 && !$0.acceptIPv4InTCP6 && $0.bytes.count < 4000
    }

    private static func request(
        _ name: String?, _ owner: UInt64, _ listener: Listener, _ day: SimulatedDay
    ) -> ([UInt8], Set<SimulatedOutcome>) {
        let host = name.map { "Host: \($0)\r\n" } ?? ""
        // Without a Host a request is no request.
        let outcomes = name.map { day.outcomes(ofName: canonical($0), on: listener) } ?? [.http(400)]
        return (
            Array("GET /\(owner) HTTP/1.1\r\n\(host)Accept: */*\r\n\r\n".utf8),
            outcomes.filter { if case .alert = $0 { false } else { true } }
        )
    }

    private mutating func addHeader(_ random: inout SimulatedRandom) {
        let destination = SocketAddress(IPAddress(198, 51, 100, 7), port: 443)
        let source = SocketAddress(IPAddress(192, 0, 2, 1), port: 56_324)
        switch random.below(10) {
        case 0:
            let vector = random.pick(Self.brokenHeaders)
            header = vector.header
            played.append(.brokenHeader)
            allowed = [.reset]
        case 1:
            header = ProxyHeaderBuilder(command: 0x20, family: 0, addresses: []).bytes
            endpoints = nil
        case 2:
            header = Array("PROXY UNKNOWN\r\n".utf8)
            endpoints = nil
        case 3, 4, 5:
            header = Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".utf8)
            endpoints = (source, destination)
        default:
            header = ProxyHeaderBuilder(checksum: random.chance(500) ? .right : .none).bytes
            endpoints = (source, destination)
        }
    }
}
