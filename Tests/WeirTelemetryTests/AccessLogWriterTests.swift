import Glibc
import Synchronization
import Testing
import WeirMemory
import WeirNet
import WeirTelemetry

@Suite struct AccessLogWriterTests {
    private let registry = MetricRegistry(
        workers: [MetricCells(count: 2048)], reasonLabels: ["downstream_closed"], guardRuleLabels: [])
    private let directory = TemporaryDirectory()

    private func writer(
        _ target: AccessLogWriter.Target, _ rings: [SPSCRing<LogEntry>],
        notice: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> AccessLogWriter {
        try AccessLogWriter(target: target, rings: rings, registry: registry, notice: notice)
    }

    /// Fails the test, and ends it, where `condition` stays false: a bound on a hang, not a measure.
    private func wait(until condition: () -> Bool) throws {
        for _ in 0..<10000 {
            if condition() { return }
            usleep(1000)
        }
        try #require(condition(), "waited ten seconds")
    }

    private func sessions(in path: String) throws -> [String] {
        try lines(of: contents(of: path)).map { line in
            let fields = try #require(StrictJSON.object(line), "\(line)")
            guard case .string(let scalars) = fields["session"] else { return "" }
            return String(String.UnicodeScalarView(scalars.compactMap(Unicode.Scalar.init)))
        }
    }

    /// Two producers at full speed, with rings so small that they must wait for the writer again and again.
    @Test func everyRecordOfTwoWorkersIsWrittenOnceAndInItsWorkersOrder() async throws {
        let rings = [SPSCRing<LogEntry>(capacity: 512), SPSCRing<LogEntry>(capacity: 512)]
        let path = directory.file("access.json")
        let writer = try writer(.file(path), rings)
        await withTaskGroup(of: Void.self) { group in
            for (worker, ring) in rings.enumerated() {
                group.addTask {
                    for index in 0..<5000 {
                        while !ring.push(record(UInt64(worker) << 32 | UInt64(index))) { await Task.yield() }
                    }
                }
            }
        }
        writer.stop()
        let sessions = try sessions(in: path)
        #expect(sessions.count == 10000)
        for worker in ["00000000", "00000001"] {
            let own = sessions.filter { $0.hasPrefix(worker) }
            #expect(own == own.sorted())
            #expect(Set(own).count == 5000)
        }
        #expect(writer.writtenLineCount == 10000)
        #expect(writer.lostLineCount == 0)
    }

    @Test func whatWasPushedBeforeTheStopIsWritten() throws {
        let ring = SPSCRing<LogEntry>(capacity: 4)
        let writer = try writer(.file(directory.file("a")), [ring])
        #expect(ring.push(record(1)))
        writer.stop()
        #expect(try sessions(in: directory.file("a")) == ["0000000000000001"])
    }

    @Test func aSecondStopDoesNothing() throws {
        let writer = try writer(.file(directory.file("a")), [])
        writer.stop()
        writer.stop()
        #expect(writer.lostLineCount == 0)
    }

    @Test func aWriterThatIsDroppedEndsItsThread() throws {
        let ring = SPSCRing<LogEntry>(capacity: 4)
        do {
            let writer = try writer(.file(directory.file("a")), [ring])
            #expect(ring.push(record(1)))
            _ = consume writer
        }
        #expect(try sessions(in: directory.file("a")) == ["0000000000000001"])
    }

    /// What USR1 does after a rotation: the old name has moved, the new file is made.
    @Test func aReopenedLogGoesOnInANewFile() throws {
        let ring = SPSCRing<LogEntry>(capacity: 4)
        let writer = try writer(.file(directory.file("a")), [ring])
        #expect(ring.push(record(1)))
        try wait { writer.writtenLineCount == 1 }
        #expect(unsafe rename(directory.file("a"), directory.file("a.1")) == 0)
        try writer.reopen()
        #expect(ring.push(record(2)))
        writer.stop()
        #expect(try sessions(in: directory.file("a.1")) == ["0000000000000001"])
        #expect(try sessions(in: directory.file("a")) == ["0000000000000002"])
    }

    @Test func aLogCanMoveToAnotherTarget() throws {
        let ring = SPSCRing<LogEntry>(capacity: 4)
        let writer = try writer(.none, [ring])
        #expect(ring.push(record(1)))
        try wait { ring.isEmpty }
        try writer.redirect(to: .file(directory.file("b")))
        #expect(ring.push(record(2)))
        writer.stop()
        #expect(try sessions(in: directory.file("b")) == ["0000000000000002"])
        #expect(writer.lostLineCount == 0)
    }

    @Test func aTargetThatCannotBeOpenedIsAnErrorAndChangesNothing() throws {
        let ring = SPSCRing<LogEntry>(capacity: 4)
        let writer = try writer(.file(directory.file("a")), [ring])
        #expect(throws: AccessLogWriter.Failure.self) { try writer.redirect(to: .file("/nonexistent/log")) }
        #expect(ring.push(record(1)))
        writer.stop()
        #expect(try sessions(in: directory.file("a")).count == 1)
    }

    @Test func aStartWithoutItsFileSaysWhich() throws {
        let failure = #expect(throws: AccessLogWriter.Failure.self) { try self.writer(.file("/nonexistent/log"), []) }
        #expect(failure?.what == "open /nonexistent/log")
        #expect(failure?.code == ENOENT)
    }

    /// A full disk: /dev/full answers every write with ENOSPC.
    @Test func aFullDiskLosesLinesThatAreCountedAndToldOfOnce() throws {
        let notices = Mutex<[String]>([])
        let ring = SPSCRing<LogEntry>(capacity: 64)
        let writer = try writer(.file("/dev/full"), [ring]) { text in notices.withLock { $0.append(text) } }
        for index in 0..<10 { #expect(ring.push(record(UInt64(index)))) }
        try wait { writer.lostLineCount == 10 }
        #expect(ring.push(record(11)))
        writer.stop()
        #expect(writer.lostLineCount == 11)
        #expect(writer.writtenLineCount == 0)
        #expect(notices.withLock { $0 } == ["access log: lines are being lost: ENOSPC"])
    }

    /// EPIPE, which would kill the process if the log's thread let SIGPIPE through.
    @Test func aReaderThatWentAwayLosesLinesAndNotTheProcess() throws {
        let path = directory.file("fifo")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        let ring = SPSCRing<LogEntry>(capacity: 64)
        let writer = try writer(.file(path), [ring])
        #expect(ring.push(record(1)))
        try wait { writer.writtenLineCount == 1 }
        close(reader)
        #expect(ring.push(record(2)))
        writer.stop()
        #expect(writer.writtenLineCount == 1)
        #expect(writer.lostLineCount == 1)
    }

    @Test func aFIFOThatNobodyReadsIsAnErrorAndNotAHang() {
        let path = directory.file("fifo")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let failure = #expect(throws: AccessLogWriter.Failure.self) { try self.writer(.file(path), []) }
        #expect(failure?.code == ENXIO)
    }

    /// The reader holds the pipe open and never reads: 64 KiB fit, the rest waits, and a stop gives it up.
    @Test func aReaderThatStallsCannotHoldUpTheStop() throws {
        let path = directory.file("fifo")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        defer { close(reader) }
        let ring = SPSCRing<LogEntry>(capacity: 1024)
        let writer = try writer(.file(path), [ring])
        for index in 0..<1000 { #expect(ring.push(record(UInt64(index)))) }
        writer.stop()
        #expect(writer.lostLineCount > 0)
        #expect(writer.writtenLineCount + writer.lostLineCount == 1000)
        #expect(lines(of: everything(from: reader)).count >= Int(writer.writtenLineCount))
    }

    @Test func aReopenFreesTheLogFromAReaderThatStalls() throws {
        let path = directory.file("fifo")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        defer { close(reader) }
        let ring = SPSCRing<LogEntry>(capacity: 1024)
        let writer = try writer(.file(path), [ring])
        for index in 0..<1000 { #expect(ring.push(record(UInt64(index)))) }
        // Lines gather before the first write, so that something written means the pipe is about to be full.
        try wait { ring.isEmpty || writer.writtenLineCount > 0 }
        try writer.redirect(to: .file(directory.file("a")))
        try wait { writer.writtenLineCount + writer.lostLineCount == 1000 }
        #expect(ring.push(record(1001)))
        writer.stop()
        #expect(try sessions(in: directory.file("a")).last == "00000000000003e9")
    }
}

/// A session of 127.0.0.1 with this id.
private func record(_ id: UInt64) -> LogEntry {
    LogEntry(
        SessionRecord(
            id: id, client: SocketAddress(.v4Loopback, port: 40000), peer: SocketAddress(.v4Loopback, port: 40000),
            local: SocketAddress(.v4Loopback, port: 8443)))
}

@Suite struct LogOutputTests {
    /// A pipe takes 64 KiB and tears the line that does not fit: it is lost, and the next one is whole.
    @Test func aTornLineIsLostAndTheNextBeginsOnItsOwn() throws {
        let directory = TemporaryDirectory()
        #expect(unsafe mkfifo(directory.file("fifo"), 0o600) == 0)
        let reader = unsafe open(directory.file("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        defer { close(reader) }
        let descriptor = unsafe open(directory.file("fifo"), O_WRONLY | O_NONBLOCK | O_CLOEXEC)
        var output = LogOutput(descriptor: descriptor, isOwned: true)
        let line = [UInt8](repeating: UInt8(ascii: "a"), count: 999) + [UInt8(ascii: "\n")]
        let lines = Array(repeatElement(line, count: 100).joined())
        let (written, lost) = output.write(lines, lineCount: 100, while: { false })
        let failure = output.failure
        #expect(written + lost == 100)
        #expect(failure == EAGAIN)
        let before = everything(from: reader)
        #expect(before.count / 1000 == Int(written))
        #expect(before.last != UInt8(ascii: "\n"))
        let after = output.write(Array("b\n".utf8), lineCount: 1, while: { false })
        #expect(after == (1, 0))
        #expect(everything(from: reader) == Array("\nb\n".utf8))
    }
}
