import WeirNet

/// The kernel as a worker sees it: a batch of operations in, a batch of completions out.
///
/// A driver belongs to one worker thread, except `wake`. It never calls the engine. It is a class behind an existential
/// because it is crossed once per batch, where a virtual call costs nothing; a generic `Worker<Driver>` would not be
/// specialised across modules.
package protocol Driver: AnyObject {
    /// Hands `operations` over in order and empties it, waits until a completion is there, `deadline` has come or
    /// `wake` was called, and appends all completions there are. Returns the time afterwards.
    ///
    /// Operations that complete in silence have taken effect, in their order, before any later operation of the batch
    /// that names the same socket.
    func turn(_ operations: inout [Operation], into completions: inout [Completion], until deadline: Instant) -> Instant

    /// The time now.
    func now() -> Instant

    /// What to add to an `Instant` for nanoseconds since 1970.
    func wallClockOffset() -> UInt64

    /// A connection that waits on a listening socket; nil where none does, or where an accept in flight or another process
    /// takes it first.
    func acceptWaiting(on listener: Socket) -> Socket?

    /// The other end of a connected socket; nil where the connection is gone and nobody has noted it.
    func peerAddress(of socket: Socket) -> SocketAddress?

    /// This end of a socket.
    func localAddress(of socket: Socket) -> SocketAddress?

    /// Where an accepted connection was bound before the packet filter led it here (SO_ORIGINAL_DST); this end where it did not.
    func originalDestination(of socket: Socket) -> SocketAddress?

    /// What to call, from any thread, to end a wait early.
    var wake: @Sendable () -> Void { get }

    /// What the driver counted since it was made.
    var figures: DriverFigures { get }
}

/// A driver's own counts.
package struct DriverFigures: Sendable, BitwiseCopyable {
    /// Completion queue overflows met; each was flushed (must stay 0).
    package var overflowCount: UInt64 = 0
    /// Calls into the kernel to submit or wait.
    package var enterCount: UInt64 = 0

    /// Buffers of the pool that the driver holds ready; not in use.
    package var offeredBufferCount = 0

    package init() {}
}
