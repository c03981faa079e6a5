import Testing
import Weir
import WeirCommand

/// T-18
@Suite struct PrivilegesTests {
    private let nobody = Privileges(user: 65534, group: 65534, groups: [65534])
    private let status = """
        Name:\tweir
        Uid:\t65534\t65534\t65534\t65534
        Gid:\t65534\t65534\t65534\t65534
        Groups:\t65534\u{20}
        NoNewPrivs:\t1
        CapInh:\t0000000000000000
        CapPrm:\t0000000000000000
        CapEff:\t0000000000000000
        CapBnd:\t000001ffffffffff
        CapAmb:\t0000000000000000
        """

    @Test func whatTheKernelConfirmsIsAccepted() {
        #expect(nobody.difference(fromStatus: status) == nil)
    }

    @Test(arguments: [
        ("Uid:\t65534\t65534\t65534", "Uid:\t65534\t65534\t0", "Uid"),
        ("Gid:\t65534", "Gid:\t0", "Gid"),
        ("Groups:\t65534", "Groups:\t0 65534", "Groups"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs"),
        ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000400", "CapPrm"),
        ("CapAmb:\t0000000000000000", "CapAmb:\t0000000000000400", "CapAmb"),
    ])
    func aRemnantOfTheOldRightsIsFound(good: String, bad: String, name: String) {
        #expect(status.contains(good))
        #expect(nobody.difference(fromStatus: status.replacing(good, with: bad)) == name)
    }

    @Test func theRightToBindLowPortsIsExpectedWhereItIsKept() {
        let keeper = Privileges(user: 65534, group: 65534, groups: [65534], keepsLowPorts: true)
        #expect(keeper.difference(fromStatus: status) == "CapInh")
        var kept = status
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            kept = kept.replacing("\(name):\t0000000000000000", with: "\(name):\t0000000000000400")
        }
        #expect(keeper.difference(fromStatus: kept) == nil)
        #expect(nobody.difference(fromStatus: kept) == "CapInh")
    }

    @Test func aMissingFieldIsNotTakenForGood() {
        #expect(nobody.difference(fromStatus: "") == "Uid")
    }

    @Test func numbersNeedNoAccount() throws {
        let privileges = try Privileges("4242:4343")
        #expect(privileges == Privileges(user: 4242, group: 4343, groups: []))
    }

    @Test func aNameBringsItsGroups() throws {
        let root = try Privileges("root")
        #expect(root.user == 0)
        #expect(root.groups.contains(0))
        #expect(try Privileges("root:4343").group == 4343)
    }

    @Test func anUnknownUserIsAFailureAtRunTime() {
        #expect(throws: CommandFailure(.runTime, ["weir: there is no user \"no-such-user\""])) {
            try Privileges("no-such-user")
        }
    }
}
