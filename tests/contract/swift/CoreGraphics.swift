// Stand-ins for the classes of Apple that the kit touches, as far as a picture needs them.
@_exported import Foundation

public final class CGColorSpace {
    public static let sRGB = "sRGB"

    public init?(name: String) {}
}

public enum CGImageAlphaInfo: UInt32 {
    case noneSkipLast = 5
}

public enum CGColorRenderingIntent {
    case relativeColorimetric
}

public final class CGImage {
    public let width: Int
    public let height: Int
    let rgba: [UInt8]

    public init(width: Int, height: Int, rgba: [UInt8]) {
        self.width = width
        self.height = height
        self.rgba = rgba
    }
}

/// Draws one image at its own size over what is there, colours not multiplied by alpha beforehand.
public final class CGContext {
    private let pixels: UnsafeMutablePointer<UInt8>
    private let size: Int
    private var colour: [UInt8] = [0, 0, 0]

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        size = width * height
        pixels = data!.assumingMemoryBound(to: UInt8.self)
    }

    public func setFillColor(red: CGFloat, green: CGFloat, blue: CGFloat, alpha: CGFloat) {
        colour = [red, green, blue].map { UInt8(255 * $0) }
    }

    public func setRenderingIntent(_ intent: CGColorRenderingIntent) {}

    public func fill(_ rect: CGRect) {
        for at in 0..<size { for channel in 0..<3 { pixels[at * 4 + channel] = colour[channel] } }
    }

    public func draw(_ image: CGImage, in rect: CGRect) {
        for at in 0..<size {
            let alpha = Int(image.rgba[at * 4 + 3])
            for channel in 0..<3 {
                let (over, under) = (Int(image.rgba[at * 4 + channel]), Int(pixels[at * 4 + channel]))
                pixels[at * 4 + channel] = UInt8((over * alpha + under * (255 - alpha) + 127) / 255)
            }
        }
    }
}
