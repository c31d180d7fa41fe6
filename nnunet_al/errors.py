"""What a user can get wrong, as exceptions that say what, where and what to do in one sentence."""


class NnunetALError(Exception):
    """Base of everything that a user can mend; commands print it and exit with code 2."""


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
    """The table of participants, or what is asked of it, gives no groups of cases."""


class ReturnError(NnunetALError):
    """What a reader returned cannot be taken: the file, its geometry, its segments or its marks are not in order."""


class ModelError(NnunetALError):
    """A checkpoint does not fit the plans, or a network cannot give what a strategy needs."""


class StorageError(NnunetALError):
    """A file could not be written, for example because the disk is full."""


class NotEnoughMemoryError(NnunetALError):
    """Something needs more memory than there is, and does not begin."""


class WaitingForReaders(NnunetALError):  # noqa: N818 -- not an error: the campaign goes on when people have annotated
    """The batch asks for regions that nobody has annotated yet; commands exit with code 3."""
