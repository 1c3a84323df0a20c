"""Floor 2: pictures to batches. Sources, order, plan, decoding, cropping, and the stream."""

from mimray.environment import prepare

prepare()
