package sqznet

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

/**
 * Gives the same answers with MediaPipe Tasks, for apps that use it anyway.
 *
 * MediaPipe gets a bitmap of the network's input size, so that its own resize (which squashes, without antialiasing)
 * changes nothing. The model's metadata tell it that the pixels are 0..255 without normalization.
 */
class MediaPipeClassifier(
    context: Context,
    override val model: ModelFile = ModelContract.file("model.tflite"),
) : Classifier {
    private val classifier: ImageClassifier

    init {
        requireUsable(model)
        val base = BaseOptions.builder().setModelAssetBuffer(readModel(context.assets, model)).build()
        // No limit of results and no threshold, to get every class.
        val options = ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(base)
            .setRunningMode(RunningMode.IMAGE)
            .build()
        classifier = ImageClassifier.createFromOptions(context, options)
    }

    @Synchronized
    override fun probabilities(pixels: ByteArray): FloatArray {
        requireSize(pixels)
        val result = classifier.classify(BitmapImageBuilder(bitmap(pixels)).build())
        val probabilities = FloatArray(ModelContract.CLASSES)
        // By index, which is the line of labels.txt; the names in the metadata may differ.
        for (category in result.classificationResult().classifications()[0].categories()) {
            probabilities[category.index()] = category.score()
        }
        return probabilities
    }

    override fun close() = classifier.close()

    private fun bitmap(pixels: ByteArray): Bitmap {
        val side = ModelContract.IMAGE_SIZE
        val colours = IntArray(side * side) { at ->
            (0 until 3).fold(0xFF) { packed, colour -> packed shl 8 or (pixels[at * 3 + colour].toInt() and 0xFF) }
        }
        return Bitmap.createBitmap(colours, side, side, Bitmap.Config.ARGB_8888)
    }
}
