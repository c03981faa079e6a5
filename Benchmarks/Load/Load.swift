/// What clients do. Owns no clock: the loop calls it.
protocol Load: AnyObject {
    /// Begins; `now` is the start of the ramp.
    func start(_ ring: LoadRing, now: UInt64)
    /// Begins what is due, and says when the next is; nil: nothing is.
    func advance(_ ring: LoadRing, now: UInt64) -> UInt64?
    /// Something happened to an end of a client.
    func handle(_ event: Event, _ ring: LoadRing, now: UInt64)
    /// From here on it counts.
    func beginWindow()
    var tally: Tally { get }
}

/// What was counted within the window.
struct Tally {
    /// Connections that went through whole, or messages answered.
    var operationCount: UInt64 = 0
    /// Bytes that clients received.
    var byteCount: UInt64 = 0
    var errorCount = 0
    /// Connections that stand.
    var openCount = 0
    var latencies = Latencies()

    mutating func reset() {
        operationCount = 0
        byteCount = 0
        errorCount = 0
        latencies.reset()
    }
}
