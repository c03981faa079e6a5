extension Explanation {
    /// Adds what a running instance says of endpoints: `standing` has the cluster's name and the endpoint's.
    package mutating func addHealth(_ standing: (String, String) -> String?) {
        guard var target else { return }
        for cluster in target.clusters.indices {
            let name = target.clusters[cluster].name
            var unknown: [String] = []
            for index in target.clusters[cluster].endpoints.indices {
                let endpoint = target.clusters[cluster].endpoints[index].name
                target.clusters[cluster].endpoints[index].health = standing(name, endpoint)
                if target.clusters[cluster].endpoints[index].health == nil { unknown.append(endpoint.printable) }
            }
            if !unknown.isEmpty {
                notes.append("The running instance has no \(unknown.listed()) in cluster \(name.quoted).")
            }
        }
        self.target = target
    }
}
