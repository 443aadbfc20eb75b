package sqznet

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** The pixels of a photograph, row by row. */
fun interface Rows {
    /** Fills `into` with the pixels of row `y` from column `left` on, each 0xAARRGGBB, as Bitmap.getPixels does. */
    fun read(left: Int, y: Int, into: IntArray)
}

/**
 * A photograph to the square of pixels that the network sees, as in training: a box of whole pixels in the middle,
 * scaled once with antialiasing (half-pixel centres; a kernel that is widened where pixels are thrown away; weights
 * that add up to 1; in float, lines before columns), rounded half to even.
 *
 * It computes what tf.image.resize(antialias=True) computes. Bitmap.createScaledBitmap and MediaPipe do not.
 * Pure arithmetic, so that it can be tested on any JVM.
 *
 * @param imageSize side of the result in pixels
 * @param resizeTo side that the photograph would be scaled to as a whole, of which imageSize is the middle
 * @param squash scale both sides to resizeTo, instead of the short one
 * @param bicubic Keys' cubic kernel, instead of the triangle of "bilinear"
 */
class Resize(
    private val imageSize: Int,
    private val resizeTo: Int,
    private val squash: Boolean,
    private val bicubic: Boolean,
) {
    /** The pixels of one side of the photograph that a pixel of the result is made of. */
    private class Span(val start: Int, val weights: FloatArray) {
        val end get() = start + weights.size
    }

    /** @return imageSize x imageSize x 3 bytes: rows of red, green, blue, each 0..255 without a sign. */
    fun centre(width: Int, height: Int, rows: Rows): ByteArray {
        require(width > 0 && height > 0) { "expected a photograph, got $width x $height pixels" }
        val boxWidth = part(if (squash) width else min(width, height))
        val boxHeight = part(if (squash) height else min(width, height))
        val left = (width - boxWidth) / 2
        val top = (height - boxHeight) / 2
        return columns(lines(left, top, boxWidth, boxHeight, rows), boxWidth)
    }

    /** How much of a side becomes imageSize pixels. */
    private fun part(side: Int): Int {
        val share = (imageSize.toDouble() / resizeTo).toFloat()
        return Math.rint((side.toFloat() * share).toDouble()).toInt().coerceIn(1, side)
    }

    /** Shrinks the height, reading each row once: imageSize x boxWidth x 3. */
    private fun lines(left: Int, top: Int, boxWidth: Int, boxHeight: Int, rows: Rows): FloatArray {
        val spans = spans(boxHeight)
        val sums = FloatArray(imageSize * boxWidth * 3)
        val row = IntArray(boxWidth)
        var first = 0
        for (y in 0 until boxHeight) {
            while (first < imageSize && spans[first].end <= y) first++
            if (first == imageSize) break
            rows.read(left, top + y, row)
            var line = first
            while (line < imageSize && spans[line].start <= y) {
                val weight = spans[line].weights[y - spans[line].start]
                var at = line * boxWidth * 3
                for (pixel in row) {
                    sums[at++] += weight * (pixel shr 16 and 0xFF)
                    sums[at++] += weight * (pixel shr 8 and 0xFF)
                    sums[at++] += weight * (pixel and 0xFF)
                }
                line++
            }
        }
        return sums
    }

    /** Shrinks the width and rounds: imageSize x imageSize x 3. */
    private fun columns(lines: FloatArray, boxWidth: Int): ByteArray {
        val spans = spans(boxWidth)
        val result = ByteArray(imageSize * imageSize * 3)
        var at = 0
        for (line in 0 until imageSize) {
            for (span in spans) {
                for (colour in 0 until 3) {
                    var from = (line * boxWidth + span.start) * 3 + colour
                    var sum = 0f
                    for (weight in span.weights) {
                        sum += weight * lines[from]
                        from += 3
                    }
                    result[at++] = Math.rint(sum.toDouble()).toInt().coerceIn(0, 255).toByte()
                }
            }
        }
        return result
    }

    private fun spans(side: Int): List<Span> {
        val scale = imageSize.toFloat() / side
        val step = (1.0 / scale).toFloat()
        val widening = max(step, 1f)
        val reach = (if (bicubic) 2f else 1f) * widening
        val shrink = 1f / widening
        return List(imageSize) { index ->
            val centre = (index + 0.5f) * step
            val start = ceil(centre - reach - 0.5f).toInt().coerceIn(0, side - 1)
            val last = floor(centre + reach - 0.5f).toInt().coerceIn(0, side - 1)
            val weights = FloatArray(last - start + 1) { kernel(abs((start + it + 0.5f - centre) * shrink)) }
            val total = 1f / weights.fold(0f) { sum, weight -> sum + weight }
            Span(start, FloatArray(weights.size) { weights[it] * total })
        }
    }

    private fun kernel(x: Float): Float = when {
        !bicubic -> max(1f - x, 0f)
        x >= 2f -> 0f
        x >= 1f -> ((-0.5f * x + 2.5f) * x - 4f) * x + 2f
        else -> (1.5f * x - 2.5f) * x * x + 1f
    }
}
