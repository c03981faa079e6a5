import ArgumentParser
import Weir
import WeirAdmin
import WeirExplain

/// A running instance that is asked what it does.
struct RunningInstance {
    private let url: String
    private let client: AdminClient

    /// `url`: of its admin endpoint.
    init(_ url: String) throws {
        guard let client = AdminClient(url) else {
            throw ValidationError("--against \(url.quoted) is not http://address:port.")
        }
        self.url = url
        self.client = client
    }

    /// What `next` would change there.
    func comparison(with next: Configuration) throws(CommandFailure) -> Comparison {
        guard let running = RunningConfiguration(json: try page("/config")),
            let seen = SeenDecisions(json: try page("/names"))
        else {
            throw CommandFailure(.runTime, ["weir: \(url.printable) answers, but not as this version does"])
        }
        let explainer = Explainer(next, localAddresses: LocalAddresses.current())
        return Comparison(of: explainer, with: running, seen: seen)
    }

    private func page(_ path: String) throws(CommandFailure) -> JSONValue {
        do {
            return JSONValue(parsing: try client.page(path)) ?? .null
        } catch {
            throw CommandFailure(.runTime, ["weir: \(url.printable) cannot be asked for \(path): \(error)"])
        }
    }
}
