import WeirModel
import WeirNet

/// ConfigMaps of ingress-nginx: ports of its own, and the service that each leads to (`--tcp-services-configmap`).
extension ManifestLowering {
    /// `namespace/service:port`, and whether PROXY headers come and go.
    private struct StreamTarget {
        var namespace: Substring
        var service: Substring
        var port: Substring
        var acceptsProxy = false
        var sendsProxy = false

        init?(_ text: String) {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard (2...4).contains(parts.count), !parts[1].isEmpty else { return nil }
            let names = parts[0].split(separator: "/", omittingEmptySubsequences: false)
            guard names.count == 2, !names[0].isEmpty, !names[1].isEmpty else { return nil }
            for part in parts.dropFirst(2) where !part.isEmpty && part.uppercased() != "PROXY" { return nil }
            (namespace, service, port) = (names[0], names[1], parts[1])
            acceptsProxy = parts.count > 2 && !parts[2].isEmpty
            sendsProxy = parts.count > 3 && !parts[3].isEmpty
        }
    }

    func lowerConfigMaps() {
        for manifest in manifests.all("ConfigMap", "") {
            manifest.fields.passOver("binaryData", "immutable")
            let data = manifest.fields.texts(of: "data")
            if manifest.name.hasSuffix("udp-services") || manifest.name.hasSuffix("-udp") && namesServices(data) {
                manifest.unsupported("UDP is not carried yet: the document has no effect")
            } else if manifest.name.hasSuffix("tcp-services") || namesServices(data) {
                for (key, text) in data.sorted(by: { decimal($0.key) ?? 0 < decimal($1.key) ?? 0 }) {
                    lowerStreamService(key, text, manifest)
                }
            } else if Self.isOfController(manifest), !data.isEmpty {
                manifest.unsupported(
                    "settings of ingress-nginx have no effect here: \(data.keys.sorted().joined(separator: ", "))")
            } else {
                findings.notice(manifest.position, "\(manifest.title) has no ports of services in it: passed over")
            }
        }
    }

    private func namesServices(_ data: [String: ManifestText]) -> Bool {
        !data.isEmpty && data.allSatisfy { Self.port($0.key) != nil && StreamTarget($0.value.value) != nil }
    }

    private static func port(_ text: String) -> UInt16? {
        decimal(text).flatMap { UInt16(exactly: $0) }.flatMap { $0 == 0 ? nil : $0 }
    }

    /// As its Helm chart and its older manifests call it.
    private static func isOfController(_ manifest: Manifest) -> Bool {
        manifest.name.hasSuffix("ingress-nginx-controller")
            || manifest.namespace == "ingress-nginx" && manifest.name == "nginx-configuration"
    }

    private func lowerStreamService(_ key: String, _ text: ManifestText, _ manifest: Manifest) {
        let fields = manifest.fields
        guard let port = Self.port(key) else {
            return fields.error(text.position, "data", "expected a port 1...65535 as key, found \(quoted(key))")
        }
        guard let target = StreamTarget(text.value) else {
            let form = "namespace/service:port, namespace/service:port:PROXY or namespace/service:port:PROXY:PROXY"
            return fields.error(text.position, "data", "expected \(form), found \(quoted(text.value))")
        }
        let report = { (message: String) in fields.unsupported(at: text.position, "data.\(key): \(message)") }
        if Self.ingressPorts.contains(port), !ingresses.isEmpty {
            return report(
                "Ingresses are served from this port, and ingress-nginx takes no service there: use another port")
        }
        if listeners.has(port: port) { return report("another document has this port already") }
        let (service, namespace) = (String(target.service), String(target.namespace))
        var action: RouteAction?
        if let number = self.port(String(target.port), ofService: service, namespace, report: report) {
            action = clusters.action(
                host: host(service: service, namespace: namespace), namespace: manifest.namespace, port: number,
                variant: target.sendsProxy ? "send_proxy" : "", at: text.position,
                // Version 1, as nginx sends it.
                adjust: { if target.sendsProxy { $0.upstream.sendProxy = SendProxy(.v1) } }, report: report)
        }
        if target.acceptsProxy {
            // nginx believes anybody; a header is worth no more than who may send it.
            let from = ClientPolicy.privateNetworks.rules.map(\.block)
            listeners.acceptProxy(AcceptProxy(from: from), port: port, at: text.position)
            fields.say(text.position, "PROXY headers are taken from private networks only")
        }
        let name = "ConfigMap/\(manifest.path)/\(port)"
        listeners.add(Route(name: name, action: action ?? .deny(.reset)), port: port, at: text.position)
    }
}
