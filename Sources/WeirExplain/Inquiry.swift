import WeirNet

/// A connection that nobody has made yet: what is asked about.
package struct Inquiry: Sendable {
    /// Who the client is.
    package enum Origin: Sendable, Equatable {
        /// The socket's peer.
        case socket
        /// Who these bytes say: they are the first that come, as a rule a PROXY header.
        case header([UInt8])
        /// Who a PROXY header says that it is. For whoever has the addresses of a session and not its header.
        case believed(client: IPAddress, destination: SocketAddress?)
    }

    /// The socket's peer.
    package var peer: IPAddress
    package var origin = Origin.socket
    /// What the hello, or the request head, asks for; `.none`: it names nobody.
    package var serverName = ServerName.none
    package var alpn = ALPNOffer.none
    /// What the socket was connected to; nil: the listener's address.
    package var destination: SocketAddress?

    package init(peer: IPAddress) { self.peer = peer }
}
