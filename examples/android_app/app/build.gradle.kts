plugins {
    id("com.android.application")
}

val shippedModel = providers.gradleProperty("nasflow.model").get()

android {
    namespace = "nasflow.example"
    compileSdk = 36

    defaultConfig {
        applicationId = "nasflow.example"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
        // The assets of a shipped package lie in a folder of its name.
        resValue("string", "model_folder", shippedModel.split(":")[1])
    }

    buildFeatures {
        resValues = true
    }

    androidResources {
        // A compressed asset cannot be mapped into memory.
        noCompress += "tflite"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(shippedModel)
    implementation("com.google.ai.edge.litert:litert:2.3.0")
}
