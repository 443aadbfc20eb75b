package sqznet

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.roundToInt

private const val STRONGEST = 0.7f // opacity of the colour at the largest score
private const val GREEN_AT_ZERO = 210f

/**
 * Where the classes are seen in the input of the network. The softmax of the average over rows and columns gives the
 * probabilities. It uses no Android classes, so that it can be tested on any JVM.
 *
 * @param values the scores: rows, columns, classes
 * @param side number of rows and of columns
 * @param stride pixels of the input between the centres of two neighbouring cells
 * @param offset pixels of the input from its edge to the centre of the first cell
 */
class ClassMap(
    val probabilities: FloatArray,
    val values: FloatArray,
    val side: Int,
    private val stride: Double,
    private val offset: Double,
) {
    private val classes = values.size / (side * side)

    fun score(row: Int, column: Int, output: Int): Float = values[(row * side + column) * classes + output]

    /**
     * A picture to draw over the input of the network, for one class: a place with the largest score of the class is
     * red, a lower score is more yellow and more transparent, and a place with a score of 0 or below is transparent.
     *
     * @param output the index of the class in labels.txt
     * @param size side of the picture, which is that of the input by default
     * @return size x size colours, row by row, each 0xAARRGGBB, not premultiplied: for Bitmap.createBitmap
     */
    fun overlay(output: Int, size: Int = ModelContract.IMAGE_SIZE): IntArray {
        val scores = FloatArray(side * side) { values[it * classes + output] }
        val largest = scores.max()
        val shares = FloatArray(scores.size) { if (largest > 0) max(0f, scores[it] / largest) else 0f }
        val scale = ModelContract.IMAGE_SIZE.toDouble() / size
        val cells = List(size) { cell(((it + 0.5) * scale - offset) / stride) }
        return IntArray(size * size) {
            val (above, down) = cells[it / size]
            val (left, across) = cells[it % size]
            val top = mix(shares[above * side + left], shares[above * side + next(left)], across)
            val bottom = mix(shares[next(above) * side + left], shares[next(above) * side + next(left)], across)
            colour(mix(top, bottom, down))
        }
    }

    /** The cell before a place, and the weight of the next one. Beyond the outermost cells the nearest counts alone. */
    private fun cell(place: Double): Pair<Int, Float> {
        val inside = place.coerceIn(0.0, side - 1.0)
        return floor(inside).toInt() to (inside - floor(inside)).toFloat()
    }

    private fun next(cell: Int) = minOf(cell + 1, side - 1)

    private fun mix(one: Float, other: Float, share: Float) = (1 - share) * one + share * other

    private fun colour(strength: Float): Int {
        val alpha = (255 * STRONGEST * strength).roundToInt()
        val green = (GREEN_AT_ZERO * (1 - strength)).roundToInt()
        return (alpha shl 24) or (255 shl 16) or (green shl 8)
    }
}
