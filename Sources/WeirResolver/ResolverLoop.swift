import CWeir
import Glibc
import Synchronization
import WeirMemory
import WeirModel
import WeirNet
import WeirUpstream

/// The resolver's thread: takes requests, lets `AnswerTable` decide, moves what that decides through c-ares.
final class ResolverLoop {
    /// c-ares 1.18 keeps a source port for as long as a channel is busy. A new channel after so many questions bounds
    /// what an off-path forger can learn about one port (RFC 5452 §9.2).
    private static let questionCountMax = 256
    /// How often resolv.conf is looked at, while names are asked for.
    private static let systemCheckInterval: UInt64 = 2_000_000_000
    /// How soon a worker whose answers ring was full is tried again.
    private static let backlogRetryMilliseconds = 1

    private let shared: Resolver.Shared
    private var settings: ResolverSettings
    private var table: AnswerTable
    private var counts = ResolverCounts()

    private var hosts: AresChannel?
    /// Where new questions go; nil until it is needed, and where c-ares could not be set up.
    private var servers: AresChannel?
    /// Those that asked before `servers` did, until their questions have ended.
    private var retired: [AresChannel] = []
    private var systemStamp: SystemServers.Stamp
    private var systemChecked: Instant

    /// Answers that found their port's ring full, oldest first.
    private var backlogs: [[ResolverAnswer]]
    /// Ports to wake at the end of the turn.
    private var wakes: [Bool]

    private var descriptors: [pollfd] = []

    init(_ shared: Resolver.Shared) {
        self.shared = shared
        settings = shared.settings.withLock { $0 }
        table = AnswerTable(settings: settings, limits: shared.limits)
        systemStamp = shared.system.stamp
        systemChecked = Self.now
        backlogs = Array(repeating: [], count: shared.ports.count)
        wakes = Array(repeating: false, count: shared.ports.count)
    }

    private static var now: Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    func run() {
        while !shared.isStopping.load(ordering: .acquiring) {
            if shared.settingsChanged.exchange(false, ordering: .acquiringAndReleasing) { adoptSettings() }
            flushBacklogs()
            takeRequests()
            // What has come counts before what is late.
            settle()
            table.advance(to: Self.now)
            settle()
            publish()
            wait()
        }
        finish()
    }

    // MARK: One turn

    private func takeRequests() {
        let now = Self.now
        // A port with a backlog must take its answers before it may ask again: that bounds the backlog.
        for port in shared.ports.indices where backlogs[port].isEmpty {
            var remaining = shared.ports[port].requests.capacity
            while remaining > 0, let request = shared.ports[port].requests.pop() {
                table.requested(request, port: port, now: now)
                remaining -= 1
            }
        }
    }

    /// Carries out what has been decided, until no decision leads to another.
    private func settle() {
        while true {
            for action in table.takeActions() { perform(action) }
            let results = takeResults()
            if results.isEmpty { break }
            let now = Self.now
            for result in results { table.lookupAnswered(result.lookup, result.part, result.result, now: now) }
        }
        retired.removeAll { channel in
            guard channel.questionCount == 0 else { return false }
            channel.close()
            return true
        }
    }

    private func perform(_ action: AnswerTable.Action) {
        switch action {
        case .answer(let port, let answer):
            wakes[port] = true
            if !backlogs[port].isEmpty || !shared.ports[port].answers.push(answer) { backlogs[port].append(answer) }
        case .lookUp(let lookup, let name, let v4, let v6):
            if let found = askHosts(name, lookup, v4: v4, v6: v6) {
                return table.lookupAnswered(lookup, .whole, found, now: Self.now)
            }
            guard let channel = serversChannel() else {
                return table.lookupAnswered(lookup, .whole, LookupResult(.serverFailure), now: Self.now)
            }
            if v4 { channel.ask(name, .v4, lookup: lookup, part: .v4) }
            if v6 { channel.ask(name, .v6, lookup: lookup, part: .v6) }
            counts.questions &+= (v4 ? 1 : 0) + (v6 ? 1 : 0)
        }
    }

    private func flushBacklogs() {
        for port in backlogs.indices where !backlogs[port].isEmpty {
            var sentCount = 0
            while sentCount < backlogs[port].count, shared.ports[port].answers.push(backlogs[port][sentCount]) {
                sentCount += 1
            }
            backlogs[port].removeFirst(sentCount)
            wakes[port] = true
        }
    }

    /// Lets the workers and the counters know what the turn came to.
    private func publish() {
        for port in wakes.indices where wakes[port] {
            wakes[port] = false
            shared.ports[port].wakeWorker()
        }
        counts.table = table.counts
        counts.entryCount = table.entryCount
        counts.lookupCount = table.lookupCount
        counts.waiterCount = table.waiterCount
        shared.counts.withLock { $0 = counts }
    }

    /// Sleeps until a worker, a server or the time asks for the next turn.
    private func wait() {
        descriptors.removeAll(keepingCapacity: true)
        descriptors.append(pollfd(fd: shared.signal.descriptor, events: Int16(POLLIN), revents: 0))
        forEachChannel { channel in
            for socket in channel.sockets {
                descriptors.append(pollfd(fd: socket.descriptor, events: socket.events, revents: 0))
            }
        }
        let count = unsafe poll(&descriptors, nfds_t(descriptors.count), CInt(clamping: timeoutMilliseconds))
        precondition(count >= 0 || errno == EINTR || errno == ENOMEM, "poll failed with \(errno)")
        if descriptors[0].revents != 0 { shared.signal.clear() }
        var position = 1
        forEachChannel { channel in
            // `process` may open and close sockets of its own channel only; these are the ones polled above.
            let socketCount = channel.sockets.count
            for ready in descriptors[position..<position + socketCount] where count > 0 && ready.revents != 0 {
                // Errors and hang-ups are found out by reading.
                let writable = ready.revents & Int16(POLLOUT) != 0
                let readable = ready.revents & ~Int16(POLLOUT) != 0
                channel.process(ready.fd, readable: readable, writable: writable)
            }
            position += socketCount
            channel.process(nil, readable: false, writable: false)
        }
    }

    /// -1 sleeps until something happens.
    private var timeoutMilliseconds: Int {
        var timeout = Int.max
        if let deadline = table.nextDeadline {
            let nanoseconds = deadline.nanoseconds(since: Self.now)
            timeout = Int(clamping: nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 == 0 ? 0 : 1))
        }
        if backlogs.contains(where: { !$0.isEmpty }) { timeout = min(timeout, Self.backlogRetryMilliseconds) }
        forEachChannel { channel in
            if let due = channel.timeoutMilliseconds { timeout = min(timeout, due) }
        }
        return timeout == .max ? -1 : timeout
    }

    // MARK: Channels

    private func forEachChannel(_ body: (AresChannel) -> Void) {
        if let servers { body(servers) }
        for channel in retired { body(channel) }
    }

    private func takeResults() -> [AresChannel.Result] {
        var results: [AresChannel.Result] = []
        forEachChannel { results += $0.takeResults() }
        return results
    }

    /// The hosts file comes first and, as with the C library, its word is final. nil where it does not know the name.
    private func askHosts(_ name: ServerName, _ lookup: AnswerTable.LookupID, v4: Bool, v6: Bool) -> LookupResult? {
        if hosts == nil { hosts = try? open(.hostsFile) }
        guard let hosts else { return nil }
        hosts.ask(name, v4 && v6 ? .both : v4 ? .v4 : .v6, lookup: lookup, part: .whole)
        let result = hosts.takeResults().first?.result
        return result?.status == .found ? result : nil
    }

    private func serversChannel() -> AresChannel? {
        if settings.servers.isEmpty, Self.now.nanoseconds(since: systemChecked) >= Self.systemCheckInterval {
            checkSystem()
        }
        if let servers, servers.askedCount >= Self.questionCountMax { retireServers() }
        if servers == nil {
            servers = try? open(
                settings.servers.isEmpty
                    ? .system(path: shared.system.path, port: shared.system.port) : .servers(settings.servers))
        }
        return servers
    }

    private func open(_ source: AresChannel.Source) throws(AresChannel.SetUpFailure) -> AresChannel {
        // Four fifths: what one family answered is then known before those who wait for it time out.
        let budget = settings.timeout.clampedNanoseconds / 1_000_000 / 5 * 4
        let channel = try AresChannel(source, budgetMilliseconds: Int(clamping: min(budget, 3_600_000)))
        counts.channelsOpened &+= 1
        return channel
    }

    private func retireServers() {
        if let servers { retired.append(servers) }
        servers = nil
    }

    private func checkSystem() {
        systemChecked = Self.now
        let stamp = shared.system.stamp
        guard stamp != systemStamp else { return }
        systemStamp = stamp
        retireServers()
    }

    private func adoptSettings() {
        settings = shared.settings.withLock { $0 }
        table.reconfigure(settings)
        systemStamp = shared.system.stamp
        retireServers()
    }

    // MARK: The end

    /// Every request taken, or waiting to be taken, is answered as far as its ring has room.
    private func finish() {
        table.cancelWaiters()
        hosts?.close()
        servers?.close()
        for channel in retired { channel.close() }
        for action in table.takeActions() {
            if case .answer(let port, let answer) = action {
                wakes[port] = true
                backlogs[port].append(answer)
            }
        }
        flushBacklogs()
        for port in shared.ports.indices where backlogs[port].isEmpty {
            while let request = shared.ports[port].requests.pop() {
                let answer = ResolverAnswer(ticket: request.ticket, name: request.name, answer: Answer(.cancelled))
                guard shared.ports[port].answers.push(answer) else { break }
                wakes[port] = true
            }
        }
        publish()
    }
}
