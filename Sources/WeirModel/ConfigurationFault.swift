import WeirNet

/// A contradiction inside a configuration that no single value shows: a missing cluster, a repeated name.
public struct ConfigurationFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The part at fault, in words a reader finds in the file: `listener "egress"`.
    public var part: String
    /// What is wrong and what was expected.
    public var message: String

    public init(part: String, message: String) {
        self.part = part
        self.message = message
    }

    public var description: String { "\(part): \(message)" }
}

extension Configuration {
    /// Every fault, in the order of the configuration; empty when it can be compiled and run.
    public func faults() -> [ConfigurationFault] {
        var found: [ConfigurationFault] = []
        var clusterNames: Set<String> = []
        for cluster in clusters {
            let part = "cluster \"\(cluster.name)\""
            if !clusterNames.insert(cluster.name).inserted {
                found.append(ConfigurationFault(part: part, message: "this name is used twice"))
            }
            if cluster.endpoints.isEmpty {
                found.append(ConfigurationFault(part: part, message: "has no endpoint"))
            }
            for endpoint in cluster.endpoints {
                if !(1...65535).contains(endpoint.weight) {
                    found.append(ConfigurationFault(part: part, message: "weight \(endpoint.weight) is not in 1...65535"))
                }
                if endpoint.port == 0 {
                    found.append(ConfigurationFault(part: part, message: "port 0 cannot be connected to"))
                }
            }
            found += cluster.upstream.faults(part)
        }
        var listenerNames: Set<String> = []
        var addresses: Set<String> = []
        for listener in listeners {
            let part = "listener \"\(listener.name)\""
            if !listenerNames.insert(listener.name).inserted {
                found.append(ConfigurationFault(part: part, message: "this name is used twice"))
            }
            if listener.address.port != 0, !addresses.insert(listener.address.description).inserted {
                found.append(ConfigurationFault(part: part, message: "\(listener.address) is listened on twice"))
            }
            if let acceptProxy = listener.acceptProxy {
                if acceptProxy.from.isEmpty {
                    found.append(
                        ConfigurationFault(part: part, message: "accept_proxy trusts nobody: list the peers in `from`"))
                }
                if !(16...65551).contains(acceptProxy.headerByteCountMax) {
                    found.append(ConfigurationFault(part: part, message: "a PROXY header limit is 16...65551 bytes"))
                }
            }
            if !(512...65536).contains(listener.hello.byteCountMax) {
                found.append(ConfigurationFault(part: part, message: "a hello limit is 512...65536 bytes"))
            }
            if listener.routes.isEmpty {
                found.append(ConfigurationFault(part: part, message: "has no route, so every client would be refused"))
            }
            var routeNames: Set<String> = []
            for route in listener.routes {
                let routePart = "\(part), route \"\(route.name)\""
                if !routeNames.insert(route.name).inserted {
                    found.append(ConfigurationFault(part: routePart, message: "this name is used twice"))
                }
                switch route.action {
                case .cluster(let name) where !clusterNames.contains(name):
                    found.append(ConfigurationFault(part: routePart, message: "there is no cluster \"\(name)\""))
                case .forward(let forward):
                    if listener.detect.isEmpty {
                        found.append(
                            ConfigurationFault(
                                part: routePart, message: "forwards to the server name, but the listener detects none"))
                    }
                    found += forward.upstream.faults(routePart)
                case .cluster, .deny:
                    break
                }
            }
        }
        if let workerCount, !(1...256).contains(workerCount) {
            found.append(ConfigurationFault(part: "workers", message: "\(workerCount) is not in 1...256"))
        }
        return found
    }
}

extension UpstreamOptions {
    func faults(_ part: String) -> [ConfigurationFault] {
        var found: [ConfigurationFault] = []
        if !(1...8).contains(attempts) {
            found.append(ConfigurationFault(part: part, message: "attempts \(attempts) is not in 1...8"))
        }
        for family in [0, 1] where sourceAddresses.count(where: { $0.bitCount == (family == 0 ? 32 : 128) }) > 1 {
            found.append(ConfigurationFault(part: part, message: "has two source addresses of one family"))
        }
        return found
    }
}
