import CWeir
import Glibc

/// What bytes stand in on their way from one socket to another.
package enum Carrier: BitwiseCopyable, Hashable, Sendable {
    /// A pipe of so many bytes, for splice(2).
    case pipe(read: Int32, write: Int32, byteCount: Int)
    /// A private buffer of `CarrierPool.bufferByteCount`.
    case buffer(UInt32)
}

/// A worker's carriers. Used ones are kept for the next; nothing is made before it is needed.
///
/// Large pipes halve the cost of small ones per byte, but a pipe can hold its size in the kernel's memory while its
/// destination stalls, and the kernel allows an unprivileged user 64 MiB (fs.pipe-user-pages-soft). So the size goes down
/// as more are in use, and beyond the budget there are private buffers, then nothing.
@safe
package final class CarrierPool {
    /// The kernel's largest for an unprivileged process (fs.pipe-max-size).
    package static let pipeByteCountMax = 1 << 20
    private static let pipeByteCountMin = 1 << 16
    package static let bufferByteCount = 1 << 18

    private let pipeBudget: Int
    package let pipeCountMax: Int
    private let bufferCountMax: Int
    private let areSocketsBlocking: Bool
    private var idlePipes: [Carrier] = []
    private var idleBuffers: [UInt32] = []
    /// All buffers; touched when they are used.
    private let memory: UnsafeMutableRawPointer
    private var bufferCount = 0
    /// Bytes of the pipes that exist, idle ones included, and how many those are.
    private var pipeByteCount = 0
    private var pipeCount = 0
    /// The kernel has refused a pipe: until one comes back there is no point in asking again.
    private var isRefused = false
    /// Carriers that there can be at once.
    package var countMax: Int { pipeCountMax + bufferCountMax }
    /// Carriers that somebody has.
    package private(set) var takenCount = 0

    /// `pipeBudget`: bytes of all pipes together; 0: no splice. `pipeCountMax`: each takes two descriptors.
    /// `areSocketsBlocking`: those that bytes are moved between.
    package init(pipeBudget: Int, pipeCountMax: Int, bufferCountMax: Int, areSocketsBlocking: Bool) {
        self.pipeBudget = pipeBudget
        self.areSocketsBlocking = areSocketsBlocking
        self.pipeCountMax = pipeCountMax
        self.bufferCountMax = bufferCountMax
        unsafe memory = UnsafeMutableRawPointer.allocate(
            byteCount: max(bufferCountMax, 1) * Self.bufferByteCount, alignment: 4096)
        idlePipes.reserveCapacity(pipeCountMax)
        idleBuffers.reserveCapacity(bufferCountMax)
    }

    /// One that has nothing to give.
    package convenience init() {
        self.init(pipeBudget: 0, pipeCountMax: 0, bufferCountMax: 0, areSocketsBlocking: true)
    }

    deinit {
        for pipe in idlePipes { close(pipe) }
        unsafe memory.deallocate()
    }

    /// nil: there is none to be had just now.
    package func take() -> Carrier? {
        guard let carrier = idlePipes.popLast() ?? makePipe() ?? takeBuffer() else { return nil }
        takenCount += 1
        return carrier
    }

    /// A pipe that holds bytes is closed: they are nobody's.
    package func giveBack(_ carrier: Carrier, isEmpty: Bool) {
        takenCount -= 1
        switch carrier {
        case .buffer(let index): idleBuffers.append(index)
        case .pipe(_, _, let byteCount):
            isRefused = false
            // One that was made small because many were in use is not kept for when few are.
            if isEmpty && byteCount == Self.pipeByteCountMax {
                idlePipes.append(carrier)
            } else {
                close(carrier)
                pipeByteCount -= byteCount
                pipeCount -= 1
            }
        }
    }

    private func makePipe() -> Carrier? {
        guard pipeCount < pipeCountMax, !isRefused else { return nil }
        let wanted = pipeSize
        guard pipeByteCount + wanted <= pipeBudget else { return nil }
        var (read, write): (Int32, Int32) = (-1, -1)
        let byteCount = unsafe Int(cweir_pipe(&read, &write, Int32(wanted)))
        guard byteCount >= Self.pipeByteCountMin else {
            // No descriptor, or a pipe of two pages, which is what the kernel gives above its limit.
            if byteCount >= 0 { close(.pipe(read: read, write: write, byteCount: byteCount)) }
            isRefused = pipeCount > 0
            return nil
        }
        // Who goes away while bytes are moved to him must not end the process that the engine is embedded in.
        cweir_block_sigpipe()
        pipeByteCount += byteCount
        pipeCount += 1
        return .pipe(read: read, write: write, byteCount: byteCount)
    }

    /// Half of the budget is for the largest, a quarter for the next.
    private var pipeSize: Int {
        if pipeByteCount + Self.pipeByteCountMax <= pipeBudget / 2 { return Self.pipeByteCountMax }
        if pipeByteCount + Self.pipeByteCountMax / 4 <= pipeBudget / 4 * 3 { return Self.pipeByteCountMax / 4 }
        return Self.pipeByteCountMin
    }

    private func close(_ carrier: Carrier) {
        guard case .pipe(let read, let write, _) = carrier else { return }
        Glibc.close(read)
        Glibc.close(write)
    }

    private func takeBuffer() -> Carrier? {
        if let index = idleBuffers.popLast() { return .buffer(index) }
        guard bufferCount < bufferCountMax else { return nil }
        bufferCount += 1
        return .buffer(UInt32(bufferCount - 1))
    }

    private func address(of buffer: UInt32) -> UnsafeMutableRawPointer {
        precondition(buffer < UInt32(bufferCount))
        return unsafe memory + Int(buffer) * Self.bufferByteCount
    }

    // MARK: Steps

    /// Bytes that the carrier takes at a time.
    package func capacity(of carrier: Carrier) -> Int {
        switch carrier {
        case .pipe(_, _, let byteCount): byteCount
        case .buffer: Self.bufferByteCount
        }
    }

    /// Takes up to `byteCount` bytes from a socket into an empty carrier. A byte count, 0 at the end, a negated errno.
    package func fill(_ carrier: Carrier, from socket: Int32, _ byteCount: Int) -> Int {
        switch carrier {
        case .pipe(_, let write, _):
            // Of a blocking socket that has nothing splice(2) would wait for something.
            if areSocketsBlocking {
                let found = cweir_peek(socket)
                if found <= 0 { return Int(found) }
            }
            return Self.fillResult(Int(cweir_splice_in(socket, write, byteCount)), from: socket)
        case .buffer(let index):
            let count = unsafe recv(socket, address(of: index), byteCount, Int32(MSG_DONTWAIT))
            return count < 0 ? -Int(errno) : count
        }
    }

    /// What splice(2) into a pipe has come to: at an urgent byte it says that there is nothing, or an end.
    package static func fillResult(_ result: Int, from socket: Int32) -> Int {
        guard result == 0 || result == -Int(EAGAIN) else { return result }
        return cweir_peek(socket) > 0 ? Pump.stuck : result
    }

    /// Moves up to `byteCount` bytes to a socket: the next in a pipe, those behind the first `offset` in a buffer.
    package func drain(_ carrier: Carrier, to socket: Int32, _ byteCount: Int, offset: Int) -> Int {
        switch carrier {
        case .pipe(let read, _, _):
            return Int(cweir_splice_out(read, socket, byteCount, areSocketsBlocking ? 1 : 0))
        case .buffer(let index):
            let start = unsafe address(of: index) + offset
            let count = unsafe send(socket, start, byteCount, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            return count < 0 ? -Int(errno) : count
        }
    }
}
