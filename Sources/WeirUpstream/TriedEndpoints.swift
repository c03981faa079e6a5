/// The endpoints that one session has tried, by their index in the view that they were chosen from. A plain value.
package struct TriedEndpoints: BitwiseCopyable, Sendable {
    /// As many as a session may try.
    package static let countMax = 8

    private var endpoints = InlineArray<8, Int32>(repeating: -1)
    package private(set) var count = 0

    package init() {}

    /// Of more than `countMax` the last take the place of the last.
    package mutating func append(_ endpoint: Int) {
        let position = min(count, Self.countMax - 1)
        endpoints[position] = Int32(truncatingIfNeeded: endpoint)
        count = position + 1
    }

    package subscript(position: Int) -> Int {
        precondition(position >= 0 && position < count)
        return Int(endpoints[position])
    }

    package func contains(_ endpoint: Int) -> Bool {
        for position in 0..<count where Int(endpoints[position]) == endpoint { return true }
        return false
    }
}
