package sqznet

/** Whether `Resize` gives exactly the pixels of TensorFlow for a computed picture; no decoder is involved. */
fun resizeIsExact(): Boolean =
    BILINEAR contentEquals drawn("short", "bilinear", antialias = true) &&
        BICUBIC contentEquals drawn("squash", "bicubic", antialias = true) &&
        PLAIN_BILINEAR contentEquals drawn("squash", "bilinear", antialias = false) &&
        PLAIN_BICUBIC contentEquals drawn("short", "bicubic", antialias = false)

private fun drawn(resize: String, interpolation: String, antialias: Boolean): ByteArray =
    Resize(4, 5, resize, interpolation, antialias).centre(WIDTH, HEIGHT, ::drawnRow)

private const val WIDTH = 23
private const val HEIGHT = 17

private val BILINEAR = unsigned(
    84, 114, 144, 110, 140, 168, 141, 169, 179, 173, 171, 157,
    95, 125, 155, 121, 151, 170, 152, 167, 174, 173, 170, 159,
    110, 140, 167, 136, 166, 174, 167, 179, 176, 171, 169, 165,
    121, 151, 172, 147, 169, 168, 167, 177, 172, 172, 159, 139,
)

private val BICUBIC = unsigned(
    66, 96, 126, 104, 135, 166, 147, 174, 176, 186, 179, 163,
    78, 108, 139, 116, 148, 169, 158, 168, 171, 183, 169, 170,
    93, 123, 154, 131, 164, 174, 173, 178, 179, 179, 172, 121,
    104, 135, 164, 144, 168, 169, 171, 176, 174, 176, 163, 77,
)

private val PLAIN_BILINEAR = unsigned(
    50, 80, 110, 98, 128, 158, 131, 161, 191, 179, 161, 191,
    64, 94, 124, 112, 142, 172, 145, 175, 205, 193, 175, 205,
    93, 123, 153, 156, 186, 216, 174, 204, 234, 93, 123, 89,
    107, 137, 167, 170, 200, 86, 188, 218, 104, 107, 137, 55,
)

private val PLAIN_BICUBIC = unsigned(
    67, 97, 127, 90, 120, 150, 119, 149, 180, 155, 188, 168,
    81, 111, 141, 104, 134, 164, 133, 164, 197, 168, 203, 198,
    140, 170, 200, 128, 158, 189, 149, 184, 230, 217, 255, 95,
    154, 184, 214, 142, 172, 153, 168, 213, 194, 236, 79, 127,
)

private fun unsigned(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

private fun drawnRow(left: Int, y: Int, into: IntArray) {
    for (at in into.indices) {
        val x = left + at
        into[at] = (0 until 3).fold(0xFF) { packed, colour ->
            packed shl 8 or (x * 9 + y * 4 + colour * 30 + x % 3 * (y % 2) * 40 and 0xFF)
        }
    }
}
