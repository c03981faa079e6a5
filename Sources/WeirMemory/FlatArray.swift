/// A fixed number of plain elements in memory that no reference count guards. Bounds are checked in every build.
///
/// A copy is another view of the same elements; exactly one owner calls `deallocate()`, after the last view is gone.
/// The hot path uses it where an `Array` would retain and release on every look.
///
/// Public, although no product exposes the module: `@inlinable` is honoured for public declarations only. Under
/// `package` access every element was reached through an unspecialised call (Swift 6.3.1, release).
@frozen
@safe
public struct FlatArray<Element: BitwiseCopyable>: @unchecked Sendable {
    @usableFromInline
    let base: UnsafeMutablePointer<Element>
    public let count: Int

    /// Every element starts as `value`.
    @inlinable
    public init(repeating value: Element, count: Int) {
        precondition(count >= 0)
        let base = UnsafeMutablePointer<Element>.allocate(capacity: max(count, 1))
        unsafe base.initialize(repeating: value, count: count)
        unsafe self.base = base
        self.count = count
    }

    @inlinable
    public init(_ elements: [Element]) {
        let base = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
        for (index, element) in elements.enumerated() { unsafe (base + index).initialize(to: element) }
        unsafe self.base = base
        count = elements.count
    }

    /// Frees the elements. Every copy of this value is dead afterwards.
    @inlinable
    public func deallocate() { unsafe base.deallocate() }

    @inlinable
    public subscript(index: Int) -> Element {
        @inline(__always)
        unsafeAddress {
            precondition(index >= 0 && index < count)
            return unsafe UnsafePointer(base + index)
        }
        @inline(__always)
        nonmutating unsafeMutableAddress {
            precondition(index >= 0 && index < count)
            return unsafe base + index
        }
    }

    @inlinable
    public var indices: Range<Int> { 0..<count }
}
