// Runs the kit on files of RGBA pixels: each line of the jobs is one, its fields separated by tabs.
import CoreGraphics
import Foundation

func bytes(_ path: String) throws -> [UInt8] {
    return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
}

func write(_ data: Data, _ path: String) throws {
    try data.write(to: URL(fileURLWithPath: path))
}

func run(_ job: [String]) throws {
    switch job[0] {
    case "photo":  // from, to, width, height
        let image = CGImage(width: Int(job[3])!, height: Int(job[4])!, rgba: try bytes(job[1]))
        try write(Data(try networkPixels(image)), job[2])
    case "resize":  // from, to, width, height, image size, resize to, resize, interpolation, antialias
        let numbers = job[3...6].map { Int($0)! }
        let resize = try Resize(
            imageSize: numbers[2], resizeTo: numbers[3], resize: job[7], interpolation: job[8],
            antialias: job[9] == "true")
        let image = CGImage(width: numbers[0], height: numbers[1], rgba: try bytes(job[1]))
        try write(Data(resize.centre(width: numbers[0], height: numbers[1], rgba: try rgba(image))), job[2])
    case "ranked":  // to, probabilities
        let order = ranked(job.dropFirst(2).map { Float($0)! })
        try write(Data(order.map(String.init).joined(separator: " ").utf8), job[1])
    case "sure":  // to, probabilities
        let sure = job.dropFirst(2).map { Answer(label: "any", probability: Float($0)!).isSure }
        try write(Data(sure.map { String($0) }.joined(separator: " ").utf8), job[1])
    case "labels":  // folder, to
        let read = try labels(in: URL(fileURLWithPath: job[1]))
        try write(Data(read.joined(separator: "|").utf8), job[2])
    case "overlay":  // to, side, stride, offset, index, size, scores of two classes by row and column
        let map = ClassMap(
            probabilities: [], values: job.dropFirst(7).map { Float($0)! }, side: Int(job[2])!,
            stride: Double(job[3])!, offset: Double(job[4])!)
        try write(Data(map.overlay(output: Int(job[5])!, size: Int(job[6])!)), job[1])
    case "refused":  // to, resize, interpolation
        do {
            _ = try Resize(imageSize: 4, resizeTo: 5, resize: job[2], interpolation: job[3], antialias: true)
        } catch { try write(Data("\(error)".utf8), job[1]) }
    default: fatalError("\(job)")
    }
}

precondition(resizeIsExact(), "resizeIsExact")
for job in try String(contentsOfFile: CommandLine.arguments[1], encoding: .utf8).split(separator: "\n") {
    try run(job.components(separatedBy: "\t"))
}
