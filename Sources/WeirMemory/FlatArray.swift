/// A fixed number of plain elements in memory that no reference count guards. Bounds are checked in every build.
///
/// A copy is another view of the same elements; exactly one owner calls `deallocate()`, after the last view is gone.
/// The hot path uses it where an `Array` would retain and release on every look.
@frozen
@safe
package struct FlatArray<Element: BitwiseCopyable>: @unchecked Sendable {
    @usableFromInline
    let base: UnsafeMutablePointer<Element>
    package let count: Int

    /// Every element starts as `value`.
    @inlinable
    package init(repeating value: Element, count: Int) {
        precondition(count >= 0)
        let base = UnsafeMutablePointer<Element>.allocate(capacity: max(count, 1))
        unsafe base.initialize(repeating: value, count: count)
        unsafe self.base = base
        self.count = count
    }

    @inlinable
    package init(_ elements: [Element]) {
        let base = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
        for (index, element) in elements.enumerated() { unsafe (base + index).initialize(to: element) }
        unsafe self.base = base
        count = elements.count
    }

    /// Frees the elements. Every copy of this value is dead afterwards.
    @inlinable
    package func deallocate() { unsafe base.deallocate() }

    @inlinable
    package subscript(index: Int) -> Element {
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
    package var indices: Range<Int> { 0..<count }
}
