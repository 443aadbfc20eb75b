/** Stand-ins for the classes of Android that the kit touches, as far as a picture needs them. */
package android.graphics

import java.nio.ByteBuffer

/** Pixels as Android keeps them: colours multiplied by alpha, rounded to whole levels; out of them come straight ones. */
class Bitmap(val width: Int, val height: Int, val config: Config, private val rgba: ByteArray) {
    enum class Config { ARGB_8888, RGBA_F16, HARDWARE }

    private val multiplied = IntArray(rgba.size) { at ->
        if (at % 4 == 3) level(at) else (level(at) * level(at or 3) + 127) / 255
    }

    fun copy(config: Config, mutable: Boolean): Bitmap = Bitmap(width, height, config, rgba)

    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        check(config != Config.HARDWARE) { "pixel access is not supported on Config#HARDWARE bitmaps" }
        for (row in 0 until height) for (column in 0 until width) {
            into[offset + row * stride + column] = straight(((y + row) * this.width + x + column) * 4)
        }
    }

    private fun level(at: Int) = rgba[at].toInt() and 0xFF

    private fun straight(at: Int): Int {
        val alpha = multiplied[at + 3]
        return (0 until 3).fold(alpha) { packed, colour ->
            val value = if (alpha == 0) 0 else (multiplied[at + colour] * 255 + alpha / 2) / alpha
            packed shl 8 or minOf(value, 255)
        }
    }
}

object BitmapFactory {
    fun decodeByteArray(data: ByteArray, offset: Int, length: Int): Bitmap = TODO()
}

class ColorSpace {
    enum class Named { SRGB }

    companion object {
        fun get(name: Named): ColorSpace = TODO()
    }
}

class ImageDecoder {
    class Source
    class ImageInfo

    fun interface OnHeaderDecodedListener {
        fun onHeaderDecoded(decoder: ImageDecoder, info: ImageInfo, source: Source)
    }

    var allocator = 0

    fun setTargetColorSpace(colorSpace: ColorSpace): Unit = TODO()

    companion object {
        const val ALLOCATOR_SOFTWARE = 1

        fun createSource(buffer: ByteBuffer): Source = TODO()

        fun decodeBitmap(source: Source, listener: OnHeaderDecodedListener): Bitmap = TODO()
    }
}
