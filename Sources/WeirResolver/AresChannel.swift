import CAres
import Glibc
import WeirNet
import WeirUpstream

/// One c-ares channel: questions go in, results come out of `takeResults`. Used by one thread only.
///
/// It never waits: its owner polls `sockets` and calls `process`. Every question asked gives exactly one result, at the
/// latest when the channel is closed. Ends by `close()`.
@safe
final class AresChannel {
    /// Where a channel looks names up.
    enum Source {
        /// The hosts file. The result is there when `ask` returns.
        case hostsFile
        case servers([SocketAddress])
        /// Those that a file in the form of resolv.conf(5) names, at `port`. Where there is no such file, or it cannot
        /// be read, 127.0.0.1, as in the C library.
        case system(path: String, port: UInt16)
    }

    enum Family {
        case v4
        case v6
        case both
    }

    struct Result {
        let lookup: AnswerTable.LookupID
        let part: AnswerParts.Part
        let result: LookupResult
    }

    /// A descriptor and the poll(2) events that c-ares wants of it.
    struct Socket {
        let descriptor: CInt
        var events: Int16
    }

    /// c-ares refused to set itself up; its status.
    struct SetUpFailure: Error {
        let status: CInt
    }

    /// Rides through c-ares as the callback's argument: retained by `ask`, released by the callback.
    private final class Question {
        unowned let channel: AresChannel
        let lookup: AnswerTable.LookupID
        let part: AnswerParts.Part

        init(channel: AresChannel, lookup: AnswerTable.LookupID, part: AnswerParts.Part) {
            self.channel = channel
            self.lookup = lookup
            self.part = part
        }
    }

    private var channel: ares_channel?
    private var results: [Result] = []
    private(set) var sockets: [Socket] = []
    /// Questions without a result.
    private(set) var questionCount = 0
    /// Questions ever asked.
    private(set) var askedCount = 0

    /// ares_library_init(3) counts its calls and is not safe to call from two threads at once.
    private static let libraryStatus = ares_library_init(ARES_LIB_INIT_ALL)

    /// `budgetMilliseconds`: how long a question may take, all servers and tries included.
    init(_ source: Source, budgetMilliseconds: Int) throws(SetUpFailure) {
        guard Self.libraryStatus == ARES_SUCCESS else { throw SetUpFailure(status: Self.libraryStatus) }
        switch source {
        case .hostsFile:
            try open(lookups: "f", servers: "127.0.0.1", file: Self.noFile, port: 53, budgetMilliseconds)
        case .servers(let servers):
            let list = servers.map(\.description).joined(separator: ",")
            try open(lookups: "b", servers: list, file: Self.noFile, port: 53, budgetMilliseconds)
        case .system(let path, let port):
            do {
                try open(lookups: "b", servers: nil, file: path, port: port, budgetMilliseconds)
            } catch {
                try open(lookups: "b", servers: "127.0.0.1:\(port)", file: Self.noFile, port: port, budgetMilliseconds)
            }
        }
    }

    deinit { precondition(unsafe channel == nil, "a channel was dropped while open") }

    /// Frees everything. Questions in flight end as `cancelled`; their results can still be taken.
    func close() {
        guard let open = unsafe channel else { return }
        unsafe channel = nil
        unsafe ares_destroy(open)
        precondition(questionCount == 0 && sockets.isEmpty, "c-ares kept a question or a socket")
    }

    /// Asks for the addresses of `name`.
    func ask(_ name: ServerName, _ family: Family, lookup: AnswerTable.LookupID, part: AnswerParts.Part) {
        var hints = ares_addrinfo_hints()
        hints.ai_flags = ARES_AI_NOSORT
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_family =
            switch family {
            case .v4: AF_INET
            case .v6: AF_INET6
            case .both: AF_UNSPEC
            }
        var text = [CChar]()
        for index in 0..<name.byteCount { text.append(CChar(bitPattern: name[index])) }
        text.append(0)
        questionCount += 1
        askedCount += 1
        let question = unsafe Unmanaged.passRetained(Question(channel: self, lookup: lookup, part: part))
        unsafe ares_getaddrinfo(
            channel, text, nil, &hints,
            { argument, status, _, list in
                // The argument is what `ask` passed, and c-ares calls back once for each call.
                let question = unsafe Unmanaged<Question>.fromOpaque(argument!).takeRetainedValue()
                let result = unsafe AresChannel.result(status, list)
                if let list = unsafe list { unsafe ares_freeaddrinfo(list) }
                question.channel.questionCount -= 1
                question.channel.results.append(
                    Result(lookup: question.lookup, part: question.part, result: result))
            }, unsafe question.toOpaque())
    }

    /// The results since the last call.
    func takeResults() -> [Result] {
        guard !results.isEmpty else { return [] }
        defer { results.removeAll(keepingCapacity: true) }
        return results
    }

    /// Milliseconds until `process` is due although no socket is ready; nil where nothing is timed.
    var timeoutMilliseconds: Int? {
        guard questionCount > 0 else { return nil }
        var time = timeval()
        guard unsafe ares_timeout(channel, nil, &time) != nil else { return nil }
        return time.tv_sec * 1000 + (time.tv_usec + 999) / 1000
    }

    /// Reads, writes and times out what is due. `descriptor`: a ready socket, or nil.
    func process(_ descriptor: CInt?, readable: Bool, writable: Bool) {
        let socket = descriptor ?? ARES_SOCKET_BAD
        unsafe ares_process_fd(channel, readable ? socket : ARES_SOCKET_BAD, writable ? socket : ARES_SOCKET_BAD)
    }

    // MARK: Set-up

    /// An empty file in the form of resolv.conf(5): nothing of the system's is read.
    private static let noFile = "/dev/null"

    private func open(
        lookups: String, servers: String?, file: String, port: UInt16, _ budgetMilliseconds: Int
    ) throws(SetUpFailure) {
        // First with a guess: how many servers a file names is known only once it has been read.
        try open(lookups: lookups, file: file, port: port, timing: Timing(budgetMilliseconds, serverCount: 1))
        if let servers {
            let status = unsafe ares_set_servers_ports_csv(channel, servers)
            guard status == ARES_SUCCESS else {
                close()
                throw SetUpFailure(status: status)
            }
        }
        let serverCount = countServers()
        guard serverCount > 1 else { return }
        close()
        try open(lookups: lookups, file: file, port: port, timing: Timing(budgetMilliseconds, serverCount: serverCount))
        if let servers { unsafe _ = ares_set_servers_ports_csv(channel, servers) }
    }

    private func open(lookups: String, file: String, port: UInt16, timing: Timing) throws(SetUpFailure) {
        var options = unsafe ares_options()
        // No search list and no aliases: a name from the wire is looked up as it stands or not at all. Truncated
        // answers are asked for again over TCP unless IGNTC is set.
        unsafe options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS
        // Fits an unfragmented packet on every path (DNS flag day 2020).
        unsafe options.ednspsz = 1232
        unsafe options.timeout = timing.timeoutMilliseconds
        unsafe options.tries = timing.tryCount
        unsafe options.ndots = 1
        unsafe options.ndomains = 0
        unsafe options.udp_port = port
        unsafe options.tcp_port = port
        // The channel is closed, and calls no more, before it goes away.
        unsafe options.sock_state_cb_data = Unmanaged.passUnretained(self).toOpaque()
        unsafe options.sock_state_cb = { argument, descriptor, readable, writable in
            let channel = unsafe Unmanaged<AresChannel>.fromOpaque(argument!).takeUnretainedValue()
            channel.watch(descriptor, readable: readable != 0, writable: writable != 0)
        }
        let mask =
            ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_DOMAINS
            | ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF | ARES_OPT_NOROTATE
            | ARES_OPT_SOCK_STATE_CB
        // c-ares copies both texts.
        let lookupsText = unsafe strdup(lookups)
        let fileText = unsafe strdup(file)
        unsafe options.lookups = lookupsText
        unsafe options.resolvconf_path = fileText
        let status = unsafe ares_init_options(&channel, &options, mask)
        unsafe free(lookupsText)
        unsafe free(fileText)
        guard status == ARES_SUCCESS else {
            unsafe channel = nil
            throw SetUpFailure(status: status)
        }
        unsafe ares_set_socket_functions(channel, AresSockets.table.pointer, nil)
    }

    private func countServers() -> Int {
        var first: UnsafeMutablePointer<ares_addr_port_node>?
        guard unsafe ares_get_servers_ports(channel, &first) == ARES_SUCCESS else { return 1 }
        var count = 0
        var next = unsafe first
        while let node = unsafe next {
            count += 1
            unsafe next = node.pointee.next
        }
        unsafe ares_free_data(first)
        return max(count, 1)
    }

    private func watch(_ descriptor: CInt, readable: Bool, writable: Bool) {
        sockets.removeAll { $0.descriptor == descriptor }
        let events = (readable ? Int16(POLLIN) : 0) | (writable ? Int16(POLLOUT) : 0)
        if events != 0 { sockets.append(Socket(descriptor: descriptor, events: events)) }
    }

    // MARK: Results

    /// `list` as a plain value. One question is about one name, so the smallest TTL holds for all of it.
    private static func result(_ status: CInt, _ list: UnsafeMutablePointer<ares_addrinfo>?) -> LookupResult {
        let outcome = outcome(status)
        guard outcome == .found, let list = unsafe list else {
            return LookupResult(outcome == .found ? .serverFailure : outcome)
        }
        var addresses = ResolvedAddresses()
        var ttl = Int32.max
        var node = unsafe list.pointee.nodes
        while let current = unsafe node {
            if let address = unsafe address(current.pointee) {
                addresses.append(address)
                unsafe ttl = min(ttl, current.pointee.ai_ttl)
            }
            unsafe node = current.pointee.ai_next
        }
        var alias = unsafe list.pointee.cnames
        while let current = unsafe alias {
            unsafe ttl = min(ttl, current.pointee.ttl)
            unsafe alias = current.pointee.next
        }
        guard !addresses.isEmpty else { return LookupResult(.noAddress) }
        // RFC 2181 §8: a TTL with the top bit set counts as zero.
        return LookupResult(.found, addresses: addresses, ttl: UInt32(max(ttl, 0)))
    }

    private static func address(_ node: ares_addrinfo_node) -> IPAddress? {
        guard let start = unsafe node.ai_addr else { return nil }
        let bytes = unsafe UnsafeRawBufferPointer(start: start, count: Int(node.ai_addrlen))
        func word(_ offset: Int) -> UInt64 {
            var value: UInt64 = 0
            for index in offset..<offset + 4 { value = unsafe value << 8 | UInt64(bytes[index]) }
            return value
        }
        // sockaddr_in keeps the address at byte 4, sockaddr_in6 at byte 8, both in network order.
        switch unsafe node.ai_family {
        case AF_INET where bytes.count >= 8:
            return IPAddress(v4: UInt32(truncatingIfNeeded: word(4)))
        case AF_INET6 where bytes.count >= 24:
            return IPAddress(v6High: word(8) << 32 | word(12), low: word(16) << 32 | word(20))
        default:
            return nil
        }
    }

    private static func outcome(_ status: CInt) -> AnswerStatus {
        switch status {
        case ARES_SUCCESS: .found
        case ARES_ENOTFOUND: .noSuchName
        case ARES_ENODATA: .noAddress
        case ARES_ETIMEOUT: .timedOut
        case ARES_ECANCELLED, ARES_EDESTRUCTION: .cancelled
        // SERVFAIL, REFUSED, NOTIMP, FORMERR, malformed, refused by the kernel, no memory: no usable answer.
        default: .serverFailure
        }
    }
}

/// The timeout of one try and the count of tries, so that together they stay within a budget.
///
/// c-ares asks every server in turn, then doubles the timeout and begins again: all of it takes
/// `serverCount * timeout * (2 ^ tryCount - 1)`.
struct Timing: Equatable {
    let timeoutMilliseconds: CInt
    let tryCount: CInt

    init(_ budgetMilliseconds: Int, serverCount: Int) {
        tryCount = serverCount == 1 ? 3 : 2
        let shares = serverCount * ((1 << Int(tryCount)) - 1)
        // Below 50 ms a distant server is never heard.
        timeoutMilliseconds = CInt(clamping: max(budgetMilliseconds / shares, 50))
    }
}
