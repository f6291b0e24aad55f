"""The error of a document that cannot be read, and the reasons that several formats share."""

MISSING_LIBRARIES = "needs the libraries for PDF and Office files: pip install 'ragtide[formats]'"
PROTECTED = "is protected by a password: save it without one"


class DocumentError(Exception):
    """One document cannot be read: the message is a predicate that says why, without the path.

    The other documents are not affected.
    """
