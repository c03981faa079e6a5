import ArgumentParser
import Weir

/// `--io`.
extension Proxy.DriverChoice: ExpressibleByArgument {
    public init?(argument: String) {
        switch argument {
        case "auto": self = .automatic
        case "uring": self = .uring
        case "epoll": self = .epoll
        default: return nil
        }
    }

    public static var allValueStrings: [String] { ["auto", "uring", "epoll"] }

    public var defaultValueDescription: String { self == .automatic ? "auto" : rawValue }
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
