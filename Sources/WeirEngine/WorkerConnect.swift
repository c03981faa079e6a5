import Glibc
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

// From a decision to an open upstream: endpoints, names, the guard, two families in a race.

extension Worker {
    /// RFC 8305 §5: how long the first family has before the second starts.
    private static let staggerDelay: UInt64 = 250_000_000
    /// How long IPv6 stays second after it was found unreachable.
    private static let v6Penalty: UInt64 = 30_000_000_000

    // MARK: Endpoints

    /// Goes on to the next endpoint of the cluster, or refuses the client where none is left.
    func tryNextEndpoint(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        leaveEndpoint(slot)
        if openings[opening].generation != view.generation {
            // Its indices are of a snapshot that is gone: decide again, within the same deadlines and attempts.
            decide(slot)
            return
        }
        guard openings[opening].cluster >= 0, openings[opening].tried.count < TriedEndpoints.countMax,
            hasAttemptsLeft(opening)
        else {
            connectsExhausted(slot)
            return
        }
        let index = balancer.choose(
            cluster: Int(openings[opening].cluster), client: StableHash.of(sessions[slot].record.client.ip),
            tried: openings[opening].tried, now: now)
        guard let index else {
            if openings[opening].tried.count == 0 { openings[opening].lastReason = .noEndpoint }
            connectsExhausted(slot)
            return
        }
        openings[opening].tried.append(index)
        openings[opening].endpoint = Int32(index)
        let endpoint = view.endpoints[index]
        sessions[slot].endpointPlace = endpoint.place
        sessions[slot].record.endpoint = endpoint.metric
        switch endpoint.host {
        case .address(let ip):
            openings[opening].targetName = .none
            openings[opening].targetPort = endpoint.port
            addressesKnown(slot, ResolvedAddresses(ip), areLiteral: true)
        case .name(let name):
            aim(slot, at: view.hostNames[Int(name)], endpoint.port)
        }
    }

    /// The session is none of its endpoint's any more.
    func leaveEndpoint(_ slot: Int) {
        board.leave(endpoint: sessions[slot].endpointPlace)
        sessions[slot].endpointPlace = -1
        // What the next endpoint may be asked of it is another matter.
        if sessions[slot].drainReason != .routeRemoved { sessions[slot].drainDeadline = .distantFuture }
    }

    /// Counts the session among its cluster's; why not, where it is one too many.
    func enterCluster(_ slot: Int, _ cluster: CompiledCluster) -> CloseReason.Other? {
        switch board.enter(cluster: cluster, now: now) {
        case .admitted:
            sessions[slot].clusterPlace = cluster.place
            sessions[slot].isPending = true
            return nil
        case .connections:
            count(cluster.metric, ClusterCell.refusedConnections)
            return .clusterLimit
        case .pending:
            count(cluster.metric, ClusterCell.refusedPending)
            return .clusterPending
        case .rate:
            count(cluster.metric, ClusterCell.refusedRate)
            return .clusterRate
        }
    }

    /// The session connects no more.
    func endPending(_ slot: Int) {
        guard sessions[slot].isPending else { return }
        board.connected(cluster: sessions[slot].clusterPlace)
        sessions[slot].isPending = false
    }

    func leaveCluster(_ slot: Int) {
        endPending(slot)
        board.leave(cluster: sessions[slot].clusterPlace)
        sessions[slot].clusterPlace = -1
    }

    func attemptsLeft(_ opening: Int) -> Int {
        (openings[opening].upstream?.attempts ?? 0) - openings[opening].attemptCount
    }

    private func hasAttemptsLeft(_ opening: Int) -> Bool { attemptsLeft(opening) > 0 }

    // MARK: Names

    /// Resolves `name` and connects to what comes of it.
    func aim(_ slot: Int, at name: ServerName, _ port: UInt16) {
        let opening = Int(sessions[slot].opening)
        openings[opening].targetName = name
        openings[opening].targetPort = port
        openings[opening].resolveStartedAt = now
        if let answer = answers.lookup(name, now: now) {
            cells.add(WorkerCell.dnsCacheHits, 1)
            resolved(slot, answer)
            return
        }
        let ticket = UInt64(generation(slot)) << 32 | UInt64(slot)
        guard resolver.requests.push(ResolverRequest(ticket: ticket, name: name)) else {
            resolved(slot, Answer(.refusedTooMany))
            return
        }
        cells.add(WorkerCell.dnsQueries, 1)
        openings[opening].isResolving = true
        hasNewRequests = true
    }

    /// The resolver answered somebody, perhaps one who has left since.
    func answered(_ answer: ResolverAnswer) {
        answers.insert(answer.answer, for: answer.name, now: now)
        let slot = Int(answer.ticket & 0xffff_ffff)
        guard slot < sessions.capacity, isTenant(slot, UInt32(truncatingIfNeeded: answer.ticket >> 32)) else { return }
        // The session may have been refused or ended since, and wait for its operations or its client only.
        guard sessions[slot].machine.phase == .deciding else { return }
        let opening = Int(sessions[slot].opening)
        guard opening >= 0, openings[opening].isResolving, openings[opening].targetName == answer.name else { return }
        openings[opening].isResolving = false
        resolved(slot, answer.answer)
        advance(slot)
        if sessions.isLive(slot) { schedule(slot) }
    }

    private func resolved(_ slot: Int, _ answer: Answer) {
        let opening = Int(sessions[slot].opening)
        let elapsed = now.nanoseconds(since: openings[opening].resolveStartedAt)
        sessions[slot].record.resolveTime = (sessions[slot].record.resolveTime ?? 0) + elapsed
        if answer.isStale { sessions[slot].record.flags.insert(.staleAnswer) }
        let failure: CloseReason.Other
        switch answer.status {
        case .found:
            let cluster = Int(openings[opening].cluster)
            let isSticky =
                cluster >= 0 && openings[opening].generation == view.generation
                && view.clusters[cluster].balance == .sourceHash
            let client = isSticky ? StableHash.of(sessions[slot].record.client.ip) : nil
            addressesKnown(slot, inTurn(answer.addresses, client: client), areLiteral: false)
            return
        case .noSuchName: failure = .nameNotFound
        case .noAddress: failure = .nameHasNoAddress
        case .serverFailure: failure = .resolverFailed
        case .timedOut: failure = .resolverTimedOut
        case .refusedTooMany, .cancelled:
            failure = .resolverOverloaded
            note(.resolver)
        }
        if openings[opening].cluster >= 0 {
            openings[opening].lastReason = failure
            endpointFailed(slot)
            tryNextEndpoint(slot)
        } else {
            refuse(
                slot, .other(failure), alert: answer.status.isNegative ? .unrecognizedName : .internalError,
                httpStatus: 502)
        }
    }

    /// Connects to `destination`, an address that a peer has named: the guard is asked as for a name.
    func aim(_ slot: Int, at destination: SocketAddress) {
        let opening = Int(sessions[slot].opening)
        openings[opening].targetName = .none
        openings[opening].targetPort = destination.port
        addressesKnown(slot, ResolvedAddresses(destination.ip), areLiteral: false)
    }

    // MARK: Policies

    /// Asks the policies about the first of `addresses`, and keeps those of the same answer. True where the session is led
    /// through gateways.
    private func isLedByPolicy(_ slot: Int, _ addresses: inout ResolvedAddresses) -> Bool {
        guard !addresses.isEmpty else { return false }
        func policy(_ address: IPAddress) -> Int? {
            view.policy(
                client: sessions[slot].record.client.ip, name: sessions[slot].record.serverName, destination: address)
        }
        let first = policy(addresses[0])
        var kept = ResolvedAddresses()
        for position in 0..<addresses.count where policy(addresses[position]) == first {
            kept.append(addresses[position])
        }
        addresses = kept
        guard let first else { return false }
        let found = view.policies[first]
        count(found.metric, PolicyCell.sessions)
        let opening = Int(sessions[slot].opening)
        switch found.action {
        case .route: return false
        case .sources(let sources):
            openings[opening].upstream?.sources = sources
            // They are indices in this snapshot, as the cluster is.
            openings[opening].generation = view.generation
            return false
        case .gateways(let cluster):
            openings[opening].generation = view.generation
            openings[opening].gatewayDestination = SocketAddress(addresses[0], port: openings[opening].targetPort)
            aim(slot, atCluster: cluster)
            return true
        }
    }

    // MARK: Addresses

    /// Checks every address (T-02, T-03) and connects to the very ones that were checked.
    private func addressesKnown(_ slot: Int, _ addresses: ResolvedAddresses, areLiteral: Bool) {
        let opening = Int(sessions[slot].opening)
        let port = openings[opening].targetPort
        var allowed = ResolvedAddresses()
        for position in 0..<addresses.count {
            let address = addresses[position]
            let verdict = view.destinationGuard.verdict(
                for: SocketAddress(address, port: port), exemptLiteral: areLiteral,
                privateNames: openings[opening].privateNames)
            switch verdict {
            case .allowed: allowed.append(address)
            case .denied(let rule):
                denied(slot, rule)
                openings[opening].deniedRule = rule
            }
        }
        if openings[opening].cluster < 0, view.policies.count > 0, isLedByPolicy(slot, &allowed) { return }
        var v4 = ResolvedAddresses()
        var v6 = ResolvedAddresses()
        for position in 0..<allowed.count where hasSource(opening, allowed[position].family) {
            if allowed[position].family == .v4 { v4.append(allowed[position]) } else { v6.append(allowed[position]) }
        }
        let isV6First = !v6.isEmpty && (v4.isEmpty || now >= v6SecondUntil)
        openings[opening].firstAddresses = isV6First ? v6 : v4
        openings[opening].secondAddresses = isV6First ? v4 : v6
        openings[opening].firstPosition = 0
        openings[opening].secondPosition = 0
        openings[opening].forgetTriedSources(.first)
        openings[opening].forgetTriedSources(.second)
        openings[opening].staggerAt = .distantFuture
        guard !openings[opening].firstAddresses.isEmpty else {
            if openings[opening].cluster >= 0 {
                openings[opening].lastReason =
                    openings[opening].deniedRule == nil ? .connectUnreachable : .destinationDenied
                tryNextEndpoint(slot)
            } else if openings[opening].deniedRule != nil {
                refuse(slot, .other(.destinationDenied), alert: .accessDenied, httpStatus: 403)
            } else {
                refuse(slot, .other(.connectUnreachable), alert: .internalError, httpStatus: 502)
            }
            return
        }
        if !openings[opening].secondAddresses.isEmpty {
            openings[opening].staggerAt = now.advanced(byNanoseconds: Self.staggerDelay)
        }
        // No source address may have a port left; then the other family, the next endpoint or a refusal follow at once.
        if !connectNext(slot, .first), !connectNext(slot, .second) { tryNextEndpoint(slot) }
    }

    /// Counts and keeps the rule that refused an address.
    func denied(_ slot: Int, _ rule: GuardRule) {
        sessions[slot].record.guardRule = Int16(rule.rawValue) - 1
        cells.add(WorkerCell.guardDenied + Int32(rule.rawValue) - 1, 1)
    }

    /// Where local addresses are configured, only their families are used.
    private func hasSource(_ opening: Int, _ family: IPAddress.Family) -> Bool {
        guard let upstream = openings[opening].upstream else { return true }
        return upstream.sources.isNone || !upstream.sources.members(of: family).isEmpty
    }

    // MARK: Connects

    /// Starts the next connect of a lane. False where the lane has nothing left to try.
    @discardableResult
    private func connectNext(_ slot: Int, _ lane: Lane) -> Bool {
        let opening = Int(sessions[slot].opening)
        let isFirst = lane == .first
        let position = isFirst ? openings[opening].firstPosition : openings[opening].secondPosition
        let addresses = isFirst ? openings[opening].firstAddresses : openings[opening].secondAddresses
        guard position < addresses.count, hasAttemptsLeft(opening), let upstream = openings[opening].upstream else {
            return false
        }
        if isFirst { openings[opening].firstPosition += 1 } else { openings[opening].secondPosition += 1 }
        if lane == .second { openings[opening].staggerAt = .distantFuture }
        let destination = SocketAddress(addresses[position], port: openings[opening].targetPort)
        var (choice, outlet): (SourceSelector.Choice?, Outlet) = (nil, .any)
        let entry: PortLedger.Entry
        switch takeSource(slot, lane, destination) {
        case .any(let counted, let way): (entry, outlet) = (counted, way)
        case .chosen(let chosen, let way): (entry, choice, outlet) = (chosen.entry, chosen, way)
        case .stale: return false
        case .noneLeft:
            openings[opening].forgetTriedSources(lane)
            return connectNext(slot, lane)
        case .exhausted:
            openings[opening].lastReason = .outOfSourcePorts
            openings[opening].lastError = EADDRNOTAVAIL
            openings[opening].forgetTriedSources(lane)
            note(.sourcePorts)
            return connectNext(slot, lane)
        }
        openings[opening].attemptCount += 1
        openings[opening][lane] = Opening.Attempt(
            address: destination, startedAt: now, deadline: now.advanced(byNanoseconds: upstream.connectTimeout))
        sourceTaken(slot, lane, entry, choice)
        sessions[slot].record.attempts &+= 1
        sessions[slot].record.upstream = destination
        count(openings[opening].clusterMetric, ClusterCell.connectAttempts)
        count(sessions[slot].record.endpoint, EndpointCell.connectAttempts)
        sessions[slot].machine.connecting(lane)
        let sendsFirst = !sessions[slot].toUpstream.isEmpty || upstream.sendProxy != nil
        operations.append(
            Operation(
                connectToken(slot, lane),
                .connect(
                    to: destination, from: choice?.address, through: outlet, sendsFirst: sendsFirst,
                    keepalive: upstream.keepalive.map { Keepalive($0) } ?? .off)))
        return true
    }

    func connectToken(_ slot: Int, _ lane: Lane) -> Token {
        token(slot, lane == .first ? .connectFirst : .connectSecond)
    }

    func connectCompleted(_ slot: Int, _ lane: Lane, _ result: Int32) {
        if sessions[slot].machine.connectFinished(lane, isConnected: result >= 0) {
            sourceConnected(slot, lane)
            upstreamOpened(slot, lane, Socket(rawValue: result))
        } else {
            if result >= 0 {
                // It lost the race, or the session ended meanwhile.
                operations.append(Operation(.silent, .close(Socket(rawValue: result))))
            }
            let isFailure = sessions[slot].machine.phase == .connecting
            sourceReturned(slot, lane, result, isFailure: isFailure)
            if isFailure { connectFailed(slot, lane, -result) }
        }
        advance(slot)
        if sessions.isLive(slot) { schedule(slot) }
    }

    private func connectFailed(_ slot: Int, _ lane: Lane, _ code: Int32) {
        let opening = Int(sessions[slot].opening)
        // Only our own deadline cancels a connect while the session goes on connecting.
        let code = code == ECANCELED ? ETIMEDOUT : code
        openings[opening].lastError = code
        let reason = connectFailure(code)
        openings[opening].lastReason = reason
        connectWasShort(of: reason.shortage)
        count(openings[opening].clusterMetric, ClusterCell.connectFailure(code))
        count(sessions[slot].record.endpoint, EndpointCell.connectFailures)
        let other: Lane = lane == .first ? .second : .first
        if code == EADDRNOTAVAIL, openings[opening][lane].source != nil {
            // Nothing was tried: the same address again, from the next source of the pool.
            openings[opening].attemptCount -= 1
            openings[opening].stepBack(lane)
            if connectNext(slot, lane) { return }
        } else if openings[opening][lane].address.ip.family == .v6 && isFamilyUnreachable(code) {
            // This host has no IPv6: no other address of it can do better, and nothing was tried.
            v6SecondUntil = now.advanced(byNanoseconds: Self.v6Penalty)
            openings[opening].attemptCount -= 1
            openings[opening].skipRest(of: lane)
        }
        openings[opening].forgetTriedSources(lane)
        // The last attempt belongs to a family that has had none.
        let isOtherFirst = openings[opening].isUntried(other) && attemptsLeft(opening) == 1
        if !isOtherFirst && connectNext(slot, lane) { return }
        if sessions[slot].machine.isConnecting(other) { return }
        // The other family need not wait for its turn any more.
        if connectNext(slot, other) { return }
        sessions[slot].machine.connectsFailed()
        endpointFailed(slot)
        tryNextEndpoint(slot)
    }

    /// The upstream that was open is gone: its next address, or the next endpoint.
    func tryAgain(_ slot: Int) {
        if connectNext(slot, .first) || connectNext(slot, .second) { return }
        tryNextEndpoint(slot)
    }

    /// What is short for connects is short for all. Source ports are not, which belong to one destination.
    private func connectWasShort(of shortage: Shortage?) {
        guard let shortage else { return }
        note(shortage)
        if shortage != .sourcePorts { pauseAccepting(shortage) }
    }

    private func isFamilyUnreachable(_ code: Int32) -> Bool {
        code == ENETUNREACH || code == EADDRNOTAVAIL || code == EAFNOSUPPORT
    }

    /// Unless it was we who were short of something. Where the kernel looks for a port in vain, which takes a while, the endpoint
    /// had better rest; a pool knows beforehand.
    func endpointFailed(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        if openings[opening].lastReason.isOwnShortage { return }
        if openings[opening].lastReason == .outOfSourcePorts, openings[opening].upstream?.sources.isNone == false {
            return
        }
        guard openings[opening].endpoint >= 0, openings[opening].generation == view.generation else { return }
        if balancer.failed(endpoint: Int(openings[opening].endpoint), now: now) {
            count(sessions[slot].record.endpoint, EndpointCell.ejections)
        }
    }

    private func connectsExhausted(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        sessions[slot].record.code = openings[opening].lastError
        let reason = openings[opening].lastReason
        let httpStatus =
            switch reason {
            case .destinationDenied: 403
            case .noEndpoint: 503
            default: 502
            }
        refuse(
            slot, .other(reason), alert: reason == .destinationDenied ? .accessDenied : .internalError,
            httpStatus: httpStatus)
    }

    // MARK: Open

    private func upstreamOpened(_ slot: Int, _ lane: Lane, _ socket: Socket) {
        let opening = Int(sessions[slot].opening)
        sessions[slot].upstream = socket
        let attempt = openings[opening][lane]
        let elapsed = now.nanoseconds(since: attempt.startedAt)
        sessions[slot].record.connectTime = elapsed
        sessions[slot].record.upstream = attempt.address
        sessions[slot].activeAt = now
        let cluster = openings[opening].clusterMetric
        endPending(slot)
        limitAge(slot, openings[opening].connectionAgeMax)
        if cluster >= 0 {
            cells.observe(.latency, at: cluster &+ ClusterCell.connectSeconds, elapsed)
            count(cluster, ClusterCell.opened)
            count(sessions[slot].record.endpoint, EndpointCell.opened)
        }
        if let upstream = openings[opening].upstream {
            if !upstream.sources.isNone || upstream.sendProxy?.version == .v2 {
                sessions[slot].record.upstreamLocal = driver.localAddress(of: socket)
            }
            let mayBeGone = mayBeGone(slot, opening, upstream)
            if let options = upstream.sendProxy { sendProxyHeader(slot, options) }
            if mayBeGone { return }
        }
        proved(slot, hasSpoken: false)
    }

    /// `ageMax`: nanoseconds; give or take a tenth, so that those that came together do not all come again together.
    private func limitAge(_ slot: Int, _ ageMax: UInt64) {
        guard ageMax != .max else { return }
        let fifth = ageMax / 5
        let share = StableHash.of(sessions[slot].record.id).multipliedFullWidth(by: fifth).high
        let deadline = now.advanced(byNanoseconds: ageMax - fifth / 2 + share)
        guard deadline < sessions[slot].deadline else { return }
        sessions[slot].deadline = deadline
        sessions[slot].endsByAge = true
    }

    // MARK: Deadlines

    /// The connects' part of `deadlinePassed`.
    func connectDeadlinesPassed(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        if openings[opening].staggerAt <= now {
            openings[opening].staggerAt = .distantFuture
            if !sessions[slot].machine.isConnecting(.second) { connectNext(slot, .second) }
        }
        expireAttempt(slot, opening, .first)
        expireAttempt(slot, opening, .second)
    }

    private func expireAttempt(_ slot: Int, _ opening: Int, _ lane: Lane) {
        guard openings[opening][lane].deadline <= now else { return }
        openings[opening][lane].deadline = .distantFuture
        perform(slot, sessions[slot].machine.connectExpired(lane))
    }
}

extension Keepalive {
    init(_ compiled: CompiledKeepalive) {
        self.init(idle: compiled.idle, interval: compiled.interval, probes: compiled.probes)
    }
}
