extension Service {
    /// Transports below TLS and HTTP that are not carried yet.
    static let uncarried: Set<String> = ["UDP", "SCTP"]
}

/// What other documents call a service and its ports.
extension ManifestLowering {
    /// The host of a service that a document names. Not for names that may have dots in them: one of another namespace
    /// is never meant.
    func host(service: String, namespace: String) -> String { "\(service).\(namespace).svc.\(settings.clusterDomain)" }

    /// The number of a service's port that is written as number or name, the service's own or, as ingress-nginx takes it,
    /// that of its pods; nil, and reported, where there is none.
    func port(_ text: String, ofService service: String, _ namespace: String, report: (String) -> Void) -> UInt16? {
        let known = catalogue.services[host(service: service, namespace: namespace).lowercased()]
        let found: Service.Port?
        if let number = decimal(text) {
            guard let number = UInt16(exactly: number), number > 0 else {
                report("\(quoted(text)) is no port")
                return nil
            }
            // One that only stands for another name need not list its ports.
            guard let known, known.externalName == nil || known.port(number) != nil else { return number }
            found = known.port(number) ?? known.ports.first { $0.targetText == text }
        } else {
            guard let known else {
                report(
                    "no document describes service \(namespace)/\(service), so its port \(quoted(text)) has no number")
                return nil
            }
            found = known.port(named: text) ?? known.ports.first { $0.targetText == text }
        }
        guard let found else {
            report("service \(namespace)/\(service) has no port \(text)")
            return nil
        }
        if Service.uncarried.contains(found.transport) {
            report("port \(text) of service \(namespace)/\(service) is \(found.transport), which is not carried yet")
            return nil
        }
        return found.number
    }
}
