package org.json

class JSONObject(text: String) {
    fun has(name: String): Boolean = TODO()

    fun getJSONObject(name: String): JSONObject = TODO()

    fun getJSONArray(name: String): JSONArray = TODO()

    fun getString(name: String): String = TODO()

    fun getInt(name: String): Int = TODO()

    fun getDouble(name: String): Double = TODO()
}

class JSONArray {
    fun length(): Int = TODO()

    fun getInt(index: Int): Int = TODO()
}
