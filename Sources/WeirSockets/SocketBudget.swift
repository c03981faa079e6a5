import CWeir
import WeirMemory

/// How much of the kernel's memory a socket may hold where memory is limited for this process (a control group, which
/// the buffers of its sockets count against; a machine as a whole has net.ipv4.tcp_mem for that).
///
/// While sessions are few, the kernel tunes their buffers and only bytes that were not sent yet are bounded: enough for
/// any path, little for a client that has stopped reading. Beyond, a new session's share shrinks with the number there
/// is, so that all together stay below half of the memory:
///
///     the first   (memory / 16) / untunedByteCount sessions
///     session n   2 buffers of memory / 48 n, which the kernel doubles; over 64 times as many: 0.35 of the memory
package struct SocketBudget: Sendable {
    private let sessions: SharedCounter
    private let byteCount: Int
    /// Up to so many sessions the kernel tunes.
    private let untunedCount: Int

    /// Bytes that wait to be sent at most (TCP_NOTSENT_LOWAT), in every session; a write that begins below it may pass
    /// it once.
    package static let unsentByteCountMax: Int32 = 16384
    /// What a session that nobody bounds may take in a receive buffer that is not drained and in `unsentByteCountMax`.
    private static let untunedByteCount = 262_144
    private static let shareMin = 4096

    /// `byteCount`: the memory limit. `sessions` counts the open ones over all workers.
    package init(byteCount: Int, sessions: SharedCounter) {
        self.sessions = sessions
        self.byteCount = byteCount
        untunedCount = byteCount / 16 / Self.untunedByteCount
    }

    /// Bounds a socket that is about to connect: before, so that its window never promises more.
    package func bound(connecting descriptor: Int32) {
        cweir_set_unsent_limit(descriptor, Self.unsentByteCountMax)
        guard let share = share(sessionCount: sessions.value) else { return }
        cweir_set_receive_buffer(descriptor, share)
        cweir_set_send_buffer(descriptor, share)
    }

    /// Bounds an accepted socket, which has the limit on unsent bytes from the listening one. Its window is promised
    /// already, and starts small.
    package func bound(accepted descriptor: Int32) {
        if let share = share(sessionCount: sessions.value) { cweir_set_send_buffer(descriptor, share) }
    }

    /// SO_SNDBUF and SO_RCVBUF for a socket that is made when so many sessions are open; nil: the kernel tunes them.
    package func share(sessionCount: Int) -> Int32? {
        guard sessionCount > untunedCount else { return nil }
        return Int32(clamping: max(byteCount / 48 / sessionCount, Self.shareMin))
    }
}
