import Foundation

public protocol Delegate {}

public struct Tensor {
    public enum DataType {
        case uInt8
        case float32
    }
    public struct Shape {
        public let dimensions: [Int]
    }
    public let name: String
    public let dataType: DataType
    public let shape: Shape
    public let data: Data
}

public final class Interpreter {
    public struct Options {
        public var threadCount: Int?
        public var isXNNPackEnabled = false

        public init() {}
    }

    public init(modelPath: String, options: Options?, delegates: [Delegate]?) throws {}

    public func allocateTensors() throws {}

    public func input(at index: Int) throws -> Tensor {
        fatalError("stand-in")
    }

    public func output(at index: Int) throws -> Tensor {
        fatalError("stand-in")
    }

    public func copy(_ data: Data, toInputAt index: Int) throws {}

    public func invoke() throws {}
}
