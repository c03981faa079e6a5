import Testing
import WeirNet

@Suite struct SocketAddressTests {
    @Test(arguments: ["192.0.2.1:443", "0.0.0.0:0", "[::]:65535", "[2001:db8::1]:8443", "[::ffff:192.0.2.1]:1"])
    func canonicalTextSurvivesTheRoundTrip(text: String) {
        #expect(SocketAddress(text)?.description == text)
    }

    @Test(arguments: [
        "", ":", ":443", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1", "192.0.2.1: 1",
        "192.0.2.1:http", "::1:443", "[::1]", "[::1]443", "[::1:443", "::1]:443", "[192.0.2.1]:443", "[]:443",
        "[fe80::1%lo]:443", "localhost:443",
    ])
    func otherTextIsRefused(text: String) {
        #expect(SocketAddress(text) == nil)
    }
}

@Suite struct InstantTests {
    @Test func addingSaturatesInTheDistantFuture() {
        #expect(Instant(nanoseconds: 1).advanced(byNanoseconds: 2) == Instant(nanoseconds: 3))
        #expect(Instant(nanoseconds: 1).advanced(byNanoseconds: .max) == .distantFuture)
    }

    @Test func timeSinceALaterMomentIsZero() {
        #expect(Instant(nanoseconds: 5).nanoseconds(since: Instant(nanoseconds: 2)) == 3)
        #expect(Instant(nanoseconds: 2).nanoseconds(since: Instant(nanoseconds: 5)) == 0)
    }

    @Test func durationsClampToWhatACounterHolds() {
        #expect(Duration.milliseconds(1500).clampedNanoseconds == 1_500_000_000)
        #expect(Duration.nanoseconds(1).clampedNanoseconds == 1)
        #expect(Duration.seconds(-1).clampedNanoseconds == 0)
        #expect(Duration.nanoseconds(-1).clampedNanoseconds == 0)
        #expect(Duration.seconds(Int64.max).clampedNanoseconds == .max)
    }
}

@Suite struct ALPNOfferTests {
    private func offer(_ names: [String]) -> ALPNOffer {
        var offer = ALPNOffer()
        for name in names {
            let bytes = Array(name.utf8)
            offer.append(bytes.span)
        }
        return offer
    }

    private func contains(_ offer: ALPNOffer, _ name: String) -> Bool {
        let bytes = Array(name.utf8)
        return offer.contains(bytes.span)
    }

    @Test func everyOfferedProtocolIsFoundByteForByte() {
        let offer = offer(["h2", "http/1.1"])
        #expect(contains(offer, "h2"))
        #expect(contains(offer, "http/1.1"))
        #expect(!contains(offer, "http/1.0"))
        #expect(!contains(offer, "H2"))
        #expect(!contains(offer, "h"))
    }

    @Test func nothingIsFoundInAnEmptyOffer() {
        #expect(ALPNOffer.none.isEmpty)
        #expect(!contains(.none, "h2"))
    }

    @Test func protocolsThatDoNotFitAreDroppedAndSaidToBe() {
        let long = String(repeating: "a", count: 250)
        let offer = offer([long, "h2x", "h2"])
        #expect(contains(offer, long))
        #expect(contains(offer, "h2x"))
        #expect(!contains(offer, "h2"))
        #expect(offer.isTruncated)
        #expect(offer.byteCount == 255)
    }

    @Test func theEncodingKeepsTheClientsOrder() {
        let bytes = offer(["h2", "x"]).withBytes { span in span.indices.map { span[$0] } }
        #expect(bytes == [2, 0x68, 0x32, 1, 0x78])
    }
}
