buildscript {
    dependencies {
        // The plugin brings Kotlin 2.2.10, which may not read what newer libraries were compiled with.
        classpath("org.jetbrains.kotlin:kotlin-gradle-plugin:2.4.20")
    }
}

plugins {
    id("com.android.application") version "9.4.0" apply false
}
