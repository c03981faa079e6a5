import Testing
import WeirExplain
import WeirModel
import WeirNet

@Suite("Explain: text and JSON (T-15)")
struct WritingTests {
    @Test func keysOfAnObjectAreInOrder() {
        #expect(JSONValue.object(["b": .null, "a": .flag(true)]).text == "{\n  \"a\": true,\n  \"b\": null\n}")
    }

    @Test func emptyListsStandOnOneLine() {
        #expect(JSONValue.array([]).text == "[]")
        #expect(JSONValue.object([:]).text == "{}")
    }

    @Test func whatIsNotPrintableASCIIIsEscapedInJSON() {
        #expect(JSONValue.string("\"\\\u{1b}é😀").text == #""\"\\\u001b\u00e9\ud83d\ude00""#)
    }

    @Test func nothingThatATerminalActsUponReachesIt() {
        #expect("a\u{1b}[2J\u{202e}\n\"".quoted == #""a\u{1b}[2J\u{202e}\u{a}\"""#)
    }

    @Test func hostileNamesOfAConfigurationAreEscapedInTheText() {
        let hostile = "r\u{1b}]0;x\u{7}\n"
        let found = decision(inquiry("a.test"), configuration([route(hostile, ["*"])]))
        #expect(found.text.unicodeScalars.allSatisfy { $0 == "\n" || (0x20..<0x7f).contains($0.value) })
        #expect(
            found.text.split(separator: "\n").count
                == decision(inquiry("a.test"), configuration([route("r", ["*"])])).text.split(separator: "\n").count)
    }

    @Test func hostileProtocolsAreEscapedInTheText() {
        let asked = inquiry("a.test", alpn: ["h\u{1b}2"])
        let found = decision(asked, configuration([route("r", ["*"], alpn: ["h2"])]))
        #expect(!found.text.contains("\u{1b}"))
    }

    @Test func theSameQuestionGetsTheSameText() {
        let all = configuration([route("r", ["*"])])
        let names = ["a.test": ["93.184.215.14", "93.184.215.15"]]
        let turned = ["a.test": ["93.184.215.15", "93.184.215.14"]]
        let (one, other) = (
            decision(inquiry("a.test"), all, names: names), decision(inquiry("a.test"), all, names: turned)
        )
        #expect(one.text == other.text)
        #expect(one.json.text == other.json.text)
    }
}
