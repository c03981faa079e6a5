import Glibc
import Testing
import WeirNet
import WeirTesting
import WeirWire

/// Tests/Fuzz/Corpora is what the fuzzers start from: what real clients sent, the vectors, and what fuzzing found. All of
/// it is read here too, without a fuzzer.
@Suite struct FuzzCorpusTests {
    /// Written by Tests/Fuzz/capture.py; every client was told to reach `good.test`.
    @Test func everyCapturedHelloNamesTheServerItWasSentTo() throws {
        let captured = try Corpus("client-hello").files.filter { $0.name.hasPrefix("captured-") }
        #expect(captured.count >= 10)
        for (name, bytes) in captured {
            var parser = ClientHelloParser(byteCountMax: 16384)
            guard case .complete(let hello) = parser.consume(bytes.span) else {
                Issue.record("\(name) was not accepted")
                continue
            }
            let expected = name.hasSuffix("-no-sni.bin") ? "" : "good.test"
            #expect(hello.nameAsSent == expected, "\(name)")
            #expect(hello.wireByteCount <= bytes.count, "\(name)")
        }
    }

    /// T-05: however a corpus file is cut, it is answered in the same way.
    @Test func everyFileIsAnsweredTheSameHoweverItIsCut() throws {
        for (name, bytes) in try Corpus("client-hello").files {
            let whole = replay(ReplayedHello(), bytes)
            #expect(replayByByte(ReplayedHello(), bytes).answer == whole, "\(name)")
        }
        for (name, bytes) in try Corpus("proxy-header").files {
            let whole = replay(ReplayedProxyHeader(), bytes)
            #expect(replayByByte(ReplayedProxyHeader(), bytes).answer == whole, "\(name)")
        }
        for (name, bytes) in try Corpus("http-head").files {
            let whole = replay(ReplayedRequestHead(), bytes)
            #expect(replayByByte(ReplayedRequestHead(), bytes).answer == whole, "\(name)")
        }
    }

    /// With WEIR_WRITE_CORPORA set they are written; without, each has to be there as it is.
    @Test func everyVectorIsInTheCorpus() throws {
        try Corpus("client-hello").holds(HelloVector.all.map { (name: $0.name, bytes: $0.bytes) })
        try Corpus("proxy-header").holds(ProxyVector.all.map { (name: $0.name, bytes: $0.bytes) })
        try Corpus("http-head").holds(HTTPVector.all.map { (name: $0.name, bytes: $0.bytes) })
    }
}

/// One target's directory.
private struct Corpus {
    struct Unreadable: Error { let path: String }

    private let directory: String
    private(set) var files: [(name: String, bytes: [UInt8])] = []

    init(_ target: String) throws {
        directory =
            String(#filePath.prefix(upTo: #filePath.firstRange(of: "WeirWireTests")?.lowerBound ?? "".endIndex))
            + "Fuzz/Corpora/" + target
        guard let stream = unsafe opendir(directory) else { throw Unreadable(path: directory) }
        defer { unsafe closedir(stream) }
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".bin") { files.append((name, try Self.read(directory + "/" + name))) }
        }
        files.sort { $0.name < $1.name }
    }

    private static func read(_ path: String) throws -> [UInt8] {
        guard let file = unsafe fopen(path, "r") else { throw Unreadable(path: path) }
        defer { unsafe fclose(file) }
        // Larger than any file that belongs there.
        return unsafe [UInt8](unsafeUninitializedCapacity: 1 << 17) { buffer, count in
            count = unsafe fread(buffer.baseAddress, 1, buffer.count, file)
        }
    }

    /// A vector's bytes stand under its own name, or under another's that has the same.
    func holds(_ vectors: [(name: String, bytes: [UInt8])]) throws {
        var present = Set(files.map(\.bytes))
        for vector in vectors where !present.contains(vector.bytes) {
            guard unsafe getenv("WEIR_WRITE_CORPORA") != nil else {
                Issue.record("\(vector.name) is missing; run WEIR_WRITE_CORPORA=1 swift test --filter FuzzCorpusTests")
                return
            }
            present.insert(vector.bytes)
            try write(vector.bytes, as: "vector-" + Self.fileName(vector.name))
        }
    }

    private func write(_ bytes: [UInt8], as name: String) throws {
        var path = "\(directory)/\(name).bin"
        var number = 2
        while unsafe access(path, F_OK) == 0 {
            path = "\(directory)/\(name)-\(number).bin"
            number += 1
        }
        guard let file = unsafe fopen(path, "w") else { throw Unreadable(path: path) }
        unsafe fwrite(bytes, 1, bytes.count, file)
        unsafe fclose(file)
    }

    /// Letters, digits and single dashes of `name`, at most 60.
    private static func fileName(_ name: String) -> String {
        var result = ""
        for scalar in name.replacing("\\r\\n", with: " ").unicodeScalars {
            let isPlain = scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
            if isPlain || scalar == "." || scalar == "_" {
                result.unicodeScalars.append(scalar)
            } else if !result.isEmpty, !result.hasSuffix("-") {
                result += "-"
            }
        }
        result = String(result.prefix(60))
        while result.hasSuffix("-") || result.hasSuffix(".") { result.removeLast() }
        return result
    }
}
