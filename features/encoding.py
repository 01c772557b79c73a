"""From patches to vectors: batches are filled across slides, and a slide that fails fails alone."""

from collections.abc import Iterator, Sequence

import numpy as np

from tiling import SlidebagError

from .bag import BagConfig
from .channel import Channel
from .encoder import Encoder
from .slide_in_work import Chunk, Ended, Rows, SlideInWork

_PATIENCE = 8  # full batches after which a part of one is encoded as it is


class Worker:
    """Encodes what comes on one channel and sends the rows on another, with encoders of its own."""

    def __init__(self, encoders: Sequence[Encoder], config: BagConfig, batch: int) -> None:
        self._encoders, self._dtype, self._batch = encoders, config.dtype, batch
        self._parts: list[Chunk] = []  # of a batch that waits to be filled up

    def work(self, chunks: Channel[Chunk], done: Channel[Rows | Ended]) -> None:
        """Encode until the chunks end.

        Raises:
            Exception: the encoders yield nothing any more, whatever they are given; the chunks at hand
                are back on their channel.
        """
        is_more = True
        while is_more:
            for group in self._groups(chunks):
                self._work_on(group, chunks, done)
                chunks.settle(len(group))
            is_more = chunks.more()

    def _work_on(self, group: list[Chunk], chunks: Channel[Chunk], done: Channel[Rows | Ended]) -> None:
        wanted = [chunk for chunk in group if not chunk.slide.has_failed]
        try:
            found = self._encode(wanted)
        except Exception as error:  # noqa: BLE001  an encoder may raise anything, for one slide or for all
            self._prove_alive(group, chunks, error)
            found = [each for chunk in wanted for each in self._encode_alone(chunk)]
        for each in found:
            done.put(each)

    def _groups(self, chunks: Channel[Chunk]) -> Iterator[list[Chunk]]:
        """Full batches as they come; parts of one wait to be filled up, but not for long."""
        waited = 0
        for chunk in chunks:
            if len(chunk) >= self._batch:
                yield [chunk]
                waited += bool(self._parts)
            else:
                if sum(map(len, self._parts)) + len(chunk) > self._batch:
                    yield self._take_parts()
                    waited = 0
                self._parts.append(chunk)
            if waited == _PATIENCE:
                yield self._take_parts()
                waited = 0
        if self._parts:
            yield self._take_parts()

    def _take_parts(self) -> list[Chunk]:
        parts, self._parts = self._parts, []
        return parts

    def _encode(self, group: list[Chunk]) -> list[Rows | Ended]:
        """Encode some chunks together."""
        if not group:
            return []
        readable = [~chunk.patches.unreadable for chunk in group]
        # the plain patches first, then each view as they are
        looks = [
            _joined([rows if keep.all() else rows[keep] for rows, keep in zip(look, readable, strict=True)])
            for look in zip(*([chunk.patches.pixels, *chunk.views] for chunk in group), strict=True)
        ]
        numbers = sorted({number for chunk in group for number in chunk.slide.job.bags})
        vectors = {number: self._vectors(self._encoders[number], *looks) for number in numbers}
        found: list[Rows | Ended] = []
        start = 0
        for chunk, keep in zip(group, readable, strict=True):
            stop = start + int(keep.sum())
            found.append(self._rows(chunk, keep, vectors, slice(start, stop)))
            start = stop
        return found

    def _vectors(self, encoder: Encoder, pixels: np.ndarray, *views: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        if encoder.config.token_side and encoder.card.token_dim is not None:
            found["features"], found["tokens"] = encoder.encode_tokens(pixels)
        else:
            found["features"] = encoder.encode(pixels)
        if views:
            found["views"] = np.stack([encoder.encode(view) for view in views], axis=1)
        return found

    def _rows(
        self, chunk: Chunk, keep: np.ndarray, vectors: dict[int, dict[str, np.ndarray]], here: slice
    ) -> Rows | Ended:
        """A chunk's own rows, zero where it is unreadable, in the stored numbers."""
        kept: dict[int, dict[str, np.ndarray]] = {}
        for number in chunk.slide.job.bags:
            kept[number] = {}
            for name, rows in vectors[number].items():
                spread = np.zeros((len(keep), *rows.shape[1:]), self._dtype)
                with np.errstate(over="ignore"):  # infinity, where float16 ends, is told below
                    spread[keep] = rows[here]
                if not np.isfinite(spread).all():
                    return Ended(chunk.slide, self._sick(chunk.slide, self._encoders[number]))
                kept[number][name] = spread
        return Rows(chunk.slide, chunk.patches.start, chunk.patches.unreadable, kept, chunk.streams)

    def _sick(self, slide: SlideInWork, encoder: Encoder) -> SlidebagError:
        return SlidebagError(
            f"{slide.job.slide_id}: encoder {encoder.card.name} yields NaN or infinity in {self._dtype}",
            hint="use --dtype float32, or another --precision",
        )

    def _encode_alone(self, chunk: Chunk) -> list[Rows | Ended]:
        try:
            return self._encode([chunk])
        except Exception as error:  # noqa: BLE001  as above: it is this slide's
            return [Ended(chunk.slide, error)]

    def _prove_alive(self, group: list[Chunk], chunks: Channel[Chunk], error: Exception) -> None:
        """Return if the encoders still encode a blank patch; else it is not the slides that are to blame."""
        blank = np.full_like(group[0].patches.pixels[:1], 255)
        try:
            for encoder in self._encoders:
                encoder.encode(blank)
        except Exception:  # noqa: BLE001  the first one tells more
            for chunk in (*group, *self._parts):
                chunks.put_back(chunk)
            raise error from None


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
