/// Whether `Resize` gives exactly the pixels of TensorFlow for a computed picture; no decoder is involved.
func resizeIsExact() -> Bool {
    let (width, height) = (23, 17)
    var drawn = [UInt8]()
    for y in 0..<height {
        for x in 0..<width {
            for colour in 0..<4 {
                let value: Int = x * 9 + y * 4 + colour * 30 + (x % 3) * (y % 2) * 40
                drawn.append(UInt8(value % 256))
            }
        }
    }
    func resized(_ resize: String, _ interpolation: String, antialias: Bool) -> [UInt8]? {
        let resize = try? Resize(
            imageSize: 4, resizeTo: 5, resize: resize, interpolation: interpolation, antialias: antialias)
        return resize?.centre(width: width, height: height, rgba: drawn)
    }
    return resized("short", "bilinear", antialias: true) == bilinear
        && resized("squash", "bicubic", antialias: true) == bicubic
        && resized("squash", "bilinear", antialias: false) == plainBilinear
        && resized("short", "bicubic", antialias: false) == plainBicubic
}

private let bilinear: [UInt8] = [
    84, 114, 144, 110, 140, 168, 141, 169, 179, 173, 171, 157,
    95, 125, 155, 121, 151, 170, 152, 167, 174, 173, 170, 159,
    110, 140, 167, 136, 166, 174, 167, 179, 176, 171, 169, 165,
    121, 151, 172, 147, 169, 168, 167, 177, 172, 172, 159, 139,
]

private let bicubic: [UInt8] = [
    66, 96, 126, 104, 135, 166, 147, 174, 176, 186, 179, 163,
    78, 108, 139, 116, 148, 169, 158, 168, 171, 183, 169, 170,
    93, 123, 154, 131, 164, 174, 173, 178, 179, 179, 172, 121,
    104, 135, 164, 144, 168, 169, 171, 176, 174, 176, 163, 77,
]

private let plainBilinear: [UInt8] = [
    50, 80, 110, 98, 128, 158, 131, 161, 191, 179, 161, 191,
    64, 94, 124, 112, 142, 172, 145, 175, 205, 193, 175, 205,
    93, 123, 153, 156, 186, 216, 174, 204, 234, 93, 123, 89,
    107, 137, 167, 170, 200, 86, 188, 218, 104, 107, 137, 55,
]

private let plainBicubic: [UInt8] = [
    67, 97, 127, 90, 120, 150, 119, 149, 180, 155, 188, 168,
    81, 111, 141, 104, 134, 164, 133, 164, 197, 168, 203, 198,
    140, 170, 200, 128, 158, 189, 149, 184, 230, 217, 255, 95,
    154, 184, 214, 142, 172, 153, 168, 213, 194, 236, 79, 127,
]
