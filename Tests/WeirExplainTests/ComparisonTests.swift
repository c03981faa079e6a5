import Testing
import WeirExplain
import WeirModel
import WeirNet
import WeirSession

@Suite("Preview: what another configuration would change")
struct ComparisonTests {
    private static let one = cluster("one", ["203.0.113.1:443"])
    private static let two = cluster("two", ["203.0.113.2:443"])
    private static let before = configuration(
        [
            route("a", ["a.test"], to: .cluster("one")), route("b", ["b.test"], to: .cluster("one")),
            route("any", ["*"], to: .cluster("two")),
        ], [one, two])

    /// Five sessions on each route; names as (listener, name, sessions).
    private func comparison(
        _ before: Configuration = ComparisonTests.before, with next: Configuration,
        _ names: [(String, String, Int)] = [], isComplete: Bool = true, isProxied: Bool = false
    ) throws -> Comparison {
        let seen = names.map { listener, name, count in
            SeenDecisions.Name(
                listener: listener, serverName: serverName(name), client: ip("10.1.2.3"), peer: ip("10.1.2.3"),
                isProxied: isProxied, destination: socketAddress("127.0.0.1:443"), sessionCount: count, secondsAgo: 9)
        }
        let decisions = SeenDecisions(
            seen, isComplete: isComplete, spanSeconds: 3600, decidedBy: Explainer(before))
        // As the other process reads it.
        let running = RunningConfiguration(before) { _, _ in 5 }
        return Comparison(
            of: Explainer(next),
            with: try #require(RunningConfiguration(json: try parsed(running.json))),
            seen: try #require(SeenDecisions(json: try parsed(decisions.json))))
    }

    private func parsed(_ value: JSONValue) throws -> JSONValue { try #require(JSONValue(parsing: value.text)) }

    @Test func theSameConfigurationChangesNothing() throws {
        let found = try comparison(with: Self.before, [("main", "a.test", 3), ("main", "", 1), ("main", "x.test", 2)])
        #expect(found.isHarmless)
        #expect(found.text == "nothing changes for anybody; server names of the last hour: 3\n")
    }

    @Test(arguments: [nil, AcceptProxy(from: [block("10.2.0.0/16")])] as [AcceptProxy?])
    func aPeerWhoseHeaderIsTakenNoMoreChangesItsNames(_ after: AcceptProxy?) throws {
        var before = Self.before
        before.listeners[0].acceptProxy = AcceptProxy(from: [block("10.1.0.0/16")])
        var next = before
        next.listeners[0].acceptProxy = after
        let found = try comparison(before, with: next, [("main", "a.test", 3)], isProxied: true)
        #expect(found.changed.map { $0.after?.isForwarded } == [false])
    }

    @Test func aListenerOnAnotherAddressOpensAndTheOneBeforeCloses() throws {
        var next = Self.before
        next.listeners[0].address = socketAddress("127.0.0.1:444")
        let found = try comparison(with: next)
        #expect(found.opened.map(\.address) == [socketAddress("127.0.0.1:444")])
        #expect(found.closed.map(\.address) == [socketAddress("127.0.0.1:443")])
    }

    @Test func aListenerMoreHarmsNobody() throws {
        var next = Self.before
        var more = next.listeners[0]
        more.name = "more"
        more.address = socketAddress("127.0.0.1:444")
        next.listeners.append(more)
        #expect(try comparison(with: next).isHarmless)
    }

    @Test func aListenerOfAnotherNameKeepsItsSocketAndLosesItsRoutes() throws {
        var next = Self.before
        next.listeners[0].name = "other"
        let found = try comparison(with: next, [("main", "a.test", 3)])
        #expect(found.closed.isEmpty && found.opened.isEmpty && found.changed.isEmpty)
        #expect(found.lost.map(\.route) == ["a", "b", "any"])
    }

    @Test(
        arguments: [
            (.keep, "which go on to their own end (on_removed: keep)"),
            (.close, "which are reset at once (on_removed: close)"),
            (.drain(.seconds(30)), "which go on for at most 30 s and are reset then (on_removed: drain)"),
        ] as [(LiveSessions, String)])
    func whatBecomesOfSessionsThatLoseTheirRouteIsTold(_ way: LiveSessions, _ clause: String) throws {
        var before = Self.before
        before.listeners[0].routes[1].onRemoved = way
        var next = before
        next.listeners[0].routes.remove(at: 1)
        let found = try comparison(before, with: next)
        #expect(found.lost.map(\.route) == ["b"])
        #expect(found.text.contains("  listener \"main\", route \"b\": 5, \(clause)\n"))
    }

    @Test func aRouteWithoutSessionsIsNoLoss() throws {
        var next = Self.before
        next.listeners[0].routes.remove(at: 1)
        let running = RunningConfiguration(Self.before) { _, _ in 0 }
        let seen = SeenDecisions([], isComplete: true, spanSeconds: 3600, decidedBy: Explainer(Self.before))
        #expect(Comparison(of: Explainer(next), with: running, seen: seen).isHarmless)
    }

    @Test func aNameThatGoesElsewhereIsToldWithBothVerdicts() throws {
        var next = Self.before
        next.listeners[0].routes.remove(at: 1)
        let found = try comparison(with: next, [("main", "a.test", 1), ("main", "b.test", 2)])
        #expect(found.changed.map(\.seen.serverName) == [serverName("b.test")])
        #expect(found.changed[0].seen.verdict == Verdict(route: "b", target: "cluster \"one\""))
        #expect(found.changed[0].after == Verdict(route: "any", target: "cluster \"two\""))
    }

    @Test func aNameThatWouldBeRefusedIsToldWithTheReason() throws {
        var next = Self.before
        next.listeners[0].routes[0].action = .deny(.reset)
        let found = try comparison(with: next, [("main", "a.test", 1)])
        #expect(found.changed.map { $0.after?.reason } == ["local_route_denied"])
        #expect(found.text.contains("    then: refused by route \"a\": local_route_denied\n"))
    }

    @Test func theMostAskedForStandsFirst() throws {
        var next = Self.before
        next.listeners[0].routes = []
        let found = try comparison(with: next, [("main", "a.test", 1), ("main", "b.test", 9), ("main", "c.test", 4)])
        #expect(found.changed.map(\.seen.sessionCount) == [9, 4, 1])
    }

    @Test func namesOfAListenerThatClosesAreToldSo() throws {
        var next = Self.before
        next.listeners[0].address = socketAddress("127.0.0.1:444")
        let found = try comparison(with: next, [("main", "a.test", 1)])
        #expect(found.changed.map(\.after) == [nil])
        #expect(found.text.contains("    then: nobody listens there\n"))
    }

    @Test func theClientOfAHeaderIsTheOneThatRoutesAreAskedAbout() {
        let name = SeenDecisions.Name(
            listener: "main", serverName: .none, client: ip("192.0.2.1"), peer: ip("10.0.0.1"), isProxied: true,
            destination: socketAddress("127.0.0.1:443"), sessionCount: 1, secondsAgo: 0)
        #expect(name.inquiry.origin == .believed(client: ip("192.0.2.1"), destination: nil))
    }

    @Test func namesThatAreForgottenAreOwnedUpTo() throws {
        #expect(try comparison(with: Self.before, isComplete: false).text.hasPrefix("not all: "))
    }

    /// T-15: names are the other process's to say.
    @Test func whatTheOtherProcessSaysReachesNoTerminalAsItIs() throws {
        var next = Self.before
        next.listeners[0].routes = []
        let routes = #"[{"name": "a\nb", "on_removed": "keep", "drain_milliseconds": null, "sessions": 3}]"#
        let listener = #"{"name": "\u001b[2J", "address": "127.0.0.1:443", "routes": "# + routes + "}"
        let evil = "{\"listeners\": [\(listener)]}"
        let running = try #require(JSONValue(parsing: evil).flatMap(RunningConfiguration.init(json:)))
        let seen = SeenDecisions([], isComplete: true, spanSeconds: 3600, decidedBy: Explainer(next))
        let found = Comparison(of: Explainer(next), with: running, seen: seen)
        #expect(found.text.contains(#"  listener "\u{1b}[2J", route "a\u{a}b": 3"#))
        #expect(!found.text.utf8.contains(0x1b))
        #expect(!found.json.text.utf8.contains(0x1b))
    }

    @Test(arguments: ["{}", "[]", #"{"listeners": 1}"#, #"{"listeners": [{"name": "a"}]}"#])
    func anotherPageIsNoRunningConfiguration(_ page: String) throws {
        #expect(RunningConfiguration(json: try #require(JSONValue(parsing: page))) == nil)
    }
}

@Suite("Preview: many verdicts at once")
struct VerdictTests {
    @Test func verdictsAreThoseOfExplanations() {
        let asked = configuration(
            [
                route("one", ["one.test"], to: .cluster("hash")),
                route(
                    "split", ["split.test"],
                    to: .split([ClusterShare(cluster: "hash", weight: 1), ClusterShare(cluster: "down", weight: 1)])),
                route("down", ["down.test"], to: .cluster("down")), route("any", ["*"]),
            ],
            [
                cluster("hash", ["203.0.113.1:443", "203.0.113.2:443"]), cluster("down", ["203.0.113.3:443"]),
            ])
        let explainer = Explainer(asked)
        let inquiries = ["one.test", "split.test", "one.test", "down.test", "x.test", ""].map { inquiry($0) }
        let found = explainer.verdicts(of: inquiries.map { ($0, "main") } + [(inquiry(), "none")])
        #expect(found == inquiries.map { explainer.decision(for: $0, at: "main")?.verdict } + [nil])
    }
}

@Suite("JSON that is read")
struct JSONParserTests {
    @Test(
        arguments: [
            ("null", .null), (" true ", .flag(true)), ("false", .flag(false)), ("-12", .integer(-12)),
            ("[]", .array([])), ("[ 1 , \"a\" ]", .array([.integer(1), .string("a")])), ("{}", .object([:])),
            ("{\"a\" : {\"b\":[null]}}", .object(["a": .object(["b": .array([.null])])])),
            (#""\"\\\/\b\f\n\r\t""#, .string("\"\\/\u{8}\u{c}\n\r\t")), (#""\u00e9\ud83d\ude00x""#, .string("é😀x")),
            ("\"é\"", .string("é")),
        ] as [(String, JSONValue)])
    func aValueIsRead(_ text: String, _ expected: JSONValue) { #expect(JSONValue(parsing: text) == expected) }

    @Test(
        arguments: [
            "", " ", "nul", "1.5", "1e3", "--1", "99999999999999999999", "[1", "[1,]", "[,]", "{", "{\"a\"}",
            "{\"a\":}",
            "{a:1}", "{\"a\":1,}", "\"", "\"a", #""\x""#, #""\u12""#, #""\u+123""#, "\"\u{1}\"", "1 2", "]", "\\",
        ])
    func whatIsNoneIsRefused(_ text: String) { #expect(JSONValue(parsing: text) == nil) }

    @Test func aNestThatIsTooDeepIsRefused() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(JSONValue(parsing: deep) == nil)
    }

    @Test func whatIsWrittenIsReadAsItWas() {
        let value = JSONValue.object([
            "a\"\\\u{1b}é😀": .array([.null, .flag(true), .integer(.min), .string("\u{2028}")]), "": .object([:]),
        ])
        #expect(JSONValue(parsing: value.text) == value)
    }

    @Test func everyReasonIsKnownByItsLabel() {
        for (code, label) in CloseReason.labels.enumerated() { #expect(CloseReason(label: label)?.code == code) }
    }
}
