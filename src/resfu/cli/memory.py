"""Recognises errors for lack of memory, and says which option of a command needs less."""

import errno

_ADVICE = {
    "predict": "for label maps --longest-side N lets the network see smaller photos, --window N one part of a photo at "
    "a time; for objects give smaller photos",
    "fit": "a smaller --data.batch_size or --data.crop_size takes less",
    "validate": "--data.eval_batch_size 1 takes less, and so do windows: --model.inference.mode slide",
    "test": "--data.eval_batch_size 1 takes less, and so do windows: --model.inference.mode slide",
    "compare": "a smaller --batch-size, --crop or --size takes less",
    "upsample": "a smaller --longest-side takes less",
    "figure": "a smaller --longest-side takes less",
    "bench": "smaller sizes take less",
    "inspect": "a smaller --size takes less",
    "export": "a smaller --size takes less",
    "probe": "a smaller --size takes less",
    "distill": "a smaller --batch-size or --crop takes less",
    "explore": "a smaller --longest-side takes less",
}
# PyTorch has a class of its own on GPUs alone; its allocator on processors, and oneDNN, say it in words.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "signal: killed",
    "size calculation overflowed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on whatever device or in a process that loads data."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def advice(command: str) -> str:
    """A one-line message for lack of memory, with the options of the command that need less."""
    return "; ".join(["out of memory", *([_ADVICE[command]] if command in _ADVICE else [])])
