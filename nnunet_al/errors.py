"""Exceptions for mistakes that a user can fix: each says in one sentence the problem, the file and the way out."""


class NnunetALError(Exception):
    """Base class of all errors that a user can fix; commands print it and exit with code 2."""


class SetupError(NnunetALError):
    """A variable, a device or a package that nnU-Net or nnunet-al needs is missing."""


class DatasetError(NnunetALError):
    """The raw dataset cannot be used as it is: a file is missing, broken or does not fit the others."""


class CampaignError(NnunetALError):
    """The request does not fit the campaign on disk."""


class CampaignLockedError(CampaignError):
    """Another process works on the campaign."""


class StrategyError(NnunetALError):
    """The strategy does not exist or cannot be used here."""


class GroupsError(NnunetALError):
    """The table of participants, or the columns and bins asked for, give no groups of cases."""


class ReturnError(NnunetALError):
    """A reader's file cannot be accepted: the file, its geometry, its segments or its marks are not in order."""


class ModelError(NnunetALError):
    """A checkpoint does not fit the plans, or a network lacks a part that the strategy needs."""


class StorageError(NnunetALError):
    """A file could not be written, for example because the disk is full."""


class NotEnoughMemoryError(NnunetALError):
    """A step needs more memory than is free, and was not started."""


class WaitingForReaders(NnunetALError):  # noqa: N818 -- not an error: the campaign continues after the annotation
    """The batch asks for regions that nobody has annotated yet; commands exit with code 3."""
