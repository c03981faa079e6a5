/// What a broken engine could do. On a day with one of these a `FaultPlanter` does it once, between a worker and its
/// kernel, and whoever checks must notice.
package enum PlantedFault: String, Sendable, CaseIterable {
    // Bytes.
    /// One received byte is another than the one that was sent.
    case changedByte
    /// One received byte comes twice.
    case repeatedByte
    /// One received byte is lost.
    case lostByte
    /// The last byte of a send is never sent.
    case unsentByte
    /// A send says that more follows, and nothing does.
    case vainHold
    /// A send is handed over again after it has completed.
    case repeatedSend
    /// What a short send has left over is taken for sent.
    case ignoredShortSend
    /// Two sessions get each other's bytes.
    case swappedBytes

    // Completions.
    /// A receive completes and nobody hears of it.
    case lostReceive
    /// A send completes and nobody hears of it.
    case lostSend

    // Operations.
    /// A receive is not armed again.
    case forgottenReceive
    /// An accept is not armed again.
    case forgottenAccept
    /// An operation is not cancelled that should be.
    case forgottenCancel
    /// A watch that no session knows of.
    case strayWatch
    /// A FIN is not passed on.
    case forgottenShutdown
    /// Somebody else is connected to.
    case misdirectedConnect
    /// Our own machine is connected to, which the guard forbids.
    case guardedConnect
    /// A connect that has succeeded after its cancellation is forgotten.
    case ignoredLateConnect

    // Descriptors and buffers.
    /// A close is forgotten.
    case forgottenClose
    /// A descriptor is closed twice.
    case repeatedClose
    /// A cut stream ends with FIN.
    case politeReset
    /// A buffer is given back while it is being sent.
    case earlyRelease
    /// A buffer is never given back.
    case forgottenRelease

    // Time and counts.
    /// Deadlines are slept through.
    case lateTimers
    /// A session that ends stays in the limit of the process.
    case forgottenLeave
    /// A session that ends stays in the limit of its client.
    case forgottenClientLeave
    /// A session that ends stays counted at its endpoint.
    case forgottenEndpointLeave
    /// A session is counted as closed twice.
    case repeatedCount
}
