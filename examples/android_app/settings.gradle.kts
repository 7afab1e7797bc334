pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

val shipped = providers.gradleProperty("nasflow.repository").get()

dependencyResolutionManagement {
    repositoriesMode = RepositoriesMode.FAIL_ON_PROJECT_REPOS
    repositories {
        google()
        mavenCentral()
        // What 'nasflow ship' writes: artifacts/shipped/maven of a project.
        maven { url = uri(rootDir.resolve(shipped)) }
    }
}

rootProject.name = "nasflow-example"
include(":app")
