import Testing
import WeirConfig

@Suite struct DiagnosticTests {
    @Test func printsPlaceMessageSourceLineAndCaret() {
        let result = reading("listeners:\n  - adress: 0.0.0.0:443\n")
        #expect(
            result.diagnostics.map(\.description) == [
                """
                test.conf:2:5: error: unknown key "adress" in a listener; did you mean "address"?
                  - adress: 0.0.0.0:443
                    ^
                """,
                """
                test.conf:2:5: error: a listener has no `address`
                  - adress: 0.0.0.0:443
                    ^
                """,
            ])
    }

    @Test func caretStandsUnderItsColumnBehindTabs() {
        let result = reading("stream {\n\tserver {\n\t\tlisten 443;\n\t\tproxy_pas x:1;\n\t}\n}\n")
        #expect(
            result.diagnostics.map(\.description).filter { $0.contains("proxy_pas\"") } == [
                "test.conf:4:3: error: unknown directive \"proxy_pas\" in `server`; did you mean \"proxy_pass\"?\n"
                    + "\t\tproxy_pas x:1;\n\t\t^"
            ])
    }

    @Test func columnsCountCharactersNotBytes() {
        #expect(reading("workers: auto # größe\nlog: { \"äöü\": 1 }\n").errorLines.first?.hasPrefix("2:8 ") == true)
        #expect(
            reading("pid \"ä\"; ünbekannt x;\n").errorLines == ["1:10 unknown directive \"ünbekannt\" at the top level"]
        )
    }

    /// libyaml names the line behind the last one, which is not there.
    @Test func anErrorAtTheEndOfATextWithoutANewlinePointsIntoTheText() {
        #expect(
            reading("{ listeners: [ { address:").diagnostics.map(\.description) == [
                """
                test.conf:1:26: error: did not find expected node content (while parsing a flow node, line 1)
                { listeners: [ { address:
                                         ^
                """
            ])
    }

    @Test func aFileCannotSteerTheTerminal() {
        let result = reading("stream { \"\u{1b}[2J\" x; }\n")
        let text = result.diagnostics.map(\.description).joined()
        #expect(!text.isEmpty)
        #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
    }

    @Test func manyErrorsAreReportedInOneRunInTheOrderOfTheFile() {
        let result = reading(
            """
            workers: many
            drain: { timeout: soon }
            listeners:
              - address: 1.2.3.4
              - address: 0.0.0.0:443
                backlog: 0
                routes:
                  - deny: perhaps
            """)
        #expect(
            result.errorLines == [
                "1:10 expected auto or a number 1...256, found \"many\"",
                "2:19 expected a duration such as 500ms, 1s, 5m or 1h, found \"soon\"",
                "4:14 expected an address with port such as 0.0.0.0:443 or \"[::]:443\", found \"1.2.3.4\"",
                "6:14 expected a number 1...65535, found \"0\"",
                "8:15 expected unrecognized_name or access_denied or reset or close, found \"perhaps\"",
            ])
        #expect(result.configuration == nil)
    }

    @Test func reportingStopsAtAHundred() {
        let result = reading("stream {\n" + (0..<500).map { "nonsense\($0) x;\n" }.joined() + "}\n")
        #expect(result.diagnostics.count == 100)
        #expect(result.diagnostics.last?.message.hasSuffix("(more of this kind are not shown)") == true)
    }

    @Test func aMissingFileIsAnErrorOfThatFile() {
        let result = ConfigReader.read(files: ["/nonexistent/weir.yaml"])
        #expect(
            result.diagnostics.map(\.description) == [
                "/nonexistent/weir.yaml: error: cannot be read: No such file or directory"
            ])
        #expect(result.files == ["/nonexistent/weir.yaml"])
    }

    @Test(arguments: ["", "# only a comment\n", "---\n", "events { }\n"])
    func nothingListenedOnIsAnError(text: String) {
        #expect(
            reading(text).diagnostics.map(\.description) == [
                "test.conf: error: nothing is listened on: a configuration has at least one listener"
            ])
    }

    @Test func noticesThatNobodyWouldReadAreCounted() {
        let labels = String(repeating: "    a: b\n", count: 1004)
        let notices = reading("apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  labels:\n\(labels)").notices
        #expect(notices.count == 1001)
        #expect(notices.last == "3 more notices are not shown")
    }

    @Test(arguments: [
        ("stream\n{\n}\n", true), ("worker_processes 1;\nstream { }", true), ("# a: b\nuser x;", true),
        ("listeners: []", false), ("{ \"listeners\": [] }", false), ("- x", false), ("listen [::]:443;", true),
        ("\"listeners\": []\n", false), ("}", true),
    ])
    func formatIsRecognisedFromContent(text: String, isNginx: Bool) {
        // Only the nginx reader speaks of directives and braces.
        let probe = reading(text + "\nfrobnicate x;\n").diagnostics.map(\.message).joined()
        #expect((probe.contains("directive") || probe.contains("unexpected `}`")) == isNginx)
    }
}
