import CoreGraphics
import Foundation

public final class UIImage {
    public enum Orientation {
        case up
        case right
    }

    public let size = CGSize.zero
    public let scale: CGFloat = 1
    public let imageOrientation = Orientation.right
    public let cgImage: CGImage? = nil

    public init?(contentsOfFile path: String) {
        return nil
    }

    public func draw(in rect: CGRect) {}
}

public final class UIColor {
    public static let white = UIColor()

    public func setFill() {}
}

public final class UIGraphicsImageRendererFormat {
    public enum Range {
        case standard
    }

    public var scale: CGFloat = 0
    public var opaque = false
    public var preferredRange = Range.standard

    public init() {}
}

public final class UIGraphicsImageRendererContext {
    public func fill(_ rect: CGRect) {}
}

public final class UIGraphicsImageRenderer {
    public init(size: CGSize, format: UIGraphicsImageRendererFormat) {}

    public func image(actions: (UIGraphicsImageRendererContext) -> Void) -> UIImage {
        fatalError("stand-in")
    }
}
