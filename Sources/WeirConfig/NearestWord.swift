/// The known word that `word` is most likely a slip of; nil where none is near.
func nearestWord(to word: String, among known: some Sequence<String>) -> String? {
    let written = Array(word.lowercased().utf8.prefix(64))
    var best: (word: String, distance: Int)?
    for candidate in known {
        let distance = editDistance(written, Array(candidate.utf8))
        // A third of the letters wrong is another word.
        guard distance <= max(1, max(written.count, candidate.utf8.count) / 3) else { continue }
        if best == nil || distance < best!.distance || (distance == best!.distance && candidate < best!.word) {
            best = (candidate, distance)
        }
    }
    return best?.word
}

/// `; did you mean "x"?`, or the known words where none is near.
func suggestion(for word: String, among known: [String]) -> String {
    if let nearest = nearestWord(to: word, among: known) { return "; did you mean \(quoted(nearest))?" }
    return known.isEmpty ? "" : "; known: \(known.joined(separator: ", "))"
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var beforePrevious: [Int] = []
    var previous = Array(0...b.count)
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            var cost = min(previous[j + 1] + 1, row[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforePrevious[j - 1] + 1) }
            row.append(cost)
        }
        beforePrevious = previous
        previous = row
    }
    return previous[b.count]
}
