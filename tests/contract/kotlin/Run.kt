/** Runs the kit on files of RGBA pixels: each line of the jobs is one, its fields separated by tabs. */
package sqznet.check

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import sqznet.Answer
import sqznet.Backend
import sqznet.ClassMap
import sqznet.Classifier
import sqznet.ModelContract
import sqznet.ModelFile
import sqznet.Resize
import sqznet.SelfTest
import sqznet.fastest
import sqznet.labels
import sqznet.networkPixels
import sqznet.ranked
import sqznet.resizeIsExact

fun main(arguments: Array<String>) {
    check(resizeIsExact()) { "resizeIsExact" }
    for (job in File(arguments[0]).readLines()) run(job.split("\t"))
}

private fun run(job: List<String>) = when (job[0]) {
    // photo, from, to, width, height, configuration
    "photo" -> {
        val bitmap = Bitmap(job[3].toInt(), job[4].toInt(), Bitmap.Config.valueOf(job[5]), File(job[1]).readBytes())
        File(job[2]).writeBytes(networkPixels(bitmap))
    }
    // resize, from, to, width, height, image size, resize to, resize, interpolation, antialias
    "resize" -> {
        val (width, height, size, resizeTo) = job.slice(3..6).map(String::toInt)
        val bitmap = Bitmap(width, height, Bitmap.Config.ARGB_8888, File(job[1]).readBytes())
        val resize = Resize(size, resizeTo, job[7], job[8], job[9] == "true")
        File(job[2]).writeBytes(resize.centre(width, height) { left, y, into ->
            bitmap.getPixels(into, 0, into.size, left, y, into.size, 1)
        })
    }
    // ranked, to, probabilities
    "ranked" -> File(job[1]).writeText(ranked(job.drop(2).map(String::toFloat).toFloatArray()).joinToString(" "))
    // sure, to, probabilities
    "sure" -> File(job[1]).writeText(job.drop(2).map { Answer("any", it.toFloat()).isSure }.joinToString(" "))
    // labels, folder, to
    "labels" -> File(job[2]).writeText(labels(AssetManager(File(job[1]))).joinToString("|"))
    // backends, to, folder of the marks
    "backends" -> File(job[1]).writeText(backends(File(job[2])))
    // overlay, to, side, stride, offset, index, size, scores of two classes by row and column
    "overlay" -> {
        val scores = job.drop(7).map(String::toFloat).toFloatArray()
        val map = ClassMap(floatArrayOf(), scores, job[2].toInt(), job[3].toDouble(), job[4].toDouble())
        val colours = map.overlay(job[5].toInt(), job[6].toInt())
        val rgba = colours.flatMap { listOf(it shr 16, it shr 8, it, it ushr 24) }
        File(job[1]).writeBytes(ByteArray(rgba.size) { rgba[it].toByte() })
    }
    // refused, to, resize, interpolation
    "refused" -> File(job[1]).writeText(runCatching { Resize(4, 5, job[2], job[3], true) }.exceptionOrNull().toString())
    else -> error(job)
}

/** A classifier that takes a time for each photograph, and may never answer. */
private class Fake(
    val name: String,
    private val milliseconds: Long,
    private val closed: MutableList<String>,
) : Classifier {
    override val model: ModelFile = ModelContract.FILES.first()

    override fun probabilities(pixels: ByteArray): FloatArray {
        Thread.sleep(milliseconds)
        return floatArrayOf(1f)
    }

    override fun close() {
        closed.add(name)
    }
}

/** Which of several backends is chosen, why the others are refused, and which are closed. */
private fun backends(marks: File): String {
    val closed = mutableListOf<String>()
    fun fake(name: String, milliseconds: Long = 3) = Backend(name) { Fake(name, milliseconds, closed) }
    File(marks, "sqznet-crashes").createNewFile()
    val all = listOf(
        fake("slow", 20),
        Backend("missing") { error("there is no NPU") },
        Backend("native") { throw UnsatisfiedLinkError("no library") },
        fake("hangs", 60_000),
        fake("wrong"),
        fake("crashes"),
        fake("fast"),
        fake("later", 10),
    )
    val test = { classifier: Classifier ->
        classifier.probabilities(ByteArray(0))
        SelfTest.Result("model.tflite", if ((classifier as Fake).name == "wrong") 0.5 else 0.0, 0.001, 8)
    }
    val chosen = fastest(all, test, marks, seconds = 2)
    val refused = chosen.trials.filter { it.refused != null }.map { "${it.backend}: ${it.refused}" }
    val left = marks.list()!!.toList()
    return (listOf((chosen.classifier as Fake).name) + refused + closed.joinToString(" ") + left).joinToString("\n")
}
