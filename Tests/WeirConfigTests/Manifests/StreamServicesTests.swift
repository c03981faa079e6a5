import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// ConfigMaps that lead ports of ingress-nginx to services (S2-1).
@Suite struct StreamServicesTests {
    private func map(_ data: String, name: String = "tcp-services") -> String {
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: \(name), namespace: ingress-nginx }\ndata: { \(data) }\n"
    }

    @Test func aPortLeadsToTheEndpointsOfItsService() throws {
        let text = map("27017: 'a/db:443'") + service("db")
        #expect(
            try routing(text) == [
                "port-27017 ConfigMap/ingress-nginx/tcp-services/27017 -> outbound|443||db.a.svc.cluster.local"
            ])
        let configuration = try #require(reading(text).configuration)
        #expect(configuration.clusters[0].endpoints.map(\.description) == ["10.0.0.1:8443"])
        #expect(configuration.listeners[0].detect == [])
    }

    @Test func withoutDocumentsTheServiceIsAskedOfTheNameServersAndMayBePrivate() throws {
        let cluster = try #require(reading(map("27017: 'a/db:27017'")).configuration?.clusters.first)
        #expect(cluster.endpoints.map(\.description) == ["db.a.svc.cluster.local:27017"])
        #expect(cluster.privateNames)
    }

    @Test(arguments: [("", "[::]:27017", true), ("manifests: { address: 10.0.0.1 }\n---\n", "10.0.0.1:27017", false)])
    func aPortIsListenedOnAtAllAddressesUnlessNativeYAMLHasOne(native: String, address: String, isBoth: Bool) throws {
        let text = native + map("27017: 'a/db:443'") + service("db")
        let listener = try #require(reading(text).configuration?.listeners.first)
        #expect(listener.address.description == address)
        #expect(listener.takesIPv4 == isBoth)
    }

    @Test func aNativeListenerOnAllAddressesMayTakeBothFamiliesToo() throws {
        let listener = try onlyListener(
            "listeners: [ { address: '[::]:1', takes_ipv4: true, routes: [ { deny: reset } ] } ]")
        #expect(listener.takesIPv4)
        let other = reading("listeners: [ { address: '0.0.0.0:1', takes_ipv4: true, routes: [ { deny: reset } ] } ]")
        #expect(other.errorLines == ["1:50 only a listener on [::] can take IPv4 connections too"])
    }

    @Test func aListenerThatTakesThePortOverReadsNothingBeforeTheServerSpeaks() throws {
        let native = "listeners: [ { address: 127.0.0.1:9000, manifest_port: 27017, routes: [] } ]\n---\n"
        let configuration = try #require(reading(native + map("27017: 'a/db:443'") + service("db")).configuration)
        #expect(configuration.listeners.map(\.detect) == [[]])
    }

    @Test func aPortMayBeCalledByItsName() throws {
        #expect(
            try routing(map("9000: 'a/db:https'") + service("db")) == [
                "port-9000 ConfigMap/ingress-nginx/tcp-services/9000 -> outbound|443||db.a.svc.cluster.local"
            ])
    }

    @Test func theFirstPROXYIsTakenAndTheSecondSent() throws {
        let text = map("9000: 'a/db:443:PROXY', 9001: 'a/db:443::PROXY'") + service("db")
        let configuration = try #require(reading(text).configuration)
        #expect(configuration.listeners.map { $0.acceptProxy != nil } == [true, false])
        let sent = configuration.clusters.map(\.upstream.sendProxy)
        #expect(sent == [nil, SendProxy(.v1)])
    }

    @Test func aMapOfAnyNameIsReadWhereItHasPortsOfServicesOnly() throws {
        #expect(try routing(map("9000: 'a/db:443'", name: "release-tcp") + service("db")).count == 1)
    }

    @Test func otherMapsArePassedOver() {
        let native = "listeners: [ { address: 127.0.0.1:8443, routes: [ { deny: reset } ] } ]\n---\n"
        let result = reading(native + map("colour: red", name: "app"))
        #expect(
            result.notices == ["test.conf:3: ConfigMap ingress-nginx/app has no ports of services in it: passed over"])
        #expect(result.unsupportedLines == [])
    }

    @Test func settingsOfTheControllerAreUnsupported() {
        let native = "listeners: [ { address: 127.0.0.1:8443, routes: [ { deny: reset } ] } ]\n---\n"
        #expect(
            reading(native + map("use-proxy-protocol: 'true'", name: "ingress-nginx-controller")).unsupportedLines == [
                "3:1 ConfigMap ingress-nginx/ingress-nginx-controller: "
                    + "settings of ingress-nginx have no effect here: use-proxy-protocol"
            ])
    }

    @Test func udpIsNotCarriedYet() {
        let native = "listeners: [ { address: 127.0.0.1:8443, routes: [ { deny: reset } ] } ]\n---\n"
        #expect(
            reading(native + map("53: 'kube-system/kube-dns:53'", name: "udp-services")).unsupportedLines == [
                "3:1 ConfigMap ingress-nginx/udp-services: UDP is not carried yet: the document has no effect"
            ])
    }

    @Test(arguments: [
        ("9000: 'a/db:5'", "4:15 ConfigMap ingress-nginx/tcp-services: data.9000: service a/db has no port 5"),
        (
            "9000: 'a/web:http'",
            "4:15 ConfigMap ingress-nginx/tcp-services: data.9000: no document describes service a/web, "
                + "so its port \"http\" has no number"
        ),
    ])
    func aPortThatCannotBeLedToIsReportedAndRefuses(data: String, line: String) throws {
        let text = map(data) + service("db")
        #expect(reading(text).unsupportedLines == [line])
        #expect(try routing(text) == ["port-9000 ConfigMap/ingress-nginx/tcp-services/9000 -> reset"])
    }

    @Test(arguments: [80, 443])
    func aPortThatIngressesAreServedFromIsNoServices(port: Int) throws {
        let ingress = """
            ---
            apiVersion: networking.k8s.io/v1
            kind: Ingress
            metadata: { name: i, namespace: a, annotations: { ANNOTATION: 'true' } }
            spec:
              rules: [ { host: x.test, http: { paths: [ { backend: { service: { name: db, port: { number: 443 } } } } ] } } ]

            """
            .replacing("ANNOTATION", with: "nginx.ingress.kubernetes.io/ssl-passthrough")
        let text = map("\(port): 'a/db:443', 9000: 'a/db:443'") + service("db") + ingress
        #expect(
            try routing(text) == [
                "port-443 Ingress/a/i/x.test [x.test] -> outbound|443||db.a.svc.cluster.local",
                "port-9000 ConfigMap/ingress-nginx/tcp-services/9000 -> outbound|443||db.a.svc.cluster.local",
            ])
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "ConfigMap ingress-nginx/tcp-services: data.\(port): "
                    + "Ingresses are served from this port, and ingress-nginx takes no service there: use another port"
            ])
    }

    @Test func withoutIngressesAServiceMayHaveTheirPorts() throws {
        #expect(try routing(map("443: 'a/db:443'") + service("db")).count == 1)
    }

    @Test(arguments: [
        (
            "0: 'a/db:443'",
            "4:12 ConfigMap ingress-nginx/tcp-services: data: expected a port 1...65535 as key, found \"0\""
        ),
        (
            "9000: db",
            "4:15 ConfigMap ingress-nginx/tcp-services: data: expected namespace/service:port, "
                + "namespace/service:port:PROXY or namespace/service:port:PROXY:PROXY, found \"db\""
        ),
    ])
    func whatIngressNginxWouldNotReadIsAnError(data: String, line: String) {
        #expect(reading(map(data) + service("db")).errorLines == [line])
    }
}
