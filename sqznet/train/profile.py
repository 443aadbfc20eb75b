"""A TensorBoard profile of some steps of a run."""

from __future__ import annotations

from pathlib import Path

from sqznet.core import console


class Profiler:
    """Records `steps` steps, from the second call of this process on: the first one traces and warms up.

    The steps are rounded up to whole calls.
    """

    def __init__(self, steps: int, folder: Path) -> None:
        """
        Args:
            steps: how many; 0 for none.
            folder: of TensorBoard events.
        """
        self._steps, self._folder = steps, folder
        self._calls = 0
        self._end: int | None = None  # the step with which recording ends; None while there is none

    def before_call(self, step: int) -> None:
        """Between two calls; `step` is the first of the next."""
        import tensorflow as tf

        self._calls += 1
        if self._end is not None and step >= self._end:
            self.finish()
        elif self._steps and self._calls == 2:
            tf.profiler.experimental.start(str(self._folder))
            self._end = step + self._steps

    def finish(self) -> None:
        """Writes what was recorded, if recording."""
        import tensorflow as tf

        if self._end is None:
            return
        self._end = None
        tf.profiler.experimental.stop()
        console.say(
            f"profile written; to see it: pip install tensorboard-plugin-profile, then tensorboard --logdir="
            f"{self._folder}"
        )
