import ArgumentParser
import Weir

/// `--io`.
enum DriverChoice: String, ExpressibleByArgument, CaseIterable {
    case auto
    case uring
}

extension SocketAddress: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension ConfigurationSource.Overrides.AdminChoice: ExpressibleByArgument {
    package init?(argument: String) {
        if argument == "off" {
            self = .off
        } else {
            guard let address = SocketAddress(argument) else { return nil }
            self = .address(address)
        }
    }
}

/// `--log`.
struct LogChoice: ExpressibleByArgument {
    let target: LogSettings.Target

    init?(argument: String) {
        switch argument {
        case "stdout": target = .standardOutput
        case "off": target = .none
        case "": return nil
        default: target = .file(argument)
        }
    }
}
