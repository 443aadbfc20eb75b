package sqznet

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import java.io.File
import java.util.concurrent.ExecutionException
import java.util.concurrent.FutureTask
import java.util.concurrent.TimeUnit
import java.util.concurrent.TimeoutException
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.concurrent.thread

/** Something that can run a file: its name, and how it loads the file. */
class Backend(val name: String, val open: () -> Classifier)

/** A backend after its test: the median time of a run, or the reason why it is refused. */
data class Trial(val backend: String, val milliseconds: Double?, val refused: String?)

/** The classifier to use, or null if every backend is refused, and all trials. */
class Chosen(val classifier: Classifier?, val trials: List<Trial>)

/** The backends of a file, the safest first. A uint8 file and a file with a class map run on the CPU only. */
fun backends(context: Context, model: ModelFile, threads: Int = 2): List<Backend> {
    val compiled = listOf(Accelerator.GPU, Accelerator.NPU).map { accelerator ->
        Backend(accelerator.name) { CompiledClassifier(context, model, accelerator, threads) }
    }
    val cpu = Backend("CPU") { InterpreterClassifier(context.assets, model, threads) }
    val isFloat = model.inputType == "float32" && model.outputType == "float32"
    return listOf(cpu) + if (isFloat && model.classMapShape == null) compiled else emptyList()
}

/**
 * Loads, tests and times a file on each backend, and keeps the fastest that passes. It takes seconds: call it once, off
 * the main thread, and store the name of the backend.
 *
 * A backend that does not answer in time is refused and left to its thread. A backend that ends the process, as faulty
 * drivers of GPUs and NPUs do, leaves a file in `marks`: the next call refuses it.
 *
 * @param test for example `SelfTest(assets)::model`, with the bundle's golden/ in the assets of the app
 * @param marks a folder for the marks, for example `context.noBackupFilesDir`; delete them after an update
 * @param seconds in which a backend must have passed the test
 */
fun fastest(
    backends: List<Backend>,
    test: (Classifier) -> SelfTest.Result,
    marks: File,
    seconds: Long = 30,
): Chosen {
    var best: Pair<Classifier, Double>? = null
    val trials = backends.map { backend ->
        try {
            val (classifier, milliseconds) = admit(backend, test, File(marks, "sqznet-${backend.name}"), seconds)
            val faster = best?.let { milliseconds < it.second } ?: true
            if (faster) best?.first?.close() else classifier.close()
            if (faster) best = classifier to milliseconds
            Trial(backend.name, milliseconds, null)
        } catch (error: Exception) {
            Trial(backend.name, null, error.message ?: error.toString())
        }
    }
    return Chosen(best?.first, trials)
}

private fun admit(
    backend: Backend,
    test: (Classifier) -> SelfTest.Result,
    mark: File,
    seconds: Long,
): Pair<Classifier, Double> {
    check(mark.createNewFile()) { "it ended the app before" }
    val undecided = AtomicBoolean(true)
    val task = FutureTask {
        // After the time limit, nobody takes the classifier.
        tested(backend, test).also { if (!undecided.getAndSet(false)) it.first.close() }
    }
    thread(isDaemon = true) { task.run() }
    try {
        return task.get(seconds, TimeUnit.SECONDS)
    } catch (late: TimeoutException) {
        if (undecided.getAndSet(false)) error("it did not answer within $seconds s")
        return task.get()
    } catch (failed: ExecutionException) {
        throw IllegalStateException(failed.cause?.message ?: failed.toString(), failed.cause)
    } finally {
        mark.delete()
    }
}

private fun tested(backend: Backend, test: (Classifier) -> SelfTest.Result): Pair<Classifier, Double> {
    val classifier = backend.open()
    try {
        val result = test(classifier)
        check(result.passed) { "its answers differ from the recorded ones by up to ${result.largestDifference}" }
        return classifier to median(classifier)
    } catch (error: Throwable) {
        classifier.close()
        throw error
    }
}

private fun median(classifier: Classifier, runs: Int = 20): Double {
    val grey = ByteArray(ModelContract.IMAGE_SIZE * ModelContract.IMAGE_SIZE * 3) { 127 }
    classifier.probabilities(grey) // warms up
    val times = List(runs) {
        val began = System.nanoTime()
        classifier.probabilities(grey)
        (System.nanoTime() - began) / 1e6
    }
    return times.sorted()[runs / 2]
}
