"""The sets of inputs that a request names, in the child process; see `options.Inputs`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import EngineError, shorten

if TYPE_CHECKING:
    import numpy as np

Feed = dict[str, "np.ndarray"]


def data_loader(
    request: Mapping[str, Any], names: Sequence[str], shapes: Mapping[str, Sequence[int]]
) -> Iterable[Feed]:
    """An iterable of feeds as Polygraphy takes it.

    Args:
        request: `Inputs.request()`.
        names: the model's inputs.
        shapes: of random inputs, where the request says nothing.

    Raises:
        EngineError: a shape for an input that is none.
    """
    if request["files"] or request["script"]:
        return Feeds(request, names)
    from polygraphy.common import TensorMetadata
    from polygraphy.comparator import DataLoader

    unknown = [name for name in request["shapes"] if name not in names]
    if unknown:
        raise EngineError(f"--shapes names '{shorten(unknown[0])}', the model's inputs are {_listed(names)}")
    metadata = TensorMetadata()
    for name, shape in {**shapes, **request["shapes"]}.items():
        metadata.add(name, dtype=None, shape=tuple(shape))
    loader: Iterable[Feed] = DataLoader(seed=request["seed"], iterations=request["sets"], input_metadata=metadata)
    return loader


class Feeds:
    """The sets of files or of a script, checked to have all inputs. Can be gone through again."""

    def __init__(self, request: Mapping[str, Any], names: Sequence[str]) -> None:
        self._request = request
        self._names = list(names)
        self._where = f"{shorten(request['script'])}" if request["script"] else "--inputs"

    def __iter__(self) -> Iterator[Feed]:
        import numpy as np

        count = 0
        for where, feed in self._sets():
            if not isinstance(feed, Mapping):
                raise EngineError(f"{where} is no dict of arrays by input name")
            missing = [name for name in self._names if name not in feed]
            if missing:
                raise EngineError(
                    f"{where} has no array for input '{shorten(missing[0])}': it has {_listed(list(feed)) or 'none'}"
                )
            yield {name: np.asarray(feed[name], order="C") for name in self._names}
            count += 1
        if not count:
            raise EngineError(f"{self._where} gives no inputs")

    def _sets(self) -> Iterator[tuple[str, Any]]:
        import numpy as np

        for file in self._request["files"]:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    if isinstance(archive, np.ndarray):
                        raise ValueError("one array without a name")
                    feed = {name: archive[name] for name in archive.files}
            except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
                raise EngineError(f"{shorten(file)} is no .npz file of arrays: {shorten(error)}") from None
            yield shorten(file), feed
        if self._request["script"]:
            for number, feed in enumerate(self._from_script()):
                yield f"set {number} of {self._where}", feed

    def _from_script(self) -> Iterator[Any]:
        from polygraphy.backend.common import InvokeFromScript

        before = Path.cwd()
        os.chdir(self._request["folder"])
        try:
            yield from InvokeFromScript(self._request["script"], self._request["function"])()
        except EngineError:
            raise
        except Exception as error:  # the user's code raises what it likes
            where = f"{self._where}, {shorten(self._request['function'], 60)}"
            raise EngineError(f"{where}: {type(error).__name__}: {shorten(error, 200)}") from None
        finally:
            os.chdir(before)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{shorten(name)}'" for name in names[:8])
    return shown + (" …" if len(names) > 8 else "")
