"""Runs any model file behind one predict(). The command classifies photographs."""
