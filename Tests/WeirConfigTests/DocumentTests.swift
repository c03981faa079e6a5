import Glibc
import Testing
import WeirConfig

/// docs/CONFIGURATION.md and docs/MANIFESTS.md: their examples are read without an error.
@Suite struct DocumentTests {
    static func text(of document: String = "CONFIGURATION") throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let descriptor = unsafe open("/\(root)/docs/\(document).md", O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    static func examples(of language: String, in document: String = "CONFIGURATION") throws -> [String] {
        var examples: [String] = []
        var example: String?
        for line in try text(of: document).split(separator: "\n", omittingEmptySubsequences: false) {
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
        let examples = try Self.examples(of: language)
        #expect(examples.count == count)
        for example in examples {
            let result = ConfigReader.read(texts: [(name: "example", text: example)])
            #expect(result.configuration != nil, "\(result.diagnostics.map(\.description))")
        }
    }

    @Test func everyExampleOfManifestsIsReadAndEverythingInItDone() throws {
        let examples = try Self.examples(of: "yaml", in: "MANIFESTS")
        #expect(!examples.isEmpty)
        for example in examples {
            let result = ConfigReader.read(texts: [(name: "example", text: example)], strict: true)
            #expect(result.configuration != nil, "\(result.diagnostics.map(\.description))")
        }
    }
}
