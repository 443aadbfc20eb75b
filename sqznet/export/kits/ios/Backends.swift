import Foundation

/// Something that can run a file: its name, and how it loads the file.
struct Backend {
    let name: String
    let open: () throws -> Classifier
}

/// A backend after its test: the median milliseconds of a run, or the reason why it is refused.
struct Trial {
    let backend: String
    let milliseconds: Double?
    let refused: String?
}

/// Loads, tests and times a file on each backend, and keeps the fastest that passes. It takes seconds: call it once,
/// off the main thread, and store the name of the backend. A backend that ends the process leaves a file in `marks`:
/// the next call refuses it.
///
/// - Parameters:
///   - backends: the CPU first.
///   - test: for example the `model` of a `SelfTest`, with the bundle's golden/ in the app.
///   - marks: a folder for the marks, for example the caches of the app; delete them after an update.
/// - Returns: the classifier, or nil if every backend is refused.
func fastest(
    _ backends: [Backend], test: (Classifier) throws -> SelfTest.Result, marks: URL
) -> (classifier: Classifier?, trials: [Trial]) {
    var best: (classifier: Classifier, milliseconds: Double)?
    var trials = [Trial]()
    for backend in backends {
        do {
            let found = try admit(backend, test: test, mark: marks.appendingPathComponent("sqznet-\(backend.name)"))
            trials.append(Trial(backend: backend.name, milliseconds: found.milliseconds, refused: nil))
            if found.milliseconds < best?.milliseconds ?? .infinity { best = found }
        } catch {
            trials.append(Trial(backend: backend.name, milliseconds: nil, refused: "\(error)"))
        }
    }
    return (best?.classifier, trials)
}

private func admit(
    _ backend: Backend, test: (Classifier) throws -> SelfTest.Result, mark: URL
) throws -> (classifier: Classifier, milliseconds: Double) {
    let files = FileManager.default
    guard !files.fileExists(atPath: mark.path) else { throw ClassifierError("it ended the app before") }
    guard files.createFile(atPath: mark.path, contents: nil) else {
        throw ClassifierError("\(mark.path) cannot be written")
    }
    defer { try? files.removeItem(at: mark) }
    let classifier = try backend.open()
    let result = try test(classifier)
    guard result.passed else {
        throw ClassifierError("its answers differ from the recorded ones by up to \(result.largestDifference)")
    }
    return (classifier, try median(of: classifier))
}

private func median(of classifier: Classifier, runs: Int = 20) throws -> Double {
    let grey = [UInt8](repeating: 127, count: ModelContract.imageSize * ModelContract.imageSize * 3)
    _ = try classifier.probabilities(of: grey)  // warms up
    var times = [Double]()
    for _ in 0..<runs {
        let began = ProcessInfo.processInfo.systemUptime
        _ = try classifier.probabilities(of: grey)
        times.append((ProcessInfo.processInfo.systemUptime - began) * 1000)
    }
    return times.sorted()[runs / 2]
}
