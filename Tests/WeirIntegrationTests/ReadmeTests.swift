import Glibc
import Testing

/// The test that the README shows is ReadmeExample.swift, so it is true as long as it passes.
@Suite struct ReadmeTests {
    @Test func theReadmeShowsTheExampleThatIsTested() throws {
        let directory = #filePath.split(separator: "/").dropLast()
        let example = try text(ofFile: "/\(directory.joined(separator: "/"))/ReadmeExample.swift")
        let readme = try text(ofFile: "/\(directory.dropLast(2).joined(separator: "/"))/README.md")
        #expect(readme.contains("```swift\n\(example)```\n"))
    }

    private func text(ofFile path: String) throws -> String {
        let file = try unsafe #require(fopen(path, "r"))
        defer { unsafe _ = fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
