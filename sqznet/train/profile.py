"""Records a TensorBoard profile of some training steps."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from sqznet.core import console


class Profiler:
    """Records `steps` steps, rounded up to whole calls, into a folder of TensorBoard events. With 0 it records none.

    Recording starts with the second call of this process, because the first one traces and warms up.
    """

    def __init__(self, steps: int, folder: Path) -> None:
        self._steps, self._folder = steps, folder
        self._calls = 0
        self._end: int | None = None  # the step at which recording ends; None while not recording

    def before_call(self, step: int) -> None:
        """Starts or ends the recording. Call it before each call of steps, with the first of them as `step`."""
        self._calls += 1
        if self._end is not None and step >= self._end:
            self.finish()
        elif self._steps and self._calls == 2:
            tf.profiler.experimental.start(str(self._folder))
            self._end = step + self._steps

    def finish(self) -> None:
        """Ends the recording, if there is one, and writes the profile."""
        if self._end is None:
            return
        self._end = None
        tf.profiler.experimental.stop()
        console.say(
            f"profile written; to see it: pip install tensorboard-plugin-profile, then tensorboard --logdir="
            f"{self._folder}"
        )
