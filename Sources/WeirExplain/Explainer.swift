import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirUpstream
import WeirWire

/// Says what a configuration would do with connections that nobody has made: the look-ups are the workers' own, on a table
/// compiled as theirs is.
package struct Explainer: Sendable {
    /// Who is asked for the addresses of a name; nil: nobody, for this name.
    package typealias Resolve = (ServerName) -> Answer?

    package let configuration: Configuration
    let table: RouteTable
    /// By listener: the index of its first route in the table.
    private let firstRoutes: [Int]
    let clusterIndices: [String: Int]

    /// `configuration` has no faults. `localAddresses`: those of this machine, which the guard keeps from its own listeners.
    package init(_ configuration: Configuration, localAddresses: [IPAddress] = []) {
        self.configuration = configuration
        var slots: [String: Int] = [:]
        var firstRoutes: [Int] = []
        var routeCount = 0
        for (slot, listener) in configuration.listeners.enumerated() {
            slots[listener.name] = slot
            firstRoutes.append(routeCount)
            routeCount += listener.routes.count
        }
        self.firstRoutes = firstRoutes
        var clusterIndices: [String: Int] = [:]
        for (index, cluster) in configuration.clusters.enumerated() { clusterIndices[cluster.name] = index }
        self.clusterIndices = clusterIndices
        let own = configuration.listeners.map(\.address) + (configuration.admin.map { [$0.address] } ?? [])
        table = RouteTable(
            compiling: configuration, slots: slots, generation: 0, ownListeners: own, localAddresses: localAddresses,
            metricIndex: { _ in -1 }, placeIndex: { _ in -1 })
    }

    /// The listeners that a connection may come to, with the reason: the one of that name or address, else those at the
    /// destination that is asked for, else all. Empty: there is none of that name.
    package func listeners(named name: String?, for inquiry: Inquiry) -> [(name: String, why: String)] {
        let all = configuration.listeners
        if let name {
            if let found = all.first(where: { $0.name == name }) { return [(found.name, "the one asked about")] }
            guard let address = SocketAddress(name) else { return [] }
            return all.filter { $0.address == address }.map { ($0.name, "the one at the address asked about") }
        }
        if all.count == 1 { return [(all[0].name, "the only one")] }
        if let destination = inquiry.destination {
            let there = all.filter { $0.address.port == destination.port && $0.address.ip == destination.ip }
            let anywhere = all.filter { $0.address.port == destination.port && $0.address.ip.isUnspecified }
            let found = there.isEmpty ? anywhere : there
            if !found.isEmpty { return found.map { ($0.name, "it listens at \(destination)") } }
        }
        return all.map { ($0.name, "one of \(all.count), as none was asked about") }
    }

    /// What the listener of that name would do; nil: there is none.
    package func decision(
        for inquiry: Inquiry, at listener: String, why: String = "the one asked about",
        resolve: Resolve = { _ in nil }
    ) -> Explanation? {
        guard let slot = configuration.listeners.firstIndex(where: { $0.name == listener }) else { return nil }
        return withExtendedLifetime(table) {
            var decision = Decision(self, inquiry, slot, why)
            decision.make(resolve)
            return decision.explanation
        }
    }

    /// What becomes of many, none of whose names is resolved; nil: there is no listener of that name. In one breath, without
    /// what only an explanation tells: an admin page asks about thousands.
    package func verdicts(of inquiries: [(inquiry: Inquiry, listener: String)]) -> [Verdict?] {
        let slots = Dictionary(
            configuration.listeners.enumerated().map { ($0.element.name, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        return withExtendedLifetime(table) {
            var clusters: [Int: Explanation.ClusterPart] = [:]
            return inquiries.map { inquiry, listener in
                guard let slot = slots[listener] else { return nil }
                var decision = Decision(self, inquiry, slot, "", knownClusters: clusters)
                decision.make { _ in nil }
                clusters = decision.knownClusters ?? clusters
                return decision.explanation.verdict
            }
        }
    }

    /// The route as it was written.
    func route(_ index: Int, at slot: Int) -> Route {
        let route = configuration.listeners[slot].routes[index - firstRoutes[slot]]
        precondition(route.name == table.routeName(index), "routes are compiled in their order")
        return route
    }
}

/// One question to one listener, on its way through the stages of a connection.
struct Decision {
    let explainer: Explainer
    let inquiry: Inquiry
    let slot: Int
    var explanation: Explanation
    /// Of a PROXY header.
    var proxiedDestination: SocketAddress?
    /// Whom the client asks for by a PROXY header's word.
    var authority = ServerName.none
    /// What the client's socket is connected to, as workers ask for it; nil: not known.
    var socketDestination: SocketAddress?
    /// Where only the verdict is wanted: what has been made of clusters so far, which is the same for every question.
    var knownClusters: [Int: Explanation.ClusterPart]?

    var listener: Listener { explainer.configuration.listeners[slot] }
    var view: RouteView { explainer.table.view }

    init(
        _ explainer: Explainer, _ inquiry: Inquiry, _ slot: Int, _ why: String,
        knownClusters: [Int: Explanation.ClusterPart]? = nil
    ) {
        self.explainer = explainer
        self.knownClusters = knownClusters
        self.inquiry = inquiry
        self.slot = slot
        let listener = explainer.configuration.listeners[slot]
        let peer = inquiry.peer.unmapped
        explanation = Explanation(
            listener: .init(name: listener.name, address: listener.address, why: why),
            client: .init(address: peer, peer: peer, header: .none), verdict: Verdict())
    }

    mutating func make(_ resolve: Explainer.Resolve) {
        addLimits(explainer.configuration.limits)
        addLimits(listener.limits)
        var firstBytes: [UInt8] = []
        if case .header(let bytes) = inquiry.origin { firstBytes = bytes }
        guard readHeader(&firstBytes) else { return }
        findSocketDestination()
        explanation.client.destination = proxiedDestination ?? socketDestination
        guard admit(), let isNamed = readFirstBytes(firstBytes) else { return }
        guard let route = look(isDetected: isNamed) else { return }
        follow(route, resolve)
    }

    mutating func refuse(_ reason: CloseReason) { explanation.verdict.refusal = reason }
    mutating func refuse(_ reason: CloseReason.Other) { refuse(.other(reason)) }
    mutating func note(_ sentence: String) { explanation.notes.append(sentence) }

    // MARK: The preamble

    /// What stands before the first bytes of a client whose header this configuration does not take.
    private static let someHeader = Array("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".utf8)

    /// A worker asks where a redirected client wanted to go only where a route goes there; else the listener says what
    /// its sockets are connected to, but for the address of one on all addresses.
    private mutating func findSocketDestination() {
        let own = listener.address
        guard !view.listeners[slot].followsRedirections else {
            socketDestination = inquiry.destination ?? (own.ip.isUnspecified ? nil : own)
            return
        }
        guard let ip = own.ip.isUnspecified ? inquiry.destination?.ip : own.ip else { return }
        let found = SocketAddress(ip, port: own.port == 0 ? inquiry.destination?.port ?? 0 : own.port)
        if let asked = inquiry.destination, asked != found {
            note("No route goes to the original destination, so what counts is the listener's own socket: \(found).")
        }
        socketDestination = found
    }

    /// Takes a PROXY header off the front of `bytes`, where the listener does. False: refused.
    private mutating func readHeader(_ bytes: inout [UInt8]) -> Bool {
        guard let accept = listener.acceptProxy else {
            if case .believed = inquiry.origin { bytes = Self.someHeader }
            if !bytes.isEmpty { explanation.client.header = .notTaken }
            return true
        }
        let peer = inquiry.peer.unmapped
        guard view.trustsProxyPeer(listener: slot, peer) else {
            explanation.client.header = .untrusted(accept.from)
            refuse(.proxyUntrusted)
            return false
        }
        if case .believed(let client, let destination) = inquiry.origin {
            explanation.client.header = .believed
            explanation.client.address = client.unmapped
            proxiedDestination = destination
            authority = inquiry.serverName
            return true
        }
        let block = accept.from.first { $0.unmapped.contains(peer) } ?? CIDR(peer, prefixLength: peer.bitCount)
        guard !bytes.isEmpty else {
            explanation.client.header = .missing(block)
            refuse(.proxy(.missing))
            return false
        }
        var parser = ProxyHeaderParser(
            byteCountMax: accept.headerByteCountMax, acceptIPv4InTCP6: accept.acceptIPv4InTCP6)
        switch parser.consume(bytes.span) {
        case .needMore:
            explanation.client.header = .refused(block, why: "it does not end")
            refuse(.proxyTimedOut)
            return false
        case .refused(let refusal):
            explanation.client.header = .refused(block, why: refusal.label)
            refuse(.proxy(refusal))
            return false
        case .complete(let header, let consumed):
            explanation.client.header = .accepted(block)
            bytes.removeFirst(consumed)
            authority = header.authority.withBytes { try? ServerName(canonicalizing: $0) } ?? .none
            if let source = header.source {
                explanation.client.address = source.ip
                proxiedDestination = header.destination
            } else {
                note("The PROXY header names no client, so the socket's own addresses hold.")
            }
            return true
        }
    }

    /// Asks the listener's rules about the client. False: refused.
    private mutating func admit() -> Bool {
        let client = explanation.client.address
        let isAllowed = view.allowsClient(listener: slot, client)
        let rule = listener.clients.rules.first { $0.block.unmapped.contains(client) }
        explanation.client.admission = .init(isAllowed: isAllowed, rule: rule?.block)
        if !isAllowed { refuse(.clientDenied) }
        return isAllowed
    }

    /// What the listener hears of server name and ALPN, after what else came before them. nil: refused; false: it hears nothing.
    private mutating func readFirstBytes(_ bytes: [UInt8]) -> Bool? {
        let (readsTLS, readsHTTP) = (listener.detect.contains(.tls), listener.detect.contains(.http))
        guard readsTLS || readsHTTP else {
            explanation.serverName = authority
            if inquiry.serverName != authority || !inquiry.alpn.isEmpty {
                note(
                    "The listener reads no first bytes (`detect: none`): it knows no server name but a PROXY header's.")
            }
            return false
        }
        if let first = bytes.first {
            let isHTTP = readsHTTP && (!readsTLS || PreambleKind(firstByte: first) == .http)
            return isHTTP ? headRefused(bytes) : helloRefused(bytes)
        }
        explanation.serverName = inquiry.serverName
        if readsTLS {
            explanation.alpn = inquiry.alpn.protocols
        } else if !inquiry.alpn.isEmpty {
            note("The listener reads HTTP only, which has no ALPN.")
        }
        return true
    }

    /// `bytes` stand where the hello should. A route for connections without a name may take another protocol.
    private mutating func helloRefused(_ bytes: [UInt8]) -> Bool? {
        note("The listener takes no PROXY header: it reads it as the client's first bytes, which are no TLS.")
        var parser = ClientHelloParser(byteCountMax: listener.hello.byteCountMax)
        guard case .refused(let refusal) = parser.consume(bytes.span) else {
            refuse(.helloTimedOut)
            return nil
        }
        let hasDefault =
            view.route(
                listener: slot, name: .none, client: explanation.client.address, alpn: .none, destination: wanted)
            != nil
        if refusal.isOtherProtocol, hasDefault { return false }
        refuse(.hello(refusal))
        return nil
    }

    private mutating func headRefused(_ bytes: [UInt8]) -> Bool? {
        note("The listener takes no PROXY header: it reads it as the client's first bytes, which are no request.")
        var parser = HTTPRequestHeadParser()
        if case .refused(let refusal) = parser.consume(bytes.span) {
            refuse(.http(refusal))
        } else {
            refuse(.helloTimedOut)
        }
        return nil
    }

    // MARK: The route

    /// Where the client wants to go. On a listener on every address only the port is sure, unless somebody says more.
    var wanted: SocketAddress { explanation.client.destination ?? listener.address }

    /// Asks the router. nil: refused. `isDetected`: the client's first bytes were read.
    private mutating func look(isDetected: Bool) -> Int? {
        let (name, client) = (explanation.serverName, explanation.client.address)
        let alpn = explanation.alpn.isEmpty ? ALPNOffer.none : inquiry.alpn
        let taken = view.route(listener: slot, name: name, client: client, alpn: alpn, destination: wanted)
        if knownClusters == nil {
            var trace = Trace()
            _ = view.route(
                listener: slot, name: name, client: client, alpn: alpn, destination: wanted, observer: &trace)
            record(trace, taken: taken)
        }
        explanation.verdict.route = taken.map { explainer.table.routeName($0) }
        if taken == nil { refuse(name.isNone && isDetected ? .serverNameMissing : .noRoute) }
        return taken
    }

    private mutating func record(_ trace: Trace, taken: Int?) {
        var known: Set<Int> = []
        var isPastTaken = false
        for entry in trace.entries where known.insert(entry.route).inserted {
            let route = explainer.route(entry.route, at: slot)
            let outcome: Explanation.Candidate.Outcome
            if entry.route == taken {
                outcome = .taken
                isPastTaken = true
            } else if let failing = entry.failing {
                if isPastTaken { continue }
                outcome = .failing(failing, why: why(failing, route.match))
            } else {
                outcome = .shadowed
            }
            explanation.candidates.append(
                .init(route: route.name, pattern: text(of: entry.pattern), outcome: outcome))
        }
        let routes = listener.routes
        explanation.otherNameCount = routes.count - known.count
        guard explanation.otherNameCount > 0 else { return }
        let names = Set(known.map { explainer.route($0, at: slot).name })
        explanation.otherNames = routes.lazy.filter { !names.contains($0.name) }
            .prefix(Explanation.otherNameCountMax)
            .map { .init(route: $0.name, patterns: $0.match.serverNames.map(\.text)) }
    }

    private func text(of pattern: MatchedPattern) -> String? {
        let name = explanation.serverName
        return switch pattern {
        case .exact: name.description
        case .wildcard(let byteCount): "*." + String(name.description.suffix(byteCount))
        case .anyName: "*"
        case .noConstraint: nil
        }
    }

    private func why(_ constraint: RouteConstraint, _ match: RouteMatch) -> String {
        switch constraint {
        case .clients:
            return "the client \(explanation.client.address) is not in \(match.clients.map(\.description).listed())"
        case .destinations:
            guard let address = explanation.client.destination?.ip else {
                return "where the client connects to is not known, and it asks for "
                    + match.destinations.map(\.description).listed()
            }
            if let excepted = match.exceptDestinations.first(where: { $0.unmapped.contains(address.unmapped) }) {
                return "the destination \(address) is in \(excepted), which it excepts"
            }
            return "the destination \(address) is not in \(match.destinations.map(\.description).listed())"
        case .destinationPorts:
            let ports = match.destinationPorts.map(\.text).listed()
            return "the destination's port \(self.wanted.port) is not \(ports)"
        case .alpn:
            let wanted = match.alpn.map(\.quoted).listed()
            if explanation.alpn.isEmpty { return "the client offers no protocol by ALPN, and it asks for \(wanted)" }
            return "the client offers \(explanation.alpn.map(\.quoted).listed()) by ALPN, and it asks for \(wanted)"
        }
    }
}

/// Remembers all that a look-up could ask, and ends none.
private struct Trace: LookupObserver {
    var entries: [(route: Int, pattern: MatchedPattern, failing: RouteConstraint?)] = []

    mutating func asked(_ route: Int, by pattern: MatchedPattern, failing: RouteConstraint?) -> Bool {
        entries.append((route, pattern, failing))
        return false
    }
}

extension ALPNOffer {
    /// Each as UTF-8; what is not becomes U+FFFD.
    package var protocols: [String] {
        withBytes { encoded in
            var found: [String] = []
            var start = 0
            while start < encoded.count {
                let end = start + 1 + Int(encoded[start])
                var bytes: [UInt8] = []
                for index in start + 1..<end { bytes.append(encoded[index]) }
                found.append(String(decoding: bytes, as: UTF8.self))
                start = end
            }
            return found
        }
    }
}

extension ClosedRange<UInt16> {
    /// `443`, `8000-8999`.
    fileprivate var text: String { lowerBound == upperBound ? "\(lowerBound)" : "\(lowerBound)-\(upperBound)" }
}
