import WeirRouting

/// Which place belongs to which cluster, which endpoint and which route that has limits, from one configuration to the next.
struct EndpointPlaces {
    private struct Kind {
        var places: [MetricSubject: Int32] = [:]
        /// Of each place that was ever given out.
        var owners: [MetricSubject] = []
        var named: Set<MetricSubject> = []
        /// Left by a configuration, perhaps with live sessions.
        var left: [Int32] = []
        let countMax: Int

        mutating func place(of subject: MetricSubject, _ isFree: (Int32) -> Bool) -> (place: Int32, isNew: Bool) {
            named.insert(subject)
            if let known = places[subject] { return (known, false) }
            let place: Int32
            if let index = left.firstIndex(where: isFree) {
                place = left.remove(at: index)
                owners[Int(place)] = subject
            } else if owners.count < countMax {
                place = Int32(owners.count)
                owners.append(subject)
            } else {
                return (-1, false)
            }
            places[subject] = place
            return (place, true)
        }

        /// Those that are named no more.
        mutating func finish() -> [(subject: MetricSubject, place: Int32)] {
            let gone = places.filter { !named.contains($0.key) }
            for (subject, place) in gone {
                places[subject] = nil
                left.append(place)
            }
            return gone.map { (subject: $0.key, place: $0.value) }
        }
    }

    private var endpoints: Kind
    private var clusters: Kind
    private var routes: Kind
    private var gone: [(endpoint: Int32, cluster: Int32)] = []

    init(endpointCountMax: Int, clusterCountMax: Int, routeCountMax: Int) {
        routes = Kind(countMax: routeCountMax)
        endpoints = Kind(countMax: endpointCountMax)
        clusters = Kind(countMax: clusterCountMax)
    }

    /// A new configuration is about to name its parts.
    mutating func begin() {
        endpoints.named = []
        clusters.named = []
        routes.named = []
    }

    /// The place of a cluster, an endpoint or a route; -1 where all are taken. `isFree`: nothing is counted at that place any more.
    mutating func place(of subject: MetricSubject, isFree: (Int32) -> Bool) -> (place: Int32, isNew: Bool) {
        switch subject {
        case .endpoint: endpoints.place(of: subject, isFree)
        case .cluster: clusters.place(of: subject, isFree)
        case .route: routes.place(of: subject, isFree)
        case .listener, .policy: (-1, false)
        }
    }

    func known(_ subject: MetricSubject) -> Int32 {
        switch subject {
        case .endpoint: endpoints.places[subject] ?? -1
        case .cluster: clusters.places[subject] ?? -1
        case .route: routes.places[subject] ?? -1
        case .listener, .policy: -1
        }
    }

    /// The configuration has named all of its parts.
    mutating func finish() {
        gone += endpoints.finish().map { subject, place -> (endpoint: Int32, cluster: Int32) in
            guard case .endpoint(let cluster, _) = subject else { return (place, -1) }
            return (place, clusters.places[.cluster(cluster)] ?? -1)
        }
        _ = clusters.finish()
        _ = routes.finish()
    }

    /// The endpoints that are gone, with the place of their cluster, each told once.
    mutating func takeGone() -> [(endpoint: Int32, cluster: Int32)] {
        defer { gone = [] }
        return gone
    }
}
