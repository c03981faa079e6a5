/// The endpoints that one session may try, in that order and each once. A plain value.
package struct EndpointPlan: BitwiseCopyable, Sendable {
    package static let countMax = 8

    private var endpoints = InlineArray<8, Int32>(repeating: -1)
    /// 0: the cluster has no endpoint that may be tried. `count <= countMax`.
    package private(set) var count = 0

    /// The view that the indices belong to.
    package let generation: UInt64

    init(generation: UInt64) { self.generation = generation }

    package var isEmpty: Bool { count == 0 }

    /// The endpoint's index in the view of `generation`.
    package subscript(position: Int) -> Int {
        precondition(position >= 0 && position < count)
        return Int(endpoints[position])
    }

    mutating func append(_ endpoint: Int) {
        endpoints[count] = Int32(truncatingIfNeeded: endpoint)
        count += 1
    }

    func contains(_ endpoint: Int) -> Bool {
        for position in 0..<count where Int(endpoints[position]) == endpoint { return true }
        return false
    }
}
