import Glibc

/// Where log lines go: a descriptor that may break, fill up or stall, and must not take its thread along.
///
/// What cannot be written is dropped and counted by line. A line of which only a part got out counts as lost, and the
/// next one begins on a line of its own.
package struct LogOutput: ~Copyable {
    /// -1: lines are forgotten.
    private let descriptor: Int32
    private let isOwned: Bool
    private let isRegular: Bool
    /// What was written last was not the end of a line.
    private var isMidLine = false
    /// The errno of the last failure, until a write succeeds again.
    package private(set) var failure: Int32 = 0

    /// `isOwned`: closed at the end. Standard output is not.
    package init(descriptor: Int32, isOwned: Bool) {
        self.descriptor = descriptor
        self.isOwned = isOwned
        isRegular = descriptor >= 0 && SystemFile.isRegular(descriptor)
    }

    deinit { if isOwned && descriptor >= 0 { close(descriptor) } }

    var isNone: Bool { descriptor < 0 }

    /// Writes whole lines, `lineCount` of them. While nobody reads the other end it waits in steps of
    /// `stepMilliseconds`, as long as `goOn()` agrees. Returns the lines written whole, and the rest.
    package mutating func write(
        _ bytes: [UInt8], lineCount: UInt64, stepMilliseconds: Int32 = 50, while goOn: () -> Bool
    ) -> (written: UInt64, lost: UInt64) {
        guard !bytes.isEmpty else { return (0, 0) }
        if isMidLine {
            guard put([UInt8(ascii: "\n")], stepMilliseconds, goOn) == 1 else { return (0, lineCount) }
            isMidLine = false
        }
        let count = put(bytes, stepMilliseconds, goOn)
        if count > 0 { isMidLine = bytes[count - 1] != UInt8(ascii: "\n") }
        let written = count == bytes.count ? lineCount : Self.lineCount(bytes[..<count])
        return (written, lineCount - written)
    }

    /// Returns the bytes that the kernel took.
    private mutating func put(_ bytes: [UInt8], _ stepMilliseconds: Int32, _ goOn: () -> Bool) -> Int {
        // A pipe that polls writable takes PIPE_BUF bytes without waiting (pipe(7)); more could block for ever on a
        // standard output that is not ours to make non-blocking.
        let countMax = isRegular ? Int.max : 4096
        var count = 0
        while count < bytes.count {
            if !isRegular {
                while !SystemFile.wait(descriptor, for: Int32(POLLOUT), milliseconds: goOn() ? stepMilliseconds : 0) {
                    guard goOn() else { return fail(EAGAIN, count) }
                }
            }
            do throws(SystemFile.Failure) {
                let end = bytes.count - count > countMax ? count + countMax : bytes.count
                count += try SystemFile.write(descriptor, bytes, count..<end)
                failure = 0
            } catch  where error.code == EAGAIN {
                guard goOn() else { return fail(EAGAIN, count) }
            } catch {
                return fail(error.code, count)
            }
        }
        return count
    }

    private mutating func fail(_ code: Int32, _ count: Int) -> Int {
        failure = code
        return count
    }

    private static func lineCount(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $1 == UInt8(ascii: "\n") ? $0 + 1 : $0 }
    }
}
