private let strongest: Float = 0.7  // opacity of the colour at the largest score
private let greenAtZero: Float = 210

/// Where the classes are seen in the input of the network. The softmax of the average over rows and columns gives the
/// probabilities. The steps and their order are those of android/ClassMap.kt.
struct ClassMap {
    let probabilities: [Float]
    /// The scores: rows, columns, classes.
    let values: [Float]
    /// Number of rows and of columns.
    let side: Int
    /// Pixels of the input between the centres of two neighbouring cells.
    let stride: Double
    /// Pixels of the input from its edge to the centre of the first cell.
    let offset: Double

    func score(row: Int, column: Int, output: Int) -> Float {
        return values[(row * side + column) * classes + output]
    }

    /// A picture to draw over the input of the network, for one class: a place with the largest score of the class is
    /// red, a lower score is more yellow and more transparent, and a place with a score of 0 or below is transparent.
    ///
    /// - Parameters:
    ///   - output: the index of the class in labels.txt.
    ///   - size: side of the picture, which is that of the input by default.
    /// - Returns: size * size * 4 bytes: rows of red, green, blue, alpha, not premultiplied.
    func overlay(output: Int, size: Int = ModelContract.imageSize) -> [UInt8] {
        let scores = (0..<side * side).map { values[$0 * classes + output] }
        let largest = scores.max() ?? 0
        let shares = scores.map { largest > 0 ? max(0, $0 / largest) : 0 }
        let scale = Double(ModelContract.imageSize) / Double(size)
        let cells = (0..<size).map { cell(((Double($0) + 0.5) * scale - offset) / stride) }
        var picture = [UInt8]()
        picture.reserveCapacity(size * size * 4)
        for (above, down) in cells {
            for (left, across) in cells {
                let top = mix(shares[above * side + left], shares[above * side + next(left)], across)
                let bottom = mix(shares[next(above) * side + left], shares[next(above) * side + next(left)], across)
                let strength = mix(top, bottom, down)
                let green = UInt8((greenAtZero * (1 - strength)).rounded())
                picture += [255, green, 0, UInt8((255 * strongest * strength).rounded())]
            }
        }
        return picture
    }

    private var classes: Int { return values.count / (side * side) }

    /// The cell before a place, and the weight of the next one. Beyond the outermost cells the nearest counts alone.
    private func cell(_ place: Double) -> (Int, Float) {
        let inside = min(max(place, 0), Double(side - 1))
        return (Int(inside), Float(inside - inside.rounded(.down)))
    }

    private func next(_ cell: Int) -> Int { return min(cell + 1, side - 1) }

    private func mix(_ one: Float, _ other: Float, _ share: Float) -> Float { return (1 - share) * one + share * other }
}
