import Testing
import WeirModel
import WeirNet

@Suite struct ServerNamePatternTests {
    @Test func starAloneIsAnyName() throws {
        #expect(try ServerNamePattern("*") == .any)
    }

    @Test func starDotKeepsTheCanonicalSuffix() throws {
        #expect(try ServerNamePattern("*.Example.COM.") == .wildcard(ServerName("example.com")))
    }

    @Test func everythingElseIsExact() throws {
        #expect(try ServerNamePattern("API.example.com") == .exact(ServerName("api.example.com")))
    }

    @Test(arguments: [
        ("", ServerName.Refusal.empty), ("*.", .empty), ("*..com", .emptyLabel), ("**", .forbiddenByte),
        ("a.*.example", .forbiddenByte), ("*a.example", .forbiddenByte), ("*.*.example", .forbiddenByte),
        ("10.0.0.1", .addressLiteral), ("*.0.0.1", .addressLiteral), (".example.com", .emptyLabel),
    ])
    func otherSpellingsAreRefused(text: String, expected: ServerName.Refusal) {
        #expect(throws: expected) { try ServerNamePattern(text) }
    }
}
