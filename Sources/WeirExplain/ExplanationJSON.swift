import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirUpstream

// The decision as data. docs/EXPLAIN.md lists the keys; every key is always there.

extension Explanation {
    package var json: JSONValue {
        .object([
            "alpn": .array(alpn.map { .string($0) }),
            "client": client.json,
            "limits": .array(limits.map(\.json)),
            "listener": .object([
                "address": .string(listener.address.description), "name": .string(listener.name),
                "why": .string(listener.why),
            ]),
            "notes": .array(notes.map { .string($0) }),
            "other_routes": .object([
                "count": .integer(otherNameCount),
                "first": .array(
                    otherNames.map {
                        .object([
                            "route": .string($0.route), "server_names": .array($0.patterns.map { .string($0) }),
                        ])
                    }),
            ]),
            "routes": .array(candidates.map(\.json)),
            "server_name": serverName.isNone ? .null : .string(serverName.description),
            "target": target?.json ?? .null,
            "verdict": verdict.json,
        ])
    }
}

extension Verdict {
    package var json: JSONValue {
        .object([
            "forwarded": .flag(isForwarded), "policy": JSONValue(policy), "reason": JSONValue(reason),
            "route": JSONValue(route), "source": JSONValue(source), "target": JSONValue(target),
        ])
    }
}

extension Explanation.ClientPart {
    fileprivate var json: JSONValue {
        .object([
            "address": .string(address.description),
            "allowed": admission.map { .flag($0.isAllowed) } ?? .null,
            "destination": JSONValue(destination?.description),
            "peer": .string(peer.description),
            "proxy_header": .string(headerWord),
            "proxy_header_rule": JSONValue(headerRule?.description),
            "rule": JSONValue(admission?.rule?.description),
        ])
    }

    private var headerWord: String {
        switch header {
        case .none: "none"
        case .accepted, .believed: "accepted"
        case .untrusted: "untrusted_peer"
        case .refused: "refused"
        case .missing: "missing"
        case .notTaken: "not_taken"
        }
    }

    private var headerRule: CIDR? {
        switch header {
        case .accepted(let block), .missing(let block), .refused(let block, _): block
        case .none, .believed, .untrusted, .notTaken: nil
        }
    }
}

extension Explanation.Candidate {
    fileprivate var json: JSONValue {
        let (outcome, failing, why): (String, RouteConstraint?, String?) =
            switch self.outcome {
            case .taken: ("taken", nil, nil)
            case .shadowed: ("later", nil, nil)
            case .failing(let constraint, let why): ("failing", constraint, why)
            }
        return .object([
            "failing": JSONValue(failing?.word), "outcome": .string(outcome), "pattern": JSONValue(pattern),
            "route": .string(route), "why": JSONValue(why),
        ])
    }
}

extension RouteConstraint {
    /// The key of a route's `match`.
    var word: String {
        switch self {
        case .clients: "clients"
        case .destinations: "destinations"
        case .destinationPorts: "destination_ports"
        case .alpn: "alpn"
        }
    }
}

extension Explanation.Target {
    fileprivate var json: JSONValue {
        .object([
            "clusters": .array(clusters.map(\.json)),
            "denial": JSONValue(denial?.word),
            "destination": destination?.json ?? .null,
            "kind": .string(kind.rawValue),
            "policy": policy?.json ?? .null,
            "source": source?.json ?? .null,
        ])
    }
}

extension Explanation.PolicyPart {
    fileprivate var json: JSONValue {
        .object([
            "cluster": JSONValue(cluster),
            "name": .string(name),
            "passed": .array(passed.map { .object(["name": .string($0.name), "why": .string($0.why)]) }),
            "to": leavesAsRoute ? .string("route") : .null,
        ])
    }
}

extension Explanation.ClusterPart {
    fileprivate var json: JSONValue {
        .object([
            "balance": .string(balance), "endpoints": .array(endpoints.map(\.json)), "name": .string(name),
            "percent": JSONValue(percentText), "preferred": JSONValue(preferred), "source": source.json,
        ])
    }
}

extension Explanation.EndpointPart {
    fileprivate var json: JSONValue {
        .object([
            "destination": destination.json, "down": .flag(isDown), "health": JSONValue(health), "name": .string(name),
            "priority": .integer(priority), "weight": .integer(weight),
        ])
    }
}

extension Explanation.Destination {
    fileprivate var json: JSONValue {
        let answer =
            switch source {
            case .written: "written"
            case .header: "proxy_header"
            case .original: "original"
            case .notAsked: "not_asked"
            case .answered(let isStale): isStale ? "stale" : "found"
            case .failed(let status): "\(status.label)"
            }
        return .object([
            "addresses": .array(addresses.map(\.json)), "answer": .string(answer), "host": .string(host),
            "port": port == 0 ? .null : .integer(Int(port)),
        ])
    }
}

extension Explanation.Address {
    fileprivate var json: JSONValue {
        let (rule, block): (String, CIDR?) =
            switch self.guard {
            case .allowed(.isPublic): ("public", nil)
            case .allowed(.isWritten): ("written", nil)
            case .allowed(.exempted(let block)): ("destinations.allow", block)
            case .allowed(.isPrivateName): ("private_names", nil)
            case .denied(let rule, let block): (rule.label, block)
            }
        return .object([
            "address": .string(ip.description), "allowed": .flag(isAllowed), "block": JSONValue(block?.description),
            "has_source": .flag(hasSource), "rule": .string(rule),
        ])
    }
}

extension Explanation.Source {
    fileprivate var json: JSONValue {
        switch self {
        case .kernel: Self.json(nil, [], nil, nil, nil)
        case .addresses(let all): Self.json(nil, all, nil, nil, nil)
        case .pool(let pool):
            Self.json(
                pool.name, pool.addresses, pool.select.word, pool.interface, pool.mark == 0 ? nil : Int(pool.mark))
        }
    }

    private static func json(
        _ name: String?, _ addresses: [IPAddress], _ select: String?, _ interface: String?, _ mark: Int?
    ) -> JSONValue {
        .object([
            "addresses": .array(addresses.map { .string($0.description) }), "interface": JSONValue(interface),
            "mark": JSONValue(mark), "pool": JSONValue(name), "select": JSONValue(select),
        ])
    }
}

extension Explanation.Limit {
    fileprivate var json: JSONValue {
        .object([
            "name": .string(name), "scope": .string(scope), "subject": JSONValue(subject), "value": .string(value),
        ])
    }
}
