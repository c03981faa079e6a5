import WeirMemory
import WeirModel
import WeirNet
import WeirUpstream

/// Asks for one name after the other and waits: for commands, which have nothing else to do. The proxy's own resolver answers,
/// with its own settings.
package final class NameLookup {
    private let resolver: Resolver
    private let port: ResolverPort
    /// Raised with an answer.
    private let arrivals: ResolverSignal
    private var known: [ServerName: Answer] = [:]
    private var ticket: UInt64 = 0

    package init(
        _ settings: ResolverSettings, system: SystemServers = SystemServers()
    ) throws(ResolverFault) {
        let (questions, arrivals) = (try ResolverSignal(), try ResolverSignal())
        self.arrivals = arrivals
        port = ResolverPort(
            requestCount: 1, answerCount: 1, wakeResolver: { questions.raise() }, wakeWorker: { arrivals.raise() })
        resolver = Resolver(settings: settings, signal: questions, ports: [port], system: system)
        try resolver.start()
    }

    deinit { resolver.stop() }

    /// The addresses of `name`, or why there are none: after `ResolverSettings.timeout` at the latest.
    package func answer(for name: ServerName) -> Answer {
        if let answer = known[name] { return answer }
        ticket += 1
        guard port.requests.push(ResolverRequest(ticket: ticket, name: name)) else { return Answer(.refusedTooMany) }
        port.wakeResolver()
        while true {
            while let answer = port.answers.pop() {
                guard answer.ticket == ticket else { continue }
                known[name] = answer.answer
                return answer.answer
            }
            arrivals.wait()
        }
    }
}
