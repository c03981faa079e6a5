import Testing
import WeirExplain
import WeirModel
import WeirNet

@Suite("Shadow: two configurations about one session")
struct ShadowTests {
    private let live = configuration(
        [
            route("a", ["a.test"], to: .cluster("one")), route("h2", ["b.test"], alpn: ["h2"], to: .cluster("one")),
            route("any", ["*"]),
        ], [cluster("one", ["203.0.113.1:443"]), cluster("two", ["203.0.113.2:443"])])

    private func result(
        _ change: (inout Configuration) -> Void = { _ in }, _ name: String = "a.test", by route: String? = "a",
        client: String = "10.1.2.3", isProxied: Bool = false
    ) -> ShadowComparison.Result {
        var shadow = live
        change(&shadow)
        let session = ShadowComparison.Session(
            listener: "main", route: route, serverName: serverName(name), client: ip(client), peer: ip("10.1.2.3"),
            isProxied: isProxied, destination: socketAddress("127.0.0.1:443"))
        return ShadowComparison(live: Explainer(live), shadow: Explainer(shadow)).result(for: session)
    }

    private let before = RouteOutcome.taken(route: "a", lead: "cluster \"one\"")

    @Test func theSameConfigurationDecidesTheSame() { #expect(result() == .same) }

    @Test func anotherClusterIsADifference() {
        let after = RouteOutcome.taken(route: "a", lead: "cluster \"two\"")
        let found = result({ $0.listeners[0].routes[0].action = .cluster("two") })
        #expect(found == .different(live: before, shadow: after))
    }

    @Test func aDenialIsADifference() {
        let after = RouteOutcome.taken(route: "a", lead: "denied: reset")
        let found = result({ $0.listeners[0].routes[0].action = .deny(.reset) })
        #expect(found == .different(live: before, shadow: after))
    }

    @Test func aRouteThatIsGoneIsADifference() {
        let found = result({ $0.listeners[0].routes = [] })
        #expect(found == .different(live: before, shadow: .noRoute))
    }

    @Test func aClientThatIsKeptOutIsADifference() {
        let found = result({ $0.listeners[0].clients = ClientPolicy(rules: [], otherwiseAllow: false) })
        #expect(found == .different(live: before, shadow: .clientDenied))
    }

    @Test func aPeerThatWouldHaveToSendAHeaderIsADifference() {
        let found = result({ $0.listeners[0].acceptProxy = AcceptProxy(from: [block("10.0.0.0/8")]) })
        #expect(found == .different(live: before, shadow: .peerRefused))
    }

    @Test func aNameThatTheShadowDoesNotReadDecidesNothing() {
        let found = result({ $0.listeners[0].detect = [] })
        #expect(found == .different(live: before, shadow: .noRoute))
    }

    @Test func aNameThatOnlyTheShadowWouldReadIsUnknown() {
        #expect(result({ $0.listeners[0].detect = [.tls, .http] }, "", by: nil) == .unknown)
    }

    @Test func readingMoreProtocolsLeavesTheNamesOfTheOthers() {
        #expect(result({ $0.listeners[0].detect = [.tls, .http] }) == .same)
    }

    @Test func aListenerThatIsGoneIsADifference() {
        let found = result({ $0.listeners[0].address = socketAddress("127.0.0.1:444") })
        #expect(found == .different(live: before, shadow: .notListening))
    }

    @Test func aListenerOfAnotherNameIsNone() { #expect(result({ $0.listeners[0].name = "other" }) == .same) }

    /// The record has no ALPN, so a route that asks for it cannot be judged.
    @Test func whatTheRecordLacksIsUnknown() { #expect(result({ _ in }, "b.test", by: "h2") == .unknown) }

    @Test func aSessionOfAListenerThatIsGoneIsUnknown() {
        let session = ShadowComparison.Session(
            listener: "gone", route: "a", serverName: .none, client: ip("10.1.2.3"), peer: ip("10.1.2.3"),
            isProxied: false, destination: socketAddress("127.0.0.1:443"))
        let comparison = ShadowComparison(live: Explainer(live), shadow: Explainer(live))
        #expect(comparison.result(for: session) == .unknown)
    }

    /// T-15.
    @Test func namesAreEscaped() {
        let outcome = RouteOutcome.taken(route: "r\u{1b}", lead: "cluster \"x\"")
        #expect(outcome.description == #"route "r\u{1b}", cluster "x""#)
    }
}
