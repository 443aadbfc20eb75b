package sqznet

import android.annotation.TargetApi
import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.os.Build
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** A class. If the first answer of a photograph is not sure, show "not sure", and its label as a guess at most. */
data class Answer(val label: String, val probability: Float) {
    /** Without --min_precision at the export, THRESHOLD is 0 and every answer is sure. */
    val isSure: Boolean get() = probability >= ModelContract.THRESHOLD
}

/** A loaded model file. Do not load it on the main thread: that takes tens of milliseconds. */
interface Classifier : AutoCloseable {
    val model: ModelFile

    /**
     * @param pixels IMAGE_SIZE x IMAGE_SIZE x 3 bytes: rows of red, green, blue, each an unsigned 0..255
     * @return the probability of each class, in the order of labels.txt
     */
    fun probabilities(pixels: ByteArray): FloatArray
}

/**
 * Decodes a photograph as the contract requires: upright and in sRGB; of an animation, the first picture. Android 9 on.
 *
 * @param source of ImageDecoder.createSource: a file, a Uri, an asset or a buffer
 */
@TargetApi(Build.VERSION_CODES.P)
fun decodePhoto(source: ImageDecoder.Source): Bitmap = ImageDecoder.decodeBitmap(source) { decoder, _, _ ->
    decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // bitmaps in graphics memory cannot be read
    decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
}

/**
 * Classifies a photograph; the most probable class comes first.
 *
 * @param photo upright, as `decodePhoto` returns it; transparency is composited on white
 * @param labels from `labels(assets)`
 */
fun Classifier.classify(photo: Bitmap, labels: List<String>, count: Int = 5): List<Answer> {
    val probabilities = probabilities(networkPixels(photo))
    return ranked(probabilities).take(count).map { Answer(labels[it], probabilities[it]) }
}

/** Classes by probability, the highest first; equal ones in the order of labels.txt (the sort is stable). */
fun ranked(probabilities: FloatArray): List<Int> = probabilities.indices.sortedByDescending { probabilities[it] }

/** The input pixels of the network for a photograph. */
fun networkPixels(photo: Bitmap): ByteArray {
    val inGraphicsMemory = Build.VERSION.SDK_INT >= Build.VERSION_CODES.O && photo.config == Bitmap.Config.HARDWARE
    val readable = if (inGraphicsMemory) photo.copy(Bitmap.Config.ARGB_8888, false) else photo
    return contractResize().centre(readable.width, readable.height) { left, y, into ->
        // getPixels returns sRGB, not premultiplied, for every configuration and colour space of the bitmap.
        readable.getPixels(into, 0, into.size, left, y, into.size, 1)
    }
}

fun contractResize(): Resize {
    known("colour order", ModelContract.COLOUR_ORDER, mapOf("RGB" to true))
    known("colour space", ModelContract.COLOUR_SPACE, mapOf("sRGB" to true))
    known("orientation", ModelContract.ORIENTATION, mapOf("applied" to true))
    known("transparency", ModelContract.TRANSPARENCY, mapOf("white" to true))
    return Resize(
        ModelContract.IMAGE_SIZE,
        ModelContract.RESIZE_TO,
        ModelContract.RESIZE,
        ModelContract.INTERPOLATION,
        ModelContract.ANTIALIAS,
    )
}

fun labels(assets: AssetManager): List<String> {
    val text = assets.open(ModelContract.LABELS).use { it.readBytes() }.decodeToString()
    // Not readLines(): it also splits at a carriage return within a name.
    val labels = text.removeSuffix("\n").split("\n").map { it.removeSuffix("\r") }
    check(labels.size == ModelContract.CLASSES) {
        "${ModelContract.LABELS} has ${labels.size} lines, expected ${ModelContract.CLASSES}: not from the same bundle"
    }
    return labels
}

/** Reads a model file from the assets and checks its SHA-256: it must be the file that was verified at the export. */
fun readModel(assets: AssetManager, model: ModelFile): ByteBuffer {
    val content = assets.open(model.name).use { it.readBytes() }
    val sha256 = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
    check(sha256 == model.sha256) { "${model.name} is $sha256, expected ${model.sha256}: not from the same bundle" }
    return ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder()).put(content).apply { rewind() }
}

/**
 * Runs any .tflite file of the bundle on the CPU (XNNPACK), with float32 or uint8 input and output. Calls wait for each
 * other.
 */
class InterpreterClassifier(
    assets: AssetManager,
    override val model: ModelFile = ModelContract.file("model.tflite"),
    threads: Int = 2,
) : Classifier {
    private val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true)
    private val interpreter = Interpreter(readModel(assets, model), options)
    private val input = portBuffer(oneImage(model.inputShape), model.inputType)
    private val output = portBuffer(oneImage(model.outputShape), model.outputType)
    private val map = model.classMapShape?.let { portBuffer(oneImage(it), "float32") }

    init {
        requireUsable(model)
        checkPort(interpreter.getInputTensor(0), oneImage(model.inputShape), model.inputType)
        checkPort(interpreter.getOutputTensor(0), oneImage(model.outputShape), model.outputType)
        model.classMapShape?.let { checkPort(interpreter.getOutputTensor(1), oneImage(it), "float32") }
    }

    @Synchronized
    override fun probabilities(pixels: ByteArray): FloatArray {
        fillInput(pixels)
        output.rewind()
        interpreter.run(input, output)
        return readProbabilities()
    }

    /**
     * Classifies and tells where each class is seen. The file must have a class map: export it with
     * --outputs=probabilities,class_map.
     *
     * @param pixels as for `probabilities`
     */
    @Synchronized
    fun classMap(pixels: ByteArray): ClassMap {
        val (side, stride, offset) = listOf(model.classMapSide, model.classMapStride, model.classMapOffset)
        require(map != null && side != null && stride != null && offset != null) {
            "${model.name} has no class map; export it with --outputs=probabilities,class_map"
        }
        fillInput(pixels)
        output.rewind()
        map.rewind()
        interpreter.runForMultipleInputsOutputs(arrayOf(input), mapOf(0 to output, 1 to map))
        map.rewind()
        val values = FloatArray(map.remaining() / Float.SIZE_BYTES) { map.float }
        return ClassMap(readProbabilities(), values, side.toInt(), stride.toDouble(), offset.toDouble())
    }

    private fun fillInput(pixels: ByteArray) {
        requireSize(pixels)
        input.rewind()
        if (model.inputType == "uint8") {
            input.put(pixels)
        } else {
            for (pixel in pixels) input.putFloat((pixel.toInt() and 0xFF).toFloat())
        }
        input.rewind()
    }

    private fun readProbabilities(): FloatArray {
        output.rewind()
        return FloatArray(ModelContract.CLASSES) {
            val value = if (model.outputType == "uint8") (output.get().toInt() and 0xFF).toFloat() else output.float
            ((value - model.outputZeroPoint) * model.outputScale).toFloat()
        }
    }

    override fun close() = interpreter.close()
}

/**
 * Runs a .tflite file with the CompiledModel API: on the CPU (XNNPACK), on the GPU, or on an NPU, if the device and the
 * Gradle dependencies support it. Input and output must be float32, because CompiledModel has no uint8 buffers. Files
 * with a class map are refused.
 *
 * On the GPU, a file of which the GPU cannot run a part is refused. On the NPU, the CPU runs that part.
 */
class CompiledClassifier(
    context: Context,
    override val model: ModelFile = ModelContract.file("model.tflite"),
    accelerator: Accelerator = Accelerator.GPU,
    threads: Int = 2,
) : Classifier {
    private val environment: Environment
    private val compiled: CompiledModel

    init {
        requireUsable(model)
        require(model.inputType == "float32" && model.outputType == "float32") { "${model.name} is no float32 file" }
        // CompiledModel may order the outputs in another way than the file.
        require(model.classMapShape == null) { "${model.name} has a class map, which InterpreterClassifier runs" }
        readModel(context.assets, model) // checks its SHA-256; CompiledModel opens the asset itself
        environment = if (accelerator == Accelerator.NPU) npuEnvironment(context) else Environment.create()
        val options = CompiledModel.Options(accelerator)
        options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
        // In 16 bits, the default, probabilities exceed the tolerance of float32 files.
        options.gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
        compiled = try {
            CompiledModel.create(context.assets, model.name, options, environment)
        } catch (error: Exception) {
            environment.close()
            throw error
        }
    }

    private val inputs = compiled.createInputBuffers()
    private val outputs = compiled.createOutputBuffers()

    @Synchronized
    override fun probabilities(pixels: ByteArray): FloatArray {
        requireSize(pixels)
        inputs[0].writeFloat(FloatArray(pixels.size) { (pixels[it].toInt() and 0xFF).toFloat() })
        compiled.run(inputs, outputs)
        return outputs[0].readFloat()
    }

    @Synchronized
    override fun close() {
        (inputs + outputs).forEach { it.close() }
        compiled.close()
        environment.close()
    }
}

/** Finds the libraries of the NPU in the app; see README.md for the Gradle dependency that has them. */
private fun npuEnvironment(context: Context): Environment {
    val provider = BuiltinNpuAcceleratorProvider(context)
    check(provider.isDeviceSupported()) { "LiteRT knows no NPU of this device" }
    return Environment.create(context, provider)
}

private fun checkPort(tensor: Tensor, shape: List<Int>, type: String) =
    check(tensor.shape().toList() == shape && tensor.dataType() == dataType(type)) {
        "${tensor.name()} is ${tensor.dataType()} ${tensor.shape().toList()}, the contract says $type $shape"
    }

private fun portBuffer(shape: List<Int>, type: String): ByteBuffer =
    ByteBuffer.allocateDirect(shape.reduce(Int::times) * dataType(type).byteSize()).order(ByteOrder.nativeOrder())

private fun dataType(type: String): DataType = if (type == "uint8") DataType.UINT8 else DataType.FLOAT32

internal fun requireUsable(model: ModelFile) {
    require(model.format == "tflite" && model.inputLayout == "NHWC") { "${model.name} is for another runtime" }
    require(oneImage(model.inputShape) == listOf(1, ModelContract.IMAGE_SIZE, ModelContract.IMAGE_SIZE, 3)) {
        "${model.name} takes ${model.inputShape}; for one image at a time, export with --tflite_batch=1"
    }
}

/** The shape for one image: a free batch size (-1) becomes 1. */
private fun oneImage(shape: List<Int>): List<Int> = if (shape[0] == -1) listOf(1) + shape.drop(1) else shape

internal fun requireSize(pixels: ByteArray) {
    val expected = ModelContract.IMAGE_SIZE * ModelContract.IMAGE_SIZE * 3
    require(pixels.size == expected) { "expected $expected bytes of pixels, got ${pixels.size}" }
}
