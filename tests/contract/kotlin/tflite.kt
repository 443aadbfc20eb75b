package org.tensorflow.lite

import java.nio.ByteBuffer

enum class DataType {
    FLOAT32, UINT8;

    fun byteSize(): Int = TODO()
}

class Tensor {
    fun shape(): IntArray = TODO()

    fun dataType(): DataType = TODO()

    fun name(): String = TODO()
}

class Interpreter(model: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        fun setNumThreads(threads: Int): Options = TODO()

        fun setUseXNNPACK(useXNNPACK: Boolean): Options = TODO()
    }

    fun getInputTensor(index: Int): Tensor = TODO()

    fun getOutputTensor(index: Int): Tensor = TODO()

    fun run(input: Any, output: Any): Unit = TODO()

    fun runForMultipleInputsOutputs(inputs: Array<out Any>, outputs: Map<Int, Any>): Unit = TODO()

    override fun close(): Unit = TODO()
}
