/// What both ends do once a connection stands. The client always begins with a hello that names `bench.test`.
enum Shape {
    /// The origin answers the hello and closes.
    case answerAndClose
    /// The origin answers the hello, then every message with one of the same size.
    case echo(byteCount: Int)
    /// After the hello bytes flow without an end: down to the client, up to the origin, or both.
    case bulk(down: Bool, up: Bool)

    /// What the origin answers to the hello.
    static let replyByteCount = 512
}
