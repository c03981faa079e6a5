import CFuzz
import Glibc

/// One process of libFuzzer: the target that its command line names, and what that target answered how often.
///
/// The program's entry points hand libFuzzer's calls on. libFuzzer calls from one thread, and passes over words of the
/// command line that begin with `--`, so `--target=NAME` is ours.
package enum FuzzRun {
    nonisolated(unsafe) private static var target: (any FuzzTarget.Type)?
    nonisolated(unsafe) private static var counts: [String: Int] = [:]

    /// Chooses the target. Ends the process where the command line names none of `targets`.
    package static func begin(_ targets: [any FuzzTarget.Type]) -> CInt {
        let words = CommandLine.arguments.dropFirst()
        if words.contains("--list") {
            for target in targets { print(target.name) }
            exit(0)
        }
        let name = words.first { $0.hasPrefix("--target=") }?.dropFirst("--target=".count) ?? ""
        guard let found = targets.first(where: { $0.name == name }) else {
            complain("no target named \(name.isEmpty ? "(--target=NAME is missing)" : String(name))")
            exit(2)
        }
        unsafe target = found
        atexit { FuzzRun.printCounts() }
        return 0
    }

    package static func test(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
        guard let target = unsafe target else { fatalError("no target was chosen") }
        let bytes = unsafe UnsafeBufferPointer(start: data, count: size)
        guard let answer = unsafe target.check(bytes.span) else { return -1 }
        unsafe counts[answer, default: 0] += 1
        return 0
    }

    package static func mutate(_ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ capacity: Int, _ seed: UInt32) -> Int
    {
        var random = FuzzRandom(seed: UInt64(seed))
        let buffer = unsafe UnsafeMutableBufferPointer(start: data, count: capacity)
        if random.oneIn(2), let target = unsafe target {
            if let changed = unsafe target.mutate(Array(buffer[..<size]), &random), changed.count <= capacity {
                for index in changed.indices { unsafe buffer[index] = changed[index] }
                return changed.count
            }
        }
        return unsafe LLVMFuzzerMutate(data, size, capacity)
    }

    private static func printCounts() {
        var text = ""
        for (answer, count) in unsafe counts.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
            text += "answered \(count) \(answer)\n"
        }
        write(text)
    }
}

/// `bytes` as libFuzzer would change them without knowing what they are; the result has at most `byteCountMax`.
package func mutatedBlindly(_ bytes: [UInt8], byteCountMax: Int) -> [UInt8] {
    let capacity = max(byteCountMax, bytes.count)
    return unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
        _ = unsafe buffer.initialize(from: bytes)
        guard let start = buffer.baseAddress, capacity > 0 else { return }
        count = unsafe LLVMFuzzerMutate(start, bytes.count, capacity)
    }
}

/// Ends the process, which libFuzzer takes for a finding, where `condition` does not hold.
@inline(__always)
package func require(_ condition: Bool, _ message: @autoclosure () -> String) {
    if !condition { fail(message()) }
}

@inline(never)
package func fail(_ message: String) -> Never {
    complain("does not hold: \(message)")
    abort()
}

private func complain(_ message: String) { write("fuzz: \(message)\n") }

/// To standard error, past every buffer: the process may be about to end.
private func write(_ text: String) {
    var text = text
    _ = text.withUTF8 { unsafe Glibc.write(2, $0.baseAddress, $0.count) }
}
