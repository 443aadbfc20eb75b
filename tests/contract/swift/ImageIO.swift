import CoreGraphics
import Foundation

public final class CGImageSource {}

public typealias CFURL = URL

public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: [String: Any]?) -> CGImageSource? {
    return nil
}

public func CGImageSourceCreateImageAtIndex(_ source: CGImageSource, _ index: Int, _ options: [String: Any]?) -> CGImage? {
    return nil
}
