package nasflow.example

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.provider.MediaStore
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import com.google.ai.edge.litert.LiteRtException
import java.io.IOException
import java.util.concurrent.Executors

/** Takes a picture with the camera app, or a photo that was picked, and shows what the network says of it. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var classifier: Classifier? = null // the worker's

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        findViewById<Button>(R.id.take_picture).setOnClickListener {
            // Without a file to write, the camera app returns a small picture: enough for a small network.
            start(Intent(MediaStore.ACTION_IMAGE_CAPTURE), TAKE, R.string.no_camera)
        }
        findViewById<Button>(R.id.pick_photo).setOnClickListener {
            val photos = Intent(Intent.ACTION_GET_CONTENT).setType("image/*")
            start(photos.addCategory(Intent.CATEGORY_OPENABLE), PICK, R.string.no_picker)
        }
    }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    @Deprecated("The platform's own way; AndroidX is not needed for it.")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        if (resultCode != RESULT_OK || data == null) return
        @Suppress("DEPRECATION") // its successor needs Android 13
        val taken = data.getParcelableExtra<Bitmap>("data")
        val picked = data.data
        when {
            requestCode == TAKE && taken != null -> classify { taken }
            requestCode == PICK && picked != null -> classify { decode(picked) }
        }
    }

    private fun start(intent: Intent, request: Int, missing: Int) =
        try {
            @Suppress("DEPRECATION")
            startActivityForResult(intent, request)
        } catch (error: ActivityNotFoundException) {
            answer(getString(missing))
        }

    /** Reads and classifies on the worker, shows on the main thread. */
    private fun classify(read: () -> Bitmap) = worker.execute {
        val words = try {
            val picture = read()
            runOnUiThread { findViewById<ImageView>(R.id.picture).setImageBitmap(picture) }
            val network = classifier ?: Classifier(this).also { classifier = it }
            val answer = network.classify(picture)
            getString(R.string.answer, answer.label, 100 * answer.score, answer.milliseconds)
        } catch (error: IOException) {
            getString(R.string.failed, error.message)
        } catch (error: LiteRtException) {
            getString(R.string.failed, error.message)
        }
        runOnUiThread { answer(words) }
    }

    /** A photo the right way up, not much larger than a screen. */
    private fun decode(photo: Uri): Bitmap =
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, photo)) { decoder, info, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // its pixels are read
            decoder.setTargetSampleSize(maxOf(1, minOf(info.size.width, info.size.height) / SHORTER_SIDE))
        }

    private fun answer(words: String) {
        findViewById<TextView>(R.id.answer).text = words
    }

    private companion object {
        const val TAKE = 1
        const val PICK = 2
        const val SHORTER_SIDE = 512
    }
}
