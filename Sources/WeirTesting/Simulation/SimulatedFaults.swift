/// What may happen on one simulated day. Chances are per thousand, times are nanoseconds; without any, the kernel and
/// the network do what they should, at once.
package struct SimulatedFaults: Sendable {
    /// From one end of a connection to the other. Bytes never overtake each other.
    package var latency: ClosedRange<UInt64> = 20_000...20_000
    /// From the moment at which an operation could go on to the moment at which it does.
    package var delay: ClosedRange<UInt64> = 0...0
    /// Between a worker's turns.
    package var turnTime: ClosedRange<UInt64> = 1_000...1_000
    /// Room for bytes that one end has sent and the other has not read yet, drawn for each direction.
    package var windowByteCount: ClosedRange<UInt64> = 65_536...65_536

    /// A receive takes fewer bytes than have come.
    package var shortReceive = 0
    /// A receive says that the end follows although it has not come.
    package var falseHint = 0
    /// A send completes before all of it is taken.
    package var shortSend = 0
    /// A continuing receive or accept ends although nothing is wrong (U-06).
    package var silentEnd = 0
    /// A receive finds the buffer ring empty although it is not (U-07).
    package var noBuffer = 0
    /// An operation that was cancelled succeeds instead, where it can (U-10).
    package var lostCancel = 0
    /// A receive or a send is interrupted.
    package var interrupted = 0
    /// A connection is gone when it is accepted; accepting fails with ECONNABORTED.
    package var acceptAborted = 0
    /// Accepting or connecting fails for want of descriptors.
    package var noDescriptor = 0
    /// Connecting fails for want of a source port.
    package var noSourcePort = 0
    /// Accepting or connecting fails for want of memory.
    package var noMemory = 0
    /// A receive, or a send, fails for want of memory.
    package var noMemoryToReceive = 0
    package var noMemoryToSend = 0
    /// A pump finds no carrier.
    package var noCarrier = 0
    /// What a carrier takes at a time, drawn for each pump.
    package var carrierByteCount: ClosedRange<UInt64> = 65_536...65_536
    /// A call of `wake` has no effect.
    package var lostWake = 0
    /// The worker is kept from its core for `stallTime`.
    package var stall = 0
    package var stallTime: ClosedRange<UInt64> = 0...0
    /// A descriptor that was closed is the next to be given out, as in Linux; else none comes twice, which shows the
    /// use of a closed one at once.
    package var reusesDescriptors = false

    package init() {}

    /// A day that `random` chooses: half of the faults cannot happen on it, the others are rare or frequent.
    package init(random: inout SimulatedRandom) {
        func drawn(_ most: Int) -> Int { random.chance(500) ? 0 : random.scaled(1, most) }
        let slowest = UInt64(random.pick([20_000, 200_000, 2_000_000, 8_000_000]))
        latency = 10_000...slowest
        delay = 0...UInt64(random.pick([0, 0, 50_000, 1_000_000]))
        turnTime = 500...UInt64(random.pick([2_000, 20_000, 200_000]))
        windowByteCount = random.pick([256...4096, 1024...65_536, 65_536...65_536, 16_384...200_000])
        shortReceive = drawn(500)
        falseHint = drawn(100)
        shortSend = drawn(300)
        silentEnd = drawn(200)
        noBuffer = drawn(100)
        lostCancel = random.pick([0, 0, 50, 500, 900])
        interrupted = drawn(50)
        noCarrier = random.pick([0, 0, 100, 1000])
        carrierByteCount = random.pick([64...512, 1024...65_536, 65_536...65_536])
        acceptAborted = drawn(100)
        noDescriptor = drawn(60)
        noSourcePort = drawn(60)
        noMemory = drawn(30)
        noMemoryToReceive = random.chance(900) ? 0 : random.scaled(1, 10)
        noMemoryToSend = noMemoryToReceive
        lostWake = drawn(500)
        stall = drawn(10)
        stallTime = 1_000_000...10_000_000
        reusesDescriptors = random.chance(700)
    }
}
