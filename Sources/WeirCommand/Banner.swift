import Weir

/// What `weir run` says once it serves.
package struct Banner: Sendable {
    package struct Line: Sendable {
        package var name: String
        package var address: SocketAddress
        /// Takes TLS from whoever comes, so that curl can show it at work.
        package var isForCurl: Bool

        package init(name: String, address: SocketAddress, isForCurl: Bool) {
            self.name = name
            self.address = address
            self.isForCurl = isForCurl
        }
    }

    package var listeners: [Line]
    /// Its name, and why it is that one where that is worth a word.
    package var driver: String
    package var workerCount: Int
    package var admin: SocketAddress?

    package init(listeners: [Line], driver: String, workerCount: Int, admin: SocketAddress?) {
        self.listeners = listeners
        self.driver = driver
        self.workerCount = workerCount
        self.admin = admin
    }

    package var lines: [String] {
        var lines = ["weir \(weirVersion): \(driver), \(workerCount) worker\(workerCount == 1 ? "" : "s")"]
        lines += listeners.map { "listener \($0.name): \($0.address)" }
        lines.append("admin: \(admin.map { "http://\($0)/" } ?? "off")")
        if let listener = listeners.first(where: \.isForCurl) {
            lines.append("try: curl --connect-to ::\(Self.reachable(listener.address)) https://example.com/")
        }
        return lines
    }

    /// An address to connect to: loopback where the listener takes every address.
    private static func reachable(_ address: SocketAddress) -> SocketAddress {
        guard address.ip.isUnspecified else { return address }
        return SocketAddress(address.ip.family == .v4 ? .v4Loopback : .v6Loopback, port: address.port)
    }
}
