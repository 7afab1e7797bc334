package nasflow.example

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.abs
import kotlin.math.exp

/** The network's answer: the likeliest class, its score from 0 to 1, and how long the network took. */
class Answer(val label: String, val score: Float, val milliseconds: Double)

/** A shipped network. Not for several threads at once. Throws LiteRtException and IOException. */
class Classifier(context: Context) : AutoCloseable {
    private val side = context.resources.getInteger(R.integer.model_side)
    private val channels = context.resources.getInteger(R.integer.model_channels)
    private val takesBytes = context.resources.getBoolean(R.bool.model_takes_bytes)
    private val crops = context.resources.getBoolean(R.bool.model_crops)
    private val folder = context.getString(R.string.model_folder)
    private val labels =
        context.assets.open("$folder/labels.txt").bufferedReader().use { it.readLines() }

    private val options =
        CompiledModel.Options(Accelerator.CPU).apply {
            cpuOptions = CompiledModel.CpuOptions(
                numThreads = context.resources.getInteger(R.integer.model_threads),
            )
        }
    private val model = CompiledModel.create(context.assets, "$folder/model.tflite", options)
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    init {
        // The first run takes longer than those that follow: it is not the picture's.
        classify(Bitmap.createBitmap(side, side, Bitmap.Config.ARGB_8888))
    }

    fun classify(picture: Bitmap): Answer {
        val pixels = pixelsOf(picture)
        if (takesBytes) inputs[0].writeInt8(bytesOf(pixels)) else inputs[0].writeFloat(floatsOf(pixels))
        val start = System.nanoTime()
        model.run(inputs, outputs)
        val milliseconds = (System.nanoTime() - start) / 1e6
        val scores = probabilitiesOf(outputs[0].readFloat()) // float32, whatever the network takes
        val best = scores.indices.maxByOrNull { scores[it] } ?: error("The network has no classes.")
        return Answer(labels[best], scores[best], milliseconds)
    }

    /** A network that answers logits leaves the softmax to its app. */
    private fun probabilitiesOf(answers: FloatArray): FloatArray {
        if (answers.all { it in 0f..1f } && abs(answers.sum() - 1f) < 0.05f) return answers
        val most = answers.max()
        val powers = FloatArray(answers.size) { exp(answers[it] - most) }
        val sum = powers.sum()
        return FloatArray(answers.size) { powers[it] / sum }
    }

    override fun close() {
        inputs.forEach { it.close() }
        outputs.forEach { it.close() }
        model.close()
    }

    /** Colours of side x side pixels, row by row. */
    private fun pixelsOf(picture: Bitmap): IntArray {
        val shown = if (crops) middleOf(picture) else picture
        val pixels = IntArray(side * side)
        Bitmap.createScaledBitmap(shown, side, side, true).getPixels(pixels, 0, side, 0, 0, side, side)
        return pixels
    }

    private fun middleOf(picture: Bitmap): Bitmap {
        val length = maxOf(1, minOf(picture.width, picture.height) * 7 / 8)
        return Bitmap.createBitmap(
            picture, (picture.width - length) / 2, (picture.height - length) / 2, length, length,
        )
    }

    /** Values 0 to 255 of a pixel's channels. */
    private fun valueOf(pixel: Int, channel: Int): Int =
        when {
            channels == 1 ->
                (299 * Color.red(pixel) + 587 * Color.green(pixel) + 114 * Color.blue(pixel) + 500) / 1000
            channel == 0 -> Color.red(pixel)
            channel == 1 -> Color.green(pixel)
            else -> Color.blue(pixel)
        }

    private fun floatsOf(pixels: IntArray) =
        FloatArray(pixels.size * channels) { (valueOf(pixels[it / channels], it % channels) - 127.5f) / 127.5f }

    private fun bytesOf(pixels: IntArray) =
        ByteArray(pixels.size * channels) { valueOf(pixels[it / channels], it % channels).toByte() }
}
