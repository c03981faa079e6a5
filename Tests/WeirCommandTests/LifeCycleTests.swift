import Testing
import WeirCommand

@Suite struct LifeCycleTests {
    private let drainTimeout = Duration.seconds(7)

    /// What a signal does while serving, then what a second one does while draining.
    @Test(arguments: [
        (Signal.hangup, LifeCycle.Action.reload),
        (.user1, .reopenLog),
        (.terminate, .drain(deadline: .seconds(7))),
        (.interrupt, .stop),
        (.quit, .drain(deadline: nil)),
    ])
    func everySignalHasItsMeaningWhileServing(signal: Signal, action: LifeCycle.Action) {
        var lifeCycle = LifeCycle()
        #expect(lifeCycle.received(signal, drainTimeout: drainTimeout) == action)
    }

    @Test(arguments: [Signal.terminate, .quit], [Signal.terminate, .quit, .interrupt])
    func aSecondOrderToEndEndsAtOnce(first: Signal, second: Signal) {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(first, drainTimeout: drainTimeout)
        #expect(lifeCycle.received(second, drainTimeout: drainTimeout) == .stop)
    }

    @Test func aDrainingProxyDoesNotReloadButRotatesItsLog() {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(.terminate, drainTimeout: drainTimeout)
        #expect(lifeCycle.received(.hangup, drainTimeout: drainTimeout) == .ignore)
        #expect(lifeCycle.received(.user1, drainTimeout: drainTimeout) == .reopenLog)
    }
}
