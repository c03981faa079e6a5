import WeirMemory
import WeirNet

/// A worker's question: the addresses of `name`.
@frozen
package struct ResolverRequest: BitwiseCopyable, Sendable {
    /// Chosen by the worker and given back with the answer.
    package var ticket: UInt64
    package var name: ServerName

    @inlinable
    package init(ticket: UInt64, name: ServerName) {
        self.ticket = ticket
        self.name = name
    }
}

/// What the resolver says to one request.
@frozen
package struct ResolverAnswer: BitwiseCopyable, Sendable {
    /// The request's.
    package var ticket: UInt64
    /// The request's, so that the answer can be kept although nobody waits for it any more.
    package var name: ServerName
    package var answer: Answer

    @inlinable
    package init(ticket: UInt64, name: ServerName, answer: Answer) {
        self.ticket = ticket
        self.name = name
        self.answer = answer
    }
}

/// The two rings between one worker and the resolver's thread.
///
/// Every request taken from `requests` is answered exactly once, until the resolver stops. The worker pushes to
/// `requests` and pops from `answers`; the resolver does the reverse. Where `requests` is full, the worker treats the
/// name as `refusedTooMany`; where `answers` is full, the resolver keeps the answer and comes back.
package final class ResolverPort: Sendable {
    package let requests: SPSCRing<ResolverRequest>
    package let answers: SPSCRing<ResolverAnswer>
    /// The worker calls it once after a batch of pushes.
    package let wakeResolver: @Sendable () -> Void
    /// The resolver calls it once after a batch of pushes. It must not block.
    package let wakeWorker: @Sendable () -> Void

    /// `requestCount`, `answerCount`: of the rings. The resolver empties the first as it is woken.
    package init(
        requestCount: Int = 1024, answerCount: Int = 1024,
        wakeResolver: @escaping @Sendable () -> Void,
        wakeWorker: @escaping @Sendable () -> Void
    ) {
        requests = SPSCRing(capacity: requestCount)
        answers = SPSCRing(capacity: answerCount)
        self.wakeResolver = wakeResolver
        self.wakeWorker = wakeWorker
    }
}
