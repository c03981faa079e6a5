import WeirIO
import WeirMemory
import WeirNet

/// What the driver knows of one socket: what may be tried, what has been seen, and what is in flight on it.
struct EpollSocket: BitwiseCopyable {
    struct Facts: OptionSet, BitwiseCopyable {
        let rawValue: UInt16

        /// The kernel reports on it: bytes, ends, errors.
        static let isRegistered = Facts(rawValue: 1 << 0)
        /// The kernel reports room for a send as well.
        static let reportsRoom = Facts(rawValue: 1 << 1)
        /// Bytes, an end or an error may be there: a receive is tried. Otherwise one waits for an event.
        static let mayReceive = Facts(rawValue: 1 << 2)
        /// There may be room: a send is tried.
        static let maySend = Facts(rawValue: 1 << 3)
        /// The other end has sent FIN (EPOLLRDHUP).
        static let hasEnded = Facts(rawValue: 1 << 4)
        /// Both directions have ended, or the connection is no more (EPOLLHUP).
        static let isOver = Facts(rawValue: 1 << 5)
        /// An error was pending (EPOLLERR); an operation may have taken it since.
        static let hasFailed = Facts(rawValue: 1 << 6)
        /// Urgent bytes were seen: receives stop at them although more is there.
        static let hasUrgent = Facts(rawValue: 1 << 7)
        /// The receive in flight goes on by itself.
        static let isContinuing = Facts(rawValue: 1 << 8)
        /// `receive` is the token of a connect.
        static let isConnecting = Facts(rawValue: 1 << 9)
        /// It listens; `receive` is the token of an accept.
        static let isListening = Facts(rawValue: 1 << 10)
        /// Every byte before the other end's FIN has been received: the next receive is 0, without a call.
        static let isDrained = Facts(rawValue: 1 << 11)
        /// It stands in the queue of those that go on in the next turn.
        static let isQueued = Facts(rawValue: 1 << 12)
        /// `receive` is the token of a pump that takes from here.
        static let isPumpedFrom = Facts(rawValue: 1 << 13)
        /// `send` is the token of a pump that moves to here.
        static let isPumpedTo = Facts(rawValue: 1 << 14)
    }

    let descriptor: Int32
    var facts: Facts
    /// How much of `payload` has gone out.
    var sentCount: UInt32 = 0
    // `silent`: none is in flight.
    var receive = Token.silent
    var send = Token.silent
    var watch = Token.silent
    var payload = Payload(buffer: BufferPool.none, offset: 0, byteCount: 0)
    /// The other end, where it was accepted.
    var peer: SocketAddress?

    var isIdle: Bool { receive == .silent && send == .silent && watch == .silent }
}

/// Which place a descriptor has among a driver's sockets. Grows to the highest number it has met, by doubling.
struct DescriptorPlaces {
    private var places = FlatArray<Int32>(repeating: -1, count: 1024)

    func deallocate() { places.deallocate() }

    /// The place of `descriptor`; -1 where it has none.
    subscript(descriptor: Int32) -> Int32 {
        get {
            let index = Int(descriptor)
            return index < places.count ? places[index] : -1
        }
        set {
            let index = Int(descriptor)
            if index >= places.count { grow(beyond: index) }
            places[index] = newValue
        }
    }

    private mutating func grow(beyond index: Int) {
        let larger = FlatArray<Int32>(repeating: -1, count: max(places.count * 2, index + 1))
        for index in places.indices { larger[index] = places[index] }
        places.deallocate()
        places = larger
    }
}
