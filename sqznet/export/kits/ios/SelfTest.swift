import CoreGraphics
import Foundation
import ImageIO

#if canImport(UIKit)
    import UIKit
#endif

/// Verifies on the device what was verified at the export. Call it from a unit test; see README.md.
struct SelfTest {
    struct Result {
        let model: String
        let largestDifference: Double
        let tolerance: Double
        let sameTop1: Int
        var passed: Bool { return largestDifference <= tolerance }  // false for NaN
    }

    private struct Golden: Decodable {
        struct Inputs: Decodable {
            let file: String
            let shape: [Int]
        }
        struct Expected: Decodable {
            let file: String
            let dtype: String
            let tolerance: Double
            let top1: [Int]
        }
        let count: Int
        let inputs: Inputs
        let expected: [String: Expected]
        let photo: String
        let photoTurned: String?

        private enum CodingKeys: String, CodingKey {
            case count, inputs, expected, photo
            case photoTurned = "photo_turned"
        }
    }

    private let folder: URL
    private let golden: Golden
    private let inputs: Data

    /// - Parameter folder: the folder golden/ of the bundle.
    init(folder: URL) throws {
        self.folder = folder
        let json = try Data(contentsOf: folder.appendingPathComponent("golden.json"))
        golden = try JSONDecoder().decode(Golden.self, from: json)
        inputs = try Data(contentsOf: folder.appendingPathComponent(golden.inputs.file))
    }

    /// Runs the golden inputs. The largest difference of a probability must not exceed the tolerance of the file.
    func model(_ classifier: Classifier) throws -> Result {
        guard let expected = golden.expected[classifier.model.name] else {
            throw ClassifierError("golden.json has no outputs of \(classifier.model.name)")
        }
        let data = try Data(contentsOf: folder.appendingPathComponent(expected.file))
        let wanted = probabilitiesOf(data, type: expected.dtype, model: classifier.model)
        var largest = 0.0
        var same = 0
        for image in 0..<golden.count {
            let got = try classifier.probabilities(of: pixels(of: image))
            for (index, probability) in got.enumerated() {
                let difference = abs(Double(probability) - Double(wanted[image * got.count + index]))
                largest = difference.isNaN ? .nan : max(largest, difference)
            }
            if ranked(got).first == expected.top1[image] { same += 1 }
        }
        return Result(
            model: classifier.model.name, largestDifference: largest, tolerance: expected.tolerance, sameTop1: same)
    }

    /// Mean difference, in steps of 1/255, between golden/photo.jpg preprocessed by this app and by training.
    func photo() throws -> Double {
        let url = folder.appendingPathComponent(golden.photo)
        guard
            let source = CGImageSourceCreateWithURL(url as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw ClassifierError("\(golden.photo) cannot be decoded") }
        return try difference(image)
    }

    #if canImport(UIKit)
        /// The same for a copy that is stored turned, with an EXIF orientation: it tests `UIImage.upright`. Returns nil
        /// if the bundle is of an earlier version and has none.
        func turnedPhoto() throws -> Double? {
            guard let name = golden.photoTurned else { return nil }
            guard let image = UIImage(contentsOfFile: folder.appendingPathComponent(name).path)?.upright else {
                throw ClassifierError("\(name) cannot be decoded")
            }
            return try difference(image)
        }
    #endif

    private func difference(_ image: CGImage) throws -> Double {
        let got = try networkPixels(image)
        let differences = zip(got, pixels(of: 0)).map { abs(Int($0) - Int($1)) }
        return Double(differences.reduce(0, +)) / Double(differences.count)
    }

    private func pixels(of image: Int) -> [UInt8] {
        let size = golden.inputs.shape.dropFirst().reduce(1, *)
        return [UInt8](inputs[(image * size)..<((image + 1) * size)])
    }
}
