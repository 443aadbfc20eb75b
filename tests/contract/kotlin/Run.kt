/** Runs the kit on files of RGBA pixels: each line of the jobs is one, its fields separated by tabs. */
package sqznet.check

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import sqznet.Resize
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
    // labels, folder, to
    "labels" -> File(job[2]).writeText(labels(AssetManager(File(job[1]))).joinToString("|"))
    // refused, to, resize, interpolation
    "refused" -> File(job[1]).writeText(runCatching { Resize(4, 5, job[2], job[3], true) }.exceptionOrNull().toString())
    else -> error(job)
}
