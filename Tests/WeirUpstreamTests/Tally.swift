import Synchronization

/// A number that the tasks of one test add to.
final class Tally: Sendable {
    private let number = Atomic<Int>(0)
    var value: Int { number.load(ordering: .sequentiallyConsistent) }
    func add(_ amount: Int = 1) { number.add(amount, ordering: .sequentiallyConsistent) }
}
