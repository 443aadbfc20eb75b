package sqznet

/** Whether `Resize` makes of a drawn picture exactly what TensorFlow makes of it; no decoder is involved. */
fun resizeIsExact(): Boolean =
    BILINEAR contentEquals Resize(4, 5, squash = false, bicubic = false).centre(WIDTH, HEIGHT, ::drawnRow) &&
        BICUBIC contentEquals Resize(4, 5, squash = true, bicubic = true).centre(WIDTH, HEIGHT, ::drawnRow)

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

private fun unsigned(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

private fun drawnRow(left: Int, y: Int, into: IntArray) {
    for (at in into.indices) {
        val x = left + at
        into[at] = (0 until 3).fold(0xFF) { packed, colour ->
            packed shl 8 or (x * 9 + y * 4 + colour * 30 + x % 3 * (y % 2) * 40 and 0xFF)
        }
    }
}
