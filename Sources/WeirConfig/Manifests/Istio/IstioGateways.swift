import WeirModel
import WeirNet

/// A Gateway: where it listens, and for which hosts.
struct IstioGateway {
    struct Server {
        enum Traffic {
            /// TLS that is passed on as it comes, by server name.
            case passthrough
            /// Anything, by nothing but where it arrives.
            case opaque
        }

        var port: UInt16
        /// nil: wherever manifests are listened for.
        var address: IPAddress?
        var traffic: Traffic
        /// Whose VirtualServices may use it, and for which names. nil: those of every namespace.
        var hosts: [(namespace: String?, pattern: ServerNamePattern)]

        /// What of `pattern` a VirtualService of `namespace` may have here.
        func allowed(_ pattern: ServerNamePattern, namespace: String) -> [ServerNamePattern] {
            hosts.filter { $0.namespace == nil || $0.namespace == namespace }
                .compactMap { $0.pattern.intersection(pattern) }
        }
    }

    var servers: [Server] = []
}

extension ManifestLowering {
    /// The Gateways that this process serves, by `namespace/name`, and of the others that there are none: nil.
    func readIstioGateways() -> [String: IstioGateway?] {
        var gateways: [String: IstioGateway?] = [:]
        for (manifest, spec) in istio("Gateway") {
            guard isForThisWorkload(manifest, spec.labels("selector")) else {
                gateways[manifest.path] = .some(nil)
                continue
            }
            gateways[manifest.path] = IstioGateway(
                servers: spec.list("servers").enumerated().compactMap { server($1, $0, of: manifest) })
        }
        return gateways
    }

    private func server(_ fields: ManifestFields, _ index: Int, of manifest: Manifest) -> IstioGateway.Server? {
        guard let port = fields.fields("port"), let number = port.port("number") else {
            fields.error(fields.position, "port", "a server has port.number")
            return nil
        }
        listeners.claim(number)
        port.passOver("name", "targetPort")
        fields.passOver("name", "defaultEndpoint")
        let word = port.text("protocol")
        let hosts = fields.texts("hosts").compactMap { host($0, fields, namespace: manifest.namespace) }
        let address = address(fields)
        guard let traffic = traffic(word?.value.uppercased() ?? "TCP", port, fields) else {
            fields.passOver()
            // Its names are no other server's.
            for (_, pattern) in hosts {
                let route = "Gateway/\(manifest.path)/\(index)/\(pattern.text)"
                listeners.refuse(pattern, port: number, address: address, route: route, at: port.position)
            }
            return nil
        }
        if hosts.isEmpty { fields.error(fields.position(of: "hosts"), "hosts", "a server has at least one host") }
        switch traffic {
        case .passthrough: listeners.readHello(number, address: address, at: port.position)
        case .opaque: listeners.open(number, address: address, at: port.position)
        }
        return IstioGateway.Server(port: number, address: address, traffic: traffic, hosts: hosts)
    }

    /// nil, and reported, where it cannot be served without decrypting.
    private func traffic(
        _ transport: String, _ port: ManifestFields, _ server: ManifestFields
    ) -> IstioGateway.Server.Traffic? {
        let tls = server.fields("tls")
        switch transport {
        case "TLS", "HTTPS":
            // As Protocol Buffers have it, the first of the words is what holds where none is said.
            let mode = tls?.text("mode")?.value ?? (tls == nil ? "" : "PASSTHROUGH")
            guard mode == "PASSTHROUGH" else { return refused(mode, tls, server) }
            for key in tls?.keys ?? [] where key != "mode" {
                tls?.unsupported(key, "has no effect: TLS is passed on as it comes")
            }
            return .passthrough
        case "TCP", "MONGO", "MYSQL", "REDIS":
            guard let tls else { return .opaque }
            return refused(tls.text("mode")?.value ?? "", tls, server)
        case "HTTP", "HTTP2", "GRPC", "GRPC-WEB":
            port.unsupported("protocol", "\(transport): HTTP is not routed; the server is left out")
            return nil
        default:
            port.unsupported("protocol", "\(transport) is not known; the server is left out")
            return nil
        }
    }

    private func refused(
        _ mode: String, _ tls: ManifestFields?, _ server: ManifestFields
    ) -> IstioGateway.Server.Traffic? {
        switch mode {
        case "":
            server.unsupported(
                at: server.position, "has no tls.mode: PASSTHROUGH is what can be done; the server is left out")
        case "AUTO_PASSTHROUGH":
            tls?.unsupported(
                "mode",
                "AUTO_PASSTHROUGH leads to other clusters of a mesh, which is not supported; the server is left out")
        default:
            tls?.unsupported("mode", "\(mode) would end TLS here, which is never decrypted; the server is left out")
        }
        return nil
    }

    private func host(
        _ text: ManifestText, _ fields: ManifestFields, namespace: String
    ) -> (namespace: String?, pattern: ServerNamePattern)? {
        let parts = text.value.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = ManifestText(value: parts[parts.count - 1], position: text.position)
        guard let pattern = fields.pattern(name, "hosts") else { return nil }
        guard parts.count == 2, parts[0] != "*" else { return (nil, pattern) }
        return (parts[0] == "." ? namespace : parts[0], pattern)
    }

    /// Where `bind` has it listen; nil where that is everywhere.
    private func address(_ fields: ManifestFields) -> IPAddress? {
        guard let text = fields.text("bind"), !text.value.isEmpty else { return nil }
        if text.value.hasPrefix("unix:") {
            fields.unsupported("bind", "Unix-domain sockets are not supported")
            return nil
        }
        guard let address = IPAddress(text.value) else {
            fields.error(text.position, "bind", "expected an address, found \(quoted(text.value))")
            return nil
        }
        return address == .v4Any || address == .v6Any ? nil : address
    }
}
