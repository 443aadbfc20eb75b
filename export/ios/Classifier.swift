import CoreGraphics
import CryptoKit
import Foundation
import TensorFlowLite

#if canImport(UIKit)
    import UIKit
#endif

struct Answer {
    let label: String
    let probability: Float
}

/// What is wrong with the files or with what the classifier was given, in words.
struct ClassifierError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Any .tflite file of the bundle, with float32 or uint8 ports. One thread at a time, and not the main thread.
final class Classifier {
    let model: ModelFile
    private let interpreter: Interpreter

    /// - Parameters:
    ///   - folder: where the model file lies, for example `Bundle.main.resourceURL!`.
    ///   - model: for example `ModelContract.file("model.tflite")!`.
    ///   - delegates: none for the processor; `[MetalDelegate()]` for the graphics processor (float32 ports).
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
                "\(model.name) has the sha256 \(sha256), expected \(model.sha256): not of one bundle")
        }
        var options = Interpreter.Options()
        options.threadCount = threads
        self.model = model
        interpreter = try Interpreter(
            modelPath: path.path, options: options, delegates: delegates.isEmpty ? nil : delegates)
        try interpreter.allocateTensors()
        try Classifier.check(try interpreter.input(at: 0), shape: input, type: model.inputType)
        try Classifier.check(try interpreter.output(at: 0), shape: output, type: model.outputType)
    }

    /// What is seen in a photograph, the most probable first.
    ///
    /// - Parameters:
    ///   - photo: upright; see `UIImage.upright` below.
    ///   - labels: as `labels(in:)` reads them.
    func classify(_ photo: CGImage, labels: [String], count: Int = 5) throws -> [Answer] {
        let probabilities = try probabilities(of: try networkPixels(photo))
        return probabilities.indices
            .sorted { probabilities[$0] > probabilities[$1] }
            .prefix(count)
            .map { Answer(label: labels[$0], probability: probabilities[$0]) }
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

    /// A shape for one image: a file that takes any number (-1) starts with one.
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

/// The numbers that a model puts out (float32, or uint8 with a scale), as probabilities.
func probabilitiesOf(_ data: Data, type: String, model: ModelFile) -> [Float] {
    var values: [Float]
    if type == "uint8" {
        values = data.map { Float($0) }
    } else {
        values = [Float](repeating: 0, count: data.count / MemoryLayout<Float>.size)
        _ = values.withUnsafeMutableBytes { data.copyBytes(to: $0) }
    }
    return values.map { ($0 - Float(model.outputZeroPoint)) * Float(model.outputScale) }
}

func labels(in folder: URL) throws -> [String] {
    let text = try String(contentsOf: folder.appendingPathComponent(ModelContract.labels), encoding: .utf8)
    let labels = text.split(separator: "\n").map(String.init)
    guard labels.count == ModelContract.classes else {
        throw ClassifierError(
            "\(ModelContract.labels) has \(labels.count) lines, the model \(ModelContract.classes) classes: "
                + "not of one bundle")
    }
    return labels
}

/// The pixels that the network sees of a photograph.
func networkPixels(_ photo: CGImage) throws -> [UInt8] {
    guard ModelContract.antialias, ModelContract.colourOrder == "RGB" else {
        throw ClassifierError("this code is older than the bundle")
    }
    let resize = Resize(
        imageSize: ModelContract.imageSize,
        resizeTo: ModelContract.resizeTo,
        squash: ModelContract.resize == "squash",
        bicubic: ModelContract.interpolation == "bicubic")
    return resize.centre(width: photo.width, height: photo.height, rgba: try rgba(photo))
}

/// The pixels of an image at its own size: red, green, blue and an unused byte each, in sRGB.
private func rgba(_ image: CGImage) throws -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: image.width * image.height * 4)
    let drawn: Bool = pixels.withUnsafeMutableBytes { buffer in
        guard
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: buffer.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: image.width * 4, space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        else { return false }
        context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
        return true
    }
    guard drawn else { throw ClassifierError("the image cannot be drawn into 8-bit RGB") }
    return pixels
}

#if canImport(UIKit)
    extension UIImage {
        /// The pixels as a person sees the photograph: `cgImage` alone holds them as the sensor lay.
        var upright: CGImage? {
            guard imageOrientation != .up else { return cgImage }
            let pixels = CGSize(width: size.width * scale, height: size.height * scale)
            let format = UIGraphicsImageRendererFormat()
            format.scale = 1
            format.preferredRange = .standard
            let renderer = UIGraphicsImageRenderer(size: pixels, format: format)
            return renderer.image { _ in draw(in: CGRect(origin: .zero, size: pixels)) }.cgImage
        }
    }
#endif
