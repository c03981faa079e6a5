/// From which sides of a session a receive is in flight behind a chunk that waits.
package struct ReceivesAhead: Sendable, BitwiseCopyable, Hashable {
    package var downstream: Bool
    package var upstream: Bool

    package init(downstream: Bool = false, upstream: Bool = false) {
        self.downstream = downstream
        self.upstream = upstream
    }

    package var count: Int { (downstream ? 1 : 0) + (upstream ? 1 : 0) }
}
