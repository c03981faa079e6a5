import Testing
import WeirConfig
import WeirModel
import WeirNet

/// Documents of Istio as people write them.
enum IstioSample {
    /// Traffic for one host goes through a set of proxies outside of the mesh (S0-2, S0-3).
    static let egress = """
        apiVersion: networking.istio.io/v1alpha3
        kind: ServiceEntry
        metadata: { name: example }
        spec:
          hosts: [ example.com ]
          location: MESH_EXTERNAL
          ports: [ { number: 443, name: tls, protocol: TLS } ]
          resolution: DNS
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: ServiceEntry
        metadata: { name: egress-proxies }
        spec:
          hosts: [ egress.mydomain.internal ]
          location: MESH_EXTERNAL
          ports: [ { number: 443, name: tls, protocol: TLS } ]
          resolution: STATIC
          workloadSelector: { labels: { app: egress-proxies } }
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: WorkloadEntry
        metadata: { name: egress-1 }
        spec: { address: 192.0.2.1, labels: { app: egress-proxies } }
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: WorkloadEntry
        metadata: { name: egress-2 }
        spec: { address: 192.0.2.2, labels: { app: egress-proxies } }
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: DestinationRule
        metadata: { name: egress-proxies }
        spec:
          host: egress.mydomain.internal
          trafficPolicy:
            outlierDetection:
              consecutiveGatewayErrors: 3
              interval: 5s
              baseEjectionTime: 1m
              maxEjectionPercent: 100
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: VirtualService
        metadata: { name: example }
        spec:
          hosts: [ example.com ]
          tls:
          - match:
            - port: 443
              sniHosts: [ example.com ]
            route:
            - destination: { host: egress.mydomain.internal, port: { number: 443 } }

        """

    /// API servers behind one address, told apart by server name (S3-1).
    static let servers = """
        apiVersion: networking.istio.io/v1alpha3
        kind: Gateway
        metadata: { name: kube-apiserver-gateway, namespace: shoot-a }
        spec:
          selector:
            istio: ingressgateway
          servers:
          - port:
              number: 443
              name: tls
              protocol: TLS
            tls:
              mode: PASSTHROUGH
            hosts:
            - api.a.example.com
            - api.a.project.internal.example.com
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: VirtualService
        metadata: { name: kube-apiserver, namespace: shoot-a }
        spec:
          hosts:
          - api.a.example.com
          - api.a.project.internal.example.com
          gateways:
          - kube-apiserver-gateway
          tls:
          - match:
            - port: 443
              sniHosts:
              - api.a.example.com
              - api.a.project.internal.example.com
            route:
            - destination:
                host: kube-apiserver.shoot-a.svc.cluster.local
                port:
                  number: 443

        """

    /// A listener of its own for PROXY headers that refuses what nobody is patched in for (S3-3, S3-4).
    static let blackhole = """
        apiVersion: networking.istio.io/v1alpha3
        kind: Gateway
        metadata: { name: blackhole, namespace: istio-system }
        spec:
          selector: { istio: ingressgateway }
          servers:
          - port: { number: 8443, name: tcp, protocol: TCP }
            hosts: [ "*" ]
        ---
        apiVersion: networking.istio.io/v1alpha3
        kind: VirtualService
        metadata: { name: blackhole, namespace: istio-system }
        spec:
          hosts: [ blackhole.local ]
          gateways: [ blackhole ]
          tcp:
          - match: [ { port: 8443 } ]
            route: [ { destination: { host: localhost, port: { number: 9999 } } } ]

        """

    static let proxyProtocol = """
        apiVersion: networking.istio.io/v1alpha3
        kind: EnvoyFilter
        metadata: { name: proxy-protocol, namespace: istio-system }
        spec:
          workloadSelector: { labels: { istio: ingressgateway } }
          configPatches:
          - applyTo: LISTENER
            match:
              context: ANY
              listener: { portNumber: 8443, name: 0.0.0.0_8443 }
            patch:
              operation: MERGE
              value:
                listener_filters:
                - name: envoy.filters.listener.proxy_protocol

        """

    static let chain = """
        apiVersion: networking.istio.io/v1alpha3
        kind: EnvoyFilter
        metadata: { name: shoot-a, namespace: istio-system }
        spec:
          workloadSelector: { labels: { istio: ingressgateway } }
          configPatches:
          - applyTo: FILTER_CHAIN
            match:
              context: ANY
              listener: { portNumber: 8443, name: 0.0.0.0_8443 }
            patch:
              operation: ADD
              value:
                filters:
                - name: envoy.filters.network.tcp_proxy
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                    stat_prefix: outbound|443||kube-apiserver.shoot-a.svc.cluster.local
                    cluster: outbound|443||kube-apiserver.shoot-a.svc.cluster.local
                filter_chain_match:
                  destination_port: 443
                  prefix_ranges:
                  - address_prefix: 10.1.2.3 # kube-apiserver's cluster-ip
                    prefix_len: 32

        """

    static let headers = [blackhole, proxyProtocol, chain].joined(separator: "---\n")
    static let all = [egress, servers, headers].joined(separator: "---\n")

    /// A document of a kind of Istio's, called `a` in namespace `n`.
    static func document(_ kind: String, _ spec: String, name: String = "a") -> String {
        let indented = spec.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }
        return """
            apiVersion: networking.istio.io/v1
            kind: \(kind)
            metadata: { name: \(name), namespace: n }
            spec:
            \(indented.joined(separator: "\n"))

            """
    }

    /// A service at 192.0.2.9:443, called `host`.
    static func entry(_ host: String = "there.example.com", name: String = "there") -> String {
        let spec = """
            hosts: [ \(host) ]
            ports: [ { number: 443, name: tls, protocol: TLS } ]
            resolution: STATIC
            endpoints: [ { address: 192.0.2.9 } ]
            """
        return document("ServiceEntry", spec, name: name)
    }

    /// A VirtualService of the mesh for `*.example.com` with these rules of `tls`.
    static func rules(_ tls: String, name: String = "a") -> String {
        document("VirtualService", "hosts: [ \"*.example.com\" ]\ntls:\n\(tls)", name: name)
    }

    /// A VirtualService that leads `a.example.com` on port 443 to the destination.
    static func route(to destination: String) -> String {
        rules("- { match: [ { port: 443, sniHosts: [ a.example.com ] } ], route: [ { destination: \(destination) } ] }")
    }
}

/// Reads documents under the name `test.conf`.
func reading(documents: String...) -> ConfigResult { reading(documents.joined(separator: "---\n")) }

extension ConfigResult {
    /// The configuration; a test of a text that has errors fails at its `#require`.
    func accepted() throws -> Configuration {
        try #require(configuration, "\(diagnostics.map(\.description))")
    }

    /// The listener that manifests ask for at `port`.
    func listener(_ port: UInt16) throws -> Listener {
        try #require(try accepted().listeners.first { $0.address.port == port })
    }

    func cluster(_ name: String) throws -> Cluster {
        let configuration = try accepted()
        return try #require(
            configuration.clusters.first { $0.name == name }, "there are \(configuration.clusters.map(\.name))")
    }
}
