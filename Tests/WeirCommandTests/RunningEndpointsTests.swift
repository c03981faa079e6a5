import Testing
import Weir
import WeirCommand

@Suite("Explain: the endpoints of a running instance")
struct RunningEndpointsTests {
    private let table = """
        CLUSTER      ENDPOINT          STATUS                FOR   SESSIONS
        a b          10.0.0.1:443      HEALTHY               -     0
        a b          10.0.0.2:443      FAILED_OUTLIER_CHECK  7.2s  3

        """

    @Test func aStandingIsFoundByClusterAndEndpoint() {
        #expect(RunningEndpoints(table: table)?.standing(of: "10.0.0.1:443", in: "a b") == "HEALTHY")
    }

    @Test func whatEndsByItselfHasItsTime() {
        let standing = RunningEndpoints(table: table)?.standing(of: "10.0.0.2:443", in: "a b")
        #expect(standing == "FAILED_OUTLIER_CHECK for 7.2s")
    }

    @Test func anEndpointThatIsNotThereHasNone() {
        #expect(RunningEndpoints(table: table)?.standing(of: "10.0.0.3:443", in: "a b") == nil)
    }

    @Test(arguments: ["", "not found\n", "CLUSTER\n"])
    func anotherPageIsNoTable(_ page: String) { #expect(RunningEndpoints(table: page) == nil) }

    @Test func linesThatAreTooShortAreHarmless() {
        #expect(RunningEndpoints(table: table + "x\n") != nil)
    }
}
