package sqznet

import android.content.res.AssetManager
import android.graphics.BitmapFactory
import android.graphics.ImageDecoder
import android.os.Build
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.max
import org.json.JSONArray
import org.json.JSONObject

/** Verifies on the device what was verified at the export. Call it from an instrumented test; see README.md. */
class SelfTest(private val golden: AssetManager) {
    private val content = JSONObject(text("golden.json"))

    data class Result(val model: String, val largestDifference: Double, val tolerance: Double, val sameTop1: Int) {
        val passed get() = largestDifference <= tolerance // false for NaN
    }

    /** Runs the golden inputs. The largest difference of a probability must not exceed the tolerance of the file. */
    fun model(classifier: Classifier): Result {
        val model = classifier.model
        val expected = content.getJSONObject("expected").getJSONObject(model.name)
        val values = ByteBuffer.wrap(bytes(expected.getString("file"))).order(ByteOrder.LITTLE_ENDIAN)
        val top1 = expected.getJSONArray("top1").toInts()
        var largest = 0.0
        var same = 0
        for (image in 0 until content.getInt("count")) {
            val got = classifier.probabilities(pixels(image))
            for (probability in got) {
                val difference = abs(probability - value(values, expected.getString("dtype"), model))
                largest = if (difference.isNaN()) Double.NaN else max(largest, difference)
            }
            if (ranked(got).first() == top1[image]) same++
        }
        return Result(model.name, largest, expected.getDouble("tolerance"), same)
    }

    /** Mean difference, in steps of 1/255, between golden/photo.jpg preprocessed by this app and by training. */
    fun photo(): Double = difference(content.getString("photo"))

    /**
     * The same for a copy that is stored turned, with an EXIF orientation. Null if the bundle is of an earlier version
     * and has none, and before Android 9, where `BitmapFactory` turns nothing.
     */
    fun turnedPhoto(): Double? {
        if (!content.has("photo_turned") || Build.VERSION.SDK_INT < Build.VERSION_CODES.P) return null
        return difference(content.getString("photo_turned"))
    }

    private fun difference(name: String): Double {
        val photo = bytes(name)
        val decoded = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
            decodePhoto(ImageDecoder.createSource(ByteBuffer.wrap(photo)))
        } else {
            BitmapFactory.decodeByteArray(photo, 0, photo.size)
        }
        val got = networkPixels(decoded)
        val wanted = pixels(0)
        val differences = got.zip(wanted) { one, other -> abs((one.toInt() and 0xFF) - (other.toInt() and 0xFF)) }
        return differences.average()
    }

    private fun pixels(image: Int): ByteArray {
        val inputs = content.getJSONObject("inputs")
        val shape = inputs.getJSONArray("shape").toInts()
        val size = shape.drop(1).reduce(Int::times)
        return bytes(inputs.getString("file")).copyOfRange(image * size, (image + 1) * size)
    }

    private fun value(values: ByteBuffer, type: String, model: ModelFile): Double {
        val value = if (type == "uint8") (values.get().toInt() and 0xFF).toDouble() else values.float.toDouble()
        return (value - model.outputZeroPoint) * model.outputScale
    }

    private fun bytes(name: String): ByteArray = golden.open("golden/$name").use { it.readBytes() }

    private fun text(name: String): String = bytes(name).decodeToString()

    private fun JSONArray.toInts(): List<Int> = List(length()) { getInt(it) }
}
