import Glibc
import Testing
import Weir
import WeirCommand
import WeirNet

@Suite struct CommandFailureTests {
    @Test func everyFailureToStartHasItsExitStatus() {
        let address = SocketAddress(.v4Loopback, port: 1)
        #expect(CommandFailure(Proxy.StartFailure.configuration([])).status.rawValue == 1)
        #expect(CommandFailure(.bind(listener: "a", address: address, code: EACCES)).status.rawValue == 3)
        #expect(CommandFailure(.system(what: "pthread_create", code: EAGAIN)).status.rawValue == 3)
        #expect(CommandFailure(.driver(reason: "none")).status.rawValue == 4)
    }

    @Test func aRefusedBindSaysWhatWouldHelp() {
        let failure = CommandFailure(.bind(listener: "web", address: SocketAddress(.v4Any, port: 443), code: EACCES))
        #expect(
            failure.lines == [
                "weir: listener \"web\" cannot be bound to 0.0.0.0:443: Permission denied; a port below 1024 needs root or "
                    + "CAP_NET_BIND_SERVICE"
            ])
    }
}
