/// Whether `Resize` makes of a drawn picture exactly what TensorFlow makes of it; no decoder is involved.
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
    let short = Resize(imageSize: 4, resizeTo: 5, squash: false, bicubic: false)
    let squashed = Resize(imageSize: 4, resizeTo: 5, squash: true, bicubic: true)
    return short.centre(width: width, height: height, rgba: drawn) == bilinear
        && squashed.centre(width: width, height: height, rgba: drawn) == bicubic
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
