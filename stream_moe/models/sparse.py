"""DriftMoE over sparse rows: texts as words, and whatever has more names than columns could be made of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from stream_moe.errors import ConfigError, DataError
from stream_moe.experts.base import Expert
from stream_moe.experts.columns_pool import ColumnsPool, columns_schema
from stream_moe.experts.executors import Pool
from stream_moe.experts.linear.history import HistorySoftmax
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.experts.no_change import NoChange
from stream_moe.experts.sparse.columns import UsefulColumns
from stream_moe.experts.sparse.naive_bayes import SparseNaiveBayes
from stream_moe.experts.sparse.softmax import SparseSoftmax
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.rows import GrowthNeeded, RowEncoder
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import Schema

RATES = (0.25, 0.5, 1.0)  # of the softmax experts: the gates find out which suits a stream


class SparseEncoder(RowEncoder):
    """Encode events given as dicts as sparse rows; only the labels make a vocabulary.

    Examples
    --------
    >>> rows = SparseEncoder(None)
    >>> row, grown = rows.encode({"cheap": 1, "pills": 2}, "spam")
    >>> len(row), row.lengths.tolist(), grown, rows.schema.sparse, rows.schema.classes
    (1, [2], 'started', True, ('spam',))
    """

    sparse = True

    def encode_known(self, x: dict[Any, Any]) -> Any:
        """Return `SparseRows` of one row."""
        return SparseRows.of([x])

    def encode_many(self, columns: Mapping[Any, Sequence[Any]], n: int) -> Any:
        """Return `SparseRows` of n rows of columns by name."""
        return SparseRows.of({name: column[t] for name, column in columns.items()} for t in range(n))

    def brings_nothing_new(self, x: dict[Any, Any], y: Hashable) -> bool:
        """As `RowEncoder.brings_nothing_new`: new names are no news."""
        return super().brings_nothing_new({}, y)

    def _extend(self, x: dict[Any, Any], y: Hashable) -> GrowthNeeded:
        return super()._extend({}, y)


class SparseDriftMoE(DriftMoE):
    """`DriftMoE` for sparse rows: linear experts and naive Bayes over all names, the dear kinds over a few columns.

    Parameters
    ----------
    schema
        A sparse one, `Schema((), classes, sparse=True)`; None = learn the classes from the events.
    columns
        How many names trees, neighbours and history see: those that tell the classes apart best.
    trees
        How many adaptive trees.
    window
        Events that the nearest neighbours are looked for in.
    without
        Kinds of experts to leave out, separated by commas.
    seed
        Of everything random.
    threads
        Threads over the experts; the result does not depend on it.

    Notes
    -----
    x is `SparseRows`, or dicts by name. A name has no place in a vocabulary but one of 2^18 buckets, so the
    memory is bounded whatever comes; `stream_moe.experts.sparse.columns` says when which names become columns.

    Examples
    --------
    >>> model = SparseDriftMoE(seed=1)
    >>> for _ in range(20):
    ...     model.learn_one({"cheap": 1, "pills": 1}, "spam")
    ...     model.learn_one({"minutes": 1, "meeting": 1}, "ham")
    >>> model.predict_one({"pills": 1, "today": 1}), model.predict_one({"meeting": 1, "today": 1})
    ('spam', 'ham')
    """

    _encoder: ClassVar[type[RowEncoder]] = SparseEncoder

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        columns: int = 64,
        trees: int = 4,
        window: int = 500,
        without: str = "",
        seed: int = 1,
        threads: int = 1,
    ) -> None:
        if not 4 <= columns <= 4096:
            raise ConfigError(f"driftmoe: columns {columns} must lie in 4..4096")
        if schema is not None and not schema.sparse:
            raise ConfigError("SparseDriftMoE: the schema lists features; give Schema((), classes, sparse=True)")
        self.columns = columns
        super().__init__(schema, trees=trees, window=window, without=without, seed=seed, threads=threads)

    def make_experts(self, schema: Schema) -> list[Expert]:
        """Make the experts: those over columns, then those over whole rows."""
        seen = columns_schema(self.columns, schema)
        experts: list[Expert] = [
            *(self._tree(seen, member) for member in range(self.trees)),
            WindowKNN(seen, k=3, window=self.window),
            HistorySoftmax(seen),
            NoChange(seen),
            *(SparseSoftmax(schema, learning_rate=rate) for rate in RATES),
            SparseSoftmax(schema, memory=0.999),
            SparseNaiveBayes(schema),
        ]
        return self._wanted(experts)

    def _open_pool(self, schema: Schema, experts: list[Expert]) -> Pool:
        whole = [expert for expert in experts if expert.kind.startswith("sparse-")]
        chosen = experts[: len(experts) - len(whole)]
        columns = UsefulColumns(self.columns, schema.n_classes)
        return ColumnsPool(columns, chosen, whole, WorkerThreads(self.threads))

    def _checked(self, x: Any) -> Any:
        self._require_schema()
        if not isinstance(x, SparseRows):
            raise DataError(
                f"x: a {type(x).__name__}, and the rows of this model are sparse; give SparseRows.of(list of dicts)"
            )
        return x.checked()
