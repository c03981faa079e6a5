/// What a day may play: each is rare enough to be forgotten, and a run says how often each came.
package enum Played: Int, CaseIterable, Sendable {
    // Receives and sends.
    case splitReceive
    case hintOfEnd
    case falseHintOfEnd
    case heldBack
    case shortSend
    case endedReceive
    case emptyRing
    case refusedBuffer
    case interrupted
    case outOfMemory
    case pump
    case pumpWithoutCarrier
    // Accepting.
    case endedAccept
    case acceptAborted
    case acceptWithoutDescriptor
    case acceptWithoutMemory
    // Connecting.
    case connectWithoutDescriptor
    case connectWithoutMemory
    case connectWithoutPort
    case connectRefused
    case connectReset
    case connectUnreachable
    case connectUnanswered
    case connectsRaced
    case retriedElsewhere
    case raceLost
    // Cancelling.
    case cancelWon
    case cancelTooLate
    case receiveDespiteCancel
    case sendDespiteCancel
    case sendPartlyDespiteCancel
    case connectDespiteCancel
    case acceptDespiteCancel
    // Far ends.
    case clientReset
    case upstreamReset
    case vanished
    case clientEnd
    case upstreamEnd
    case closeWithBytesUnread
    case bytesAfterClose
    case stalledReader
    case silentParty
    case brokenHello
    case brokenHeader
    case untrustedPeer
    case stalledPreamble
    case drippedPreamble
    case stalledHeader
    case sharedClientAddress
    // Names.
    case earlyAnswer
    case lateAnswer
    case answerForReusedSlot
    case answerTwice
    case noAnswer
    case emptyAnswer
    case failedAnswer
    case guardedAnswer
    case crowdedAnswer
    case expiredAnswer
    // Time and descriptors.
    case stall
    case clockJump
    case lostWake
    case reusedDescriptor
    // Orders.
    case severalWorkers
    case reload
    case reloadWhileOpening
    case listenerRemoved
    case listenerAdded
    case drain
    case drainDeadline
    case stop
    case stopWhileOpening
    // Turned away without a session.
    case turnedAwayByProcessLimit
    case turnedAwayByListenerLimit
    case turnedAwayByRemoval
    case turnedAwayByEnd
    case turnedAwayByReset
}

/// What days were made of, for those who ask whether the days are worth their time.
package struct SimulatedTally: Sendable {
    package var dayCount = 0
    package var turnCount = 0
    package var byteCount = 0
    /// Sessions by the label of their reason.
    package var reasons: [String: Int] = [:]
    /// Sessions of which every byte was expected to arrive, and did.
    package var completeCount = 0
    /// By `Played.rawValue`.
    private var counts = [Int](repeating: 0, count: Played.allCases.count)

    package init() {}

    package subscript(played: Played) -> Int { counts[played.rawValue] }

    package mutating func add(_ played: Played, _ count: Int = 1) { counts[played.rawValue] += count }

    package static func += (sum: inout SimulatedTally, other: SimulatedTally) {
        sum.dayCount += other.dayCount
        sum.turnCount += other.turnCount
        sum.byteCount += other.byteCount
        sum.reasons.merge(other.reasons) { $0 + $1 }
        sum.completeCount += other.completeCount
        for index in sum.counts.indices { sum.counts[index] += other.counts[index] }
    }
}

/// As text, for whoever plays days in several processes: one count a line.
extension SimulatedTally {
    package var lines: [String] {
        var lines = ["days \(dayCount)", "turns \(turnCount)", "bytes \(byteCount)", "complete \(completeCount)"]
        for (label, count) in reasons.sorted(by: { $0.key < $1.key }) { lines.append("reason.\(label) \(count)") }
        for played in Played.allCases { lines.append("played.\(played) \(self[played])") }
        return lines
    }

    /// Adds what one of `lines` says. False where it is none.
    package mutating func add(line: some StringProtocol) -> Bool {
        let parts = line.split(separator: " ")
        guard parts.count == 2, let count = Int(parts[1]) else { return false }
        let name = parts[0]
        switch name {
        case "days": dayCount += count
        case "turns": turnCount += count
        case "bytes": byteCount += count
        case "complete": completeCount += count
        default:
            if name.hasPrefix("reason.") {
                reasons[String(name.dropFirst(7)), default: 0] += count
            } else if let played = Self.playedByName[String(name.dropFirst(7))], name.hasPrefix("played.") {
                add(played, count)
            } else {
                return false
            }
        }
        return true
    }

    private static let playedByName = Dictionary(uniqueKeysWithValues: Played.allCases.map { ("\($0)", $0) })
}
