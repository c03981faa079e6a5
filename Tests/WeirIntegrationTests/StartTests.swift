import Glibc
import Synchronization
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// How a proxy starts, and how it does not.
@Suite struct StartTests {
    @Test func aListenerOnPortZeroSaysWhichPortItGot() throws {
        let origin = try TestOrigin.answering("found")
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.listeners.append(.local("second", [.to("origin")]))
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(proxy.listeners.map(\.name) == ["main", "second"])
        #expect(proxy.listeners[0].address.port != proxy.listeners[1].address.port)
        #expect(try proxy.textAnswer(to: "a.test", 0) == "found")
        #expect(try proxy.textAnswer(to: "a.test", 1) == "found")
        #expect(proxy.isReady && proxy.workerCount == 2 && proxy.sessionCountMax == 256)
    }

    @Test func aListenerMayBeOnIPv6() throws {
        let origin = try TestOrigin.answering("found", on: .v6Loopback)
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.address = SocketAddress(.v6Loopback, port: 0)
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "a.test") == "found")
    }

    @Test(arguments: [IPAddress.v4Any, .v6Any])
    func anAddressMayHaveAListenerOfItsOwnBesideTheOneForAllAddresses(all: IPAddress) throws {
        let everywhere = try TestOrigin.answering("everywhere")
        let there = try TestOrigin.answering("there")
        let port = try refusingAddress(.v4Any).port
        let configuration = Configuration.listening(.to("everywhere")).cluster("everywhere", everywhere.address)
            .cluster("there", there.address)
            .adjusted {
                $0.main.address = SocketAddress(all, port: port)
                $0.main.takesIPv4 = all == .v6Any
                $0.listeners.append(.local("there", [.to("there")]))
                $0.listeners[1].address.port = port
            }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        // Enough that both workers have some.
        for _ in 0..<12 {
            #expect(try textAnswer(at: SocketAddress(.v4Loopback, port: port)) == "there")
            #expect(try textAnswer(at: SocketAddress(IPAddress(127, 0, 0, 2), port: port)) == "everywhere")
        }
    }

    @Test func whoeverHasAnAddressOfThePortKeepsUsFromAllAddressesAlsoBesideAListenerOfOurs() throws {
        let taken = try TestListener(on: IPAddress(127, 0, 0, 2))
        let configuration = Configuration.listening(.deny(.close)).adjusted {
            $0.main.address.port = taken.address.port
            $0.listeners.append(.local("everywhere", [.deny(.close)]))
            $0.listeners[1].address = SocketAddress(.v4Any, port: taken.address.port)
        }
        #expect(failure(configuration) == "bind: everywhere \(configuration.listeners[1].address) \(EADDRINUSE)")
    }

    @Test func allAddressesOfBothFamiliesAreListenedOnOnce() {
        let configuration = Configuration.listening(.deny(.close)).adjusted {
            $0.main.address = SocketAddress(.v4Any, port: 4000)
            $0.listeners.append(.local("both", [.deny(.close)]))
            $0.listeners[1].address = SocketAddress(.v6Any, port: 4000)
            $0.listeners[1].takesIPv4 = true
        }
        #expect(failure(configuration) == "configuration: 0.0.0.0:4000 is listened on twice")
    }

    @Test func aContradictionIsAFailureOfItsOwn() throws {
        let configuration = Configuration.listening(.to("nowhere"))
        #expect(failure(configuration) == "configuration: there is no cluster \"nowhere\"")
    }

    @Test func anAddressInUseIsAFailureOfItsOwnAndNothingStaysBound() throws {
        let taken = try TestListener()
        let free = try refusingAddress()
        let configuration = Configuration.listening(.deny(.close)).adjusted {
            $0.main.address = free
            $0.listeners.append(.local("second", [.deny(.close)]))
            $0.listeners[1].address = taken.address
        }
        #expect(failure(configuration) == "bind: second \(taken.address) \(EADDRINUSE)")
        // The first listener was bound already.
        _ = try TestListener(port: free.port)
    }

    @Test func anAddressThatIsNotHereIsAFailureOfItsOwn() throws {
        let foreign = SocketAddress(IPAddress(192, 0, 2, 1), port: 4000)
        let configuration = Configuration.listening(.deny(.close)).adjusted { $0.main.address = foreign }
        #expect(failure(configuration) == "bind: main \(foreign) \(EADDRNOTAVAIL)")
    }

    /// P-22.
    @Test(arguments: [Proxy.DriverChoice.uring, .epoll])
    func theDriverThatIsAskedForIsTheOne(choice: Proxy.DriverChoice) throws {
        guard DriverReport.probe().decision(choice) != nil else { return }
        let origin = try TestOrigin.answering("found")
        var options = Proxy.Options()
        options.driver = choice
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration, options: options)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "a.test") == "found")
        #expect(proxy.driver.name.rawValue == choice.rawValue && proxy.driver.reason == .requested)
        #expect(proxy.metric("weir_driver_info", "driver=\"\(choice.rawValue)\"", "reason=\"requested\"") == 1)
    }

    /// T-18: rights are given up between binding and the first ring.
    @Test func whatIsToHappenAfterBindingHappensOnceAndBeforeAnyThread() async {
        await #expect(processExitsWith: .success) {
            let origin = try TestListener()
            let before = ProcessState.now
            let seen = Mutex<[ProcessState]>([])
            var options = Proxy.Options.forTests
            options.afterBind = { seen.withLock { $0.append(.now) } }
            let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
            let proxy = try Proxy.start(configuration, options: options)
            proxy.stop()
            let states = seen.withLock { $0 }
            try #require(states.count == 1)
            #expect(states[0].threads == [])
            // Of the kernel's things nothing but one socket per worker.
            let opened = states[0].opened(since: before)
            #expect(opened.count == 2 && opened.allSatisfy { $0.hasPrefix("socket:") }, "\(opened)")
        }
    }

    @Test func anErrorAfterBindingEndsTheStartAndLeavesNothing() async {
        await #expect(processExitsWith: .success) {
            struct Refused: Error {}
            let before = ProcessState.now
            var options = Proxy.Options.forTests
            options.afterBind = { throw Refused() }
            do throws(Proxy.StartFailure) {
                _ = try Proxy.start(.listening(.deny(.close)), options: options)
                Issue.record("the proxy has started")
            } catch {
                guard case .system(let what, _) = error else { throw error }
                #expect(what == "Refused()")
            }
            before.expectNothingNew()
        }
    }

    /// Descriptors run out at every point of a start, one after the other.
    @Test func aStartThatRunsOutOfDescriptorsFailsAndLeavesNothing() async {
        await #expect(processExitsWith: .success) {
            let configuration = Configuration.listening(.deny(.close))
            let before = ProcessState.now
            var outcomes: [Bool] = []
            let freeNumbers = (0...).lazy.filter { before.descriptors[$0] == nil }.prefix(40)
            // Not raised between, so this works without privileges. Ends when a look at what is open needs the last one.
            var original = rlimit()
            try #require(unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &original) == 0, "getrlimit")
            // The leak sanitizer, which looks when the process ends, waits for ever without a descriptor.
            defer { _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &original) }
            for number in freeNumbers.reversed() {
                var limit = rlimit(rlim_cur: rlim_t(number), rlim_max: rlim_t(number))
                try #require(unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, "setrlimit")
                if ProcessState.now.descriptors.isEmpty { break }
                do throws(Proxy.StartFailure) {
                    try Proxy.start(configuration).stop()
                    outcomes.append(true)
                } catch {
                    outcomes.append(false)
                    if case .configuration = error { Issue.record("\(error)") }
                }
                before.expectNothingNew("with descriptors up to \(number)")
            }
            let words = "\(outcomes)"
            #expect(outcomes.first == true && outcomes.last == false, "\(words)")
            #expect(outcomes == outcomes.sorted { $0 && !$1 }, "with fewer descriptors it had failed: \(words)")
        }
    }

    /// The failure of a start in words.
    private func failure(_ configuration: Configuration) -> String {
        do throws(Proxy.StartFailure) {
            try Proxy.start(configuration).stop()
            return "started"
        } catch {
            switch error {
            case .configuration(let faults): return "configuration: \(faults.map(\.message).joined(separator: ", "))"
            case .bind(let listener, let address, let code): return "bind: \(listener) \(address) \(code)"
            case .driver(let reason): return "driver: \(reason)"
            case .system(let what, let code): return "system: \(what) \(code)"
            }
        }
    }
}
