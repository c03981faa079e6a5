/// A Kubernetes label selector: every label and every expression has to hold. An empty one selects everything.
struct LabelSelector {
    struct Expression {
        enum Operator: String {
            case isIn = "In"
            case isNotIn = "NotIn"
            case exists = "Exists"
            case doesNotExist = "DoesNotExist"
        }

        var key: String
        var holds: Operator
        var values: [String]
    }

    var labels: [String: String] = [:]
    var expressions: [Expression] = []

    var isEmpty: Bool { labels.isEmpty && expressions.isEmpty }

    init(labels: [String: String]) { self.labels = labels }

    /// Reads `matchLabels` and `matchExpressions`.
    init(_ fields: ManifestFields) {
        labels = fields.labels("matchLabels")
        for expression in fields.list("matchExpressions") {
            guard let key = expression.text("key"), let word = expression.text("operator") else {
                expression.error(expression.position, "key", "an expression has `key` and `operator`")
                continue
            }
            guard let holds = Expression.Operator(rawValue: word.value) else {
                expression.error(
                    word.position, "operator",
                    "expected In, NotIn, Exists or DoesNotExist, found \(quoted(word.value))")
                continue
            }
            expressions.append(
                Expression(key: key.value, holds: holds, values: expression.texts("values").map(\.value)))
        }
    }

    func selects(_ candidate: [String: String]) -> Bool {
        labels.allSatisfy { candidate[$0.key] == $0.value } && expressions.allSatisfy { $0.holds(for: candidate) }
    }
}

extension LabelSelector.Expression {
    func holds(for candidate: [String: String]) -> Bool {
        let value = candidate[key]
        return switch holds {
        case .isIn: value.map(values.contains) ?? false
        // As Kubernetes has it: an object without the label is not in.
        case .isNotIn: !(value.map(values.contains) ?? false)
        case .exists: value != nil
        case .doesNotExist: value == nil
        }
    }
}
