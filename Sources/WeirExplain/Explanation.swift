import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirUpstream

/// What a listener would do with a connection, and why.
package struct Explanation: Sendable, Equatable {
    package var listener: ListenerPart
    package var client: ClientPart
    /// As far as the listener would see it: `.none` where it reads no first bytes.
    package var serverName = ServerName.none
    package var alpn: [String] = []
    /// Routes in the order in which they are tried: those before the one that takes the connection, that one, and those that would
    /// come after it. Empty where no route is asked.
    package var candidates: [Candidate] = []
    /// Routes of the listener that are for other server names: the first few as written, and how many there are.
    package var otherNames: [OtherRoute] = []
    package var otherNameCount = 0
    /// Where it goes; nil where it is refused before that is known.
    package var target: Target?
    package var limits: [Limit] = []
    /// What else is to be known, a sentence each.
    package var notes: [String] = []
    package var verdict: Verdict

    /// Of `otherNames`.
    static let otherNameCountMax = 8

    package struct ListenerPart: Sendable, Equatable {
        package var name: String
        package var address: SocketAddress
        /// Why this listener.
        package var why: String
    }

    package struct ClientPart: Sendable, Equatable {
        /// Whom rules are about.
        package var address: IPAddress
        package var peer: IPAddress
        /// What the client asked to be connected to; nil: only the listener's own address is known, and it is any.
        package var destination: SocketAddress?
        package var header: Header
        /// nil: it was not asked.
        package var admission: Admission?
    }

    /// What becomes of a PROXY header.
    package enum Header: Sendable, Equatable {
        /// The listener takes none, and none comes.
        case none
        /// Of these blocks the first has the peer, whose header is read.
        case accepted(CIDR)
        /// As accepted; whoever asked says so.
        case believed
        /// The peer is in none of them.
        case untrusted([CIDR])
        /// The peer is in the first block, and its header cannot be used.
        case refused(CIDR, why: String)
        /// One is required from the peer, and none comes.
        case missing(CIDR)
        /// The listener takes none: they are the client's first bytes.
        case notTaken
    }

    /// Whether the listener's `clients` let a client in.
    package struct Admission: Sendable, Equatable {
        package var isAllowed: Bool
        /// The rule that says so; nil: none has the address.
        package var rule: CIDR?

        package init(isAllowed: Bool, rule: CIDR?) {
            self.isAllowed = isAllowed
            self.rule = rule
        }
    }

    /// A route that was asked.
    package struct Candidate: Sendable, Equatable {
        package enum Outcome: Sendable, Equatable {
            case taken
            /// Would take it, and comes later.
            case shadowed
            /// One of its constraints does not hold. `why`: a clause for people.
            case failing(RouteConstraint, why: String)
        }

        package var route: String
        /// The one of its patterns that the server name fits; nil: it asks for none.
        package var pattern: String?
        package var outcome: Outcome
    }

    package struct OtherRoute: Sendable, Equatable {
        package var route: String
        package var patterns: [String]

        package init(route: String, patterns: [String]) {
            self.route = route
            self.patterns = patterns
        }
    }

    /// Where a route leads.
    package struct Target: Sendable, Equatable {
        package enum Kind: String, Sendable {
            case cluster
            case split
            case serverName = "server_name"
            case proxyDestination = "proxy_destination"
            case originalDestination = "original_destination"
            case deny
        }

        package var kind: Kind
        /// How a client is told, where `kind` is `deny`.
        package var denial: Denial?
        /// Where it goes to a cluster, or a policy leads it through one: those that it may go to.
        package var clusters: [ClusterPart] = []
        /// What it is connected to, or the gateways are told of, where it goes to no cluster.
        package var destination: Destination?
        /// nil: none holds, or none is asked.
        package var policy: PolicyPart?
        /// nil: the clusters say.
        package var source: Source?
    }

    package struct ClusterPart: Sendable, Equatable {
        package var name: String
        /// Percent of the sessions that it is drawn for; nil: it is the only one.
        package var percent: Double?
        package var balance: String
        /// By priority, else as written.
        package var endpoints: [EndpointPart]
        package var source: Source
        /// The endpoint that the client's address leads to while all are good; nil: another thing decides.
        package var preferred: String?
    }

    package struct EndpointPart: Sendable, Equatable {
        /// `host:port` as a configuration would write it.
        package var name: String
        package var weight: Int
        package var priority: Int
        /// Never chosen.
        package var isDown: Bool
        package var destination: Destination
        /// What a running instance says; nil: none was asked, or it has no such endpoint.
        package var health: String?
    }

    /// A host and a port, and the addresses that it has.
    package struct Destination: Sendable, Equatable {
        package enum Source: Sendable, Equatable {
            /// The configuration has the address.
            case written
            /// A PROXY header has the address.
            case header
            /// The client connected to it, before it was redirected to us or not.
            case original
            /// A name that nobody was asked about.
            case notAsked
            case answered(isStale: Bool)
            /// A name without addresses.
            case failed(AnswerStatus)
        }

        package var host: String
        /// 0: the one that the client connects to, and that is not known.
        package var port: UInt16
        package var source: Source
        package var addresses: [Address] = []
    }

    package struct Address: Sendable, Equatable {
        package enum Guard: Sendable, Equatable {
            case allowed(Permission)
            /// `block`: the part of `destinations.deny` that has it.
            case denied(GuardRule, block: CIDR?)
        }

        package enum Permission: Sendable, Equatable {
            case isPublic
            /// The configuration has it as an endpoint.
            case isWritten
            /// `destinations.allow` has it.
            case exempted(CIDR)
            /// Private, as the names of the cluster's endpoints may be (`private_names`).
            case isPrivateName
        }

        package var ip: IPAddress
        package var `guard`: Guard
        /// Whether the pool of source addresses has its family.
        package var hasSource = true
    }

    package struct PolicyPart: Sendable, Equatable {
        package var name: String
        /// Policies before it, and why they do not hold: a clause for people.
        package var passed: [Passed]
        package var cluster: String?
        /// The route's own settings hold.
        package var leavesAsRoute = false

        package struct Passed: Sendable, Equatable {
            package var name: String
            package var why: String

            package init(name: String, why: String) {
                self.name = name
                self.why = why
            }
        }
    }

    /// What a connection is made from.
    package enum Source: Sendable, Equatable {
        case kernel
        case pool(SourcePool)
        case addresses([IPAddress])
    }

    package struct Limit: Sendable, Equatable {
        /// `process`, `listener`, `route`, `cluster` or `endpoint`, as the configuration calls it.
        package var scope: String
        package var subject: String?
        package var name: String
        package var value: String

        package init(scope: String, subject: String?, name: String, value: String) {
            self.scope = scope
            self.subject = subject
            self.name = name
            self.value = value
        }
    }
}

/// The outcome in short. Two configurations decide alike about a connection where their verdicts are equal.
package struct Verdict: Sendable, Equatable {
    /// nil: it would be forwarded; else the reason that metric and access log would have.
    package var refusal: CloseReason?
    /// The route that took it; nil: none did, or none was asked.
    package var route: String?
    /// `cluster "a"`, `www.example.org:443`; nil where it is refused before that is known.
    package var target: String?
    package var policy: String?
    /// The pool's name, or its addresses; nil: the kernel chooses.
    package var source: String?

    package init(
        refusal: CloseReason? = nil, route: String? = nil, target: String? = nil, policy: String? = nil,
        source: String? = nil
    ) {
        self.refusal = refusal
        self.route = route
        self.target = target
        self.policy = policy
        self.source = source
    }

    package var isForwarded: Bool { refusal == nil }
    /// The reason's label.
    package var reason: String? { refusal.map { CloseReason.labels[$0.code] } }
}

extension Verdict: CustomStringConvertible {
    package var description: String {
        let by = route.map { " by route \($0.quoted)" } ?? ""
        if let reason { return "refused\(by): \(reason)" }
        var text = "forwarded\(by) to \(target?.printable ?? "nowhere")"
        if let policy { text += ", policy \(policy.quoted)" }
        if let source { text += ", from \(source.printable)" }
        return text
    }
}
