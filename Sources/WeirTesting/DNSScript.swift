import WeirNet

/// What a `DNSServer` says.
public enum DNSAnswer: Sendable {
    /// These records, in this order; none is NODATA. A record after a CNAME belongs to the name that it points to.
    case records([DNSRecord])
    /// NXDOMAIN.
    case noSuchName
    /// SERVFAIL.
    case serverFailure
    case refused
    /// Nothing at all.
    case silence
    /// Over UDP an empty reply with TC=1, over TCP the records.
    case truncated([DNSRecord])
    /// The records, in a reply that a client must not believe.
    case broken(DNSDefect, [DNSRecord])
    /// What follows, sent when `DNSServer.releaseHeld()` is called.
    indirect case held(DNSAnswer)
}

public struct DNSRecord: Sendable, Equatable {
    public enum Data: Sendable, Equatable {
        /// An A or AAAA record.
        case address(IPAddress)
        case alias(String)
    }

    public var data: Data
    /// Seconds.
    public var ttl: UInt32

    public static func address(_ address: IPAddress, ttl: UInt32 = 60) -> DNSRecord {
        DNSRecord(data: .address(address), ttl: ttl)
    }

    /// A CNAME to `name`.
    public static func alias(_ name: String, ttl: UInt32 = 60) -> DNSRecord {
        DNSRecord(data: .alias(name), ttl: ttl)
    }
}

/// Ways in which a reply is not one.
public enum DNSDefect: Sendable, CaseIterable {
    /// Another query's id.
    case wrongID
    /// Another name in the question section.
    case wrongQuestion
    /// Sent from a port that was not asked.
    case otherPort
    /// An owner name that points at itself.
    case compressionLoop
    /// A record whose length leads past the end.
    case lengthBeyondEnd
    /// Cut off inside the header.
    case cutOff
    /// A datagram without bytes.
    case empty
    /// Bytes without meaning.
    case noise
}

public enum DNSRecordType: UInt16, Sendable {
    case a = 1
    case aaaa = 28
}

/// One query that a `DNSServer` received.
public struct DNSQueryLogEntry: Sendable, Equatable {
    public var name: String
    /// nil for a type other than A and AAAA.
    public var type: DNSRecordType?
    public var isTCP: Bool
    /// Where it came from.
    public var sourcePort: UInt16
    /// The size of UDP replies that the client takes (EDNS); nil: 512.
    public var payloadByteCount: UInt16?
}
