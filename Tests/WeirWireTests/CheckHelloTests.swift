import Testing
import WeirNet
import WeirTesting
import WeirWire

/// UP-06.
@Suite struct CheckHelloTests {
    private func hello(_ name: ServerName, seed: UInt64 = 1) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xaa, count: CheckHello.byteCountMax)
        var span = bytes.mutableSpan
        let count = CheckHello.write(serverName: name, seed: seed, into: &span)
        return Array(bytes[..<count])
    }

    private func parsed(_ bytes: [UInt8]) -> ClientHello? {
        var parser = ClientHelloParser(byteCountMax: 16384)
        guard case .complete(let hello) = parser.consume(bytes.span) else { return nil }
        return hello.wireByteCount == bytes.count ? hello : nil
    }

    @Test func strictParserTakesAllOfItWithItsName() throws {
        let name = try ServerName("health.example")
        let hello = try #require(parsed(hello(name)))
        #expect(hello.serverName == name)
        #expect(hello.legacyVersion == 0x0303)
        #expect(hello.recordCount == 1)
    }

    @Test func withoutANameThereIsNone() throws {
        let hello = try #require(parsed(hello(.none)))
        #expect(hello.serverName.isNone)
    }

    @Test func longestNameFits() throws {
        let label = String(repeating: "a", count: 62)
        let name = try ServerName([label, label, label, label].joined(separator: ".") + "b")
        #expect(try #require(parsed(hello(name))).serverName == name)
    }

    @Test func anotherSeedIsAnotherHello() {
        #expect(hello(.none, seed: 1) == hello(.none, seed: 1))
        #expect(hello(.none, seed: 1) != hello(.none, seed: 2))
    }
}
