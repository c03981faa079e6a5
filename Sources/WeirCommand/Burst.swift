import WeirNet

/// How long more changes are waited for after one: files are written in bursts, and each is not to be read by itself.
///
/// A burst is over when nothing has happened for `quiet`, and taken to be over `whole` after its first change: a stream
/// of writes that does not end is followed all the same.
package struct Burst {
    package static let quietNanoseconds: UInt64 = 10_000_000
    package static let wholeNanoseconds: UInt64 = 100_000_000

    private var end: Instant?

    package init() {}

    /// Something has changed.
    package mutating func note(at now: Instant) {
        if end == nil { end = now.advanced(byNanoseconds: Self.wholeNanoseconds) }
    }

    /// For so many nanoseconds the next change is waited for; 0: the burst is over. nil: none has begun.
    package func patience(at now: Instant) -> UInt64? {
        end.map { min(Self.quietNanoseconds, $0.nanoseconds(since: now)) }
    }
}
