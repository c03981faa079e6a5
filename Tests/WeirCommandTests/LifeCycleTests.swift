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
        (.user2, .upgrade),
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

    @Test func oneUpgradeAtATime() {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(.user2, drainTimeout: drainTimeout)
        #expect(lifeCycle.received(.user2, drainTimeout: drainTimeout) == .ignoreUpgrade)
        lifeCycle.upgradeEnded(isHandedOver: false)
        #expect(lifeCycle.received(.user2, drainTimeout: drainTimeout) == .upgrade)
    }

    /// P-18: an order to end is then the second one.
    @Test func whoeverHasHandedOverIsDraining() {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(.user2, drainTimeout: drainTimeout)
        lifeCycle.upgradeEnded(isHandedOver: true)
        #expect(lifeCycle.received(.user2, drainTimeout: drainTimeout) == .ignore)
        #expect(lifeCycle.received(.hangup, drainTimeout: drainTimeout) == .ignore)
        #expect(lifeCycle.received(.terminate, drainTimeout: drainTimeout) == .stop)
    }

    @Test func aProxyThatUpgradesStillEndsOnOrder() {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(.user2, drainTimeout: drainTimeout)
        #expect(lifeCycle.received(.terminate, drainTimeout: drainTimeout) == .drain(deadline: drainTimeout))
        #expect(lifeCycle.received(.user2, drainTimeout: drainTimeout) == .ignore)
    }

    @Test func aDrainingProxyDoesNotReloadButRotatesItsLog() {
        var lifeCycle = LifeCycle()
        _ = lifeCycle.received(.terminate, drainTimeout: drainTimeout)
        #expect(lifeCycle.received(.hangup, drainTimeout: drainTimeout) == .ignore)
        #expect(lifeCycle.received(.user1, drainTimeout: drainTimeout) == .reopenLog)
    }
}
