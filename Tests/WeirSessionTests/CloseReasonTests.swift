import Testing
import WeirSession
import WeirWire

@Suite struct CloseReasonTests {
    private static let all =
        CloseReason.Other.allCases.map { CloseReason.other($0) } + HelloRefusal.allCases.map { CloseReason.hello($0) }
        + ProxyRefusal.allCases.map { CloseReason.proxy($0) } + HTTPRefusal.allCases.map { CloseReason.http($0) }

    @Test func codesAreDenseAndNameTheirLabels() {
        #expect(Self.all.map(\.code) == Array(0..<CloseReason.labels.count))
        #expect(CloseReason.labels[CloseReason.other(.finished).code] == "finished")
        #expect(CloseReason.labels[CloseReason.hello(.notTLS).code] == HelloRefusal.notTLS.label)
        #expect(CloseReason.labels[CloseReason.proxy(.checksum).code] == ProxyRefusal.checksum.label)
        #expect(CloseReason.labels[CloseReason.http(.hostMissing).code] == HTTPRefusal.hostMissing.label)
    }

    // A label stands in metrics, logs and tests alike.
    @Test func labelsDifferAndFitAMetric() {
        #expect(Set(CloseReason.labels).count == CloseReason.labels.count)
        for label in CloseReason.labels {
            #expect(label.utf8.allSatisfy { $0 == 0x5f || (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) })
        }
    }

    // UP-11
    @Test func everyReasonHasAStatusThatUsersKnow() {
        for reason in Self.all { #expect([200, 400, 403, 500, 502, 503].contains(reason.status)) }
        #expect(CloseReason.other(.finished).status == 200)
        #expect(CloseReason.http(.requestLine).status == 400)
        #expect(CloseReason.other(.routeDenied).status == 403)
        #expect(CloseReason.other(.connectRefused).status == 502)
        #expect(CloseReason.other(.connectionLimit).status == 503)
    }
}
