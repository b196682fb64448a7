"""Prints what TensorBoard's reader finds in a run folder: a line "step value tag" for each scalar."""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
for tag in events.Tags()["scalars"]:
    for event in events.Scalars(tag):
        print(event.step, repr(event.value), tag)
