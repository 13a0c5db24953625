"""Errors that a user can mend. Each message says what, where, the value seen and what to do next, on one line."""


class LorryError(Exception):
    """A mistake in what Lorry was given, or a limit of the machine; never a bug in Lorry."""


class RecipeError(LorryError):
    """The recipe document cannot be used as it stands."""


class DataError(LorryError):
    """The chat data, or a prompts file, cannot be used."""


class ModelError(LorryError):
    """A base model, an adapter or a GGUF file is missing, damaged or of a kind that does not fit."""


class BusyError(LorryError):
    """Something else holds what this run needs: a checkpoint folder or a port."""


class RoomError(LorryError):
    """The disk has not enough room for the work ahead."""


class InterruptedTrainingError(LorryError):
    """Training was asked to stop; its checkpoint is written."""


class KilledError(LorryError):
    """A signal ended a process that trains, more often than it is started again."""


class TrialFailedError(LorryError):
    """A training that failed by its settings: the same again fails again, and a sweep goes on without it."""


class DivergedError(TrialFailedError):
    """The loss went up and away."""


class OutOfMemoryError(TrialFailedError):
    """The memory of GPU or machine ran out."""


class StepFailedError(LorryError):
    """A step of a pipeline ended without its outputs."""


class InputGoneError(LorryError):
    """What an earlier step made is not there any more."""


class StoreError(LorryError):
    """The store of models and inputs refuses, does not answer, or holds something else than it should."""


class RefusedByStoreError(StoreError):
    """The store has understood, and says no: asking again does not help."""


class ClusterError(LorryError):
    """A Kubeflow endpoint or a cluster refuses, or does not answer."""


class GateError(LorryError):
    """A model is outside the bounds that its recipe asks of it."""


class HubError(LorryError):
    """The model hub refuses, or does not answer."""
