import Glibc
import Testing
import WeirConfig

/// docs/CONFIGURATION.md: its examples are read without an error.
@Suite struct DocumentTests {
    private func examples(of language: String) throws -> [String] {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let descriptor = unsafe open("/\(root)/docs/CONFIGURATION.md", O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        var examples: [String] = []
        var example: String?
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == "```\(language)" {
                example = ""
            } else if line == "```", let finished = example {
                examples.append(finished)
                example = nil
            } else {
                example? += line + "\n"
            }
        }
        return examples
    }

    @Test(arguments: [("yaml", 1), ("nginx", 2)])
    func everyExampleIsRead(language: String, count: Int) throws {
        let examples = try examples(of: language)
        #expect(examples.count == count)
        for example in examples {
            let result = ConfigReader.read(texts: [(name: "example", text: example)])
            #expect(result.configuration != nil, "\(result.diagnostics.map(\.description))")
        }
    }
}
