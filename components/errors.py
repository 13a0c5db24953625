"""Errors that a user can correct. Each message gives what went wrong, where, the value found and what to do next, on
one line."""


class LorryError(Exception):
    """An input is wrong or the machine has reached a limit; never a bug in Lorry."""


class RequestError(LorryError):
    """A request to the model server cannot be answered because of one of its fields.

    ``where`` begins the message: the field, and after a colon the part of it that is at fault.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.field = where.partition(":")[0]


class RecipeError(LorryError):
    """A recipe document is not valid."""


class DataError(LorryError):
    """Chat data or a prompts file cannot be used."""


class ModelError(LorryError):
    """A base model, an adapter or a GGUF file is missing, damaged or of the wrong kind."""


class BusyError(LorryError):
    """Another process holds a checkpoint folder or a port that this run needs."""


class DiskSpaceError(LorryError):
    """The disk has too little free space."""


class InterruptedTrainingError(LorryError):
    """Training was stopped by a signal, and its checkpoint is written."""


class KilledError(LorryError):
    """A signal killed a training process more often than it is restarted."""


class TrialFailedError(LorryError):
    """Training failed because of its settings: a retry would fail again, and a sweep continues without it."""


class DivergedError(TrialFailedError):
    """The training or validation loss diverged."""


class OutOfMemoryError(TrialFailedError):
    """The memory of the GPU or of the machine ran out."""


class StepFailedError(LorryError):
    """A pipeline step ended without its outputs."""


class InputGoneError(LorryError):
    """An output of an earlier step has been removed."""


class StoreError(LorryError):
    """The store of models and inputs refuses a request, does not answer, or holds unexpected content."""


class RefusedByStoreError(StoreError):
    """The store denies access, so that a retry does not help."""


class ClusterError(LorryError):
    """A Kubeflow endpoint or a cluster refuses a request or does not answer."""


class GateError(LorryError):
    """A model is outside the bounds that its recipe sets."""


class HubError(LorryError):
    """The model hub refuses a request or does not answer."""
