import WeirNet

package enum HTTPRequestHeadProgress: Sendable, BitwiseCopyable {
    case needMore
    case complete(HTTPRequestHead)
    case refused(HTTPRefusal)
}

/// Finds the host of the first HTTP/1 request on a connection (RFC 9112 §2...§5), at any split, strictly: what two readers
/// could read differently is refused. Later requests on the connection are payload.
package struct HTTPRequestHeadParser: Sendable, BitwiseCopyable {
    package init(byteCountMax: Int = 16384) {}

    /// Reads on with the next bytes of the connection.
    ///
    /// On `.complete` the head ends at byte `HTTPRequestHead.byteCount` of the connection; the rest of `bytes` is payload that
    /// has not been looked at. Not to be called again after `.complete` or `.refused`.
    package mutating func consume(_ bytes: Span<UInt8>) -> HTTPRequestHeadProgress { .needMore }
}
