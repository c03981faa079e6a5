import Glibc

/// One direction in bulk: bytes go from a source to a destination through a carrier, a pipe or a buffer, and the engine
/// sees none of them.
///
/// A value without I/O. Its owner asks for the `next` step, takes it, and says what came of it; when a step is to wait,
/// the owner goes on once the kernel has reported. Bytes leave in the order in which they came, and the source's end is
/// reported after the last of them.
package struct Pump: BitwiseCopyable, Hashable, Sendable {
    package enum Step: Hashable, Sendable {
        /// Take up to so many bytes from the source into the carrier.
        case fill(Int)
        /// Move so many bytes, all that the carrier holds, to the destination.
        case drain(Int)
        /// Wait until the source has bytes, an end or an error.
        case awaitBytes
        /// Wait until the destination has room.
        case awaitRoom
        /// It is over.
        case end(Ending)
    }

    package enum Ending: Hashable, Sendable {
        /// The source's FIN came, and every byte before it has been moved.
        case finished
        /// It was asked to.
        case stopped
        /// An errno, and whose.
        case failed(Int32, ofDestination: Bool)
    }

    /// Bytes that the carrier takes at a time.
    package let capacity: Int
    /// Bytes in the carrier.
    package private(set) var heldCount = 0
    /// Of those that the last fill took, what has been moved.
    package private(set) var offset = 0
    /// Bytes that have reached the destination and were not reported yet.
    private var movedCount = 0
    private var mayFill = true
    private var mayDrain = true
    private var hasEnded = false
    private var isStopping = false
    private var isCancelled = false
    private var failure: Int32 = 0
    private var isFailureOfDestination = false

    package init(capacity: Int) {
        precondition(capacity > 0)
        self.capacity = capacity
    }

    /// What is to be done now.
    package var next: Step {
        if isCancelled { return .end(.stopped) }
        if failure != 0 { return .end(.failed(failure, ofDestination: isFailureOfDestination)) }
        if heldCount > 0 { return mayDrain ? .drain(heldCount) : .awaitRoom }
        if hasEnded { return .end(.finished) }
        if isStopping { return .end(.stopped) }
        return mayFill ? .fill(capacity) : .awaitBytes
    }

    /// It waits for bytes, and holds none.
    package var isResting: Bool { next == .awaitBytes }

    /// The reset of the destination that the pump has met. The kernel tells an error once: whoever receives on that socket
    /// from then on is told of an end. EPIPE is no reset: that one may have ended before.
    package var resetOfDestination: Int32? {
        failure != 0 && isFailureOfDestination && failure != EPIPE ? failure : nil
    }

    /// Nothing is in the carrier.
    package var isEmpty: Bool { heldCount == 0 }

    /// A fill's result where the source has bytes and the carrier cannot take them: a pipe does not pass an urgent byte,
    /// which receives leave out.
    package static let stuck = -Int(ESPIPE)

    /// What a fill gave: a byte count, 0 at the end of the source, `stuck`, a negated errno.
    package mutating func filled(_ result: Int) {
        precondition(
            heldCount == 0 && result <= capacity, "a fill of a carrier that holds bytes, or of more than it takes")
        switch result {
        case 1...:
            heldCount = result
            offset = 0
        case 0: hasEnded = true
        case -Int(EAGAIN): mayFill = false
        case Self.stuck: isStopping = true
        case -Int(EINTR): break
        default: fail(Int32(-result), ofDestination: false)
        }
    }

    /// What a drain gave: a byte count or a negated errno.
    package mutating func drained(_ result: Int) {
        precondition(result <= heldCount, "more was moved than the carrier holds")
        switch result {
        case 1...:
            heldCount -= result
            offset += result
            movedCount += result
        case 0, -Int(EAGAIN): mayDrain = false
        case -Int(EINTR): break
        default: fail(Int32(-result), ofDestination: true)
        }
    }

    /// The kernel has something to say about the source.
    package mutating func sourceChanged() { mayFill = true }

    /// There may be room at the destination.
    package mutating func destinationChanged() { mayDrain = true }

    /// The first failure counts.
    package mutating func fail(_ code: Int32, ofDestination: Bool) {
        guard failure == 0 else { return }
        switch code {
        // Two codes mean something else in a pump's completion: that there was no carrier, and that it was stopped. The
        // others are what a sandbox may answer to splice(2).
        case ENOBUFS, ECANCELED, EINVAL, ENOSYS, EPERM: failure = EIO
        default: failure = code
        }
        isFailureOfDestination = ofDestination
    }

    /// Takes nothing more; what the carrier holds is still moved.
    package mutating func stop() { isStopping = true }

    /// Ends at once; what the carrier holds is lost.
    package mutating func cancel() { isCancelled = true }

    /// Bytes moved since it was last asked.
    package mutating func takeMovedCount() -> Int {
        defer { movedCount = 0 }
        return movedCount
    }
}
