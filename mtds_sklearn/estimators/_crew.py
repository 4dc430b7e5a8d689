"""Workers that keep chunks of sequences, through any backend of joblib."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._chunks import chunks_of, slice_sequences, working


class JobCrew:
    """Calls a function on chunks of sequences in the jobs of joblib, side by side.

    The chunks of the latest sequences are kept, since the next call is about the same: large
    arrays of theirs are then written once, to files that all processes map.

    Parameters
    ----------
    parallel : Parallel
    """

    def __init__(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._sequences, self._chunks = None, []

    def work(
        self, function: Callable, sequences: PackedSequences, parts: list, arguments: list
    ) -> list:
        """function(chunk, *rest) of the parts (slices) of the sequences, or where it will be."""
        if sequences is not self._sequences:
            self._sequences = sequences
            self._chunks = self._keep([slice_sequences(sequences, part) for part in parts])
        return self._run(function, list(zip(self._chunks, arguments, strict=True)))

    def fetch(self, handles: list) -> list:
        """Results of `work` themselves."""
        return handles

    def _keep(self, chunks: list) -> list:
        return chunks

    def _run(self, function: Callable, tasks: list) -> list:
        return self._parallel(delayed(_alone)(function, chunk, *rest) for chunk, rest in tasks)


class ClusterCrew(JobCrew):
    """The same on a Dask cluster: workers keep chunks and results, and tasks go where they are.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        super().__init__(None)
        self._client = client

    def _keep(self, chunks: list) -> list:
        return self._client.scatter(chunks, hash=False)

    def _run(self, function: Callable, tasks: list) -> list:
        submit = self._client.submit
        return [submit(_alone, function, chunk, *rest, pure=False) for chunk, rest in tasks]

    def fetch(self, handles: list) -> list:
        return self._client.gather(handles)


def _alone(function: Callable, *arguments: Any) -> Any:
    with threadpool_limits(limits=1, user_api="blas"):
        return function(*arguments)


@contextmanager
def crew_of(n_jobs: int | None, n_sequences: int) -> Iterator[None]:
    """Context in which jobs work on chunks of sequences, where there are several of both."""
    if len(chunks_of(n_sequences)) == 1 or effective_n_jobs(n_jobs) == 1:
        yield
        return
    client = getattr(get_active_backend()[0], "client", None)
    if client is not None:
        with working(ClusterCrew(client)):
            yield
        return
    with Parallel(n_jobs=n_jobs) as parallel, working(JobCrew(parallel)):
        yield
