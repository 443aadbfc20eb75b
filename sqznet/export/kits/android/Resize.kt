package sqznet

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** The pixels of a photograph, row by row. */
fun interface Rows {
    /**
     * Fills `into` with the pixels of row `y` from column `left` on, each 0xAARRGGBB in sRGB, not premultiplied, as
     * Bitmap.getPixels does.
     */
    fun read(left: Int, y: Int, into: IntArray)
}

/**
 * Crops and resizes a photograph to the square input of the network, as in training: takes a centred box of whole
 * pixels, composites transparency on white, scales once (weights that add up to 1; in float, rows before columns) and
 * rounds half to even.
 *
 * It computes the same as tf.image.resize. Bitmap.createScaledBitmap and MediaPipe compute something else.
 * It uses no Android classes, so that it can be tested on any JVM.
 *
 * @param imageSize side of the result in pixels
 * @param resizeTo side of the whole scaled photograph, from whose centre imageSize pixels are taken
 * @param resize "short" scales the short side to resizeTo, "squash" both sides
 * @param interpolation one of KERNELS
 * @param antialias whether the kernel is widened when the photograph shrinks; otherwise most pixels are skipped
 */
class Resize(
    private val imageSize: Int,
    private val resizeTo: Int,
    resize: String,
    interpolation: String,
    private val antialias: Boolean,
) {
    private val kernel = known("interpolation", interpolation, KERNELS)
    private val squash = known("resize", resize, mapOf("short" to false, "squash" to true))

    /** The source pixels, along one side, of a pixel of the result, and their weights. */
    private class Span(val start: Int, val weights: FloatArray) {
        val end get() = start + weights.size
    }

    /** @return imageSize x imageSize x 3 bytes: rows of red, green, blue, each an unsigned 0..255. */
    fun centre(width: Int, height: Int, rows: Rows): ByteArray {
        require(width > 0 && height > 0) { "expected a photograph, got $width x $height pixels" }
        val boxWidth = part(if (squash) width else min(width, height))
        val boxHeight = part(if (squash) height else min(width, height))
        val left = (width - boxWidth) / 2
        val top = (height - boxHeight) / 2
        return columns(lines(left, top, boxWidth, boxHeight, rows), boxWidth)
    }

    /** The pixels of a side that are scaled to imageSize pixels. */
    private fun part(side: Int): Int {
        val share = (imageSize.toDouble() / resizeTo).toFloat()
        return Math.rint((side.toFloat() * share).toDouble()).toInt().coerceIn(1, side)
    }

    /** Scales the height and reads each row once; returns imageSize x boxWidth x 3. */
    private fun lines(left: Int, top: Int, boxWidth: Int, boxHeight: Int, rows: Rows): FloatArray {
        val spans = spans(boxHeight)
        val sums = FloatArray(imageSize * boxWidth * 3)
        val row = IntArray(boxWidth)
        var first = 0
        for (y in 0 until boxHeight) {
            while (first < imageSize && spans[first].end <= y) first++
            if (first == imageSize) break
            if (spans[first].start > y) continue
            rows.read(left, top + y, row)
            for (at in row.indices) row[at] = onWhite(row[at])
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

    /** Scales the width and rounds; returns imageSize x imageSize x 3. */
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
        val widening = if (antialias) max(step, 1f) else 1f
        val reach = kernel.radius * widening
        val shrink = 1f / widening
        return List(imageSize) { index ->
            val centre = (index + kernel.offset) * step + (0.5f - kernel.offset)
            val start = ceil(centre - reach - 0.5f).toInt().coerceIn(0, side - 1)
            val last = floor(centre + reach - 0.5f).toInt().coerceIn(0, side - 1)
            val weights = FloatArray(last - start + 1) { kernel.weight(abs((start + it + 0.5f - centre) * shrink)) }
            val total = 1f / weights.fold(0f) { sum, weight -> sum + weight }
            Span(start, FloatArray(weights.size) { weights[it] * total })
        }
    }
}

/** @param offset the centre of pixel `i` of the result is at `(i + offset) * scale - offset` */
class Kernel(val radius: Float, val offset: Float, val weight: (Float) -> Float)

val KERNELS = mapOf(
    "bilinear" to Kernel(1f, 0.5f, ::triangle),
    "bilinear_corner" to Kernel(1f, 0f, ::triangle),
    "bicubic" to Kernel(2f, 0.5f, ::cubic),
)

private fun triangle(x: Float): Float = max(1f - x, 0f)

/** Keys 1981, a = -0.5. */
private fun cubic(x: Float): Float = when {
    x >= 2f -> 0f
    x >= 1f -> ((-0.5f * x + 2.5f) * x - 4f) * x + 2f
    else -> (1.5f * x - 2.5f) * x * x + 1f
}

/** Composites a pixel 0xAARRGGBB, not premultiplied, on white. */
fun onWhite(pixel: Int): Int {
    val alpha = pixel ushr 24
    if (alpha == 0xFF) return pixel
    fun over(shift: Int) = ((pixel shr shift and 0xFF) * alpha + 0xFF * (0xFF - alpha) + 127) / 0xFF shl shift
    return 0xFF shl 24 or over(16) or over(8) or over(0)
}

/** The value of this code for a value of the bundle's contract. */
fun <T : Any> known(name: String, value: String, values: Map<String, T>): T =
    checkNotNull(values[value]) { "$name is $value, this code supports ${values.keys}: it is older than the bundle" }
