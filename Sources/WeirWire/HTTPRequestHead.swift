import WeirNet

/// What routing needs from an HTTP/1 request head. A plain value; the bytes themselves are forwarded as they came.
package struct HTTPRequestHead: Sendable, BitwiseCopyable {
    /// Never `.none`.
    package let host: ServerName
    /// The port behind the host; nil where there is none.
    package let port: UInt16?
    /// Bytes from the start of the connection to the empty line, CRLF included. What follows is payload.
    package let byteCount: Int
}
