import CoreGraphics
import CryptoKit
import Foundation
import TensorFlowLite

#if canImport(UIKit)
    import UIKit
#endif

/// A class. If the first answer of a photograph is not sure, show "not sure", and its label as a guess at most.
struct Answer {
    let label: String
    let probability: Float

    /// Without --min_precision at the export, the threshold is 0 and every answer is sure.
    var isSure: Bool { return Double(probability) >= ModelContract.threshold }
}

/// Runs any .tflite file of the bundle, with float32 or uint8 input and output. One thread at a time, not the main one.
final class Classifier {
    let model: ModelFile
    private let interpreter: Interpreter

    /// - Parameters:
    ///   - folder: the folder of the model file, for example `Bundle.main.resourceURL!`.
    ///   - model: for example `ModelContract.file("model.tflite")!`.
    ///   - delegates: none for the CPU (XNNPACK); `[MetalDelegate()]` for the GPU, or a `CoreMLDelegate` for the Neural
    ///     Engine (float32 files).
    init(folder: URL, model: ModelFile, threads: Int = 2, delegates: [Delegate] = []) throws {
        guard model.format == "tflite", model.inputLayout == "NHWC" else {
            throw ClassifierError("\(model.name) is for another runtime")
        }
        let (input, output) = (Classifier.oneImage(model.inputShape), Classifier.oneImage(model.outputShape))
        guard input == [1, ModelContract.imageSize, ModelContract.imageSize, 3] else {
            throw ClassifierError(
                "\(model.name) takes \(model.inputShape); for one image at a time, export with --tflite_batch=1")
        }
        let path = folder.appendingPathComponent(model.name)
        let sha256 = SHA256.hash(data: try Data(contentsOf: path)).map { String(format: "%02x", $0) }.joined()
        guard sha256 == model.sha256 else {
            throw ClassifierError(
                "\(model.name) has the sha256 \(sha256), expected \(model.sha256): not from the same bundle")
        }
        var options = Interpreter.Options()
        options.threadCount = threads
        options.isXNNPackEnabled = delegates.isEmpty  // off by default on iOS
        self.model = model
        interpreter = try Interpreter(
            modelPath: path.path, options: options, delegates: delegates.isEmpty ? nil : delegates)
        try interpreter.allocateTensors()
        try Classifier.check(try interpreter.input(at: 0), shape: input, type: model.inputType)
        try Classifier.check(try interpreter.output(at: 0), shape: output, type: model.outputType)
        if let map = model.classMapShape {
            try Classifier.check(try interpreter.output(at: 1), shape: Classifier.oneImage(map), type: "float32")
        }
    }

    /// Classifies a photograph; the most probable class comes first.
    ///
    /// - Parameters:
    ///   - photo: upright; see `UIImage.upright` below. It is converted to sRGB and composited on white.
    ///   - labels: from `labels(in:)`.
    func classify(_ photo: CGImage, labels: [String], count: Int = 5) throws -> [Answer] {
        let probabilities = try probabilities(of: try networkPixels(photo))
        return ranked(probabilities).prefix(count).map { Answer(label: labels[$0], probability: probabilities[$0]) }
    }

    /// - Parameter pixels: imageSize * imageSize * 3 bytes, rows of red, green, blue.
    /// - Returns: the probability of each class, in the order of labels.txt.
    func probabilities(of pixels: [UInt8]) throws -> [Float] {
        let expected = ModelContract.imageSize * ModelContract.imageSize * 3
        guard pixels.count == expected else {
            throw ClassifierError("expected \(expected) bytes of pixels, got \(pixels.count)")
        }
        if model.inputType == "uint8" {
            try interpreter.copy(Data(pixels), toInputAt: 0)
        } else {
            let values = pixels.map { Float($0) }
            try interpreter.copy(values.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
        }
        try interpreter.invoke()
        return probabilitiesOf(try interpreter.output(at: 0).data, type: model.outputType, model: model)
    }

    /// Classifies and tells where each class is seen. The file must have a class map: export it with
    /// --outputs=probabilities,class_map.
    ///
    /// - Parameter pixels: as for `probabilities`.
    func classMap(of pixels: [UInt8]) throws -> ClassMap {
        guard let side = model.classMapSide, let stride = model.classMapStride, let offset = model.classMapOffset else {
            throw ClassifierError("\(model.name) has no class map; export it with --outputs=probabilities,class_map")
        }
        let probabilities = try probabilities(of: pixels)
        let values = floats(try interpreter.output(at: 1).data)
        return ClassMap(probabilities: probabilities, values: values, side: side, stride: stride, offset: offset)
    }

    /// The shape for one image: a free batch size (-1) becomes 1.
    private static func oneImage(_ shape: [Int]) -> [Int] {
        return shape[0] == -1 ? [1] + shape.dropFirst() : shape
    }

    private static func check(_ tensor: Tensor, shape: [Int], type: String) throws {
        let expected: Tensor.DataType = type == "uint8" ? .uInt8 : .float32
        guard tensor.shape.dimensions == shape, tensor.dataType == expected else {
            throw ClassifierError(
                "\(tensor.name) is \(tensor.dataType) \(tensor.shape.dimensions), the contract says \(type) \(shape)")
        }
    }
}

/// Converts the output of a model (float32, or uint8 with a scale) to probabilities.
func probabilitiesOf(_ data: Data, type: String, model: ModelFile) -> [Float] {
    let values = type == "uint8" ? data.map { Float($0) } : floats(data)
    return values.map { ($0 - Float(model.outputZeroPoint)) * Float(model.outputScale) }
}

private func floats(_ data: Data) -> [Float] {
    var values = [Float](repeating: 0, count: data.count / MemoryLayout<Float>.size)
    _ = values.withUnsafeMutableBytes { data.copyBytes(to: $0) }
    return values
}

/// Classes by probability, the highest first; equal ones in the order of labels.txt.
func ranked(_ probabilities: [Float]) -> [Int] {
    return probabilities.indices.sorted {
        probabilities[$0] == probabilities[$1] ? $0 < $1 : probabilities[$0] > probabilities[$1]
    }
}

func labels(in folder: URL) throws -> [String] {
    let labels = lines(of: try Data(contentsOf: folder.appendingPathComponent(ModelContract.labels)))
    guard labels.count == ModelContract.classes else {
        throw ClassifierError(
            "\(ModelContract.labels) has \(labels.count) lines, the model \(ModelContract.classes) classes: "
                + "not from the same bundle")
    }
    return labels
}

/// Splits bytes, because "\r\n" is one character in Swift and "\n" does not split it.
func lines(of text: Data) -> [String] {
    let (lineFeed, carriageReturn) = (UInt8(ascii: "\n"), UInt8(ascii: "\r"))
    var lines = text.split(separator: lineFeed, omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines.map { String(decoding: $0.last == carriageReturn ? $0.dropLast() : $0, as: UTF8.self) }
}

/// The input pixels of the network for a photograph.
func networkPixels(_ photo: CGImage) throws -> [UInt8] {
    return try contractResize().centre(width: photo.width, height: photo.height, rgba: try rgba(photo))
}

func contractResize() throws -> Resize {
    try known("colour order", ModelContract.colourOrder, ["RGB": true])
    try known("colour space", ModelContract.colourSpace, ["sRGB": true])
    try known("orientation", ModelContract.orientation, ["applied": true])
    try known("transparency", ModelContract.transparency, ["white": true])
    return try Resize(
        imageSize: ModelContract.imageSize,
        resizeTo: ModelContract.resizeTo,
        resize: ModelContract.resize,
        interpolation: ModelContract.interpolation,
        antialias: ModelContract.antialias)
}

/// The pixels of an image without scaling, on white: red, green, blue and an unused byte each, in sRGB.
func rgba(_ image: CGImage) throws -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: image.width * image.height * 4)
    let drawn: Bool = pixels.withUnsafeMutableBytes { buffer in
        guard
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: buffer.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: image.width * 4, space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        else { return false }
        let whole = CGRect(x: 0, y: 0, width: image.width, height: image.height)
        context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
        context.fill(whole)
        context.setRenderingIntent(.relativeColorimetric)
        context.draw(image, in: whole)
        return true
    }
    guard drawn else { throw ClassifierError("the image cannot be drawn into 8-bit RGB") }
    return pixels
}

#if canImport(UIKit)
    extension UIImage {
        /// The photograph upright and on white: `cgImage` has the pixels in the orientation of the sensor.
        var upright: CGImage? {
            guard imageOrientation != .up else { return cgImage }
            let pixels = CGSize(width: size.width * scale, height: size.height * scale)
            let format = UIGraphicsImageRendererFormat()
            format.scale = 1
            format.opaque = true
            format.preferredRange = .standard  // sRGB
            let whole = CGRect(origin: .zero, size: pixels)
            let renderer = UIGraphicsImageRenderer(size: pixels, format: format)
            return renderer.image { context in
                UIColor.white.setFill()
                context.fill(whole)
                draw(in: whole)
            }.cgImage
        }
    }
#endif
