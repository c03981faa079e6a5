import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// Where documents listen that want other addresses of one port.
@Suite struct PlaceTests {
    /// A Gateway of Istio and a VirtualService that leads its host on.
    private func istio(
        _ name: String, bind: String = "", host: String, mode: String = "PASSTHROUGH", to destination: String = "there"
    ) -> String {
        let place = bind.isEmpty ? "" : "bind: \(bind), "
        return """
            ---
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: { name: \(name), namespace: n }
            spec:
              servers:
                - { \(place)port: { number: 443, protocol: TLS }, tls: { mode: \(mode) }, hosts: [ "\(host)" ] }
            ---
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            metadata: { name: \(name), namespace: n }
            spec:
              hosts: [ "\(host)" ]
              gateways: [ \(name) ]
              tls:
                - match: [ { sniHosts: [ "\(host)" ] } ]
                  route: [ { destination: { host: \(destination).example.com, port: { number: 443 } } } ]

            """
    }

    /// Hosts outside of the mesh.
    private let entry = """
        ---
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: { name: out, namespace: n }
        spec:
          hosts: [ here.example.com, there.example.com ]
          ports: [ { number: 443, protocol: TLS } ]
          resolution: DNS

        """

    private static let here = "outbound|443||here.example.com"
    private static let there = "outbound|443||there.example.com"

    @Test func whatIsBoundToAnAddressIsServedNowhereElse() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
            + istio("public", host: "www.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [www.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [admin.example.com] -> \(Self.there)",
            ])
    }

    @Test func aNameLeadsElsewhereAtTheAddressThatAGatewayIsBoundTo() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "www.example.com", to: "here")
            + istio("public", host: "www.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [www.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [www.example.com] -> \(Self.here)",
            ])
    }

    @Test func theAddressOfAllManifestsIsOnePlaceWhoeverAsksForIt() throws {
        let text =
            "manifests: { address: 127.0.0.1 }\n" + entry
            + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
            + istio("public", host: "www.example.com")
        let listeners = try #require(reading(text).configuration).listeners
        #expect(listeners.map(\.address.description) == ["127.0.0.1:443"])
        #expect(listeners.first?.routes.count == 2)
    }

    /// With another Gateway at the address, from which no route leads, as without one.
    @Test(arguments: [false, true])
    func aNameThatCannotBeServedAtAnAddressIsServedAtTheOthers(hasNeighbour: Bool) throws {
        let idle = """
            ---
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: { name: idle, namespace: n }
            spec:
              servers:
                - bind: 127.0.0.1
                  port: { number: 443, protocol: TLS }
                  tls: { mode: PASSTHROUGH }
                  hosts: [ idle.example.com ]

            """
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com", mode: "SIMPLE")
            + istio("public", host: "*.example.com") + (hasNeighbour ? idle : "")
        let routes = try reading(text).listener(443).routes
        #expect(routes.map(\.name) == ["VirtualService/n/public/tls/0", "Gateway/n/internal/0/admin.example.com"])
        #expect(routes.last?.action == .deny(.unrecognizedName))
        #expect(routes.last?.match.destinations.map(\.description) == ["127.0.0.1/32"])
    }

    @Test func aNameThatCannotBeServedIsRefusedWhereItsAddressIsListenedOn() throws {
        let text =
            entry + istio("internal", bind: "127.0.0.1", host: "*.example.com")
            + istio("ended", bind: "127.0.0.1", host: "admin.example.com", mode: "SIMPLE")
            + istio("public", host: "*.example.com")
        #expect(
            try routing(text) == [
                "port-443 VirtualService/n/public/tls/0 [*.example.com] -> \(Self.there)",
                "127.0.0.1:443 VirtualService/n/internal/tls/0 [*.example.com] -> \(Self.there)",
                "127.0.0.1:443 Gateway/n/ended/0/admin.example.com [admin.example.com] -> unrecognizedName",
            ])
    }

    @Test func aNativeListenerOnAllAddressesLeavesAnAddressToItsGateway() throws {
        let native = "listeners: [ { address: '0.0.0.0:443', routes: [ { deny: reset } ] } ]\n"
        let text = native + entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
        let listeners = try #require(reading(text).configuration).listeners
        #expect(listeners.map(\.address.description) == ["0.0.0.0:443", "127.0.0.1:443"])
    }

    @Test func aNativeListenerAtTheVeryAddressIsInTheWay() {
        let native = "listeners: [ { address: '127.0.0.1:443', routes: [ { deny: reset } ] } ]\n"
        let text = native + entry + istio("internal", bind: "127.0.0.1", host: "admin.example.com")
        let message = "listener \"127.0.0.1:443\" has port 443 at 127.0.0.1 already; `manifest_port: 443` there takes"
        #expect(reading(text).errorLines.contains { $0.contains(message) })
    }
}
