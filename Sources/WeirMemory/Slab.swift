/// A fixed number of slots for plain elements, each free or live. The slot freed last is used next, so few connections
/// touch little memory; a slot that was never used has never been written and costs no resident page.
///
/// `liveCount <= touchedCount <= capacity`. Every slot carries a generation that changes when it is freed, so whoever
/// kept an index can tell an earlier tenant from the present one. One thread uses a slab. Public for the reason that
/// `FlatArray` gives.
@frozen
@safe
public struct Slab<Element: BitwiseCopyable>: ~Copyable {
    @frozen
    @usableFromInline
    struct Entry: BitwiseCopyable {
        @usableFromInline
        var element: Element
        @usableFromInline
        var generation: UInt32
        /// The free slot below this one on the stack, `bottom`, or `taken`.
        @usableFromInline
        var next: Int32

        @inlinable
        init(element: Element, generation: UInt32, next: Int32) {
            self.element = element
            self.generation = generation
            self.next = next
        }
    }

    // Not static: a generic type has no stored statics, and these must fold to constants.
    @inlinable
    static var bottom: Int32 { -1 }
    @inlinable
    static var taken: Int32 { -2 }

    @frozen
    @usableFromInline
    struct State: BitwiseCopyable {
        @usableFromInline
        var freeTop: Int32
        @usableFromInline
        var touched: Int
        @usableFromInline
        var live: Int

        @inlinable
        init(freeTop: Int32) {
            self.freeTop = freeTop
            touched = 0
            live = 0
        }
    }

    @usableFromInline
    let entries: UnsafeMutablePointer<Entry>
    // Apart, so that a slab is held by a `let`: every look at a class's `var` that may nest with another is checked while
    // the program runs (Swift's exclusivity), which was 1.3 % of the CPU of a message.
    @usableFromInline
    let state: UnsafeMutablePointer<State>

    /// Never set. Swift 6.3 takes a generic noncopyable value made of plain fields only for one that needs no
    /// destruction where another module owns it, and never runs its `deinit`; a reference among the fields prevents that.
    @usableFromInline
    let destructionMark: AnyObject? = nil

    public let capacity: Int
    /// Slots used at least once: every live index is below it.
    @inlinable
    public var touchedCount: Int { unsafe state.pointee.touched }
    @inlinable
    public var liveCount: Int { unsafe state.pointee.live }

    /// `capacity` is 1..<2^31.
    @inlinable
    public init(capacity: Int) {
        precondition(capacity > 0 && capacity < Int(Int32.max))
        unsafe entries = UnsafeMutablePointer<Entry>.allocate(capacity: capacity)
        unsafe state = UnsafeMutablePointer<State>.allocate(capacity: 1)
        unsafe state.initialize(to: State(freeTop: Self.bottom))
        self.capacity = capacity
    }

    @inlinable
    deinit {
        unsafe entries.deallocate()
        unsafe state.deallocate()
    }

    /// A slot that holds `element`; nil where all are live.
    @inlinable
    public func allocate(_ element: Element) -> Int? {
        let index: Int
        if unsafe state.pointee.freeTop != Self.bottom {
            unsafe index = Int(state.pointee.freeTop)
            unsafe state.pointee.freeTop = entries[index].next
            unsafe entries[index].element = element
            unsafe entries[index].next = Self.taken
        } else {
            unsafe index = state.pointee.touched
            guard index < capacity else { return nil }
            unsafe state.pointee.touched &+= 1
            unsafe (entries + index).initialize(to: Entry(element: element, generation: 0, next: Self.taken))
        }
        unsafe state.pointee.live &+= 1
        return index
    }

    /// Traps where `index` is not live.
    @inlinable
    public func free(_ index: Int) {
        precondition(isLive(index))
        unsafe entries[index].generation &+= 1
        unsafe entries[index].next = state.pointee.freeTop
        unsafe state.pointee.freeTop = Int32(truncatingIfNeeded: index)
        unsafe state.pointee.live &-= 1
    }

    @inlinable
    public func isLive(_ index: Int) -> Bool {
        guard index >= 0, unsafe index < state.pointee.touched else { return false }
        return unsafe entries[index].next == Self.taken
    }

    /// Whether `index` still has the tenant that was given `generation`.
    @inlinable
    public func isLive(_ index: Int, generation: UInt32) -> Bool {
        guard isLive(index) else { return false }
        return unsafe entries[index].generation == generation
    }

    /// How often the slot has been freed, modulo 2^32; 0 for one never used.
    @inlinable
    public func generation(of index: Int) -> UInt32 {
        precondition(index >= 0 && index < capacity)
        guard unsafe index < state.pointee.touched else { return 0 }
        return unsafe entries[index].generation
    }

    /// The element of a live slot, in place. Traps where `index` is not live.
    @inlinable
    public subscript(index: Int) -> Element {
        @inline(__always)
        unsafeAddress {
            precondition(isLive(index))
            return unsafe UnsafePointer(UnsafeMutableRawPointer(entries + index).assumingMemoryBound(to: Element.self))
        }
        @inline(__always)
        nonmutating unsafeMutableAddress {
            precondition(isLive(index))
            return unsafe UnsafeMutableRawPointer(entries + index).assumingMemoryBound(to: Element.self)
        }
    }
}
