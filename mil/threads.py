"""One thread for small steps: threads that wait for each other cost more, and may add up in another order."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, in torch and below numpy: the result is then the same on any machine's cores."""
    import torch  # slow to import, and needed by no verb but `train`
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)
