/// Crops and resizes a photograph to the square input of the network, as in training: takes a centred box of whole
/// pixels, scales once (weights that add up to 1; in Float, rows before columns) and rounds half to even.
///
/// It computes the same as tf.image.resize. vImage, Core Graphics and Vision compute something else.
/// The steps and their order are those of android/Resize.kt.
struct Resize {
    private let imageSize: Int
    private let resizeTo: Int
    private let squash: Bool
    private let antialias: Bool
    private let kernel: Kernel

    /// - Parameters:
    ///   - imageSize: side of the result in pixels.
    ///   - resizeTo: side of the whole scaled photograph, from whose centre imageSize pixels are taken.
    ///   - resize: "short" scales the short side to resizeTo, "squash" both sides.
    ///   - interpolation: "bilinear", "bilinear_corner" or "bicubic".
    ///   - antialias: whether the kernel is widened when the photograph shrinks; otherwise most pixels are skipped.
    init(imageSize: Int, resizeTo: Int, resize: String, interpolation: String, antialias: Bool) throws {
        self.imageSize = imageSize
        self.resizeTo = resizeTo
        self.antialias = antialias
        squash = try known("resize", resize, ["short": false, "squash": true])
        kernel = try known("interpolation", interpolation, Kernel.all)
    }

    private struct Kernel {
        let radius: Float
        /// The centre of pixel i of the result is at (i + offset) * scale - offset.
        let offset: Float
        let weight: (Float) -> Float

        static let all = [
            "bilinear": Kernel(radius: 1, offset: 0.5, weight: triangle),
            "bilinear_corner": Kernel(radius: 1, offset: 0, weight: triangle),
            "bicubic": Kernel(radius: 2, offset: 0.5, weight: cubic),
        ]

        private static func triangle(_ x: Float) -> Float {
            return max(1 - x, 0)
        }

        /// Keys 1981, a = -0.5.
        private static func cubic(_ x: Float) -> Float {
            if x >= 2 { return 0 }
            if x >= 1 { return ((-0.5 * x + 2.5) * x - 4) * x + 2 }
            return (1.5 * x - 2.5) * x * x + 1
        }
    }

    /// The source pixels, along one side, of a pixel of the result, and their weights.
    private struct Span {
        let start: Int
        let weights: [Float]
    }

    /// - Parameter rgba: rows of red, green, blue and a fourth byte that is ignored: 4 * width * height bytes.
    /// - Returns: imageSize * imageSize * 3 bytes, rows of red, green, blue.
    func centre(width: Int, height: Int, rgba: [UInt8]) -> [UInt8] {
        precondition(width > 0 && height > 0 && rgba.count == 4 * width * height, "expected a photograph")
        let boxWidth = part(squash ? width : min(width, height))
        let boxHeight = part(squash ? height : min(width, height))
        let corner = ((height - boxHeight) / 2 * width + (width - boxWidth) / 2) * 4
        let lines = self.lines(rgba, from: corner, width: width, boxWidth: boxWidth, boxHeight: boxHeight)
        return columns(lines, boxWidth: boxWidth)
    }

    /// The pixels of a side that are scaled to imageSize pixels.
    private func part(_ side: Int) -> Int {
        let share = Float(Double(imageSize) / Double(resizeTo))
        return min(max(Int((Float(side) * share).rounded(.toNearestOrEven)), 1), side)
    }

    /// Scales the height; returns imageSize * boxWidth * 3.
    private func lines(_ rgba: [UInt8], from corner: Int, width: Int, boxWidth: Int, boxHeight: Int) -> [Float] {
        let spans = self.spans(boxHeight)
        var result = [Float](repeating: 0, count: imageSize * boxWidth * 3)
        rgba.withUnsafeBufferPointer { pixels in
            result.withUnsafeMutableBufferPointer { sums in
                for (line, span) in spans.enumerated() {
                    for (offset, weight) in span.weights.enumerated() {
                        var from = corner + (span.start + offset) * width * 4
                        var at = line * boxWidth * 3
                        for _ in 0..<boxWidth {
                            sums[at] += weight * Float(pixels[from])
                            sums[at + 1] += weight * Float(pixels[from + 1])
                            sums[at + 2] += weight * Float(pixels[from + 2])
                            from += 4
                            at += 3
                        }
                    }
                }
            }
        }
        return result
    }

    /// Scales the width and rounds; returns imageSize * imageSize * 3.
    private func columns(_ lines: [Float], boxWidth: Int) -> [UInt8] {
        let spans = self.spans(boxWidth)
        var result = [UInt8]()
        result.reserveCapacity(imageSize * imageSize * 3)
        lines.withUnsafeBufferPointer { values in
            for line in 0..<imageSize {
                for span in spans {
                    for colour in 0..<3 {
                        var from = (line * boxWidth + span.start) * 3 + colour
                        var sum: Float = 0
                        for weight in span.weights {
                            sum += weight * values[from]
                            from += 3
                        }
                        result.append(UInt8(min(max(sum.rounded(.toNearestOrEven), 0), 255)))
                    }
                }
            }
        }
        return result
    }

    private func spans(_ side: Int) -> [Span] {
        let scale = Float(imageSize) / Float(side)
        let step = Float(1.0 / Double(scale))
        let widening = antialias ? max(step, 1) : 1
        let reach = kernel.radius * widening
        let shrink = 1 / widening
        return (0..<imageSize).map { index in
            let centre = (Float(index) + kernel.offset) * step + (0.5 - kernel.offset)
            let start = min(max(Int((centre - reach - 0.5).rounded(.up)), 0), side - 1)
            let last = min(max(Int((centre + reach - 0.5).rounded(.down)), 0), side - 1)
            let weights = (start...last).map { kernel.weight(abs((Float($0) + 0.5 - centre) * shrink)) }
            let total = 1 / weights.reduce(Float(0), +)
            return Span(start: start, weights: weights.map { $0 * total })
        }
    }
}

/// The value of this code for a value of the bundle's contract.
@discardableResult
func known<Value>(_ name: String, _ value: String, _ values: [String: Value]) throws -> Value {
    guard let found = values[value] else {
        throw ClassifierError(
            "\(name) is \(value), this code supports \(values.keys.sorted()): it is older than the bundle")
    }
    return found
}

/// An error in the files or in the input of the classifier.
struct ClassifierError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}
