import CWeir
import WeirSockets

/// Receive buffers that the kernel takes from, in the order in which they were offered (IOU_PBUF_RING, Linux 5.19).
///
/// Deallocate it after the ring that it is registered with: until then the kernel reads it.
@safe
package final class BufferRing {
    package static let group: UInt16 = 0

    /// A power of two.
    package let capacity: Int
    /// Buffers that stand in the ring, the kernel's until a completion names them.
    package private(set) var offeredCount = 0
    private let entries: UnsafeMutablePointer<io_uring_buf_ring>
    private var addedCount: Int32 = 0

    /// The bytes that it takes; they count as locked memory.
    package static func byteCount(capacity: Int) -> Int { capacity * MemoryLayout<io_uring_buf>.stride }

    package init(capacity: Int, in ring: Ring) throws(DriverSetupFailure) {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0)
        let byteCount = Self.byteCount(capacity: capacity)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        var registration = io_uring_buf_reg()
        registration.ring_addr = UInt64(UInt(bitPattern: memory))
        registration.ring_entries = UInt32(capacity)
        registration.bgid = Self.group
        let code = unsafe io_uring_register_buf_ring(ring.pointer, &registration, 0)
        guard code == 0 else {
            unsafe memory.deallocate()
            throw DriverSetupFailure(step: "io_uring_register_buf_ring", code: -code)
        }
        self.capacity = capacity
        unsafe entries = memory.assumingMemoryBound(to: io_uring_buf_ring.self)
        unsafe io_uring_buf_ring_init(entries)
    }

    deinit { unsafe UnsafeMutableRawPointer(entries).deallocate() }

    package var isFull: Bool { offeredCount == capacity }

    /// Puts a buffer behind the others; the kernel sees it after `publish`. There must be room.
    @unsafe
    package func offer(_ buffer: UInt16, at address: UnsafeMutableRawPointer, byteCount: Int) {
        precondition(!isFull)
        let mask = io_uring_buf_ring_mask(UInt32(capacity))
        unsafe io_uring_buf_ring_add(entries, address, UInt32(byteCount), buffer, mask, addedCount)
        addedCount += 1
        offeredCount += 1
    }

    package func publish() {
        guard addedCount > 0 else { return }
        unsafe io_uring_buf_ring_advance(entries, addedCount)
        addedCount = 0
    }

    /// A completion named one of them.
    package func taken() { offeredCount -= 1 }
}
