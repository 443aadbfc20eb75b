package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator { GPU, NPU }

class TensorBuffer : AutoCloseable {
    fun writeFloat(data: FloatArray): Unit = TODO()

    fun readFloat(): FloatArray = TODO()

    override fun close(): Unit = TODO()
}

class CompiledModel : AutoCloseable {
    class Options(vararg accelerators: Accelerator)

    fun createInputBuffers(): List<TensorBuffer> = TODO()

    fun createOutputBuffers(): List<TensorBuffer> = TODO()

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>): Unit = TODO()

    override fun close(): Unit = TODO()

    companion object {
        fun create(assets: AssetManager, name: String, options: Options): CompiledModel = TODO()
    }
}
